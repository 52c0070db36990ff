use std::any::TypeId;
use std::fmt;
use std::sync::Arc;

use bridge_graph::Rngs;
use bridge_vars::Result;

use crate::WrapperError;

/// How a stateful module is made of arguments and random streams: a closure, which prints as its type and is absent in files.
///
/// Two compare by the closures' types; one that is absent equals any.
pub(crate) struct Constructor<M, A = ()>(Option<Closure<M, A>>);

struct Closure<M, A> {
    call: Arc<dyn Fn(&A, &Rngs) -> Result<M> + Send + Sync>,
    // Two closures of one function have the same type name.
    id: TypeId,
    name: &'static str,
}

impl<M> Constructor<M> {
    /// One without arguments.
    pub(crate) fn new<C: Fn(&Rngs) -> Result<M> + Send + Sync + 'static>(constructor: C) -> Self {
        let (id, name) = (TypeId::of::<C>(), std::any::type_name::<C>());
        Self(Some(Closure { call: Arc::new(move |(), rngs| constructor(rngs)), id, name }))
    }
}

impl<M, A> Constructor<M, A> {
    pub(crate) fn of_arguments<C: Fn(&A, &Rngs) -> Result<M> + Send + Sync + 'static>(
        constructor: C,
    ) -> Self {
        let (id, name) = (TypeId::of::<C>(), std::any::type_name::<C>());
        Self(Some(Closure { call: Arc::new(constructor), id, name }))
    }

    pub(crate) fn construct(&self, arguments: &A, rngs: &Rngs) -> Result<M> {
        match &self.0 {
            Some(constructor) => (constructor.call)(arguments, rngs),
            None => Err(WrapperError::ConstructorMissing.into()),
        }
    }
}

impl<M, A> Default for Constructor<M, A> {
    fn default() -> Self {
        Self(None)
    }
}
impl<M, A> Clone for Constructor<M, A> {
    fn clone(&self) -> Self {
        Self(self.0.as_ref().map(|Closure { call, id, name }| Closure { call: call.clone(), id: *id, name }))
    }
}
impl<M, A> PartialEq for Constructor<M, A> {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(constructor), Some(other)) => constructor.id == other.id,
            _ => true,
        }
    }
}
impl<M, A> fmt::Debug for Constructor<M, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_ref().map_or("absent", |constructor| constructor.name))
    }
}
