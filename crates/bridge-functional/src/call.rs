use bridge_vars::{CollectionFilter, Result, Variables};

use crate::{Keys, Mode, Scope};

/// How functional code is run: with which keys, in which mode, and what it may change.
///
/// The methods of [`FunctionalModule`](crate::FunctionalModule) are short for the common cases; this runs
/// any closure over a [`Scope`], and with it any method of any module. A scope is one module's: to call
/// several, or one several times, make them children of it.
///
/// ```
/// use bridge_functional::{Call, Dense, FunctionalModule};
/// use bridge_random::key;
/// use candle_core::{DType, Device, Tensor};
/// let x = Tensor::zeros((1, 2), DType::F32, &Device::Cpu)?;
/// let (_, variables) = Call::new().keys(key(0)).init(|scope| Dense::new(3).call(scope, &x))?;
/// let (y, _) = Call::new().apply(&variables, |scope| Dense::new(3).call(scope, &x))?;
/// assert_eq!(y.dims(), &[1, 3]);
/// # Ok::<(), bridge_vars::Error>(())
/// ```
#[doc(alias("linen.init", "linen.apply"))]
#[must_use = "it does nothing until `init` or `apply` is called on it"]
#[derive(Clone, Debug, Default)]
pub struct Call {
    pub(crate) keys: Keys,
    pub(crate) mutable: Option<CollectionFilter>,
    pub(crate) mode: Option<Mode>,
}

impl Call {
    /// No keys, nothing mutable, no mode.
    pub fn new() -> Self {
        Self::default()
    }

    /// With the keys that random streams start from.
    pub fn keys(mut self, keys: impl Into<Keys>) -> Self {
        self.keys = keys.into();
        self
    }

    /// With the collections that the call may change. For `init` it is all but `intermediates` unless said otherwise.
    pub fn mutable(mut self, mutable: impl Into<CollectionFilter>) -> Self {
        self.mutable = Some(mutable.into());
        self
    }

    /// In training or evaluation.
    pub fn mode(mut self, mode: impl Into<Option<Mode>>) -> Self {
        self.mode = mode.into();
        self
    }

    /// Runs `f` and creates the variables that it asks for; returns those of mutable collections.
    ///
    /// # Errors
    /// What `f` returns.
    pub fn init<T>(self, f: impl FnOnce(&Scope) -> Result<T>) -> Result<(T, Variables)> {
        self.init_from(&Variables::default(), f)
    }

    /// [`Call::init`] that starts with some variables there already.
    ///
    /// # Errors
    /// What `f` returns.
    pub fn init_from<T>(
        self,
        variables: &Variables,
        f: impl FnOnce(&Scope) -> Result<T>,
    ) -> Result<(T, Variables)> {
        let mutable = self.mutable.clone().unwrap_or_else(|| CollectionFilter::all_but(["intermediates"]));
        self.run(variables, mutable, true, f)
    }

    /// Runs `f` over the variables; returns all variables of the mutable collections, changed or not.
    ///
    /// # Errors
    /// What `f` returns.
    pub fn apply<T>(
        self,
        variables: &Variables,
        f: impl FnOnce(&Scope) -> Result<T>,
    ) -> Result<(T, Variables)> {
        let mutable = self.mutable.clone().unwrap_or_else(CollectionFilter::none);
        self.run(variables, mutable, false, f)
    }

    fn run<T>(
        self,
        variables: &Variables,
        mutable: CollectionFilter,
        initializing: bool,
        f: impl FnOnce(&Scope) -> Result<T>,
    ) -> Result<(T, Variables)> {
        let nothing_changes = mutable.is_none();
        let scope = Scope::root(variables.clone(), self.keys, mutable, self.mode, initializing);
        let output = f(&scope)?;
        let variables = if nothing_changes { Variables::default() } else { scope.mutable_variables() };
        Ok((output, variables))
    }
}
