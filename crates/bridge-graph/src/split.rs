use std::sync::Arc;

use bridge_vars::{Filter, Leaf, Node, PathKey, Result, State, Tree, Variable};
use candle_core::{Device, Tensor};
use rustc_hash::FxHashMap;

use crate::dynamic::{DynamicType, ErasedRebuild};
use crate::error::GraphError;
use crate::program::{Def, Entry, Program, Spec};
use crate::source::bare_tensor;
use crate::values::Handle;
use crate::{Attribute, Flag, GraphDef, StatefulModule, Structure, Visit, Visitor};

/// Splits a module into its static description and a snapshot of its state.
///
/// A variable or part that stands in several places is stored once, at the first of its paths in sorted
/// order; the others stay addressable, see [`GraphDef::resolve`]. Everything that a [`merge`](crate::merge) needs is
/// in the two halves.
///
/// ```
/// use bridge_graph::{StatefulModule, merge, split};
/// use bridge_vars::Param;
/// use candle_core::{Device, Tensor};
///
/// #[derive(StatefulModule)]
/// struct Scale { factor: Param, power: u32 }
///
/// let scale = Scale { factor: Param::new(Tensor::new(2f32, &Device::Cpu)?), power: 3 };
/// let (graphdef, state) = split(&scale)?;
/// let copy = merge(&graphdef, &state)?;
/// assert_eq!(copy.power, 3);
/// assert_eq!(copy.factor.value()?.to_scalar::<f32>()?, 2.);
/// # Ok::<(), bridge_vars::Error>(())
/// ```
///
/// # Errors
/// If a variable can not be read; [`GraphError::WeakOutside`] if a weak reference leads out of the module.
#[doc(alias = "nnx.split")]
pub fn split<M: Visit>(module: &M) -> Result<(GraphDef<M>, State)> {
    let (program, state) = split_dyn(module)?;
    Ok((GraphDef::new(program), state))
}

/// Splits a module, and its state by filters: a variable goes to the first that matches it.
///
/// # Errors
/// If a variable matches none of the filters; those of [`split`].
#[doc(alias = "nnx.split")]
pub fn split_by<M: Visit, const N: usize>(
    module: &M,
    filters: [Filter; N],
) -> Result<(GraphDef<M>, [State; N])> {
    let (graphdef, state) = split(module)?;
    Ok((graphdef, state.split(filters)?))
}

/// A snapshot of a module's state.
///
/// # Errors
/// If a variable can not be read.
#[doc(alias("nnx.state", "nnx.variables"))]
pub fn state<M: Visit + ?Sized>(module: &M) -> Result<State> {
    let mut splitter = Splitter { tree: Some(Branches::default()), ..Splitter::default() };
    module.visit(&mut splitter)?;
    Ok(splitter.finish()?.1)
}

/// A module's static description.
///
/// # Errors
/// Those of [`split`].
#[doc(alias = "nnx.graphdef")]
pub fn graphdef<M: Visit>(module: &M) -> Result<GraphDef<M>> {
    program(module).map(|program| GraphDef::new(Arc::new(program)))
}

/// [`graphdef`] of any module, its type not known.
pub(crate) fn program<M: Visit + ?Sized>(module: &M) -> Result<Program> {
    let mut splitter = Splitter { program: Some(Program::default()), ..Splitter::default() };
    module.visit(&mut splitter)?;
    Ok(splitter.finish()?.0)
}

/// [`split`] for any module, its type not known.
///
/// # Errors
/// Those of [`split`].
pub fn split_dyn<M: Visit + ?Sized>(module: &M) -> Result<(Arc<Program>, State)> {
    let mut splitter = Splitter {
        program: Some(Program::default()),
        tree: Some(Branches::default()),
        ..Splitter::default()
    };
    module.visit(&mut splitter)?;
    let (program, state, _) = splitter.finish()?;
    Ok((Arc::new(program), state))
}

