//! The affine map of a dense layer.

use crate::kernels::product::Epilogue;
use crate::kernels::{self, linear::Linear};
use crate::precision::require_float;
use crate::{Activation, Error, Result, composition, is_shapes_only, stand_in};
use candle_core::Tensor;

/// `x @ kernel + bias` over the last axis of `x`.
///
/// - `x`: `[..., in]`, of any rank from 1 and any layout;
/// - `kernel`: `[in, out]`, as Flax stores it (the transpose of PyTorch's `weight`);
/// - `bias`: `[out]`;
/// - result: `[..., out]`.
///
/// All of one float dtype. In half precision, products and the bias gradient accumulate in f32.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[1f32, 2.0], &Device::Cpu)?;
/// let kernel = Tensor::new(&[[1f32, 0.0, -1.0], [0.0, 1.0, 1.0]], &Device::Cpu)?;
/// let bias = Tensor::new(&[10f32, 20.0, 30.0], &Device::Cpu)?;
/// assert_eq!(bridge_ops::linear(&x, &kernel, Some(&bias))?.to_vec1::<f32>()?, [11.0, 22.0, 31.0]);
/// # Ok::<(), bridge_ops::Error>(())
/// ```
///
/// # Errors
///
/// When the shapes do not fit, or the dtypes or devices differ.
#[doc(alias = "Dense")]
#[doc(alias = "dot_general")]
pub fn linear(x: &Tensor, kernel: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let outputs = check(x, kernel, bias)?;
    if is_shapes_only() {
        return stand_in_for(x, outputs);
    }
    match runs_kernel(x, kernel, bias) {
        true => Ok(Linear::new(Epilogue::Nothing).apply(x, kernel, bias)?),
        false => composition::linear(x, kernel, bias),
    }
}

/// `activation(x @ kernel + bias)`: [`linear`] and an activation function, where possible in one pass.
///
/// One pass are relu, sigmoid, tanh, elu and leaky relu, whose derivatives can be computed from the result, so that
/// nothing else is kept for the backward pass. The others are applied to what [`linear`] gives; in half precision all but
/// relu and leaky relu, because a result that is rounded near an asymptote has lost the derivative.
///
/// ```
/// # use bridge_ops::{Activation, linear_with_activation};
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[1f32, 2.0], &Device::Cpu)?;
/// let kernel = Tensor::new(&[[1f32, 0.0, -1.0], [0.0, 1.0, -1.0]], &Device::Cpu)?;
/// let y = linear_with_activation(&x, &kernel, None, Activation::Relu)?;
/// assert_eq!(y.to_vec1::<f32>()?, [1.0, 2.0, 0.0]);
/// # Ok::<(), bridge_ops::Error>(())
/// ```
///
/// # Errors
///
/// Those of [`linear`].
pub fn linear_with_activation(
    x: &Tensor,
    kernel: &Tensor,
    bias: Option<&Tensor>,
    activation: Activation,
) -> Result<Tensor> {
    let outputs = check(x, kernel, bias)?;
    if is_shapes_only() {
        return stand_in_for(x, outputs);
    }
    match Epilogue::of(activation, x.dtype()) {
        Some(epilogue) if runs_kernel(x, kernel, bias) => Ok(Linear::new(epilogue).apply(x, kernel, bias)?),
        _ => activation.apply(&linear(x, kernel, bias)?),
    }
}

/// Checks that the arguments fit, and gives the size of the result's last axis.
fn check(x: &Tensor, kernel: &Tensor, bias: Option<&Tensor>) -> Result<usize> {
    let &[inputs, outputs] = kernel.dims() else {
        return Err(shape_error("kernel", "shape [in, out]".into(), kernel));
    };
    let &found = x.dims().last().ok_or_else(|| shape_error("x", format!("shape [..., {inputs}]"), x))?;
    require_float("linear", "kernel", kernel)?;
    for (argument, tensor) in [("x", Some(x)), ("bias", bias)] {
        if let Some(tensor) = tensor.filter(|tensor| tensor.dtype() != kernel.dtype()) {
            let (operator, expected, found) = ("linear", "the dtype of `kernel`", tensor.dtype());
            return Err(Error::DType { operator, argument, expected, found });
        }
    }
    if found != inputs {
        let expected = format!("shape [..., {inputs}], because `kernel` has shape [{inputs}, {outputs}]");
        return Err(shape_error("x", expected, x));
    }
    if let Some(bias) = bias.filter(|bias| bias.dims() != [outputs]) {
        let expected = format!("shape [{outputs}], because `kernel` has shape [{inputs}, {outputs}]");
        return Err(shape_error("bias", expected, bias));
    }
    Ok(outputs)
}

fn stand_in_for(x: &Tensor, outputs: usize) -> Result<Tensor> {
    let leading = x.dims().split_last().map_or(&[][..], |(_, leading)| leading);
    stand_in([leading, &[outputs]].concat(), x.dtype(), x.device())
}

fn runs_kernel(x: &Tensor, kernel: &Tensor, bias: Option<&Tensor>) -> bool {
    [Some(x), Some(kernel), bias].into_iter().flatten().all(kernels::run_for)
}

fn shape_error(argument: &'static str, expected: String, found: &Tensor) -> Error {
    Error::Shape { operator: "linear", argument, expected, found: found.shape().clone() }
}
