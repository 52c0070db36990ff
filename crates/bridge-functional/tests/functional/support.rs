//! What the tests share.

use bridge_functional::{Call, FunctionalModule, Scope};
use bridge_random::{Initializer, key};
use bridge_vars::{Error, Result, Variables};
use candle_core::{DType, Device, Tensor};

/// The device that `CANDLE_BRIDGE_TEST_DEVICE` names: `cpu` (the default) or `cuda`.
pub(crate) fn device() -> Device {
    match std::env::var("CANDLE_BRIDGE_TEST_DEVICE").as_deref() {
        Err(_) | Ok("cpu") => Device::Cpu,
        Ok("cuda") => Device::new_cuda(0).unwrap(),
        Ok(other) => panic!("CANDLE_BRIDGE_TEST_DEVICE must be cpu or cuda, found {other}"),
    }
}

pub(crate) fn ones(shape: &[usize]) -> Tensor {
    Tensor::ones(shape, DType::F32, &device()).unwrap()
}

pub(crate) fn to_vec(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

pub(crate) fn paths(variables: &Variables) -> Vec<String> {
    variables.iter().map(|(path, _)| path.to_string()).collect()
}

/// A parameter of shape `[]`.
pub(crate) fn param(scope: &Scope, name: &'static str) -> Result<Tensor> {
    scope.param(name, &Initializer::Ones, (), DType::F32, &device())
}

/// A number as a tensor of shape `[]`.
pub(crate) fn scalar(number: f32) -> Tensor {
    Tensor::new(number, &device()).unwrap()
}

/// The numbers of a variable's tensor.
#[track_caller]
pub(crate) fn values(variables: &Variables, collection: &str, path: &str) -> Vec<f32> {
    to_vec(variables.get(collection, path).unwrap().tensor().unwrap())
}

/// A module that is one function.
#[derive(Clone, Debug)]
pub(crate) struct Body(pub(crate) fn(&Scope, &Tensor) -> Result<Tensor>);

impl PartialEq for Body {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::fn_addr_eq(self.0, other.0)
    }
}
impl FunctionalModule for Body {
    type Output = Tensor;

    fn call(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
        (self.0)(scope, x)
    }
}

/// A module with one parameter, and a number that counts its calls where `memory` is mutable.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Counter;

impl FunctionalModule for Counter {
    type Output = Tensor;

    fn call(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
        let calls = scope.variable("memory", "calls", || Ok(0))?;
        if scope.is_mutable_collection("memory") && !scope.is_initializing() {
            calls.set(calls.leaf()?.value.count()? + 1)?;
        }
        Ok(x.broadcast_mul(&param(scope, "scale")?)?)
    }
}

/// The variables that a closure makes.
pub(crate) fn init(f: impl FnOnce(&Scope) -> Result<()>) -> Result<Variables> {
    Ok(Call::new().keys(key(0)).init(f)?.1)
}

/// What a closure returns over these variables.
pub(crate) fn apply<T>(variables: &Variables, f: impl FnOnce(&Scope) -> Result<T>) -> Result<T> {
    Ok(Call::new().apply(variables, f)?.0)
}

/// An error of type `E`, which prints as `text`.
#[track_caller]
pub(crate) fn assert_error<T, E: std::error::Error + 'static>(result: Result<T>, text: &str) {
    let error: Error = result.map(|_| ()).unwrap_err();
    assert!(error.downcast_ref::<E>().is_some(), "of another type: {error}");
    assert_eq!(error.to_string(), text);
}
