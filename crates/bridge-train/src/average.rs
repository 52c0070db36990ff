/// A running mean: of a loss, over the batches of an epoch.
///
/// ```
/// use bridge_train::Average;
/// let mut loss = Average::default();
/// loss.update(2f32);
/// loss.update_weighted(5., 2.);
/// assert_eq!(loss.mean(), Some(4.));
/// loss.reset();
/// assert_eq!(loss.mean(), None);
/// ```
#[doc(alias("nnx.metrics.Average", "MeanMetric", "compute"))]
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Average {
    total: f64,
    weight: f64,
}

impl Average {
    /// Adds a value.
    pub fn update(&mut self, value: impl Into<f64>) {
        self.update_weighted(value, 1.);
    }

    /// Adds the mean of a batch, which counts as much as its weight says: the number of its examples.
    pub fn update_weighted(&mut self, value: impl Into<f64>, weight: f64) {
        self.total += value.into() * weight;
        self.weight += weight;
    }

    /// The mean; nothing, if nothing was added.
    pub fn mean(&self) -> Option<f64> {
        (self.weight != 0.).then(|| self.total / self.weight)
    }

    /// Begins anew.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}
