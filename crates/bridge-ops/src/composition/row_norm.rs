//! Normalization over the last axis.

use crate::Result;
use crate::precision::{compute_dtype, widen};
use candle_core::{D, Tensor};

/// [`crate::layer_norm`] of checked arguments.
///
/// # Errors
/// Those of candle.
pub fn layer_norm(x: &Tensor, scale: Option<&Tensor>, bias: Option<&Tensor>, epsilon: f64) -> Result<Tensor> {
    let wide = widen("layer_norm", "x", x)?;
    let centered = wide.broadcast_sub(&wide.mean_keepdim(D::Minus1)?)?;
    scaled(&centered, x, scale, bias, epsilon)
}

/// [`crate::rms_norm`] of checked arguments.
///
/// # Errors
/// Those of candle.
pub fn rms_norm(x: &Tensor, scale: Option<&Tensor>, epsilon: f64) -> Result<Tensor> {
    scaled(&widen("rms_norm", "x", x)?, x, scale, None, epsilon)
}

fn scaled(
    wide: &Tensor,
    x: &Tensor,
    scale: Option<&Tensor>,
    bias: Option<&Tensor>,
    epsilon: f64,
) -> Result<Tensor> {
    let dtype = compute_dtype(x.dtype());
    let variance = wide.sqr()?.mean_keepdim(D::Minus1)?;
    let factor = variance.affine(1.0, epsilon)?.sqrt()?.recip()?;
    let mut y = match scale {
        Some(scale) => wide.broadcast_mul(&factor.broadcast_mul(&scale.to_dtype(dtype)?)?)?,
        None => wide.broadcast_mul(&factor)?,
    };
    if let Some(bias) = bias {
        y = y.broadcast_add(&bias.to_dtype(dtype)?)?;
    }
    Ok(y.to_dtype(x.dtype())?)
}
