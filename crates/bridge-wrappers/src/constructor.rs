use std::fmt;
use std::sync::Arc;

use bridge_graph::Rngs;
use bridge_vars::Result;

use crate::WrapperError;

/// How a stateful module is made: a closure, which prints as its type and is absent in files.
///
/// Two compare by the closures' types; one that is absent equals any.
pub(crate) struct Constructor<M>(Option<(Arc<dyn Fn(&Rngs) -> Result<M> + Send + Sync>, &'static str)>);

impl<M> Constructor<M> {
    pub(crate) fn new<C: Fn(&Rngs) -> Result<M> + Send + Sync + 'static>(constructor: C) -> Self {
        Self(Some((Arc::new(constructor), std::any::type_name::<C>())))
    }

    pub(crate) fn construct(&self, rngs: &Rngs) -> Result<M> {
        match &self.0 {
            Some((constructor, _)) => constructor(rngs),
            None => Err(WrapperError::ConstructorMissing.into()),
        }
    }
}

impl<M> Default for Constructor<M> {
    fn default() -> Self {
        Self(None)
    }
}
impl<M> Clone for Constructor<M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}
impl<M> PartialEq for Constructor<M> {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some((_, name)), Some((_, other))) => name == other,
            _ => true,
        }
    }
}
impl<M> fmt::Debug for Constructor<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_ref().map_or("absent", |(_, name)| name))
    }
}
