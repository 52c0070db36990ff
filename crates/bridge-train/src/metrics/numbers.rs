//! A metric's numbers as a state.

use bridge_vars::{MetricState, Path, PathKey, Result, State};
use candle_core::{Device, Tensor};

use crate::MetricError;
use crate::fit::differences;

pub(crate) fn to_state<const N: usize>(numbers: [(&str, f64); N]) -> Result<State> {
    let mut state = State::default();
    for (name, number) in numbers {
        let leaf = MetricState::leaf(Tensor::new(number, &Device::Cpu)?);
        state.insert(&Path::from(PathKey::from(name)), leaf)?;
    }
    Ok(state)
}

pub(crate) fn from_state<const N: usize>(names: [&str; N], state: &State) -> Result<[f64; N]> {
    let misfit = differences(&to_state(names.map(|name| (name, 0.)))?, state);
    if !misfit.is_empty() {
        return Err(MetricError::State(misfit).into());
    }
    let mut numbers = [0.; N];
    for (number, name) in numbers.iter_mut().zip(names) {
        *number = state.get(name)?.tensor()?.to_device(&Device::Cpu)?.to_scalar()?;
    }
    Ok(numbers)
}
