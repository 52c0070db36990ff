//! The cross entropy of a categorical distribution that is given by logits.

use crate::labels::to_indices;
use crate::precision::compute_dtype;
use crate::softmax::{check_classes, shift};
use crate::{Error, Result, is_shapes_only, stand_in};
use candle_core::{D, Tensor};

/// The mean over all examples of `-log softmax(logits)[label]`, a scalar.
///
/// - `logits`: `[..., classes]`, any float;
/// - `labels`: `[...]`, u32 or i64, each in `0..classes`.
///
/// The loss of half-precision logits is in f32.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let logits = Tensor::zeros((3, 4), candle_core::DType::F32, &Device::Cpu)?;
/// let labels = Tensor::new(&[0u32, 3, 1], &Device::Cpu)?;
/// let loss = bridge_ops::softmax_cross_entropy(&logits, &labels)?.to_scalar::<f32>()?;
/// assert!((loss - 4f32.ln()).abs() < 1e-6);
/// # Ok::<(), bridge_ops::Error>(())
/// ```
///
/// # Errors
///
/// When the shapes or dtypes do not fit, when there are no examples, and, on the CPU, when a label is out of range (a
/// GPU would have to be waited for to check it).
#[doc(alias = "softmax_cross_entropy_with_integer_labels")]
#[doc(alias = "cross_entropy")]
#[doc(alias = "CrossEntropyLoss")]
pub fn softmax_cross_entropy(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    let losses = per_example("softmax_cross_entropy", logits, labels)?;
    if losses.elem_count() == 0 {
        return Err(Error::Empty {
            operator: "softmax_cross_entropy",
            argument: "logits",
            found: logits.shape().clone(),
        });
    }
    Ok(losses.mean_all()?)
}

/// `-log softmax(logits)[label]` of each example.
///
/// As [`softmax_cross_entropy`], with the losses `[...]` of the examples instead of their mean.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let logits = Tensor::new(&[[0f32, 1000.0], [0.0, 1000.0]], &Device::Cpu)?;
/// let labels = Tensor::new(&[0i64, 1], &Device::Cpu)?;
/// let losses = bridge_ops::softmax_cross_entropy_per_example(&logits, &labels)?;
/// assert_eq!(losses.to_vec1::<f32>()?, [1000.0, 0.0]);
/// # Ok::<(), bridge_ops::Error>(())
/// ```
///
/// # Errors
///
/// As [`softmax_cross_entropy`], except that no examples give no losses.
#[doc(alias = "softmax_cross_entropy_with_integer_labels")]
pub fn softmax_cross_entropy_per_example(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    per_example("softmax_cross_entropy_per_example", logits, labels)
}

fn per_example(operator: &'static str, logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    let indices = to_indices(operator, logits, labels)?;
    if is_shapes_only() {
        check_classes(operator, "logits", logits)?;
        return stand_in(labels.shape(), compute_dtype(logits.dtype()), logits.device());
    }
    let shifted = shift(operator, "logits", logits)?;
    let normalizer = shifted.exp()?.sum(D::Minus1)?.log()?;
    let chosen = shifted.gather(&indices, D::Minus1)?.squeeze(D::Minus1)?;
    Ok((normalizer - chosen)?)
}
