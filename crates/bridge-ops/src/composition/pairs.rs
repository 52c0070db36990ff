//! Losses of predictions and their targets.

use crate::Result;
use candle_core::Tensor;

/// [`crate::mean_squared_error`] of checked arguments in the dtype to compute in.
///
/// # Errors
/// Those of candle.
pub fn mean_squared_error(predictions: &Tensor, targets: &Tensor) -> Result<Tensor> {
    Ok((predictions - targets)?.sqr()?.mean_all()?)
}

/// [`crate::binary_cross_entropy_with_logits_per_element`] of checked arguments in the dtype to compute in.
///
/// # Errors
/// Those of candle.
pub fn binary_cross_entropy_with_logits_per_element(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    // The logarithms of `sigmoid(x)` and `sigmoid(-x)`.
    let common = logits.abs()?.neg()?.exp()?.affine(1.0, 1.0)?.log()?;
    let one = (logits.minimum(0.0)? - &common)?;
    let zero = (logits.neg()?.minimum(0.0)? - common)?;
    Ok(((targets.neg()? * one)? - (targets.affine(-1.0, 1.0)? * zero)?)?)
}

/// [`crate::binary_cross_entropy_with_logits`] of checked arguments in the dtype to compute in.
///
/// # Errors
/// Those of candle.
pub fn binary_cross_entropy_with_logits(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    Ok(binary_cross_entropy_with_logits_per_element(logits, targets)?.mean_all()?)
}