/// Writes down what a walk meets: the description, the values as a state, or handles to what has a value.
pub(crate) struct Splitter {
    key: PathKey,
    pub(crate) program: Option<Program>,
    tree: Option<Branches>,
    pub(crate) handles: Option<Vec<Handle>>,
    variables: usize,
    seen_variables: FxHashMap<usize, usize>,
    seen_shared: FxHashMap<usize, usize>,
    /// Entries of weak references, and what they lead to.
    weak: Vec<(usize, usize)>,
    // What is walked over keeps its handles only while it is walked over: a container that hands out a
    // temporary one must not give its number to another.
    held: Vec<Variable>,
}

impl Default for Splitter {
    fn default() -> Self {
        Self {
            key: PathKey::Index(0),
            program: None,
            tree: None,
            handles: None,
            variables: 0,
            seen_variables: FxHashMap::default(),
            seen_shared: FxHashMap::default(),
            weak: Vec::new(),
            held: Vec::new(),
        }
    }
}

/// A tree that grows by its leaves, in order.
#[derive(Default)]
struct Branches {
    root: Option<Tree<Leaf>>,
    /// The finished children of all nodes that are not, one after the other.
    children: Vec<(PathKey, Tree<Leaf>)>,
    /// The nodes that are not finished: their keys, and where their children begin.
    nodes: Vec<(PathKey, usize)>,
}

impl Branches {
    fn add(&mut self, key: PathKey, tree: Tree<Leaf>) {
        match self.nodes.is_empty() {
            true => self.root = Some(tree),
            false => self.children.push((key, tree)),
        }
    }

    fn end_node(&mut self) {
        let Some((key, from)) = self.nodes.pop() else { return };
        if from < self.children.len() || self.nodes.is_empty() {
            let node = Node::from_sorted(self.children.drain(from..));
            self.add(key, Tree::Node(node));
        }
    }
}

impl Splitter {
    /// For a module that is rebuilt at once: no state, and no shapes.
    pub(crate) fn recording() -> Self {
        Self { program: Some(Program::default()), handles: Some(Vec::new()), ..Self::default() }
    }

    pub(crate) fn finish(self) -> Result<(Program, State, Vec<Handle>)> {
        let mut program = self.program.unwrap_or_default();
        let mut outside = Vec::new();
        for (at, id) in self.weak {
            let number = self.seen_shared.get(&id).copied();
            if number.is_none() {
                outside.push(at);
            }
            if let Some(entry) = program.entries.get_mut(at) {
                entry.def = Def::Weak(number);
            }
        }
        if !outside.is_empty() {
            let mut paths = Vec::new();
            let mut at =
                program.entries.iter().enumerate().filter(|(_, entry)| !matches!(entry.def, Def::Exit));
            program.for_each(|path, _| {
                if at.next().is_some_and(|(at, _)| outside.contains(&at)) {
                    paths.push(path.clone());
                }
            });
            return Err(GraphError::WeakOutside { paths }.into());
        }
        let root = self.tree.and_then(|tree| tree.root).unwrap_or_default();
        Ok((program, root.into(), self.handles.unwrap_or_default()))
    }

    #[inline]
    pub(crate) fn define(&mut self, def: impl FnOnce() -> Def) {
        if let Some(program) = &mut self.program {
            program.entries.push(Entry { key: self.key.clone(), def: def() });
        }
    }

    pub(crate) fn set_key(&mut self, key: &PathKey) {
        self.key = key.clone();
    }

    pub(crate) fn has_seen(&self, variable: &Variable) -> bool {
        self.seen_variables.contains_key(&variable.id())
    }

    /// True if a shared part was not met before; its number is written down.
    pub(crate) fn begin_shared(&mut self, id: usize) -> bool {
        if let Some(&number) = self.seen_shared.get(&id) {
            self.define(|| Def::SharedRef(number));
            return false;
        }
        self.seen_shared.insert(id, self.seen_shared.len());
        self.define(|| Def::Shared);
        true
    }
}

