use bridge_vars::{CollectionFilter, Result, Variables};

use crate::{Call, FunctionalModule, Keys};

/// Whether a call is for training or for evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Dropout drops; batch norm uses and updates batch statistics.
    Train,
    /// Dropout does nothing; batch norm uses its running statistics.
    Eval,
}

/// A module together with a mode: what [`FunctionalModule::train`] and [`FunctionalModule::eval`] give.
///
/// A layer that was told itself what to do, `Dropout::new(0.5).deterministic(true)`, does that in every mode.
#[must_use = "it does nothing until `init` or `apply` is called on it"]
#[derive(Debug)]
pub struct InMode<'a, F> {
    pub(crate) module: &'a F,
    pub(crate) mode: Mode,
}

impl<F> InMode<'_, F> {
    /// [`FunctionalModule::init`] in this mode.
    ///
    /// # Errors
    /// What the module returns.
    pub fn init<In: ?Sized>(&self, keys: impl Into<Keys>, input: &In) -> Result<Variables>
    where
        F: FunctionalModule<In>,
    {
        Ok(self.init_with_output(keys, input)?.1)
    }

    /// [`FunctionalModule::init_with_output`] in this mode.
    ///
    /// # Errors
    /// What the module returns.
    pub fn init_with_output<In: ?Sized>(
        &self,
        keys: impl Into<Keys>,
        input: &In,
    ) -> Result<(F::Output, Variables)>
    where
        F: FunctionalModule<In>,
    {
        Call::new().keys(keys).mode(self.mode).init(|scope| self.module.call(scope, input))
    }

    /// [`FunctionalModule::apply`] in this mode.
    ///
    /// # Errors
    /// What the module returns.
    pub fn apply<In: ?Sized>(&self, variables: &Variables, input: &In) -> Result<F::Output>
    where
        F: FunctionalModule<In>,
    {
        let call = Call::new().mode(self.mode);
        Ok(call.apply(variables, |scope| self.module.call(scope, input))?.0)
    }

    /// [`FunctionalModule::apply_mut`] in this mode.
    ///
    /// # Errors
    /// What the module returns.
    pub fn apply_mut<In: ?Sized>(
        &self,
        variables: &Variables,
        keys: impl Into<Keys>,
        mutable: impl Into<CollectionFilter>,
        input: &In,
    ) -> Result<(F::Output, Variables)>
    where
        F: FunctionalModule<In>,
    {
        let call = Call::new().keys(keys).mutable(mutable).mode(self.mode);
        call.apply(variables, |scope| self.module.call(scope, input))
    }
}
