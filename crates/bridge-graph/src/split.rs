use std::sync::Arc;

use bridge_vars::{Filter, Leaf, Node, Path, PathKey, Result, State, Tree, Variable, VarsError};
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
    let mut splitter = Splitter { program: Some(Program::default()), ..Splitter::default() };
    splitter.trees.resize_with(N, Branches::default);
    splitter.choice = Some(Choice { filters: &filters, path: Path::root(), unmatched: Vec::new() });
    module.visit(&mut splitter)?;
    if let Some(Choice { unmatched, .. }) = splitter.choice.take()
        && !unmatched.is_empty()
    {
        return Err(VarsError::Unmatched { paths: unmatched }.into());
    }
    let mut trees = std::mem::take(&mut splitter.trees).into_iter();
    let states = std::array::from_fn(|_| trees.next().and_then(|tree| tree.root).unwrap_or_default().into());
    Ok((GraphDef::new(Arc::new(splitter.finish()?.0)), states))
}

/// A snapshot of a module's state.
///
/// # Errors
/// If a variable can not be read.
#[doc(alias("nnx.state", "nnx.variables"))]
pub fn state<M: Visit + ?Sized>(module: &M) -> Result<State> {
    let mut splitter = Splitter { trees: vec![Branches::default()], ..Splitter::default() };
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

/// [`program`] of what may be part of something larger: a weak reference that leads out of it leads nowhere.
pub(crate) fn program_of_part<M: Visit + ?Sized>(module: &M) -> Result<Program> {
    let mut splitter = Splitter { program: Some(Program::default()), ..Splitter::default() };
    module.visit(&mut splitter)?;
    splitter.settle_weak();
    Ok(splitter.program.unwrap_or_default())
}

/// [`split`] for any module, its type not known.
///
/// # Errors
/// Those of [`split`].
pub fn split_dyn<M: Visit + ?Sized>(module: &M) -> Result<(Arc<Program>, State)> {
    let mut splitter = Splitter {
        program: Some(Program::default()),
        trees: vec![Branches::default()],
        ..Splitter::default()
    };
    module.visit(&mut splitter)?;
    let (program, state, _) = splitter.finish()?;
    Ok((Arc::new(program), state))
}

/// Writes down what a walk meets: the description, the values as a state, or handles to what has a value.
pub(crate) struct Splitter<'f> {
    key: PathKey,
    pub(crate) program: Option<Program>,
    /// The keys of the nodes that are open.
    open: Vec<PathKey>,
    /// Where leaves go: one tree, or one for each filter.
    trees: Vec<Branches>,
    choice: Option<Choice<'f>>,
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

/// Which tree a leaf goes to.
struct Choice<'f> {
    filters: &'f [Filter],
    path: Path,
    unmatched: Vec<Path>,
}

impl Default for Splitter<'_> {
    fn default() -> Self {
        Self {
            key: PathKey::Index(0),
            program: None,
            open: Vec::new(),
            trees: Vec::new(),
            choice: None,
            handles: None,
            variables: 0,
            seen_variables: FxHashMap::default(),
            seen_shared: FxHashMap::default(),
            weak: Vec::new(),
            held: Vec::new(),
        }
    }
}

/// A tree that grows by its leaves, in order. A node begins with its first leaf.
#[derive(Default)]
struct Branches {
    root: Option<Tree<Leaf>>,
    /// The finished children of all nodes that are not, one after the other.
    children: Vec<(PathKey, Tree<Leaf>)>,
    /// Where the children of the nodes that began begin.
    nodes: Vec<usize>,
}

impl Branches {
    /// Adds a leaf below the open nodes.
    fn add(&mut self, key: PathKey, leaf: Leaf, open: usize) {
        if open == 0 {
            self.root = Some(Tree::Leaf(leaf));
            return;
        }
        self.nodes.resize(open, self.children.len());
        self.children.push((key, Tree::Leaf(leaf)));
    }

    /// Ends the innermost of the open nodes, if it began.
    fn end_node(&mut self, key: &PathKey, open: usize) {
        if self.nodes.len() <= open {
            return;
        }
        let Some(from) = self.nodes.pop() else { return };
        let node = Tree::Node(Node::from_sorted(self.children.drain(from..)));
        match open {
            0 => self.root = Some(node),
            _ => self.children.push((key.clone(), node)),
        }
    }
}

impl Splitter<'_> {
    /// For a module that is rebuilt at once: no state, and no shapes.
    pub(crate) fn recording() -> Self {
        Self { program: Some(Program::default()), handles: Some(Vec::new()), ..Self::default() }
    }

    /// Writes down what weak references lead to; returns where those are that lead out of the module.
    fn settle_weak(&mut self) -> Vec<usize> {
        let mut outside = Vec::new();
        for (at, id) in std::mem::take(&mut self.weak) {
            let number = self.seen_shared.get(&id).copied();
            if number.is_none() {
                outside.push(at);
            }
            if let Some(entry) = self.program.as_mut().and_then(|program| program.entries.get_mut(at)) {
                entry.def = Def::Weak(number);
            }
        }
        outside
    }

    pub(crate) fn finish(mut self) -> Result<(Program, State, Vec<Handle>)> {
        let outside = self.settle_weak();
        let program = self.program.unwrap_or_default();
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
        let root = self.trees.into_iter().next().and_then(|tree| tree.root).unwrap_or_default();
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

    fn store(&mut self, leaf: Leaf) {
        let tree = match &mut self.choice {
            None => 0,
            Some(choice) => {
                match choice.filters.iter().position(|filter| filter.matches(&choice.path, &leaf)) {
                    Some(tree) => tree,
                    None => return choice.unmatched.push(choice.path.clone()),
                }
            }
        };
        if let Some(tree) = self.trees.get_mut(tree) {
            tree.add(self.key.clone(), leaf, self.open.len());
        }
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

impl Visitor for Splitter<'_> {
    fn enter(&mut self, structure: Structure, _module: Option<&dyn StatefulModule>) -> Result<()> {
        self.define(|| Def::Enter(structure));
        self.open.push(self.key.clone());
        Ok(())
    }

    fn exit(&mut self) -> Result<()> {
        if let Some(program) = &mut self.program {
            program.entries.push(Entry { key: PathKey::Index(0), def: Def::Exit });
        }
        if let Some(key) = self.open.pop() {
            self.trees.iter_mut().for_each(|tree| tree.end_node(&key, self.open.len()));
        }
        Ok(())
    }

    fn child(&mut self, key: &PathKey, child: &dyn Visit) -> Result<()> {
        self.key = key.clone();
        match &mut self.choice {
            None => child.visit(self),
            Some(choice) => {
                choice.path.push(key.clone());
                child.visit(self)?;
                if let Some(choice) = &mut self.choice {
                    choice.path.pop();
                }
                Ok(())
            }
        }
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
        if self.choice.is_some() || !self.trees.is_empty() {
            self.store(leaf);
        }
        Ok(())
    }

    fn tensor(&mut self, tensor: &Tensor) -> Result<()> {
        if let Some(handles) = &mut self.handles {
            handles.push(Handle::Tensor(tensor.clone()));
        }
        let leaf = Leaf::new(bare_tensor(), tensor.clone());
        self.define(|| Def::Tensor(Spec::of(&leaf.value)));
        if self.choice.is_some() || !self.trees.is_empty() {
            self.store(leaf);
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
