use bridge_graph::Pytree;
use bridge_vars::Result;

use crate::{FunctionalModule, Scope};

/// A child that was named once and can be called again: every call uses the same variables.
///
/// ```
/// use bridge_functional::{Call, Dense};
/// use bridge_random::key;
/// use candle_core::{DType, Device, Tensor};
/// let x = Tensor::zeros((1, 2), DType::F32, &Device::Cpu)?;
/// let (_, variables) = Call::new().keys(key(0)).init(|scope| {
///     let twice = scope.child_named("twice", Dense::new(2))?;
///     twice.call(&twice.call(&x)?)
/// })?;
/// assert_eq!(variables.len(), 2);
/// # Ok::<(), bridge_vars::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Child<F> {
    module: F,
    scope: Scope,
}

impl<F> Child<F> {
    pub(crate) fn new(module: F, scope: Scope) -> Self {
        Self { module, scope }
    }

    /// The child's module.
    pub fn module(&self) -> &F {
        &self.module
    }

    pub(crate) fn scope(&self) -> &Scope {
        &self.scope
    }

    pub(crate) fn into_module(self) -> F {
        self.module
    }

    /// Calls the child.
    ///
    /// # Errors
    /// What the child returns.
    pub fn call<In: Pytree>(&self, input: &In) -> Result<F::Output>
    where
        F: FunctionalModule<In>,
    {
        self.scope.run(&self.module, input)
    }

    /// Calls a method of the child by its name.
    ///
    /// # Errors
    /// Those of [`FunctionalModule::call_method`].
    pub fn call_method<In: Pytree>(&self, name: &str, input: &In) -> Result<F::Output>
    where
        F: FunctionalModule<In>,
    {
        self.scope.run_named(&self.module, name, input)
    }

    /// Calls any method of the child, with the child's scope. Captures, interceptors and summaries do not see it, but what it
    /// calls.
    ///
    /// # Errors
    /// What `f` returns.
    pub fn with<T>(&self, f: impl FnOnce(&F, &Scope) -> Result<T>) -> Result<T> {
        self.scope.enter(|scope| f(&self.module, scope))
    }
}
