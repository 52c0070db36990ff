use std::fmt;

use bridge_functional::{FunctionalModule, Scope};
use bridge_graph::{Field, GraphDef, Policy, Rngs, describe};
use bridge_vars::{Leaf, Metadata, Path, Result};
use candle_core::{Device, Module, Tensor};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::constructor::Constructor;
use crate::options::{MetadataFunction, Options};
use crate::wrapped_call::{GRAPHDEF, NNX, apply, init, program};
use crate::{WrapperError, rngs_from_scope};

/// A stateful module as a functional one: what [`to_functional`] gives.
///
/// Its variables are one collection for each type of variable that the module has, and `nnx`, which holds
/// the module's [`GraphDef`]. A bare tensor in a field is in `tensors`. At `init` they are as before the call, as in Flax.
///
/// At `apply` the module is merged from them; its constructor does not run. Its random streams start from
/// fresh keys of the streams of the same names, in sorted order of their paths; a stream that the call gave no key
/// fails when it is drawn from, unless `RngCount` is mutable: then it goes on from what is stored. What the call changed is
/// written back; a change in a collection that is not mutable is an error.
#[doc(alias("ToLinen", "bridge.ToLinen"))]
#[derive(Serialize, Deserialize)]
#[serde(bound(serialize = "A: Serialize", deserialize = "A: DeserializeOwned"))]
pub struct ToFunctional<M, A = ()> {
    #[serde(skip)]
    constructor: Constructor<M, A>,
    arguments: A,
    #[serde(default, skip_serializing_if = "Options::is_default")]
    options: Options,
}

/// A stateful module, given by how it is constructed, as a functional one.
///
/// The constructor gets a stream for each key of the call, and no `default`: if it makes a dropout, `init` with
/// `[("params", key), ("dropout", key)]`. The result is a [`FunctionalModule`] if the module implements candle's
/// `Module`; any other method runs through [`ToFunctional::with`].
///
/// ```
/// use bridge_functional::FunctionalModule;
/// use bridge_random::key;
/// use bridge_stateful::Linear;
/// use bridge_wrappers::to_functional;
/// use candle_core::{DType, Device, Tensor};
/// let linear = to_functional(|rngs| Linear::new(2, 3, rngs));
/// let x = Tensor::ones((1, 2), DType::F32, &Device::Cpu)?;
/// let variables = linear.init(key(0), &x)?;
/// assert_eq!(variables.get("params", "kernel")?.tensor()?.dims(), &[2, 3]);
/// assert_eq!(linear.apply(&variables, &x)?.dims(), &[1, 3]);
/// # Ok::<(), bridge_vars::Error>(())
/// ```
#[doc(alias("to_linen", "bridge.to_linen"))]
pub fn to_functional<M: Field>(
    constructor: impl Fn(&Rngs) -> Result<M> + Send + Sync + 'static,
) -> ToFunctional<M> {
    ToFunctional { constructor: Constructor::new(constructor), arguments: (), options: Options::default() }
}

/// A stateful module that is constructed with arguments, as a functional one: [`to_functional`] where the arguments are to be
/// seen, compared and kept in files.
///
/// What the closure captures is preset. In a function of your own it is a class: give it the arguments, and it gives modules.
///
/// ```
/// use bridge_graph::Rngs;
/// use bridge_stateful::Linear;
/// use bridge_wrappers::{ToFunctional, to_functional_with};
///
/// fn linear(inputs: usize, outputs: usize) -> ToFunctional<Linear, (usize, usize)> {
///     to_functional_with((inputs, outputs), |(inputs, outputs), rngs| Linear::new(*inputs, *outputs, rngs))
/// }
///
/// assert_eq!(linear(2, 3), linear(2, 3));
/// assert_ne!(linear(2, 3), linear(2, 4));
/// assert_eq!(linear(2, 3).arguments(), &(2, 3));
/// ```
#[doc(alias("to_linen_class", "bridge.to_linen"))]
pub fn to_functional_with<M: Field, A>(
    arguments: A,
    constructor: impl Fn(&A, &Rngs) -> Result<M> + Send + Sync + 'static,
) -> ToFunctional<M, A> {
    ToFunctional {
        constructor: Constructor::of_arguments(constructor),
        arguments,
        options: Options::default(),
    }
}

impl<M, A> ToFunctional<M, A> {
    /// What the module is constructed with.
    pub fn arguments(&self) -> &A {
        &self.arguments
    }

