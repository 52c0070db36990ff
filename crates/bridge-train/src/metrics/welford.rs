use std::collections::BTreeMap;

use bridge_vars::{Result, State};
use candle_core::Tensor;

use super::numbers::{from_state, to_state};
use super::samples::Samples;
use crate::{Inputs, Metric};

const NAMES: [&str; 3] = ["count", "mean", "m2"];

/// A running mean and variance, which lose no digits to large values: each batch's are merged with those before it
/// ([Chan, Golub and LeVeque, 1983](https://doi.org/10.1080/00031305.1983.10483115)).
///
/// Adds up in f64 on the host.
///
/// ```
/// use bridge_train::Welford;
/// use candle_core::{Device, Tensor};
/// let mut loss = Welford::default();
/// assert_eq!(loss.statistics(), None);
/// loss.update_tensor(&Tensor::new(&[1f32, 2., 3., 4.], &Device::Cpu)?)?;
/// loss.update_tensor(&Tensor::new(&[[3f32, 2.], [1., 0.]], &Device::Cpu)?)?;
/// let statistics = loss.statistics().unwrap_or_default();
/// assert_eq!((statistics.mean, statistics.variance), (2., 1.5));
/// assert_eq!(statistics.standard_deviation, 1.5f64.sqrt());
/// assert_eq!(statistics.standard_error_of_mean, (1.5f64 / 8.).sqrt());
/// # Ok::<(), bridge_vars::Error>(())
/// ```
#[doc(alias("nnx.metrics.Welford", "variance"))]
#[derive(Clone, Debug, PartialEq)]
pub struct Welford {
    values: String,
    mask: Option<String>,
    count: f64,
    mean: f64,
    m2: f64,
}

/// What a [`Welford`] knows about the values that were added.
///
/// ```
/// use bridge_train::{Statistics, Welford};
/// let mut times = Welford::default();
/// times.update(1.);
/// times.update(3.);
/// let Some(Statistics { mean, variance, .. }) = times.statistics() else { return };
/// assert_eq!((mean, variance), (2., 1.));
/// ```
#[doc(alias = "nnx.metrics.Statistics")]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Statistics {
    /// The mean.
    pub mean: f64,
    /// The mean squared distance from the mean: of a population, divided by the number of the values.
    pub variance: f64,
    /// The root of the variance.
    pub standard_deviation: f64,
    /// The standard deviation divided by the root of the number of the values.
    pub standard_error_of_mean: f64,
}

impl Welford {
    /// Statistics that read the values of this name in [`Metric::update_from`]; the default reads `values`.
    #[doc(alias = "argname")]
    pub fn new(values: impl Into<String>) -> Self {
        Self { values: values.into(), mask: None, count: 0., mean: 0., m2: 0. }
    }

    /// Reads a mask of this name too: see [`Welford::update_masked`].
    #[must_use]
    pub fn with_mask(self, mask: impl Into<String>) -> Self {
        Self { mask: Some(mask.into()), ..self }
    }

    /// Adds a value.
    pub fn update(&mut self, value: impl Into<f64>) {
        self.add(&Samples::new(vec![value.into()], None));
    }

    /// Adds every element of a tensor of any shape, of floats or integers. Waits for the device.
    ///
    /// # Errors
    /// If candle fails.
    pub fn update_tensor(&mut self, values: &Tensor) -> Result<()> {
        self.add(&Samples::read("welford", values, None)?);
        Ok(())
    }

    /// Adds the elements of a tensor, of which each counts as often as the mask says: those where it is 0 do not,
    /// not even NaN.
    ///
    /// The mask is of u8, another integer or a float, in a shape that broadcasts to that of the values. Waits for
    /// the device.
    ///
    /// # Errors
    /// [`MetricError::Shape`](crate::MetricError::Shape), [`MetricError::Weight`](crate::MetricError::Weight).
    #[doc(alias("mask", "where"))]
    pub fn update_masked(&mut self, values: &Tensor, mask: &Tensor) -> Result<()> {
        self.add(&Samples::read("welford", values, Some(mask))?);
        Ok(())
    }

    /// The statistics; nothing, if nothing was added.
    #[doc(alias = "compute")]
    pub fn statistics(&self) -> Option<Statistics> {
        (self.count != 0.).then(|| {
            let variance = self.m2 / self.count;
            Statistics {
                mean: self.mean,
                variance,
                standard_deviation: variance.sqrt(),
                standard_error_of_mean: (variance / self.count).sqrt(),
            }
        })
    }

    fn add(&mut self, samples: &Samples) {
        let sum =
            |of: &dyn Fn(f64) -> f64| samples.iter().map(|(value, weight)| weight * of(value)).sum::<f64>();
        let count = sum(&|_| 1.);
        if count == 0. {
            return;
        }
        let mean = sum(&|value| value) / count;
        let m2 = sum(&|value| (value - mean).powi(2));
        let (delta, total) = (mean - self.mean, self.count + count);
        self.m2 += m2 + delta * delta * count * (self.count / total);
        self.mean += delta * (count / total);
        self.count = total;
    }
}

impl Default for Welford {
    fn default() -> Self {
        Self::new("values")
    }
}

impl Metric for Welford {
    fn inputs(&self) -> Vec<&str> {
        [Some(&self.values), self.mask.as_ref()].into_iter().flatten().map(String::as_str).collect()
    }

    fn update_from(&mut self, inputs: &Inputs) -> Result<()> {
        let mask = self.mask.as_ref().map(|mask| inputs.get(mask)).transpose()?;
        self.add(&Samples::read("welford", inputs.get(&self.values)?, mask)?);
        Ok(())
    }

    /// `mean`, `standard_deviation` and `standard_error_of_mean`.
    fn compute(&self) -> BTreeMap<String, f64> {
        let named = |statistics: Statistics| {
            [
                ("mean".to_owned(), statistics.mean),
                ("standard_deviation".to_owned(), statistics.standard_deviation),
                ("standard_error_of_mean".to_owned(), statistics.standard_error_of_mean),
            ]
        };
        self.statistics().map(named).into_iter().flatten().collect()
    }

    fn reset(&mut self) {
        (self.count, self.mean, self.m2) = (0., 0., 0.);
    }

    fn state(&self) -> Result<State> {
        to_state([("count", self.count), ("mean", self.mean), ("m2", self.m2)])
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        [self.count, self.mean, self.m2] = from_state(NAMES, state)?;
        Ok(())
    }
}
