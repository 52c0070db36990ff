use std::ops::Deref;
use std::sync::Arc;

use bridge_vars::Result;

use crate::{Field, Source, Visit, Visitor};

/// A part of a module that stands in several places: a clone is the same part.
///
/// Splitting stores it once, at the first of its paths in sorted order, and merging shares it again.
///
/// ```
/// use bridge_graph::{Shared, StatefulModule, merge, split};
/// use bridge_vars::Param;
/// use candle_core::{Device, Tensor};
///
/// #[derive(StatefulModule)]
/// struct Scale { factor: Param }
///
/// #[derive(StatefulModule)]
/// struct Tied { first: Shared<Scale>, second: Shared<Scale> }
///
/// let first = Shared::new(Scale { factor: Param::new(Tensor::new(2f32, &Device::Cpu)?) });
/// let tied = Tied { second: first.clone(), first };
/// let (graphdef, state) = split(&tied)?;
/// assert_eq!(state.len(), 1);
/// let merged = merge(&graphdef, &state)?;
/// assert!(merged.first.is_same(&merged.second));
/// # Ok::<(), bridge_vars::Error>(())
/// ```
#[derive(Debug)]
pub struct Shared<M>(Arc<M>);

impl<M> Shared<M> {
    /// A part that is in one place so far.
    pub fn new(part: M) -> Self {
        Self(Arc::new(part))
    }

    /// True if both are the same part.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<M> Clone for Shared<M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}
impl<M> Deref for Shared<M> {
    type Target = M;
    fn deref(&self) -> &M {
        &self.0
    }
}

impl<M: Visit> Visit for Shared<M> {
    fn visit(&self, visitor: &mut dyn Visitor) -> Result<()> {
        visitor.shared(Arc::as_ptr(&self.0).addr(), &*self.0)
    }
}
impl<M: Field> Field for Shared<M> {
    fn rebuild(source: &mut Source<'_>) -> Result<Self> {
        source.shared(|source| M::rebuild(source).map(Arc::new)).map(Self)
    }
}