    /// With another rule for variables that the module lacks, has not, or has in another form; without it they are an error
    /// that lists all of them ([`Policy::Strict`]).
    ///
    /// A variable that is missing under [`Policy::Partial`] has no value, and reading it is an error.
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.options.policy = policy;
        self
    }

    /// Drops what the call changes in collections that are not mutable, as Flax does, instead of refusing it. Variables that the call
    /// makes or removes are refused all the same, while `nnx` is not mutable.
    #[must_use]
    pub fn drop_immutable_writes(mut self) -> Self {
        self.options.drop_immutable_writes = true;
        self
    }

    /// Without random streams: the constructor gets none, no key is drawn from the call, and streams inside are not started
    /// anew.
    #[must_use]
    pub fn skip_rng(mut self) -> Self {
        self.options.skip_rng = true;
        self
    }

    /// With a function that says which metadata a variable has among the call's variables; without it, its own. Random streams,
    /// which are known by theirs, keep it.
    ///
    /// Two compare by their functions' types; in files it is absent.
    #[doc(alias("metadata_fn", "to_linen_var"))]
    #[must_use]
    pub fn metadata(mut self, metadata: impl Fn(&Path, &Leaf) -> Metadata + Send + Sync + 'static) -> Self {
        self.options.metadata = Some(MetadataFunction::new(metadata));
        self
    }
}

impl<M: Field, A> ToFunctional<M, A> {
    /// Runs any method of the module in a functional call. New tensors go to the CPU.
    ///
    /// At `init` the method may run twice, the first time to create what is created lazily.
    ///
    /// # Errors
    /// [`WrapperError`], variables that do not fit, and what `method` returns.
    #[doc(alias = "nnx_method")]
    pub fn with<T>(&self, scope: &Scope, method: impl Fn(&M) -> Result<T>) -> Result<T> {
        self.with_device(scope, &Device::Cpu, method)
    }

    /// [`ToFunctional::with`], where new tensors go to a device.
    ///
    /// # Errors
    /// Those of [`ToFunctional::with`].
    pub fn with_device<T>(
        &self,
        scope: &Scope,
        device: &Device,
        method: impl Fn(&M) -> Result<T>,
    ) -> Result<T> {
        match scope.get(&NNX, &GRAPHDEF) {
            Some(leaf) => apply(scope, GraphDef::from_program(program(&leaf)?), &self.options, method),
            None if scope.is_initializing() => {
                let rngs = match self.options.skip_rng {
                    true => Rngs::empty(),
                    false => rngs_from_scope(scope)?,
                };
                let rngs = rngs.with_device(device);
                let module = match scope.is_describing() {
                    true => {
                        describe(&any_streams(rngs), |rngs| self.constructor.construct(&self.arguments, rngs))
                    }
                    false => self.constructor.construct(&self.arguments, &rngs),
                }?;
                init(scope, &module, &self.options, method)
            }
            None => Err(WrapperError::GraphDefMissing { path: scope.path().clone() }.into()),
        }
    }
}

/// Streams to describe a module with: any will do where the call has none.
fn any_streams(rngs: Rngs) -> Rngs {
    let has_streams = rngs.iter().next().is_some();
    if has_streams { rngs } else { rngs.with_stream("default", 0) }
}

impl<M, A> FunctionalModule for ToFunctional<M, A>
where
    M: Field + Module,
    A: Clone + fmt::Debug + PartialEq + Send + Sync + 'static,
{
    type Output = Tensor;

    fn call(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
        self.with_device(scope, x.device(), |module| Ok(module.forward(x)?))
    }
}

impl<M, A: Clone> Clone for ToFunctional<M, A> {
    fn clone(&self) -> Self {
        let (constructor, arguments) = (self.constructor.clone(), self.arguments.clone());
        Self { constructor, arguments, options: self.options.clone() }
    }
}
impl<M, A: PartialEq> PartialEq for ToFunctional<M, A> {
    fn eq(&self, other: &Self) -> bool {
        self.constructor == other.constructor
            && self.arguments == other.arguments
            && self.options == other.options
    }
}
impl<M, A: fmt::Debug> fmt::Debug for ToFunctional<M, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ToFunctional")
            .field("constructor", &self.constructor)
            .field("arguments", &self.arguments)
            .field("options", &self.options)
            .finish()
    }
}
