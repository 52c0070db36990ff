use std::any::{Any, type_name};
use std::collections::{BTreeMap, BTreeSet};

use bridge_vars::{Path, PathKey, Result, State};

use crate::fit::differences;
use crate::{Inputs, Metric, MetricError};

/// Several metrics by name, which are updated from the same tensors, computed, reset and saved together.
///
/// ```
/// use bridge_train::{Accuracy, Average, Metric, MultiMetric, Welford};
/// use candle_core::{Device, Tensor};
/// let mut metrics = MultiMetric::new()
///     .with("loss", Average::new("loss"))
///     .with("spread", Welford::new("loss"))
///     .with("accuracy", Accuracy::default());
/// let logits = Tensor::new(&[[0f32, 1.], [2., 1.]], &Device::Cpu)?;
/// let labels = Tensor::new(&[1u32, 1], &Device::Cpu)?;
/// let loss = Tensor::new(&[0.25f32, 1.75], &Device::Cpu)?;
/// metrics.update([("loss", &loss), ("logits", &logits), ("labels", &labels)])?;
///
/// let numbers = metrics.compute();
/// assert_eq!((numbers["loss"], numbers["accuracy"]), (1., 0.5));
/// assert_eq!(numbers["spread.standard_deviation"], 0.75);
/// assert_eq!(metrics.get::<Accuracy>("accuracy")?.share(), Some(0.5));
///
/// let saved = metrics.state()?;
/// metrics.reset();
/// assert!(metrics.compute().is_empty());
/// metrics.restore(&saved)?;
/// assert_eq!(metrics.compute(), numbers);
/// # Ok::<(), bridge_vars::Error>(())
/// ```
#[doc(alias("nnx.MultiMetric", "nnx.metrics.MultiMetric", "MetricCollection"))]
#[derive(Debug, Default)]
pub struct MultiMetric {
    metrics: BTreeMap<String, Box<dyn Metric>>,
}

impl MultiMetric {
    /// No metrics.
    pub fn new() -> Self {
        Self::default()
    }

    /// One metric more; it takes the place of one of the same name.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, metric: impl Metric) -> Self {
        self.metrics.insert(name.into(), Box::new(metric));
        self
    }

    /// Updates every metric from the tensors whose names it reads. Waits for the device.
    ///
    /// If this fails, nothing has changed.
    ///
    /// # Errors
    /// [`MetricError::Inputs`] with every name that is missing, read by no metric, or given twice; those of the
    /// metrics, at the metric's name.
    pub fn update<'a>(&mut self, inputs: impl Into<Inputs<'a>>) -> Result<()> {
        let inputs = inputs.into();
        self.check(&inputs)?;
        self.update_from(&inputs)
    }

    /// The metric of a name, as what it is.
    ///
    /// # Errors
    /// [`MetricError::NoSuchMetric`], [`MetricError::OtherMetric`].
    pub fn get<M: Metric>(&self, name: &str) -> Result<&M> {
        let Some(metric) = self.metrics.get(name) else {
            let metrics = self.names().map(|name| format!("`{name}`")).collect();
            return Err(MetricError::NoSuchMetric { name: name.to_owned(), metrics }.into());
        };
        let any: &dyn Any = &**metric;
        any.downcast_ref().ok_or_else(|| {
            let (expected, found) = (type_name::<M>(), format!("{metric:?}"));
            MetricError::OtherMetric { name: name.to_owned(), expected, found }.into()
        })
    }

    /// The names of the metrics, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.metrics.keys().map(String::as_str)
    }

    /// Names that are missing, read by nothing, or repeated.
    fn check(&self, inputs: &Inputs) -> Result<(), MetricError> {
        let read: BTreeSet<&str> = self.inputs().into_iter().collect();
        let (mut given, mut unexpected, mut repeated) = (BTreeSet::new(), Vec::new(), Vec::new());
        for name in inputs.names() {
            match (given.insert(name), read.contains(name)) {
                (false, _) => repeated.push(name.to_owned()),
                (true, false) => unexpected.push(name.to_owned()),
                (true, true) => {}
            }
        }
        let missing: Vec<String> = read.difference(&given).map(|name| (*name).to_owned()).collect();
        match missing.is_empty() && unexpected.is_empty() && repeated.is_empty() {
            true => Ok(()),
            false => Err(MetricError::Inputs { missing, unexpected, repeated }),
        }
    }

    /// Changes every metric; if one fails, those before it become what they were.
    fn change(&mut self, mut change: impl FnMut(&Path, &mut dyn Metric) -> Result<()>) -> Result<()> {
        let mut changed: Vec<(&mut Box<dyn Metric>, State)> = Vec::new();
        for (name, metric) in &mut self.metrics {
            let path = Path::from(PathKey::from(name.as_str()));
            match metric.state().and_then(|before| change(&path, &mut **metric).map(|()| before)) {
                Ok(before) => changed.push((metric, before)),
                Err(error) => {
                    changed.into_iter().try_for_each(|(metric, before)| metric.restore(&before))?;
                    return Err(error.at(&path));
                }
            }
        }
        Ok(())
    }
}

impl Metric for MultiMetric {
    /// The names that any of the metrics reads, each once, in order.
    fn inputs(&self) -> Vec<&str> {
        let names: BTreeSet<&str> = self.metrics.values().flat_map(|metric| metric.inputs()).collect();
        names.into_iter().collect()
    }

    fn update_from(&mut self, inputs: &Inputs) -> Result<()> {
        self.change(|_, metric| metric.update_from(inputs))
    }

    /// The numbers of all metrics, under the metric's name, or `name.number` if it has several.
    fn compute(&self) -> BTreeMap<String, f64> {
        let mut numbers = BTreeMap::new();
        for (name, metric) in &self.metrics {
            let name = PathKey::from(name.as_str());
            for (below, number) in metric.compute() {
                let name = match below.is_empty() {
                    true => name.to_string(),
                    false => format!("{name}.{below}"),
                };
                numbers.insert(name, number);
            }
        }
        numbers
    }

    fn reset(&mut self) {
        self.metrics.values_mut().for_each(|metric| metric.reset());
    }

    fn state(&self) -> Result<State> {
        let mut state = State::default();
        for (name, metric) in &self.metrics {
            let below = metric.state()?;
            if !below.is_empty() {
                state.tree_mut().insert_tree(&PathKey::from(name.as_str()).into(), below.tree().clone())?;
            }
        }
        Ok(state)
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        let misfit = differences(&self.state()?, state);
        if !misfit.is_empty() {
            return Err(MetricError::State(misfit).into());
        }
        self.change(|path, metric| {
            metric.restore(&state.tree().subtree(path).cloned().unwrap_or_default().into())
        })
    }
}
