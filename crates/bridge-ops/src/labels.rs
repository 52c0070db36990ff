//! Class labels, checked against the logits that they index.

use crate::{Error, Result};
use candle_core::{DType, Tensor};

/// The labels as an index tensor `[..., 1]` for logits `[..., classes]`.
///
/// On the CPU, checks that each label names a class: candle reports an index without its position, and takes the
/// largest value of an index dtype for "no index", giving 0 silently.
pub(crate) fn to_indices(operator: &'static str, logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    let classes = match logits.dims().split_last() {
        Some((&classes, leading)) if leading == labels.dims() => classes,
        Some((_, leading)) => {
            return Err(Error::Shape {
                operator,
                argument: "labels",
                expected: format!("shape {leading:?}, that of `logits` without its last axis"),
                found: labels.shape().clone(),
            });
        }
        None => {
            return Err(Error::Shape {
                operator,
                argument: "logits",
                expected: "shape [..., classes]".into(),
                found: logits.shape().clone(),
            });
        }
    };
    if !labels.dtype().is_int() {
        return Err(Error::DType {
            operator,
            argument: "labels",
            expected: "an integer dtype (u32 or i64)",
            found: labels.dtype(),
        });
    }
    let labels = labels.to_dtype(DType::I64)?.contiguous()?;
    if labels.device().is_cpu() {
        for (position, label) in labels.flatten_all()?.to_vec1::<i64>()?.into_iter().enumerate() {
            if !usize::try_from(label).is_ok_and(|label| label < classes) {
                return Err(Error::LabelOutOfRange { operator, label, position, classes });
            }
        }
    }
    Ok(labels.unsqueeze(labels.rank())?)
}