impl Visitor for Splitter {
    fn enter(&mut self, structure: Structure, _module: Option<&dyn StatefulModule>) -> Result<()> {
        self.define(|| Def::Enter(structure));
        if let Some(tree) = &mut self.tree {
            tree.nodes.push((self.key.clone(), tree.children.len()));
        }
        Ok(())
    }

    fn exit(&mut self) -> Result<()> {
        if let Some(program) = &mut self.program {
            program.entries.push(Entry { key: PathKey::Index(0), def: Def::Exit });
        }
        if let Some(tree) = &mut self.tree {
            tree.end_node();
        }
        Ok(())
    }

    fn child(&mut self, key: &PathKey, child: &dyn Visit) -> Result<()> {
        self.key = key.clone();
        child.visit(self)
    }

    fn optional(&mut self, part: Option<&dyn Visit>) -> Result<()> {
        match part {
            Some(part) => {
                self.define(|| Def::Some);
                part.visit(self)
            }
            None => {
                self.define(|| Def::None);
                Ok(())
            }
        }
    }

    fn shared(&mut self, id: usize, target: &dyn Visit) -> Result<()> {
        match self.begin_shared(id) {
            true => target.visit(self),
            false => Ok(()),
        }
    }

    fn dynamic(
        &mut self,
        type_name: &'static str,
        rebuild: &dyn Fn() -> ErasedRebuild,
        module: &dyn Visit,
    ) -> Result<()> {
        self.define(|| Def::Dynamic(DynamicType::new(type_name, rebuild())));
        module.visit(self)
    }

    fn variable(&mut self, variable: &Variable) -> Result<()> {
        if variable.has_other_handles() {
            if let Some(&index) = self.seen_variables.get(&variable.id()) {
                self.define(|| Def::VariableRef(index));
                return Ok(());
            }
            self.seen_variables.insert(variable.id(), self.variables);
            if self.handles.is_none() {
                self.held.push(variable.clone());
            }
        }
        self.variables += 1;
        if let Some(handles) = &mut self.handles {
            handles.push(Handle::Variable(variable.clone()));
            let (kind, metadata) = (variable.kind(), variable.metadata());
            self.define(|| Def::Variable { kind, metadata, spec: Spec::Unknown });
            return Ok(());
        }
        let leaf = variable.leaf()?;
        if let Some(program) = &mut self.program {
            let (metadata, spec) = (leaf.metadata.clone(), Spec::of(&leaf.value));
            let def = Def::Variable { kind: leaf.kind, metadata, spec };
            program.entries.push(Entry { key: self.key.clone(), def });
        }
        if let Some(tree) = &mut self.tree {
            tree.add(self.key.clone(), Tree::Leaf(leaf));
        }
        Ok(())
    }

    fn tensor(&mut self, tensor: &Tensor) -> Result<()> {
        if let Some(handles) = &mut self.handles {
            handles.push(Handle::Tensor(tensor.clone()));
        }
        let leaf = Leaf::new(bare_tensor(), tensor.clone());
        self.define(|| Def::Tensor(Spec::of(&leaf.value)));
        if let Some(tree) = &mut self.tree {
            tree.add(self.key.clone(), Tree::Leaf(leaf));
        }
        Ok(())
    }

    fn attribute(&mut self, attribute: &dyn Fn() -> Attribute) -> Result<()> {
        self.define(|| Def::Attribute(attribute()));
        Ok(())
    }

    fn flag(&mut self, flag: &Flag) -> Result<()> {
        self.define(|| Def::Flag(flag.get()));
        Ok(())
    }

    fn device(&mut self, device: &Device) -> Result<()> {
        self.define(|| Def::Device(Box::new(device.clone())));
        Ok(())
    }

    fn weak(&mut self, id: Option<usize>) -> Result<()> {
        if let (Some(id), Some(program)) = (id, &self.program) {
            self.weak.push((program.entries.len(), id));
        }
        self.define(|| Def::Weak(None));
        Ok(())
    }
}
