use std::any::Any;
use std::fmt::Debug;

use bridge_graph::{Pytree, Summary};
use bridge_vars::{CollectionFilter, Name, Result, Variables};
use candle_core::Tensor;

use crate::error::ScopeError;
use crate::{Bound, Call, InMode, Keys, Mode, Named, Scope};

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
pub trait FunctionalModule<In: Pytree = Tensor>: Clone + Debug + PartialEq + Send + Sync + 'static {
    /// What it gives.
    type Output: Pytree;

    /// The computation. Parameters and children come from the scope.
    ///
    /// # Errors
    /// A [`ScopeError`](crate::ScopeError) for variables that do not fit, or what the computation returns.
    #[doc(alias = "__call__")]
    fn call(&self, scope: &Scope, input: &In) -> Result<Self::Output>;

    /// The name of the module's class, after which children are named: the type's name, unless it stands for another module.
    fn class(&self) -> Name {
        class_name::<Self>()
    }

    /// The name that it has where it is called without one: none, but for a [`Named`] module.
    fn explicit_name(&self) -> Option<Name> {
        None
    }

    /// This module with a name of its own, which it has in every scope that calls it.
    #[doc(alias = "name=")]
    fn named(self, name: impl Into<Name>) -> Named<Self> {
        Named::new(name, self)
    }

    /// The module that interceptors see: itself, unless it stands for another module.
    #[doc(hidden)]
    fn as_any(&self) -> &dyn Any {
        self
    }

    /// Methods of the same input and output that can be called by name, beside [`FunctionalModule::call`].
    ///
    /// ```
    /// use bridge_functional::{Call, Dense, FunctionalModule, Method, Scope};
    /// use bridge_random::key;
    /// use bridge_vars::Result;
    /// use candle_core::{DType, Device, Tensor};
    ///
    /// #[derive(Clone, Debug, PartialEq)]
    /// struct Autoencoder { encoder: Dense, decoder: Dense }
    ///
    /// impl Autoencoder {
    ///     fn encode(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
    ///         scope.call_named("encoder", &self.encoder, x)
    ///     }
    ///     fn decode(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
    ///         scope.call_named("decoder", &self.decoder, x)
    ///     }
    /// }
    /// impl FunctionalModule for Autoencoder {
    ///     type Output = Tensor;
    ///     fn call(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
    ///         self.decode(scope, &self.encode(scope, x)?)
    ///     }
    ///     fn methods() -> Vec<(&'static str, Method<Self>)> {
    ///         vec![("encode", Self::encode), ("decode", Self::decode)]
    ///     }
    /// }
    ///
    /// let x = Tensor::zeros((1, 8), DType::F32, &Device::Cpu)?;
    /// let model = Autoencoder { encoder: Dense::new(2), decoder: Dense::new(8) };
    /// let variables = model.init(key(0), &x)?;
    /// let (code, _) = Call::new().apply(&variables, |scope| model.encode(scope, &x))?;
    /// let (same, _) = Call::new().apply(&variables, |scope| scope.run_named(&model, "encode", &x))?;
    /// assert_eq!((code.dims(), same.dims()), (&[1, 2][..], &[1, 2][..]));
    /// # Ok::<(), bridge_vars::Error>(())
    /// ```
    fn methods() -> Vec<(&'static str, Method<Self, In>)> {
        Vec::new()
    }

    /// Calls a method by its name: one of [`FunctionalModule::methods`], or `__call__`.
    ///
    /// # Errors
    /// [`ScopeError::MethodNotFound`], and what the method returns.
    #[doc(alias = "method=")]
    fn call_method(&self, name: &str, scope: &Scope, input: &In) -> Result<Self::Output> {
        if name == bridge_graph::CALL {
            return self.call(scope, input);
        }
        let methods = Self::methods();
        match methods.iter().find(|(known, _)| *known == name) {
            Some((_, method)) => method(self, scope, input),
            None => Err(ScopeError::MethodNotFound {
                path: scope.path().clone(),
                class: self.class().to_string(),
                method: name.to_owned(),
                available: methods.iter().map(|(known, _)| (*known).to_owned()).collect(),
            }
            .into()),
        }
    }

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
        Call::new().keys(keys).init(|scope| scope.run(self, input))
    }

    /// The output for these variables, none of which can change.
    ///
    /// # Errors
    /// What [`FunctionalModule::call`] returns.
    fn apply(&self, variables: &Variables, input: &In) -> Result<Self::Output> {
        Ok(Call::new().apply(variables, |scope| scope.run(self, input))?.0)
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
        Call::new().keys(keys).mutable(mutable).apply(variables, |scope| scope.run(self, input))
    }

    /// The variables that a call with this input needs, described and not made: no memory is taken for them.
    ///
    /// [`Variables::materialize`] makes them where there was a key for `params`; without one they can be loaded. An input of
    /// which only the shape is known is [`bridge_ops::stand_in`].
    ///
    /// ```
    /// use bridge_functional::{Dense, FunctionalModule, Keys};
    /// use bridge_ops::stand_in;
    /// use candle_core::{DType, Device};
    /// let x = stand_in((1, 1_000_000), DType::F32, &Device::Cpu)?;
    /// let variables = Dense::new(1_000_000).describe(Keys::none(), &x)?;
    /// let kernel = &variables.get("params", "kernel")?.value;
    /// assert_eq!(kernel.tensor_form().unwrap().dims(), [1_000_000, 1_000_000]);
    /// # Ok::<(), bridge_vars::Error>(())
    /// ```
    ///
    /// # Errors
    /// What [`FunctionalModule::call`] returns.
    #[doc(alias("jax.eval_shape", "lazy_init"))]
    fn describe(&self, keys: impl Into<Keys>, input: &In) -> Result<Variables> {
        Ok(Call::new().keys(keys).describe(|scope| scope.run(self, input))?.1)
    }

    /// A table of the modules that a call with this input runs, and of their variables, which are only described.
    ///
    /// ```
    /// use bridge_functional::{Dense, FunctionalModule};
    /// use bridge_ops::stand_in;
    /// use candle_core::{DType, Device};
    /// let summary = Dense::new(3).tabulate(&stand_in((1, 2), DType::F32, &Device::Cpu)?)?;
    /// assert_eq!(summary.total().elements, 9);
    /// assert_eq!(summary.rows()[0].outputs.as_deref(), Some("f32[1, 3]"));
    /// println!("{summary}");
    /// # Ok::<(), bridge_vars::Error>(())
    /// ```
    ///
    /// # Errors
    /// What [`FunctionalModule::call`] returns.
    #[doc(alias("nn.tabulate", "module_paths"))]
    fn tabulate(&self, input: &In) -> Result<Summary> {
        Call::new().tabulate(|scope| scope.run(self, input))
    }

    /// This module together with variables, to be called as an object is.
    fn bind(
        &self,
        variables: &Variables,
        keys: impl Into<Keys>,
        mutable: impl Into<CollectionFilter>,
    ) -> Bound<Self> {
        Call::new().keys(keys).mutable(mutable).bind(self.clone(), variables)
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

/// A method of a module that can be called by name.
pub type Method<F, In = Tensor> = fn(&F, &Scope, &In) -> Result<<F as FunctionalModule<In>>::Output>;

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
