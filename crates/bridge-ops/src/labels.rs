//! Class labels, checked against the logits that they index.

use crate::{Error, Result};
use candle_core::{DType, Tensor};

/// The labels as an index tensor `[..., 1]` for logits `[..., classes]`.
pub(crate) fn to_indices(operator: &'static str, logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    let Labels { labels, .. } = checked(operator, logits, labels, None)?;
    Ok(labels.unsqueeze(labels.rank())?)
}

/// Labels that name classes, or are to be ignored.
pub(crate) struct Labels {
    /// In i64, contiguous.
    pub(crate) labels: Tensor,
    /// On the CPU, the labels again.
    pub(crate) values: Option<Vec<i64>>,
}

/// The labels `[...]` of logits `[..., classes]`.
///
/// On the CPU, checks that each label names a class or is to be ignored: candle reports an index without its position,
/// and takes the largest value of an index dtype for "no index", giving 0 silently.
pub(crate) fn checked(
    operator: &'static str,
    logits: &Tensor,
    labels: &Tensor,
    ignore_index: Option<i64>,
) -> Result<Labels> {
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
    if !labels.device().is_cpu() {
        return Ok(Labels { labels, values: None });
    }
    let values = labels.flatten_all()?.to_vec1::<i64>()?;
    for (position, &label) in values.iter().enumerate() {
        let named = usize::try_from(label).is_ok_and(|label| label < classes);
        if !named && Some(label) != ignore_index {
            return Err(Error::LabelOutOfRange { operator, label, position, classes });
        }
    }
    Ok(Labels { labels, values: Some(values) })
}
