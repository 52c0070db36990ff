use std::collections::BTreeMap;

use bridge_vars::{Result, State};
use candle_core::{D, DType, Device, Tensor};

use super::samples::{Samples, elements, weights};
use crate::parameter::is_float;
use crate::{Average, Inputs, Metric, MetricError};

const METRIC: &str = "accuracy";

/// The share of right predictions, over many batches of any size. Adds up in f64 on the host.
///
/// ```
/// use bridge_train::Accuracy;
/// use candle_core::{Device, Tensor};
/// let mut accuracy = Accuracy::default();
/// let logits = Tensor::new(&[[0f32, 1.], [2., 1.], [0., 3.]], &Device::Cpu)?;
/// accuracy.update(&logits, &Tensor::new(&[1u32, 1, 1], &Device::Cpu)?)?;
/// accuracy.update(&logits.narrow(0, 1, 1)?, &Tensor::new(&[0u32], &Device::Cpu)?)?;
/// assert_eq!(accuracy.share(), Some(0.75));
///
/// let mut binary = Accuracy::default().with_threshold(0.5);
/// let probabilities = Tensor::new(&[0.9f32, 0.5, 0.1], &Device::Cpu)?;
/// binary.update(&probabilities, &Tensor::new(&[1u32, 0, 0], &Device::Cpu)?)?;
/// assert_eq!(binary.share(), Some(2. / 3.));
/// # Ok::<(), bridge_vars::Error>(())
/// ```
#[doc(alias = "nnx.metrics.Accuracy")]
#[derive(Clone, Debug, PartialEq)]
pub struct Accuracy {
    logits: String,
    labels: String,
    mask: Option<String>,
    threshold: Option<f64>,
    average: Average,
}

impl Accuracy {
    /// An accuracy that reads logits and labels of these names in [`Metric::update_from`]; the default reads
    /// `logits` and `labels`.
    pub fn new(logits: impl Into<String>, labels: impl Into<String>) -> Self {
        let (logits, labels) = (logits.into(), labels.into());
        Self { logits, labels, mask: None, threshold: None, average: Average::default() }
    }

    /// Reads a mask of this name too: see [`Accuracy::update_masked`].
    #[must_use]
    pub fn with_mask(self, mask: impl Into<String>) -> Self {
        Self { mask: Some(mask.into()), ..self }
    }

    /// Of two classes, told apart by one number: a logit at the threshold, rounded to the logits' dtype, or above it
    /// predicts the positive class, that of the labels above 0.
    #[must_use]
    pub fn with_threshold(self, threshold: f64) -> Self {
        Self { threshold: Some(threshold), ..self }
    }

    /// Adds a batch: `logits` of shape `[..., classes]`, or `[...]` with a threshold, of any float; `labels` of
    /// shape `[...]`, of any integer. Of equal logits the first counts. Waits for the device.
    ///
    /// # Errors
    /// [`MetricError::Shape`], [`MetricError::DType`], [`MetricError::LabelOutOfRange`].
    pub fn update(&mut self, logits: &Tensor, labels: &Tensor) -> Result<()> {
        self.add(logits, labels, None)
    }

    /// Adds a batch in which each example counts as much as the mask says: those where it is 0 do not, whatever
    /// their logits and labels are.
    ///
    /// The mask is of u8, another integer or a float, in a shape that broadcasts to that of the labels. Waits for
    /// the device.
    ///
    /// # Errors
    /// Those of [`Accuracy::update`]; [`MetricError::Weight`].
    #[doc(alias("mask", "where"))]
    pub fn update_masked(&mut self, logits: &Tensor, labels: &Tensor, mask: &Tensor) -> Result<()> {
        self.add(logits, labels, Some(mask))
    }

    /// The share, between 0 and 1; nothing, if nothing was added.
    #[doc(alias = "compute")]
    pub fn share(&self) -> Option<f64> {
        self.average.mean()
    }

    fn add(&mut self, logits: &Tensor, labels: &Tensor, mask: Option<&Tensor>) -> Result<()> {
        self.check(logits, labels)?;
        let weights = mask.map(|mask| weights(METRIC, mask, labels.shape())).transpose()?;
        let labels = labels.to_device(&Device::Cpu)?.to_dtype(DType::I64)?.flatten_all()?.to_vec1::<i64>()?;
        let right: Vec<f64> = match self.threshold {
            Some(threshold) => {
                let threshold = rounded(threshold, logits.dtype())?;
                let pairs = elements(logits)?.into_iter().zip(&labels);
                pairs.map(|(logit, label)| share((logit >= threshold) == (*label > 0))).collect()
            }
            None => {
                check_range(&labels, weights.as_deref(), logits.dim(D::Minus1)?)?;
                let pairs = predictions(logits)?.into_iter().zip(&labels);
                pairs.map(|(prediction, label)| share(i64::from(prediction) == *label)).collect()
            }
        };
        self.average.add(&Samples::new(right, weights));
        Ok(())
    }

