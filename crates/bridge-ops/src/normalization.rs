//! Statistics over axes, and normalization by them: the two halves of batch, layer, group and instance normalization.

use crate::precision::{compute_dtype, widen};
use crate::shapes_only::like;
use crate::{Error, Result, is_shapes_only, stand_in};
use candle_core::Tensor;
use candle_core::shape::Dims;

/// The mean and the (biased) variance of `x` over `axes`, which the results no longer have.
///
/// The variance is Flax's fast one, `max(0, E[x^2] - E[x]^2)`. Both are differentiable. They are in f32 for half
/// precision, else in the dtype of `x`.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[[1f32, 10.0], [3.0, 10.0]], &Device::Cpu)?;
/// let (mean, variance) = bridge_ops::batch_statistics(&x, 0)?;
/// assert_eq!(mean.to_vec1::<f32>()?, [2.0, 10.0]);
/// assert_eq!(variance.to_vec1::<f32>()?, [1.0, 0.0]);
/// # Ok::<(), bridge_ops::Error>(())
/// ```
///
/// # Errors
///
/// When an axis is out of range or repeated, when the axes hold no elements, or when `x` is not a float tensor.
#[doc(alias = "_compute_stats")]
#[doc(alias = "moments")]
#[doc(alias = "var_mean")]
pub fn batch_statistics(x: &Tensor, axes: impl Dims) -> Result<(Tensor, Tensor)> {
    let operator = "batch_statistics";
    let axes = axes.to_indexes(x.shape(), operator)?;
    let count: usize = axes.iter().filter_map(|&axis| x.dims().get(axis)).product();
    if count == 0 {
        return Err(Error::Empty { operator, argument: "x", found: x.shape().clone() });
    }
    let x = widen(operator, "x", x)?;
    if is_shapes_only() {
        let kept = |(axis, size): (usize, &usize)| (!axes.contains(&axis)).then_some(*size);
        let shape: Vec<usize> = x.dims().iter().enumerate().filter_map(kept).collect();
        let statistic = stand_in(shape, x.dtype(), x.device())?;
        return Ok((statistic.clone(), statistic));
    }
    let mean_over_axes = |x: &Tensor| x.sum(axes.as_slice())?.affine(1.0 / count as f64, 0.0);
    let mean = mean_over_axes(&x)?;
    // Rounding can make the difference negative.
    let variance = (mean_over_axes(&x.sqr()?)? - mean.sqr()?)?.maximum(0.0)?;
    Ok((mean, variance))
}

