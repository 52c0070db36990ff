//! Probabilities and log probabilities over the last axis.

use crate::precision::{require_float, widen};
use crate::shapes_only::like;
use crate::{Error, Result};
use candle_core::{D, Tensor};

/// `exp(x) / sum(exp(x))` over the last axis.
///
/// Shape and dtype are those of `x`: `[..., classes]`, any float; half precision computes in f32. Large values do not
/// overflow; `-inf` gets probability 0; a row of `-inf` alone gives NaN, as in JAX.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[[1000f32, 1000.0]], &Device::Cpu)?;
/// assert_eq!(bridge_ops::softmax(&x)?.to_vec2::<f32>()?, [[0.5, 0.5]]);
/// # Ok::<(), bridge_ops::Error>(())
/// ```
///
/// # Errors
///
/// When `x` is not a float tensor, is a scalar, or has no classes.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    check_classes("softmax", "x", x)?;
    if let Some(stand_in) = like(x) {
        return stand_in;
    }
    let exponential = shift("softmax", "x", x)?.exp()?;
    let total = exponential.sum_keepdim(D::Minus1)?;
    Ok(exponential.broadcast_div(&total)?.to_dtype(x.dtype())?)
}

/// `x - log(sum(exp(x)))` over the last axis.
///
/// Shape and dtype are those of `x`: `[..., classes]`, any float; half precision computes in f32.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[[0f32, -1000.0]], &Device::Cpu)?;
/// assert_eq!(bridge_ops::log_softmax(&x)?.to_vec2::<f32>()?, [[0.0, -1000.0]]);
/// # Ok::<(), bridge_ops::Error>(())
/// ```
///
/// # Errors
///
/// When `x` is not a float tensor, is a scalar, or has no classes.
pub fn log_softmax(x: &Tensor) -> Result<Tensor> {
    check_classes("log_softmax", "x", x)?;
    if let Some(stand_in) = like(x) {
        return stand_in;
    }
    let shifted = shift("log_softmax", "x", x)?;
    let normalizer = shifted.exp()?.sum_keepdim(D::Minus1)?.log()?;
    Ok(shifted.broadcast_sub(&normalizer)?.to_dtype(x.dtype())?)
}

/// `x` in the dtype to compute in, less its largest value in each row; contiguous.
///
/// The largest value is a constant for the gradient, as in JAX: it cancels.
pub(crate) fn shift(operator: &'static str, argument: &'static str, x: &Tensor) -> Result<Tensor> {
    check_classes(operator, argument, x)?;
    let x = widen(operator, argument, x)?;
    if x.elem_count() == 0 {
        // candle refuses to reduce it.
        return Ok(x.contiguous()?);
    }
    Ok(x.broadcast_sub(&x.detach().max_keepdim(D::Minus1)?)?)
}

pub(crate) fn check_classes(operator: &'static str, argument: &'static str, x: &Tensor) -> Result<()> {
    match x.dims() {
        [] | [.., 0] => Err(Error::Shape {
            operator,
            argument,
            expected: "shape [..., classes] with at least one class".into(),
            found: x.shape().clone(),
        }),
        _ => require_float(operator, argument, x),
    }
}
