//! Probabilities and log probabilities.

use crate::Result;
use crate::precision::widen;
use candle_core::{D, Tensor};

/// [`crate::softmax`] of checked logits.
///
/// # Errors
/// Those of candle.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    let exponential = shift("softmax", "x", x)?.exp()?;
    let total = exponential.sum_keepdim(D::Minus1)?;
    Ok(exponential.broadcast_div(&total)?.to_dtype(x.dtype())?)
}

/// [`crate::log_softmax`] of checked logits.
///
/// # Errors
/// Those of candle.
pub fn log_softmax(x: &Tensor) -> Result<Tensor> {
    let shifted = shift("log_softmax", "x", x)?;
    let normalizer = shifted.exp()?.sum_keepdim(D::Minus1)?.log()?;
    Ok(shifted.broadcast_sub(&normalizer)?.to_dtype(x.dtype())?)
}

/// `x` in the dtype to compute in, less its largest value in each row; contiguous.
///
/// The largest value is a constant for the gradient, as in JAX: it cancels.
pub(super) fn shift(operator: &'static str, argument: &'static str, x: &Tensor) -> Result<Tensor> {
    let x = widen(operator, argument, x)?;
    if x.elem_count() == 0 {
        // candle refuses to reduce it.
        return Ok(x.contiguous()?);
    }
    Ok(x.broadcast_sub(&x.detach().max_keepdim(D::Minus1)?)?)
}
