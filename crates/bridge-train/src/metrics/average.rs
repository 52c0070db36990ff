use std::collections::BTreeMap;

use bridge_vars::{Result, State};
use candle_core::Tensor;

use super::numbers::{from_state, to_state};
use super::samples::Samples;
use crate::{Inputs, Metric};

const NAMES: [&str; 2] = ["total", "count"];

/// A running mean: of a loss, over the batches of an epoch. Adds up in f64 on the host.
///
/// ```
/// use bridge_train::{Average, Metric};
/// use candle_core::{Device, Tensor};
/// let mut loss = Average::default();
/// loss.update(2f32);
/// loss.update_weighted(5., 2.);
/// assert_eq!(loss.mean(), Some(4.));
/// loss.reset();
/// assert_eq!(loss.mean(), None);
///
/// let losses = Tensor::new(&[[1f32, 2.], [3., f32::NAN]], &Device::Cpu)?;
/// let mask = Tensor::new(&[[1u8, 1], [1, 0]], &Device::Cpu)?;
/// loss.update_masked(&losses, &mask)?;
/// assert_eq!(loss.mean(), Some(2.));
/// # Ok::<(), bridge_vars::Error>(())
/// ```
#[doc(alias("nnx.metrics.Average", "MeanMetric"))]
#[derive(Clone, Debug, PartialEq)]
pub struct Average {
    values: String,
    mask: Option<String>,
    total: f64,
    count: f64,
}

impl Average {
    /// An average that reads the values of this name in [`Metric::update_from`]; the default reads `values`.
    #[doc(alias = "argname")]
    pub fn new(values: impl Into<String>) -> Self {
        Self { values: values.into(), mask: None, total: 0., count: 0. }
    }

    /// Reads a mask of this name too: see [`Average::update_masked`].
    #[must_use]
    pub fn with_mask(self, mask: impl Into<String>) -> Self {
        Self { mask: Some(mask.into()), ..self }
    }

    /// Adds a value.
    pub fn update(&mut self, value: impl Into<f64>) {
        self.update_weighted(value, 1.);
    }

    /// Adds the mean of a batch, which counts as much as its weight says: the number of its examples. With a
    /// weight of 0, whatever it is, it does not count.
    pub fn update_weighted(&mut self, value: impl Into<f64>, weight: f64) {
        self.add(&Samples::new(vec![value.into()], Some(vec![weight])));
    }

    /// Adds every element of a tensor of any shape, of floats or integers. Waits for the device.
    ///
    /// # Errors
    /// If candle fails.
    pub fn update_tensor(&mut self, values: &Tensor) -> Result<()> {
        self.add(&Samples::read("average", values, None)?);
        Ok(())
    }

    /// Adds the elements of a tensor, of which each counts as much as the mask says: those where it is 0 do not,
    /// not even NaN.
    ///
    /// The mask is of u8, another integer or a float, in a shape that broadcasts to that of the values. Where it
    /// is broadcast, each element counts, as in NumPy; Flax counts the elements of the mask. Waits for the device.
    ///
    /// # Errors
    /// [`MetricError::Shape`](crate::MetricError::Shape), [`MetricError::Weight`](crate::MetricError::Weight).
    #[doc(alias("mask", "where"))]
    pub fn update_masked(&mut self, values: &Tensor, mask: &Tensor) -> Result<()> {
        self.add(&Samples::read("average", values, Some(mask))?);
        Ok(())
    }

    /// The mean; nothing, if nothing was added.
    #[doc(alias = "compute")]
    pub fn mean(&self) -> Option<f64> {
        (self.count != 0.).then(|| self.total / self.count)
    }

    pub(crate) fn add(&mut self, samples: &Samples) {
        for (value, weight) in samples.iter() {
            self.total += value * weight;
            self.count += weight;
        }
    }
}

impl Default for Average {
    fn default() -> Self {
        Self::new("values")
    }
}

impl Metric for Average {
    fn inputs(&self) -> Vec<&str> {
        [Some(&self.values), self.mask.as_ref()].into_iter().flatten().map(String::as_str).collect()
    }

    fn update_from(&mut self, inputs: &Inputs) -> Result<()> {
        let mask = self.mask.as_ref().map(|mask| inputs.get(mask)).transpose()?;
        self.add(&Samples::read("average", inputs.get(&self.values)?, mask)?);
        Ok(())
    }

    fn compute(&self) -> BTreeMap<String, f64> {
        self.mean().map(|mean| (String::new(), mean)).into_iter().collect()
    }

    fn reset(&mut self) {
        (self.total, self.count) = (0., 0.);
    }

    fn state(&self) -> Result<State> {
        to_state([("total", self.total), ("count", self.count)])
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        [self.total, self.count] = from_state(NAMES, state)?;
        Ok(())
    }
}
