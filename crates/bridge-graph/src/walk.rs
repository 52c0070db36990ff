use bridge_vars::{Path, PathKey, Result, Variable};
use candle_core::Tensor;
use rustc_hash::FxHashSet;

use crate::visit::goes_inside;
use crate::{Attribute, CallContext, Flag, RngStream, StatefulModule, Structure, Visit, Visitor};

/// What [`iter_graph`] meets.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum GraphNode<'a> {
    /// A derived module.
    Module(&'a dyn StatefulModule),
    /// A variable.
    Variable(&'a Variable),
    /// A bare tensor.
    Tensor(&'a Tensor),
    /// A flag.
    Flag(&'a Flag),
    /// A place that a call's context reaches.
    Context(&'a CallContext),
    /// A static value.
    Static(&'a dyn Fn() -> Attribute),
}

impl std::fmt::Debug for GraphNode<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Module(module) => write!(f, "Module({})", module.type_name()),
            Self::Variable(variable) => write!(f, "{variable:?}"),
            Self::Tensor(tensor) => write!(f, "Tensor({:?})", tensor.dims()),
            Self::Flag(flag) => write!(f, "{flag:?}"),
            Self::Context(_) => f.write_str("Context"),
            Self::Static(value) => write!(f, "Static({:?})", value()),
        }
    }
}

/// Calls `f` on everything that a module is made of and its path: a node before what is below it,
/// children in order of their keys, and whatever is shared once, at its first path.
///
/// ```
/// use bridge_graph::{GraphNode, StatefulModule, iter_graph};
/// use bridge_vars::Param;
/// use candle_core::{Device, Tensor};
///
/// #[derive(StatefulModule)]
/// struct Pair { scale: Param, tied: Param }
///
/// let scale = Param::new(Tensor::new(2f32, &Device::Cpu)?);
/// let pair = Pair { tied: scale.clone(), scale };
/// let mut paths = vec![];
/// iter_graph(&pair, |path, node| {
///     if let GraphNode::Variable(_) = node {
///         paths.push(path.to_string());
///     }
///     Ok(())
/// })?;
/// assert_eq!(paths, ["scale"]);
/// # Ok::<(), bridge_vars::Error>(())
/// ```
///
/// # Errors
/// The first that `f` returns.
#[doc(alias = "nnx.iter_graph")]
pub fn iter_graph<M: Visit + ?Sized>(
    module: &M,
    mut f: impl FnMut(&Path, GraphNode<'_>) -> Result<()>,
) -> Result<()> {
    module.visit(&mut Walker { path: Path::root(), seen: FxHashSet::default(), f: &mut f })
}

/// Every variable of a module with its path, each once.
///
/// # Errors
/// None that a derived module causes.
pub fn variables<M: Visit + ?Sized>(module: &M) -> Result<Vec<(Path, Variable)>> {
    let mut variables = Vec::new();
    iter_graph(module, |path, node| {
        if let GraphNode::Variable(variable) = node {
            variables.push((path.clone(), variable.clone()));
        }
        Ok(())
    })?;
    Ok(variables)
}

/// Calls `f` on every variable of a module, each once, in order of the paths: [`iter_graph`] where no path is needed, in
/// half the time.
///
/// # Errors
/// The first that `f` returns.
#[doc(alias = "visit")]
pub fn iter_variables<M: Visit + ?Sized>(
    module: &M,
    mut f: impl FnMut(&Variable) -> Result<()>,
) -> Result<()> {
    module.visit(&mut VariableWalker { seen: FxHashSet::default(), f: &mut f })
}

/// Calls `f` on every module inside of a module, with its path: itself first, a module before those below it, a shared one
/// once.
///
/// # Errors
/// The first that `f` returns.
#[doc(alias = "nnx.iter_modules")]
pub fn iter_modules<M: Visit + ?Sized>(
    module: &M,
    mut f: impl FnMut(&Path, &dyn StatefulModule) -> Result<()>,
) -> Result<()> {
    iter_graph(module, |path, node| match node {
        GraphNode::Module(module) => f(path, module),
        _ => Ok(()),
    })
}

/// Calls `f` on the modules directly inside of a module, with their paths: in its fields, or in lists, maps and tuples
/// there, but not inside of other modules.
///
/// ```
/// use bridge_graph::{StatefulModule, iter_children};
/// use bridge_vars::Param;
/// use candle_core::{Device, Tensor};
///
/// #[derive(StatefulModule)]
/// struct Scale { factor: Param }
/// #[derive(StatefulModule)]
/// struct Model { layers: Vec<Scale>, head: Option<Scale> }
///
/// let scale = || Ok::<_, bridge_vars::Error>(Scale { factor: Param::new(Tensor::new(2f32, &Device::Cpu)?) });
/// let model = Model { layers: vec![scale()?, scale()?], head: Some(scale()?) };
/// let mut children = vec![];
/// iter_children(&model, |path, child| Ok(children.push(format!("{path}: {}", child.type_name()))))?;
/// assert_eq!(children, ["head: Scale", "layers.0: Scale", "layers.1: Scale"]);
/// # Ok::<(), bridge_vars::Error>(())
/// ```
///
/// # Errors
/// The first that `f` returns.
#[doc(alias = "nnx.iter_children")]
pub fn iter_children<M: Visit + ?Sized>(
    module: &M,
    mut f: impl FnMut(&Path, &dyn StatefulModule) -> Result<()>,
) -> Result<()> {
    let mut children = Children { path: Path::root(), seen: FxHashSet::default(), inside: false, f: &mut f };
    module.visit(&mut children)
}

/// Goes no further than to the modules directly inside of one.
struct Children<'f> {
    path: Path,
    seen: FxHashSet<usize>,
    /// Whether it is inside of a child.
    inside: bool,
    f: &'f mut dyn FnMut(&Path, &dyn StatefulModule) -> Result<()>,
}

impl Visitor for Children<'_> {
    fn enter(&mut self, _structure: Structure, module: Option<&dyn StatefulModule>) -> Result<()> {
        match module {
            Some(module) if !self.path.is_empty() => {
                self.inside = true;
                (self.f)(&self.path, module)
            }
            _ => Ok(()),
        }
    }
    fn exit(&mut self) -> Result<()> {
        self.inside = false;
        Ok(())
    }
    fn variable(&mut self, _variable: &Variable) -> Result<()> {
        Ok(())
    }
    fn child(&mut self, key: &PathKey, child: &dyn Visit) -> Result<()> {
        if self.inside {
            return Ok(());
        }
        self.path.push(key.clone());
        child.visit(self)?;
        self.path.pop();
        Ok(())
    }
    goes_inside!(once);
}

/// What a module holds that a call around it reaches.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Reached {
    /// Flags.
    pub flags: bool,
    /// Places that a call's context reaches.
    pub contexts: bool,
    /// Random streams.
    pub streams: bool,
}

