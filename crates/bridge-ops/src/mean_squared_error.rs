//! The squared distance of predictions from their targets.

use crate::precision::widen;
use crate::{Error, Result, is_shapes_only, stand_in};
use candle_core::Tensor;

/// The mean over all elements of `(predictions - targets)^2`, a scalar.
///
/// Both have the same shape and dtype, any float; nothing is broadcast, because `[n]` against `[n, 1]` would average
/// over all pairs. The loss of half-precision inputs is in f32.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let predictions = Tensor::new(&[1f32, 2.0], &Device::Cpu)?;
/// let targets = Tensor::new(&[1f32, 5.0], &Device::Cpu)?;
/// assert_eq!(bridge_ops::mean_squared_error(&predictions, &targets)?.to_scalar::<f32>()?, 4.5);
/// # Ok::<(), bridge_ops::Error>(())
/// ```
///
/// # Errors
///
/// When the shapes differ, are empty, or the dtypes do not fit.
#[doc(alias = "mse_loss")]
#[doc(alias = "MSELoss")]
#[doc(alias = "squared_error")]
pub fn mean_squared_error(predictions: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let operator = "mean_squared_error";
    if predictions.shape() != targets.shape() {
        return Err(Error::Shape {
            operator,
            argument: "targets",
            expected: format!("the shape of `predictions`, {:?}", predictions.shape()),
            found: targets.shape().clone(),
        });
    }
    if predictions.elem_count() == 0 {
        return Err(Error::Empty { operator, argument: "predictions", found: predictions.shape().clone() });
    }
    let (predictions, targets) =
        (widen(operator, "predictions", predictions)?, widen(operator, "targets", targets)?);
    if is_shapes_only() {
        return stand_in((), predictions.dtype(), predictions.device());
    }
    let difference = (predictions - targets)?;
    Ok(difference.sqr()?.mean_all()?)
}