    fn check(&self, logits: &Tensor, labels: &Tensor) -> Result<(), MetricError> {
        if !is_float(logits.dtype()) {
            let (input, expected) = ("logits", "a float dtype (bf16, f16, f32 or f64)");
            return Err(MetricError::DType { metric: METRIC, input, expected, found: logits.dtype() });
        }
        if !labels.dtype().is_int() {
            let (input, expected) = ("labels", "an integer dtype");
            return Err(MetricError::DType { metric: METRIC, input, expected, found: labels.dtype() });
        }
        let (expected, which) = match (self.threshold, logits.dims()) {
            (Some(_), dims) => (dims, "that of `logits`, as there is a threshold"),
            (None, [leading @ .., _]) => (leading, "that of `logits` without its last axis"),
            (None, []) => {
                let (expected, found) = ("shape [..., classes]".into(), logits.shape().clone());
                return Err(MetricError::Shape { metric: METRIC, input: "logits", expected, found });
            }
        };
        if labels.dims() != expected {
            let (expected, found) = (format!("shape {expected:?}, {which}"), labels.shape().clone());
            return Err(MetricError::Shape { metric: METRIC, input: "labels", expected, found });
        }
        Ok(())
    }
}

fn share(right: bool) -> f64 {
    f64::from(u8::from(right))
}

/// A number as a dtype has it: 0.7 is above the f32 that is written so.
fn rounded(number: f64, dtype: DType) -> Result<f64> {
    let number = Tensor::new(number, &Device::Cpu)?.to_dtype(dtype)?;
    Ok(number.to_dtype(DType::F64)?.to_scalar()?)
}

/// The class of the largest logit of each example; none, if there are no logits.
fn predictions(logits: &Tensor) -> Result<Vec<u32>> {
    match logits.elem_count() {
        0 => Ok(Vec::new()),
        _ => {
            let classes = logits.detach().argmax(D::Minus1)?.to_device(&Device::Cpu)?;
            Ok(classes.flatten_all()?.to_vec1()?)
        }
    }
}

/// Whether every label that counts is a class.
fn check_range(labels: &[i64], weights: Option<&[f64]>, classes: usize) -> Result<(), MetricError> {
    for (position, label) in labels.iter().copied().enumerate() {
        let counts = weights.and_then(|weights| weights.get(position)).is_none_or(|weight| *weight != 0.);
        if counts && !usize::try_from(label).is_ok_and(|label| label < classes) {
            return Err(MetricError::LabelOutOfRange { label, position, classes });
        }
    }
    Ok(())
}

impl Default for Accuracy {
    fn default() -> Self {
        Self::new("logits", "labels")
    }
}

impl Metric for Accuracy {
    fn inputs(&self) -> Vec<&str> {
        let names = [Some(&self.logits), Some(&self.labels), self.mask.as_ref()];
        names.into_iter().flatten().map(String::as_str).collect()
    }

    fn update_from(&mut self, inputs: &Inputs) -> Result<()> {
        let mask = self.mask.as_ref().map(|mask| inputs.get(mask)).transpose()?;
        self.add(inputs.get(&self.logits)?, inputs.get(&self.labels)?, mask)
    }

    fn compute(&self) -> BTreeMap<String, f64> {
        self.average.compute()
    }

    fn reset(&mut self) {
        self.average.reset();
    }

    fn state(&self) -> Result<State> {
        self.average.state()
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        self.average.restore(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_is_rounded_to_the_dtype_of_the_logits() {
        for dtype in [DType::BF16, DType::F16, DType::F32, DType::F64] {
            let at = Tensor::new(&[0.7f64], &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
            let mut accuracy = Accuracy::default().with_threshold(0.7);
            accuracy.update(&at, &Tensor::new(&[1u32], &Device::Cpu).unwrap()).unwrap();
            assert_eq!(accuracy.share(), Some(1.), "{dtype:?}");
        }
    }

    #[test]
    fn the_first_of_equal_logits_counts_in_every_batch_shape() {
        let logits = Tensor::zeros((2, 3, 4), DType::F16, &Device::Cpu).unwrap();
        let labels = Tensor::new(&[[0i64, 1, 0], [3, 0, 2]], &Device::Cpu).unwrap();
        let mut accuracy = Accuracy::default();
        accuracy.update(&logits, &labels).unwrap();
        accuracy.update(&logits.transpose(0, 1).unwrap(), &labels.t().unwrap()).unwrap();
        assert_eq!(accuracy.share(), Some(0.5));
    }
}
