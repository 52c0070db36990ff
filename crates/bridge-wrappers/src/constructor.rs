use std::any::TypeId;
use std::fmt;
use std::sync::Arc;

use bridge_graph::Rngs;
use bridge_vars::Result;

use crate::WrapperError;

/// How a stateful module is made: a closure, which prints as its type and is absent in files.
///
/// Two compare by the closures' types; one that is absent equals any.
pub(crate) struct Constructor<M>(Option<Closure<M>>);

struct Closure<M> {
    call: Arc<dyn Fn(&Rngs) -> Result<M> + Send + Sync>,
    // Two closures of one function have the same type name.
    id: TypeId,
    name: &'static str,
}

impl<M> Constructor<M> {
    pub(crate) fn new<C: Fn(&Rngs) -> Result<M> + Send + Sync + 'static>(constructor: C) -> Self {
        let (id, name) = (TypeId::of::<C>(), std::any::type_name::<C>());
        Self(Some(Closure { call: Arc::new(constructor), id, name }))
    }

    pub(crate) fn construct(&self, rngs: &Rngs) -> Result<M> {
        match &self.0 {
            Some(constructor) => (constructor.call)(rngs),
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
        Self(self.0.as_ref().map(|Closure { call, id, name }| Closure { call: call.clone(), id: *id, name }))
    }
}
impl<M> PartialEq for Constructor<M> {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(constructor), Some(other)) => constructor.id == other.id,
            _ => true,
        }
    }
}
impl<M> fmt::Debug for Constructor<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_ref().map_or("absent", |constructor| constructor.name))
    }
}
