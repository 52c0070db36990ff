//! The share of right predictions.

use crate::labels::to_indices;
use crate::precision::require_float;
use crate::{Error, Result};
use candle_core::{D, DType, Tensor};

/// The share of examples whose largest logit is that of the label.
///
/// - `logits`: `[..., classes]`, any float; the first of equal logits counts;
/// - `labels`: `[...]`, u32 or i64, each in `0..classes`.
///
/// Has no gradient. Waits for the device.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let logits = Tensor::new(&[[0f32, 1.0], [2.0, 1.0]], &Device::Cpu)?;
/// let labels = Tensor::new(&[1u32, 1], &Device::Cpu)?;
/// assert_eq!(bridge_ops::accuracy(&logits, &labels)?, 0.5);
/// # Ok::<(), bridge_ops::Error>(())
/// ```
///
/// # Errors
///
/// When the shapes or dtypes do not fit, when there are no examples, and, on the CPU, when a label is out of range.
#[doc(alias = "Accuracy")]
pub fn accuracy(logits: &Tensor, labels: &Tensor) -> Result<f64> {
    let operator = "accuracy";
    require_float(operator, "logits", logits)?;
    let labels = to_indices(operator, logits, labels)?;
    let examples = labels.elem_count();
    if examples == 0 || logits.elem_count() == 0 {
        return Err(Error::Empty { operator, argument: "logits", found: logits.shape().clone() });
    }
    let predictions = logits.argmax_keepdim(D::Minus1)?.to_dtype(DType::I64)?;
    // Comparisons give u8, whose sum would wrap at 256.
    let right = predictions.eq(&labels)?.to_dtype(DType::U32)?.sum_all()?.to_scalar::<u32>()?;
    Ok(f64::from(right) / examples as f64)
}