/// What a module holds that a call around it reaches, by a walk without paths.
#[doc(hidden)]
pub fn reached<M: Visit + ?Sized>(module: &M) -> Result<Reached> {
    let mut walker = ReachedWalker { seen: FxHashSet::default(), reached: Reached::default() };
    module.visit(&mut walker)?;
    Ok(walker.reached)
}

struct ReachedWalker {
    seen: FxHashSet<usize>,
    reached: Reached,
}

impl Visitor for ReachedWalker {
    fn enter(&mut self, _structure: Structure, module: Option<&dyn StatefulModule>) -> Result<()> {
        let any: Option<&dyn std::any::Any> = module.map(|module| module as _);
        self.reached.streams |= any.is_some_and(|module| module.is::<RngStream>());
        Ok(())
    }
    fn child(&mut self, _key: &PathKey, child: &dyn Visit) -> Result<()> {
        child.visit(self)
    }
    goes_inside!(once);
    fn variable(&mut self, _variable: &Variable) -> Result<()> {
        Ok(())
    }
    fn flag(&mut self, _flag: &Flag) -> Result<()> {
        self.reached.flags = true;
        Ok(())
    }
    fn context(&mut self, _context: &CallContext) -> Result<()> {
        self.reached.contexts = true;
        Ok(())
    }
}

struct VariableWalker<'f> {
    seen: FxHashSet<usize>,
    f: &'f mut dyn FnMut(&Variable) -> Result<()>,
}

impl Visitor for VariableWalker<'_> {
    fn child(&mut self, _key: &PathKey, child: &dyn Visit) -> Result<()> {
        child.visit(self)
    }
    fn variable(&mut self, variable: &Variable) -> Result<()> {
        if variable.has_other_handles() && !self.seen.insert(variable.id()) {
            return Ok(());
        }
        (self.f)(variable)
    }
    goes_inside!(once);
}

struct Walker<'f> {
    path: Path,
    seen: FxHashSet<usize>,
    f: &'f mut dyn FnMut(&Path, GraphNode<'_>) -> Result<()>,
}

impl Visitor for Walker<'_> {
    fn enter(&mut self, _structure: Structure, module: Option<&dyn StatefulModule>) -> Result<()> {
        module.map_or(Ok(()), |module| (self.f)(&self.path, GraphNode::Module(module)))
    }
    fn child(&mut self, key: &PathKey, child: &dyn Visit) -> Result<()> {
        self.path.push(key.clone());
        child.visit(self)?;
        self.path.pop();
        Ok(())
    }
    fn variable(&mut self, variable: &Variable) -> Result<()> {
        // What has one handle stands in one place.
        if variable.has_other_handles() && !self.seen.insert(variable.id()) {
            return Ok(());
        }
        (self.f)(&self.path, GraphNode::Variable(variable))
    }
    fn tensor(&mut self, tensor: &Tensor) -> Result<()> {
        (self.f)(&self.path, GraphNode::Tensor(tensor))
    }
    fn attribute(&mut self, attribute: &dyn Fn() -> Attribute) -> Result<()> {
        (self.f)(&self.path, GraphNode::Static(attribute))
    }
    fn flag(&mut self, flag: &Flag) -> Result<()> {
        (self.f)(&self.path, GraphNode::Flag(flag))
    }
    fn context(&mut self, context: &CallContext) -> Result<()> {
        (self.f)(&self.path, GraphNode::Context(context))
    }
    goes_inside!(once);
}
