//! What the tests share.

use std::hash::{DefaultHasher, Hash, Hasher};

use bridge_graph::{Field, GraphDef, GraphError, StatefulModule, merge, split};
use bridge_vars::{Error, Param, Result, State};
use candle_core::{DType, Device, Tensor};

/// The device that `CANDLE_BRIDGE_TEST_DEVICE` names: `cpu` (the default) or `cuda`.
pub(crate) fn device() -> Device {
    match std::env::var("CANDLE_BRIDGE_TEST_DEVICE").as_deref() {
        Err(_) | Ok("cpu") => Device::Cpu,
        Ok("cuda") => Device::new_cuda(0).unwrap(),
        Ok(other) => panic!("CANDLE_BRIDGE_TEST_DEVICE must be cpu or cuda, found {other}"),
    }
}

pub(crate) fn scalar(value: f32) -> Tensor {
    Tensor::new(value, &device()).unwrap()
}

pub(crate) fn zeros(shape: &[usize]) -> Tensor {
    Tensor::zeros(shape, DType::F32, &device()).unwrap()
}

pub(crate) fn param(value: f32) -> Param {
    Param::new(scalar(value))
}

pub(crate) fn read(variable: &bridge_vars::Variable) -> f32 {
    variable.value().unwrap().to_scalar().unwrap()
}

pub(crate) fn paths(state: &State) -> Vec<String> {
    state.iter().map(|(path, _)| path.to_string()).collect()
}

pub(crate) fn hash<M>(graphdef: &GraphDef<M>) -> u64 {
    let mut hasher = DefaultHasher::new();
    graphdef.hash(&mut hasher);
    hasher.finish()
}

/// A module with a parameter and a static value.
#[derive(Debug, StatefulModule)]
pub(crate) struct Scale {
    pub(crate) factor: Param,
    pub(crate) power: u32,
}

pub(crate) fn scale(factor: f32) -> Scale {
    Scale { factor: param(factor), power: 2 }
}

/// Splits and merges; what comes back splits into equal halves. The paths of the state are these.
#[track_caller]
pub(crate) fn round_trip<M: Field>(module: &M, expected: &[&str]) -> M {
    let (graphdef, state) = split(module).unwrap();
    assert_eq!(paths(&state), expected);
    let merged = merge(&graphdef, &state).unwrap();
    let (graphdef_again, state_again) = split(&merged).unwrap();
    assert_eq!(graphdef_again, graphdef);
    assert_eq!(hash(&graphdef_again), hash(&graphdef));
    assert!(state_again.identical(&state).unwrap());
    // The parts of a split are what each half alone is.
    assert_eq!(bridge_graph::graphdef(module).unwrap(), graphdef);
    assert!(bridge_graph::state(module).unwrap().identical(&state).unwrap());
    merged
}

/// An error of type `E`, which prints as `text`.
#[track_caller]
pub(crate) fn assert_error<T, E: std::error::Error + 'static>(result: Result<T>, text: &str) {
    let error: Error = result.map(|_| ()).unwrap_err();
    assert!(error.downcast_ref::<E>().is_some(), "of another type: {error}");
    assert_eq!(error.to_string(), text);
}

/// An error that lists these ways in which a state does not fit.
#[track_caller]
pub(crate) fn assert_misfit<T>(result: Result<T>, list: &str) {
    let text = format!(
        "the state does not fit the module\n  {list}\n\
         build the module as it was for this state, or rename, replace or drop the state's entries"
    );
    assert_error::<_, GraphError>(result, &text);
}
