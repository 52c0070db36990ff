use bridge_graph::Pytree;
use bridge_vars::{Result, Variables};

use crate::{Child, FunctionalModule, Scope};

/// A module together with variables, to be called as an object is: for a notebook, a test, or another method.
///
/// Variables of mutable collections change from call to call, in one that fails too; random streams go on. A clone has the same variables.
///
/// ```
/// use bridge_functional::{Dense, FunctionalModule, Keys};
/// use bridge_random::key;
/// use bridge_vars::CollectionFilter;
/// use candle_core::{DType, Device, Tensor};
/// let x = Tensor::zeros((1, 2), DType::F32, &Device::Cpu)?;
/// let dense = Dense::new(3);
/// let bound = dense.bind(&dense.init(key(0), &x)?, Keys::none(), CollectionFilter::none());
/// assert_eq!(bound.call(&x)?.dims(), &[1, 3]);
/// let (module, variables) = bound.unbind();
/// assert_eq!((module, variables.len()), (dense, 2));
/// # Ok::<(), bridge_vars::Error>(())
/// ```
#[doc(alias = "linen.Module.bind")]
#[derive(Clone, Debug)]
pub struct Bound<F>(Child<F>);

impl<F> Bound<F> {
    pub(crate) fn new(module: F, scope: Scope) -> Self {
        Self(Child::new(module, scope))
    }

    /// Calls the module.
    ///
    /// # Errors
    /// What the module returns.
    pub fn call<In: Pytree>(&self, input: &In) -> Result<F::Output>
    where
        F: FunctionalModule<In>,
    {
        self.0.call(input)
    }

    /// Calls a method of the module by its name.
    ///
    /// # Errors
    /// Those of [`FunctionalModule::call_method`].
    pub fn call_method<In: Pytree>(&self, name: &str, input: &In) -> Result<F::Output>
    where
        F: FunctionalModule<In>,
    {
        self.0.call_method(name, input)
    }

    /// Calls any method of the module, with its scope.
    ///
    /// # Errors
    /// What `f` returns.
    pub fn with<T>(&self, f: impl FnOnce(&F, &Scope) -> Result<T>) -> Result<T> {
        self.0.with(f)
    }

    /// The module.
    pub fn module(&self) -> &F {
        self.0.module()
    }

    /// The variables as the calls so far left them.
    pub fn variables(&self) -> Variables {
        self.0.scope().all_variables()
    }

    /// The module and its variables, apart.
    pub fn unbind(self) -> (F, Variables) {
        let variables = self.variables();
        (self.0.into_module(), variables)
    }
}
