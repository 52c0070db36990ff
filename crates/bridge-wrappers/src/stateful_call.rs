use bridge_functional::{FunctionalModule, Keys, Pytree, Scope};
use bridge_vars::{CollectionFilter, Result};

use crate::ToStateful;

/// A call of a [`ToStateful`] with keys or mutable collections of its own.
///
/// ```
/// use bridge_functional::Dropout;
/// use bridge_graph::Rngs;
/// use bridge_random::key;
/// use bridge_wrappers::ToStateful;
/// use candle_core::{DType, Device, Tensor};
/// let dropout = ToStateful::new(Dropout::new(0.5), &Rngs::new(0))?;
/// let x = Tensor::ones(8, DType::F32, &Device::Cpu)?;
/// let mask = || dropout.options().keys([("dropout", key(3))]).call(&x)?.to_vec1::<f32>();
/// assert_eq!(mask()?, mask()?);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[must_use = "it does nothing until `call` or `with` is called on it"]
#[derive(Debug)]
pub struct StatefulCall<'a, F> {
    pub(crate) wrapper: &'a ToStateful<F>,
    pub(crate) keys: Option<Keys>,
    pub(crate) mutable: Option<CollectionFilter>,
}

impl<F> StatefulCall<'_, F> {
    /// With these keys instead of the wrapper's own streams, which are not drawn from.
    pub fn keys(self, keys: impl Into<Keys>) -> Self {
        Self { keys: Some(keys.into()), ..self }
    }

    /// With these mutable collections.
    pub fn mutable(self, mutable: impl Into<CollectionFilter>) -> Self {
        Self { mutable: Some(mutable.into()), ..self }
    }

    /// Calls the module.
    ///
    /// # Errors
    /// What the module returns.
    pub fn call<In: Pytree>(self, input: &In) -> Result<F::Output>
    where
        F: FunctionalModule<In>,
    {
        self.with(|module, scope| scope.run(module, input))
    }

    /// Calls any method of the module, with its scope.
    ///
    /// # Errors
    /// What `method` returns.
    pub fn with<T>(self, method: impl FnOnce(&F, &Scope) -> Result<T>) -> Result<T>
    where
        F: 'static,
    {
        self.wrapper.run(self.keys, self.mutable, method)
    }
}
