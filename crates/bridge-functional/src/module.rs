use std::fmt::Debug;

use bridge_vars::{CollectionFilter, Name, Result, Variables};
use candle_core::Tensor;

use crate::{Call, InMode, Keys, Mode, Scope};

/// A module that owns nothing: it is its configuration, and sees its variables through a [`Scope`].
///
/// `In` is what it takes, a tensor unless said otherwise; a module can take several types by several
/// implementations.
#[doc(alias("linen.Module", "nn.Module"))]
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a functional module that takes `&{In}`",
    note = "write `impl FunctionalModule<{In}> for {Self} {{ type Output = ..; fn call(&self, scope: &Scope, input: &{In}) \
            -> Result<Self::Output> {{ .. }} }}`, and derive `Clone`, `Debug` and `PartialEq` (and serde's two, to wrap it in `ToStateful`)"
)]
pub trait FunctionalModule<In: ?Sized = Tensor>: Clone + Debug + PartialEq + Send + Sync + 'static {
    /// What it gives.
    type Output;

    /// The computation. Parameters and children come from the scope.
    ///
    /// # Errors
    /// A [`ScopeError`](crate::ScopeError) for variables that do not fit, or what the computation returns.
    #[doc(alias = "__call__")]
    fn call(&self, scope: &Scope, input: &In) -> Result<Self::Output>;

    /// The variables that a call with this input needs, made from the keys.
    ///
    /// # Errors
    /// What [`FunctionalModule::call`] returns.
    fn init(&self, keys: impl Into<Keys>, input: &In) -> Result<Variables> {
        Ok(self.init_with_output(keys, input)?.1)
    }

    /// The output of the call that makes the variables, and the variables.
    ///
    /// # Errors
    /// What [`FunctionalModule::call`] returns.
    fn init_with_output(&self, keys: impl Into<Keys>, input: &In) -> Result<(Self::Output, Variables)> {
        Call::new().keys(keys).init(|scope| self.call(scope, input))
    }

    /// The output for these variables, none of which can change.
    ///
    /// # Errors
    /// What [`FunctionalModule::call`] returns.
    fn apply(&self, variables: &Variables, input: &In) -> Result<Self::Output> {
        Ok(Call::new().apply(variables, |scope| self.call(scope, input))?.0)
    }

    /// The output, and all variables of the collections that may change.
    ///
    /// Put them over the old ones with [`Variables::updated`]. Where `params` is mutable they are among them, as
    /// they were: put the updates over the old variables before an optimizer's step, not over its result.
    ///
    /// # Errors
    /// What [`FunctionalModule::call`] returns.
    fn apply_mut(
        &self,
        variables: &Variables,
        keys: impl Into<Keys>,
        mutable: impl Into<CollectionFilter>,
        input: &In,
    ) -> Result<(Self::Output, Variables)> {
        Call::new().keys(keys).mutable(mutable).apply(variables, |scope| self.call(scope, input))
    }

    /// This module in training: `model.train().apply_mut(..)`.
    fn train(&self) -> InMode<'_, Self> {
        InMode { module: self, mode: Mode::Train }
    }

    /// This module in evaluation: `model.eval().apply(..)`.
    fn eval(&self) -> InMode<'_, Self> {
        InMode { module: self, mode: Mode::Eval }
    }
}

/// The name of a module's type, after which children are named: `Dense` for `Dense_0`.
pub fn class_name<F>() -> Name {
    let full = std::any::type_name::<F>();
    // A type of a function in `impl Trait for Type` is `<Type as Trait>::function::Name`.
    let full = if full.starts_with('<') { after_brackets(full) } else { full };
    let without_generics = full.split('<').next().unwrap_or(full);
    Name::from(without_generics.rsplit("::").next().unwrap_or(without_generics))
}

/// What follows the bracket that closes the first one.
fn after_brackets(name: &str) -> &str {
    let (mut chars, mut depth, mut last) = (name.chars(), 0usize, ' ');
    while let Some(c) = chars.next() {
        match c {
            '<' => depth += 1,
            // The arrow of a function's type closes nothing.
            '>' if last != '-' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return chars.as_str();
        }
        last = c;
    }
    name
}
