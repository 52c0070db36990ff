//! The cross entropy of a categorical distribution that is given by logits.

use super::softmax::shift;
use crate::Result;
use candle_core::{D, Tensor};

/// The losses of [`crate::CrossEntropy::per_example`], of checked logits `[.., classes]` and i64 labels `[..]`.
///
/// # Errors
/// Those of candle.
pub fn cross_entropy_per_example(
    logits: &Tensor,
    labels: &Tensor,
    label_smoothing: f64,
    ignore_index: Option<i64>,
) -> Result<Tensor> {
    let counted = counted(labels, ignore_index)?;
    let labels = match &counted {
        Some(counted) => counted.where_cond(labels, &labels.zeros_like()?)?,
        None => labels.clone(),
    };
    let shifted = shift("cross_entropy", "logits", logits)?;
    let normalizer = shifted.exp()?.sum(D::Minus1)?.log()?;
    let chosen =
        shifted.gather(&labels.unsqueeze(labels.rank())?.contiguous()?, D::Minus1)?.squeeze(D::Minus1)?;
    let losses = match label_smoothing == 0.0 {
        true => (normalizer - chosen)?,
        false => {
            let even = (shifted.mean(D::Minus1)? * label_smoothing)?;
            ((normalizer - (chosen * (1.0 - label_smoothing))?)? - even)?
        }
    };
    match counted {
        Some(counted) => Ok(counted.where_cond(&losses, &losses.zeros_like()?)?),
        None => Ok(losses),
    }
}

/// The mean of [`cross_entropy_per_example`] over the examples that are not ignored, of which there is one at least.
///
/// # Errors
/// Those of candle.
pub fn cross_entropy(
    logits: &Tensor,
    labels: &Tensor,
    label_smoothing: f64,
    ignore_index: Option<i64>,
) -> Result<Tensor> {
    let losses = cross_entropy_per_example(logits, labels, label_smoothing, ignore_index)?;
    match counted(labels, ignore_index)? {
        Some(counted) => Ok((losses.sum_all()? / counted.to_dtype(losses.dtype())?.sum_all()?)?),
        None => Ok(losses.mean_all()?),
    }
}

/// Which labels count; none where all do.
fn counted(labels: &Tensor, ignore_index: Option<i64>) -> Result<Option<Tensor>> {
    Ok(ignore_index.map(|ignored| labels.ne(ignored)).transpose()?)
}
