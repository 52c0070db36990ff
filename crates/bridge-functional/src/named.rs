use std::any::Any;

use bridge_graph::Pytree;
use bridge_vars::{Name, Result};
use serde::{Deserialize, Serialize};

use crate::{FunctionalModule, Scope};

/// A module with a name of its own, which it has in every scope that calls it: what [`FunctionalModule::named`] gives.
///
/// ```
/// use bridge_functional::{Call, Dense, FunctionalModule};
/// use bridge_random::key;
/// use candle_core::{DType, Device, Tensor};
/// let x = Tensor::zeros((1, 2), DType::F32, &Device::Cpu)?;
/// let head = Dense::new(3).named("head");
/// let (_, variables) = Call::new().keys(key(0)).init(|scope| scope.call(&head, &x))?;
/// assert!(variables.get("params", "head.kernel").is_ok());
/// # Ok::<(), bridge_vars::Error>(())
/// ```
///
/// In a handle, [`Scope::child`] does not see the name: use [`Scope::child_named`].
#[doc(alias = "name=")]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Named<F> {
    name: Name,
    module: F,
}

impl<F> Named<F> {
    /// A module and its name.
    pub fn new(name: impl Into<Name>, module: F) -> Self {
        Self { name: name.into(), module }
    }

    /// The module.
    pub fn module(&self) -> &F {
        &self.module
    }
}

impl<In: Pytree, F: FunctionalModule<In>> FunctionalModule<In> for Named<F> {
    type Output = F::Output;

    fn call(&self, scope: &Scope, input: &In) -> Result<Self::Output> {
        self.module.call(scope, input)
    }
    fn call_method(&self, name: &str, scope: &Scope, input: &In) -> Result<Self::Output> {
        self.module.call_method(name, scope, input)
    }
    fn class(&self) -> Name {
        self.module.class()
    }
    fn explicit_name(&self) -> Option<Name> {
        Some(self.name.clone())
    }
    fn as_any(&self) -> &dyn Any {
        self.module.as_any()
    }
}
