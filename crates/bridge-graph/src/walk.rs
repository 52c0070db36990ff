use bridge_vars::{Path, PathKey, Result, Variable};
use candle_core::{Device, Tensor};
use rustc_hash::FxHashSet;

use crate::{Attribute, CallContext, Flag, StatefulModule, Structure, Visit, Visitor};

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
#[doc(alias("nnx.iter_graph", "iter_modules"))]
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

struct Walker<'f> {
    path: Path,
    seen: FxHashSet<usize>,
    f: &'f mut dyn FnMut(&Path, GraphNode<'_>) -> Result<()>,
}

impl Visitor for Walker<'_> {
    fn enter(&mut self, _structure: Structure, module: Option<&dyn StatefulModule>) -> Result<()> {
        module.map_or(Ok(()), |module| (self.f)(&self.path, GraphNode::Module(module)))
    }
    fn exit(&mut self) -> Result<()> {
        Ok(())
    }
    fn child(&mut self, key: &PathKey, child: &dyn Visit) -> Result<()> {
        self.path.push(key.clone());
        child.visit(self)?;
        self.path.pop();
        Ok(())
    }
    fn optional(&mut self, part: Option<&dyn Visit>) -> Result<()> {
        part.map_or(Ok(()), |part| part.visit(self))
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
    fn device(&mut self, _device: &Device) -> Result<()> {
        Ok(())
    }
    fn shared(&mut self, id: usize, target: &dyn Visit) -> Result<()> {
        if self.seen.insert(id) { target.visit(self) } else { Ok(()) }
    }
}
