use std::sync::Arc;

use bridge_vars::{Filter, Leaf, Node, PathKey, Result, State, Tree, Variable};
use candle_core::{Device, Tensor};
use rustc_hash::FxHashMap;

use crate::graphdef::{Def, Entry, Program, Spec};
use crate::source::bare_tensor;
use crate::{Attribute, CallContext, Flag, GraphDef, StatefulModule, Structure, Visit, Visitor};

/// Splits a module into its static description and a snapshot of its state.
///
/// A variable or part that stands in several places is stored once, at the first of its paths in sorted
/// order. Everything that a [`merge`](crate::merge) needs is in the two halves.
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
/// If a variable can not be read.
#[doc(alias = "nnx.split")]
pub fn split<M: Visit>(module: &M) -> Result<(GraphDef<M>, State)> {
    let (program, state) = split_dyn(module)?;
    Ok((GraphDef::new(program), state))
}

/// Splits a module, and its state by filters: a variable goes to the first that matches it.
///
/// # Errors
/// If a variable matches none of the filters.
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
    let mut splitter = Splitter::new(false, true);
    module.visit(&mut splitter)?;
    Ok(splitter.finish().1)
}

/// A module's static description.
///
/// # Errors
/// If a variable can not be read.
#[doc(alias = "nnx.graphdef")]
pub fn graphdef<M: Visit>(module: &M) -> Result<GraphDef<M>> {
    let mut splitter = Splitter::new(true, false);
    module.visit(&mut splitter)?;
    Ok(GraphDef::new(Arc::new(splitter.finish().0)))
}

/// [`split`] for any module, its type not known.
///
/// # Errors
/// If a variable can not be read.
pub fn split_dyn<M: Visit + ?Sized>(module: &M) -> Result<(Arc<Program>, State)> {
    let mut splitter = Splitter::new(true, true);
    module.visit(&mut splitter)?;
    let (program, state) = splitter.finish();
    Ok((Arc::new(program), state))
}

struct Splitter {
    key: PathKey,
    program: Option<Program>,
    with_state: bool,
    root: Option<Tree<Leaf>>,
    nodes: Vec<(PathKey, Vec<(PathKey, Tree<Leaf>)>)>,
    variables: usize,
    seen_variables: FxHashMap<usize, usize>,
    seen_shared: FxHashMap<usize, usize>,
    // What is walked over keeps its handles only while it is walked over: a container that hands out a
    // temporary one must not give its number to another.
    held: Vec<Variable>,
}

impl Splitter {
    fn new(with_program: bool, with_state: bool) -> Self {
        Self {
            key: PathKey::Index(0),
            program: with_program.then(Program::default),
            with_state,
            root: None,
            nodes: Vec::new(),
            variables: 0,
            seen_variables: FxHashMap::default(),
            seen_shared: FxHashMap::default(),
            held: Vec::new(),
        }
    }

    fn finish(self) -> (Program, State) {
        (self.program.unwrap_or_default(), self.root.unwrap_or_default().into())
    }

    fn define(&mut self, def: impl FnOnce() -> Def) {
        if let Some(program) = &mut self.program {
            program.entries.push(Entry { key: self.key.clone(), def: def() });
        }
    }

    fn store(&mut self, key: PathKey, tree: Tree<Leaf>) {
        match self.nodes.last_mut() {
            Some((_, children)) => children.push((key, tree)),
            None => self.root = Some(tree),
        }
    }
}

impl Visitor for Splitter {
    fn enter(&mut self, structure: Structure, _module: Option<&dyn StatefulModule>) -> Result<()> {
        self.define(|| Def::Enter(structure));
        if self.with_state {
            self.nodes.push((self.key.clone(), Vec::with_capacity(2)));
        }
        Ok(())
    }

    fn exit(&mut self) -> Result<()> {
        self.define(|| Def::Exit);
        if let Some((key, children)) = self.nodes.pop()
            && (!children.is_empty() || self.nodes.is_empty())
        {
            self.store(key, Tree::Node(Node::from_sorted(children)));
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

    fn variable(&mut self, variable: &Variable) -> Result<()> {
        if variable.has_other_handles() {
            if let Some(&index) = self.seen_variables.get(&variable.id()) {
                self.define(|| Def::VariableRef(index));
                return Ok(());
            }
            self.seen_variables.insert(variable.id(), self.variables);
            self.held.push(variable.clone());
        }
        self.variables += 1;
        let leaf = variable.leaf()?;
        self.define(|| Def::Variable {
            kind: leaf.kind,
            metadata: leaf.metadata.clone(),
            spec: Spec::of(&leaf.value),
        });
        if self.with_state {
            self.store(self.key.clone(), Tree::Leaf(leaf));
        }
        Ok(())
    }

    fn tensor(&mut self, tensor: &Tensor) -> Result<()> {
        let leaf = Leaf::new(bare_tensor(), tensor.clone());
        self.define(|| Def::Tensor(Spec::of(&leaf.value)));
        if self.with_state {
            self.store(self.key.clone(), Tree::Leaf(leaf));
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

    fn context(&mut self, _context: &CallContext) -> Result<()> {
        Ok(())
    }

    fn device(&mut self, device: &Device) -> Result<()> {
        self.define(|| Def::Device(device.clone()));
        Ok(())
    }

    fn shared(&mut self, id: usize, target: &dyn Visit) -> Result<()> {
        if let Some(&number) = self.seen_shared.get(&id) {
            self.define(|| Def::SharedRef(number));
            return Ok(());
        }
        self.seen_shared.insert(id, self.seen_shared.len());
        self.define(|| Def::Shared);
        target.visit(self)
    }
}
