use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;

use bridge_vars::{Result, State};

use crate::Inputs;

/// Something that is measured over many batches: what a [`MultiMetric`](crate::MultiMetric) holds.
///
/// ```
/// use std::collections::BTreeMap;
/// use bridge_train::{Inputs, Metric, MultiMetric};
/// use bridge_vars::{MetricState, Path, Result, State};
/// use candle_core::{Device, Tensor};
///
/// /// The number of examples.
/// #[derive(Debug, Default)]
/// struct Examples(u32);
///
/// impl Metric for Examples {
///     fn inputs(&self) -> Vec<&str> {
///         vec!["labels"]
///     }
///     fn update_from(&mut self, inputs: &Inputs) -> Result<()> {
///         self.0 += inputs.get("labels")?.elem_count() as u32;
///         Ok(())
///     }
///     fn compute(&self) -> BTreeMap<String, f64> {
///         BTreeMap::from([(String::new(), self.0.into())])
///     }
///     fn reset(&mut self) {
///         self.0 = 0;
///     }
///     fn state(&self) -> Result<State> {
///         State::unflatten([(Path::from("count"), MetricState::leaf(self.0))])
///     }
///     fn restore(&mut self, state: &State) -> Result<()> {
///         self.0 = state.get("count")?.value.count()?;
///         Ok(())
///     }
/// }
///
/// let mut metrics = MultiMetric::new().with("examples", Examples::default());
/// metrics.update([("labels", &Tensor::new(&[1u32, 0, 2], &Device::Cpu)?)])?;
/// assert_eq!(metrics.compute()["examples"], 3.);
/// # Ok::<(), bridge_vars::Error>(())
/// ```
#[doc(alias = "nnx.metrics.Metric")]
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a metric",
    note = "use `Average`, `Welford` or `Accuracy`, or write `impl Metric for {Self}`"
)]
pub trait Metric: Any + fmt::Debug + Send + Sync {
    /// The names of all that [`Metric::update_from`] reads.
    #[doc(alias = "argname")]
    fn inputs(&self) -> Vec<&str>;

    /// Adds what the tensors of these names hold. May wait for the device.
    ///
    /// Must leave the metric as it was if it fails.
    ///
    /// # Errors
    /// [`MetricError::Inputs`](crate::MetricError::Inputs) if a name is missing; what the metric says.
    fn update_from(&mut self, inputs: &Inputs) -> Result<()>;

    /// The numbers that there are by now, by name; the only one of a metric has an empty name. Without anything
    /// to compute them from, none.
    fn compute(&self) -> BTreeMap<String, f64>;

    /// Begins anew.
    fn reset(&mut self);

    /// What it has counted and added up, as [`MetricState`](bridge_vars::MetricState) leaves: to save it with a
    /// checkpoint.
    ///
    /// A snapshot: later updates do not change it.
    ///
    /// # Errors
    /// If candle fails.
    fn state(&self) -> Result<State>;

    /// Goes on from what [`Metric::state`] gave, perhaps in another program.
    ///
    /// Must leave the metric as it was if it fails.
    ///
    /// # Errors
    /// [`MetricError::State`](crate::MetricError::State) with every path that is missing, unexpected or
    /// different.
    fn restore(&mut self, state: &State) -> Result<()>;
}
