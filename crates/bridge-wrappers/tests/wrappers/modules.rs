//! What is wrapped: a module of each kind with parameters, memory, statistics, randomness and a second method.

use bridge_functional::{BatchNorm, Dropout, FunctionalModule, Scope};
use bridge_graph::{Rngs, StatefulModule};
use bridge_random::{Initializer, Key, key};
use bridge_vars::{Error, Param, Result, State, Variables, kinds};
use candle_core::{DType, Device, Module, Tensor};
use serde::{Deserialize, Serialize};

pub(crate) const INPUTS: usize = 3;
pub(crate) const FEATURES: usize = 4;

/// The device that `CANDLE_BRIDGE_TEST_DEVICE` names: `cpu` (the default) or `cuda`.
pub(crate) fn device() -> Device {
    match std::env::var("CANDLE_BRIDGE_TEST_DEVICE").as_deref() {
        Err(_) | Ok("cpu") => Device::Cpu,
        Ok("cuda") => Device::new_cuda(0).unwrap(),
        Ok(other) => panic!("CANDLE_BRIDGE_TEST_DEVICE must be cpu or cuda, found {other}"),
    }
}

/// A batch of five.
pub(crate) fn input() -> Tensor {
    let values: Vec<f32> = (0..5 * INPUTS as u32).map(|i| ((i * 7 + 3) % 11) as f32 / 5. - 1.).collect();
    Tensor::from_vec(values, (5, INPUTS), &device()).unwrap()
}

/// A functional module.
///
/// In `params` a `weight`, in `memory`, a collection that no type was declared for, the number of `calls` and the mean
/// of the `last` output; both change where `memory` is mutable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Recall {
    pub(crate) rate: f64,
}

impl Recall {
    fn weight(scope: &Scope) -> Result<Tensor> {
        scope.param("weight", &Initializer::lecun_normal(), (INPUTS, FEATURES), DType::F32, &device())
    }

    /// The second method: the weight alone.
    pub(crate) fn project(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
        Ok(x.matmul(&Self::weight(scope)?)?)
    }
}

impl FunctionalModule for Recall {
    type Output = Tensor;

    fn call(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
        let y = x.matmul(&Self::weight(scope)?)?;
        let y = scope.call_named("norm", &BatchNorm::new(), &y)?;
        let y = scope.call_named("dropout", &Dropout::new(self.rate), &y)?;
        let calls = scope.variable("memory", "calls", || Ok(0))?;
        let last =
            scope.variable("memory", "last", || Ok(Tensor::zeros(FEATURES, DType::F32, &device())?))?;
        if scope.is_mutable_collection("memory") && !scope.is_initializing() {
            calls.set(calls.leaf()?.value.count()? + 1)?;
            last.set(y.mean(0)?)?;
        }
        Ok(y)
    }
}

kinds! {
    /// What a [`Recaller`] remembers.
    pub(crate) Recollection(RecollectionKind) in "recollections";
}

/// [`Recall`] as a stateful module. It remembers while it trains.
#[derive(Debug, StatefulModule)]
#[module(crate = "bridge_graph")]
pub(crate) struct Recaller {
    pub(crate) weight: Param,
    pub(crate) calls: Recollection,
    pub(crate) last: Recollection,
    pub(crate) norm: bridge_stateful::BatchNorm,
    pub(crate) dropout: bridge_stateful::Dropout,
}

impl Recaller {
    pub(crate) fn new(rate: f64, rngs: &Rngs) -> Result<Self> {
        let weight = Initializer::lecun_normal().init(
            rngs.draw("params")?,
            (INPUTS, FEATURES),
            DType::F32,
            rngs.device(),
        )?;
        Ok(Self {
            weight: Param::new(weight),
            calls: Recollection::new(0),
            last: Recollection::new(Tensor::zeros(FEATURES, DType::F32, rngs.device())?),
            norm: bridge_stateful::BatchNorm::new(FEATURES, rngs)?,
            dropout: bridge_stateful::Dropout::new(rate, rngs)?,
        })
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = self.dropout.forward(&self.norm.forward(&self.project(x)?)?)?;
        if !self.norm.use_running_average.get() {
            self.calls.next_count()?;
            self.last.set(y.mean(0)?)?;
        }
        Ok(y)
    }

    pub(crate) fn project(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.matmul(&self.weight.value()?)?)
    }
}

impl Module for Recaller {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        Ok(Self::forward(self, x)?)
    }
}

/// Keys of the streams that both kinds draw from.
pub(crate) fn keys(seed: i64) -> [(&'static str, Key); 2] {
    [("params", key(seed)), ("dropout", key(seed + 1))]
}

/// What may change in training.
pub(crate) const MUTABLE: [&str; 3] = ["batch_stats", "memory", "recollections"];

pub(crate) fn to_vec(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Two tensors are the same to the bit.
#[track_caller]
pub(crate) fn assert_same(actual: &Tensor, expected: &Tensor) {
    let bits = |tensor: &Tensor| to_vec(tensor).into_iter().map(f32::to_bits).collect::<Vec<_>>();
    assert_eq!(actual.dims(), expected.dims());
    assert_eq!(bits(actual), bits(expected), "{actual} is not {expected}");
}

pub(crate) fn paths(state: &State) -> Vec<String> {
    state.iter().map(|(path, _)| path.to_string()).collect()
}

pub(crate) fn variable_paths(variables: &Variables) -> Vec<String> {
    variables.iter().map(|(path, _)| path.to_string()).collect()
}

pub(crate) fn tensor<'a>(variables: &'a Variables, collection: &str, path: &str) -> &'a Tensor {
    variables.get(collection, path).unwrap().tensor().unwrap()
}

/// An error of type `E`, which prints as `text`.
#[track_caller]
pub(crate) fn assert_error<T, E: std::error::Error + 'static>(result: Result<T>, text: &str) {
    let error: Error = result.map(|_| ()).unwrap_err();
    assert!(error.downcast_ref::<E>().is_some(), "of another type: {error}");
    assert_eq!(error.to_string(), text);
}

/// A stateful module around any other.
#[derive(Debug, StatefulModule)]
#[module(crate = "bridge_graph")]
pub(crate) struct Outer<M> {
    pub(crate) inner: M,
}

impl<M: Module> Module for Outer<M> {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        x.apply(&self.inner)
    }
}

/// A functional module around any other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Around<F>(pub(crate) F);

impl<F: FunctionalModule<Output = Tensor>> FunctionalModule for Around<F> {
    type Output = Tensor;
    fn call(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
        scope.call_named("inner", &self.0, x)
    }
}
