use bridge_graph::{Mode, Pytree, Summary};
use bridge_vars::{CollectionFilter, Result, Variables};

use crate::{Bound, Call, FunctionalModule, Keys};

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
    pub fn init<In: Pytree>(&self, keys: impl Into<Keys>, input: &In) -> Result<Variables>
    where
        F: FunctionalModule<In>,
    {
        Ok(self.init_with_output(keys, input)?.1)
    }

    /// [`FunctionalModule::init_with_output`] in this mode.
    ///
    /// # Errors
    /// What the module returns.
    pub fn init_with_output<In: Pytree>(
        &self,
        keys: impl Into<Keys>,
        input: &In,
    ) -> Result<(F::Output, Variables)>
    where
        F: FunctionalModule<In>,
    {
        Call::new().keys(keys).mode(self.mode).init(|scope| scope.run(self.module, input))
    }

    /// [`FunctionalModule::apply`] in this mode.
    ///
    /// # Errors
    /// What the module returns.
    pub fn apply<In: Pytree>(&self, variables: &Variables, input: &In) -> Result<F::Output>
    where
        F: FunctionalModule<In>,
    {
        let call = Call::new().mode(self.mode);
        Ok(call.apply(variables, |scope| scope.run(self.module, input))?.0)
    }

    /// [`FunctionalModule::apply_mut`] in this mode.
    ///
    /// # Errors
    /// What the module returns.
    pub fn apply_mut<In: Pytree>(
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
        call.apply(variables, |scope| scope.run(self.module, input))
    }

    /// [`FunctionalModule::describe`] in this mode.
    ///
    /// # Errors
    /// What the module returns.
    pub fn describe<In: Pytree>(&self, keys: impl Into<Keys>, input: &In) -> Result<Variables>
    where
        F: FunctionalModule<In>,
    {
        let call = Call::new().keys(keys).mode(self.mode);
        Ok(call.describe(|scope| scope.run(self.module, input))?.1)
    }

    /// [`FunctionalModule::tabulate`] in this mode.
    ///
    /// # Errors
    /// What the module returns.
    pub fn tabulate<In: Pytree>(&self, input: &In) -> Result<Summary>
    where
        F: FunctionalModule<In>,
    {
        Call::new().mode(self.mode).tabulate(|scope| scope.run(self.module, input))
    }

    /// [`FunctionalModule::bind`] in this mode.
    pub fn bind(
        &self,
        variables: &Variables,
        keys: impl Into<Keys>,
        mutable: impl Into<CollectionFilter>,
    ) -> Bound<F>
    where
        F: Clone,
    {
        Call::new().keys(keys).mutable(mutable).mode(self.mode).bind(self.module.clone(), variables)
    }
}
