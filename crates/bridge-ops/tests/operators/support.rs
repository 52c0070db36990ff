//! What the tests of all operators share.

use bridge_ops::Result;
use candle_core::{DType, Device, Shape, Tensor, Var};

/// The device that `CANDLE_BRIDGE_TEST_DEVICE` names: `cpu` (the default) or `cuda`.
pub(crate) fn device() -> Device {
    match std::env::var("CANDLE_BRIDGE_TEST_DEVICE").as_deref() {
        Err(_) | Ok("cpu") => Device::Cpu,
        Ok("cuda") => Device::new_cuda(0).unwrap(),
        Ok(other) => panic!("CANDLE_BRIDGE_TEST_DEVICE must be cpu or cuda, found {other}"),
    }
}

/// Irregular f64 values in -2..2, none within 1e-3 of 0, different for each seed.
pub(crate) fn values(shape: impl Into<Shape>, seed: u32) -> Tensor {
    let shape = shape.into();
    let mut state = seed.wrapping_mul(2_654_435_769).wrapping_add(12_345);
    let values: Vec<f64> = (0..shape.elem_count())
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let value = f64::from(state >> 8) / f64::from(1 << 22) - 2.0;
            if value.abs() < 1e-3 { 0.5 } else { value }
        })
        .collect();
    Tensor::from_vec(values, shape, &device()).unwrap()
}

/// All elements, in order, as f64.
pub(crate) fn to_vec(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Checks that the elements differ from `expected` by at most `tolerance`, relative to 1 or to the expected value,
/// whichever is larger.
#[track_caller]
pub(crate) fn assert_close(actual: &Tensor, expected: &[f64], tolerance: f64) {
    let actual = to_vec(actual);
    assert_eq!(actual.len(), expected.len(), "number of elements");
    for (index, (actual, expected)) in actual.iter().zip(expected).enumerate() {
        let error = (actual - expected).abs() / expected.abs().max(1.0);
        // Not `error > tolerance`, which NaN would pass.
        assert!(error <= tolerance, "element {index}: {actual} instead of {expected}, error {error:e}");
    }
}

/// Checks the gradient of `function` with respect to each of its f64 `inputs` against central differences, under an
/// irregular gradient of its output.
#[track_caller]
pub(crate) fn check_gradient(function: impl Fn(&[Tensor]) -> Result<Tensor>, inputs: &[Tensor]) {
    const STEP: f64 = 1e-5;
    const TOLERANCE: f64 = 1e-8;
    let variables: Vec<Var> = inputs.iter().map(|input| Var::from_tensor(input).unwrap()).collect();
    let leaves: Vec<Tensor> = variables.iter().map(|variable| variable.as_tensor().clone()).collect();
    let y = function(&leaves).unwrap();
    let weights = values(y.shape(), 4242);
    let gradients = y.mul(&weights).unwrap().sum_all().unwrap().backward().unwrap();

    let objective = |inputs: &[Tensor]| -> f64 {
        let y = to_vec(&function(inputs).unwrap());
        y.iter().zip(to_vec(&weights)).map(|(y, weight)| y * weight).sum()
    };
    for (position, (input, leaf)) in inputs.iter().zip(&leaves).enumerate() {
        let gradient = gradients.get(leaf).unwrap_or_else(|| panic!("no gradient for input {position}"));
        assert_eq!(gradient.shape(), input.shape(), "shape of the gradient of input {position}");
        let original = to_vec(input);
        let shifted = |index: usize, step: f64| {
            let mut values = original.clone();
            values[index] += step;
            let mut inputs = inputs.to_vec();
            inputs[position] = Tensor::from_vec(values, input.shape(), input.device()).unwrap();
            objective(&inputs)
        };
        let numeric: Vec<f64> = (0..original.len())
            .map(|index| (shifted(index, STEP) - shifted(index, -STEP)) / (2.0 * STEP))
            .collect();
        assert_close(gradient, &numeric, TOLERANCE);
    }
}

/// The gradient of `sum(function(x))` at `x`, in the dtype of `x`.
#[track_caller]
pub(crate) fn gradient_of_sum(function: impl Fn(&Tensor) -> Result<Tensor>, x: &Tensor) -> Tensor {
    let x = Var::from_tensor(x).unwrap();
    let gradients = function(&x).unwrap().sum_all().unwrap().backward().unwrap();
    gradients.get(&x).unwrap().clone()
}

/// The message of the error that `result` must be.
#[track_caller]
pub(crate) fn message<T>(result: Result<T>) -> String {
    match result {
        Ok(_) => panic!("an error was expected"),
        Err(error) => error.to_string(),
    }
}
