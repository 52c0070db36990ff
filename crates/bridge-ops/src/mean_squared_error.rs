//! The squared distance of predictions from their targets.

use crate::kernels::pairs::SquaredError;
use crate::pairs::Loss;
use crate::{Result, composition};
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
    let loss = Loss {
        operator: "mean_squared_error",
        predictions: "predictions",
        pair: SquaredError,
        mean: true,
        composition: composition::mean_squared_error,
    };
    loss.apply(predictions, targets)
}
