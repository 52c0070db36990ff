use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, OnceLock, Weak};

use bridge_vars::Result;

use crate::{Field, Source, Visit, Visitor};

/// A part of a module that stands in several places: a clone is the same part.
///
/// Splitting stores it once, at the first of its paths in sorted order, and merging shares it again. For a part that
/// refers back to one that contains it, see [`WeakShared`].
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
// Set before anyone but a merge in progress has a handle; empty while the part itself is being rebuilt, so that what is
// inside can refer to it.
pub struct Shared<M>(Arc<OnceLock<M>>);

impl<M> Shared<M> {
    /// A part that is in one place so far.
    pub fn new(part: M) -> Self {
        Self(Arc::new(OnceLock::from(part)))
    }

    /// A part that holds references to itself: `make` gets one, which leads to the part once it is made.
    pub fn new_cyclic(make: impl FnOnce(&WeakShared<M>) -> M) -> Self {
        let place = Arc::new(OnceLock::new());
        let part = make(&WeakShared(Arc::downgrade(&place)));
        // No one else has the place, so it is empty.
        let _ = place.set(part);
        Self(place)
    }

    /// True if both are the same part.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// A reference that does not keep the part alive.
    pub fn downgrade(&self) -> WeakShared<M> {
        WeakShared(Arc::downgrade(&self.0))
    }

    pub(crate) fn from_place(place: Arc<OnceLock<M>>) -> Self {
        Self(place)
    }
}

impl<M> Clone for Shared<M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}
impl<M> Deref for Shared<M> {
    type Target = M;
    #[allow(clippy::panic, reason = "no handle is given out before its part is there")]
    fn deref(&self) -> &M {
        match self.0.get() {
            Some(part) => part,
            None => panic!("a shared part is used while it is being made"),
        }
    }
}
impl<M: fmt::Debug> fmt::Debug for Shared<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Shared").field(&**self).finish()
    }
}

impl<M: Visit> Visit for Shared<M> {
    fn visit(&self, visitor: &mut dyn Visitor) -> Result<()> {
        visitor.shared(Arc::as_ptr(&self.0).addr(), &**self)
    }
}
impl<M: Field> Field for Shared<M> {
    fn rebuild(source: &mut Source<'_>) -> Result<Self> {
        source.shared()
    }
}

/// A reference to a [`Shared`] part that does not keep it alive: what closes a cycle.
///
/// It is part of the description. What it refers to must be in the module that is split, before it or after it; merging
/// leads it to the merged part. Walks do not go through it.
///
/// ```
/// use bridge_graph::{Shared, StatefulModule, WeakShared, merge, split};
/// use bridge_vars::Param;
/// use candle_core::{Device, Tensor};
///
/// #[derive(StatefulModule)]
/// struct Block { parent: WeakShared<Tower>, factor: Param }
/// #[derive(StatefulModule)]
/// struct Tower { blocks: Vec<Block> }
///
/// let factor = Param::new(Tensor::new(2f32, &Device::Cpu)?);
/// let tower = Shared::new_cyclic(|tower| Tower { blocks: vec![Block { parent: tower.clone(), factor }] });
/// let (graphdef, state) = split(&tower)?;
/// let merged = merge(&graphdef, &state)?;
/// let parent = merged.blocks[0].parent.upgrade().unwrap();
/// assert!(parent.is_same(&merged));
/// # Ok::<(), bridge_vars::Error>(())
/// ```
pub struct WeakShared<M>(Weak<OnceLock<M>>);

impl<M> WeakShared<M> {
    /// A reference to nothing.
    pub fn new() -> Self {
        Self(Weak::new())
    }

    /// The part, unless it is gone, is not made yet, or never was.
    pub fn upgrade(&self) -> Option<Shared<M>> {
        let place = self.0.upgrade()?;
        place.get().is_some().then_some(Shared(place))
    }

    pub(crate) fn to_place(place: &Arc<OnceLock<M>>) -> Self {
        Self(Arc::downgrade(place))
    }
}

impl<M> Default for WeakShared<M> {
    fn default() -> Self {
        Self::new()
    }
}
impl<M> Clone for WeakShared<M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}
impl<M> fmt::Debug for WeakShared<M> {
    // Not what is inside, which may hold this one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WeakShared")
    }
}

impl<M: Send + Sync> Visit for WeakShared<M> {
    fn visit(&self, visitor: &mut dyn Visitor) -> Result<()> {
        visitor.weak(self.upgrade().map(|part| Arc::as_ptr(&part.0).addr()))
    }
}
impl<M: Send + Sync + 'static> Field for WeakShared<M> {
    fn rebuild(source: &mut Source<'_>) -> Result<Self> {
        source.weak()
    }
}