/// `(x - mean) * (scale / sqrt(variance + epsilon)) + bias`, in Flax's order of operations.
///
/// `mean`, `variance`, `scale` and `bias` broadcast to the shape of `x`, with features in the last axis: `[features]`
/// statistics for batch normalization; `[..., 1]` ones, that is [`batch_statistics`] over the last axis with the axis
/// put back by `unsqueeze`, for layer normalization. Gradients flow into all arguments.
///
/// Computes in f32 (f64 for f64); the result has the shape and dtype of `x`.
///
/// ```
/// # use candle_core::{D, Device, Tensor};
/// // Layer normalization.
/// let x = Tensor::new(&[[1f32, 3.0], [-6.0, -2.0]], &Device::Cpu)?;
/// let (mean, variance) = bridge_ops::batch_statistics(&x, D::Minus1)?;
/// let (mean, variance) = (mean.unsqueeze(1)?, variance.unsqueeze(1)?);
/// let y = bridge_ops::normalize(&x, &mean, &variance, None, None, 0.0)?;
/// assert_eq!(y.to_vec2::<f32>()?, [[-1.0, 1.0], [-1.0, 1.0]]);
/// # Ok::<(), bridge_ops::Error>(())
/// ```
///
/// # Errors
///
/// When a shape does not broadcast to that of `x`, or an argument is not a float tensor.
#[doc(alias = "_normalize")]
#[doc(alias = "standardize")]
#[doc(alias = "batch_norm")]
#[doc(alias = "layer_norm")]
pub fn normalize(
    x: &Tensor,
    mean: &Tensor,
    variance: &Tensor,
    scale: Option<&Tensor>,
    bias: Option<&Tensor>,
    epsilon: f64,
) -> Result<Tensor> {
    let dtype = compute_dtype(x.dtype());
    let prepare = |argument: &'static str, tensor: &Tensor| -> Result<Tensor> {
        if !broadcasts_to(tensor.dims(), x.dims()) {
            return Err(Error::Shape {
                operator: "normalize",
                argument,
                expected: format!("a shape that broadcasts to that of `x`, {:?}", x.shape()),
                found: tensor.shape().clone(),
            });
        }
        Ok(widen("normalize", argument, tensor)?.to_dtype(dtype)?)
    };
    let (mean, variance) = (prepare("mean", mean)?, prepare("variance", variance)?);
    if let Some(stand_in) = like(x) {
        let others = [("scale", scale), ("bias", bias)];
        others
            .into_iter()
            .try_for_each(|(name, other)| other.map_or(Ok(()), |other| prepare(name, other).map(|_| ())))?;
        return prepare("x", x).and(stand_in);
    }
    let mut factor = variance.affine(1.0, epsilon)?.sqrt()?.recip()?;
    if let Some(scale) = scale {
        factor = factor.broadcast_mul(&prepare("scale", scale)?)?;
    }
    let mut y = prepare("x", x)?.broadcast_sub(&mean)?.broadcast_mul(&factor)?;
    if let Some(bias) = bias {
        y = y.broadcast_add(&prepare("bias", bias)?)?;
    }
    Ok(y.to_dtype(x.dtype())?)
}

/// A running statistic after one more batch: `momentum * running + (1 - momentum) * batch`.
///
/// Both have the same shape; computed in their dtype, in Flax's order.
///
/// ```
/// use candle_core::{Device, Tensor};
/// let (running, batch) = (Tensor::new(1f32, &Device::Cpu)?, Tensor::new(3f32, &Device::Cpu)?);
/// let running = bridge_ops::moving_average(&running, &batch, 0.75)?;
/// assert_eq!(running.to_scalar::<f32>()?, 1.5);
/// # Ok::<(), bridge_ops::Error>(())
/// ```
///
/// # Errors
///
/// When the shapes or dtypes differ.
pub fn moving_average(running: &Tensor, batch: &Tensor, momentum: f64) -> Result<Tensor> {
    if running.shape() == batch.shape()
        && let Some(stand_in) = like(running)
    {
        return stand_in;
    }
    Ok((running.affine(momentum, 0.0)? + batch.affine(1.0 - momentum, 0.0)?)?)
}

/// The dtype that statistics of a tensor have: f32 for half precision, its own otherwise.
///
/// ```
/// use candle_core::DType;
/// assert_eq!(bridge_ops::statistics_dtype(DType::BF16), DType::F32);
/// ```
pub fn statistics_dtype(dtype: candle_core::DType) -> candle_core::DType {
    compute_dtype(dtype)
}

/// Checks that the last axis of `x` has a number of features.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// let x = Tensor::zeros((2, 3), DType::F32, &Device::Cpu)?;
/// assert!(bridge_ops::check_features("BatchNorm", &x, 3).is_ok());
/// assert!(bridge_ops::check_features("BatchNorm", &x, 4).is_err());
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Errors
///
/// When it has another number, or no axis.
pub fn check_features(operator: &'static str, x: &Tensor, features: usize) -> Result<()> {
    match x.dims().last() == Some(&features) {
        true => Ok(()),
        false => Err(Error::Shape {
            operator,
            argument: "x",
            expected: format!("shape [.., {features}]"),
            found: x.shape().clone(),
        }),
    }
}

/// Whether the axes, aligned at the last one, are each 1 or those of `target`.
fn broadcasts_to(dims: &[usize], target: &[usize]) -> bool {
    dims.len() <= target.len()
        && dims.iter().rev().zip(target.iter().rev()).all(|(&dim, &target)| dim == 1 || dim == target)
}
