use bridge_graph::{Flag, Rngs, StatefulModule, observe};
use bridge_random::Initializer;
use bridge_vars::{BatchStat, Param, Result, VariableInitializer};
use candle_core::Tensor;

use super::candle_module;

/// How a [`BatchNorm`] is made.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchNormConfig {
    /// How much of the running statistics stays at each step.
    pub momentum: f64,
    /// Added to the variance.
    pub epsilon: f64,
    /// Whether a bias is added.
    pub use_bias: bool,
    /// Whether the result is scaled.
    pub use_scale: bool,
    /// How the bias starts.
    pub bias_init: VariableInitializer,
    /// How the scale starts.
    pub scale_init: VariableInitializer,
}

impl Default for BatchNormConfig {
    /// Scale and bias, momentum 0.99, epsilon 1e-5.
    fn default() -> Self {
        Self {
            momentum: 0.99,
            epsilon: 1e-5,
            use_bias: true,
            use_scale: true,
            bias_init: Initializer::Zeros.into(),
            scale_init: Initializer::Ones.into(),
        }
    }
}

/// Normalises over everything but the last dimension: with the batch's statistics in training, which also
/// move the running ones, and with the running ones in evaluation. Arithmetic and initial values are Flax's.
/// Statistics of half-precision inputs are f32.
///
/// ```
/// use bridge_graph::{Rngs, eval};
/// use bridge_stateful::BatchNorm;
/// use candle_core::{Device, Tensor};
/// let norm = BatchNorm::new(1, &Rngs::new(0))?;
/// let x = Tensor::new(&[[1f32], [3.]], &Device::Cpu)?;
/// assert!((norm.forward(&x)?.get(0)?.get(0)?.to_scalar::<f32>()? + 1.).abs() < 1e-4);
/// assert!((norm.mean.value()?.to_vec1::<f32>()?[0] - 0.02).abs() < 1e-6);
/// eval(&norm)?;
/// assert!((norm.forward(&x)?.get(0)?.get(0)?.to_scalar::<f32>()? - 0.98).abs() < 1e-2);
/// # Ok::<(), bridge_vars::Error>(())
/// ```
#[doc(alias = "nnx.BatchNorm")]
#[derive(Debug, StatefulModule)]
#[module(crate = "bridge_graph")]
pub struct BatchNorm {
    /// The running mean, `[features]`.
    pub mean: BatchStat,
    /// The running variance, `[features]`.
    pub var: BatchStat,
    /// What the result is scaled by, `[features]`.
    pub scale: Option<Param>,
    /// What is added, `[features]`.
    pub bias: Option<Param>,
    /// On for the running statistics.
    pub use_running_average: Flag,
    /// How much of the running statistics stays at each step.
    pub momentum: f64,
    /// Added to the variance.
    pub epsilon: f64,
}

impl BatchNorm {
    /// With scale and bias, momentum 0.99 and epsilon 1e-5, in training until it is switched to evaluation.
    ///
    /// # Errors
    /// If the streams have neither `params` nor `default`.
    pub fn new(features: usize, rngs: &Rngs) -> Result<Self> {
        Self::with_config(features, &BatchNormConfig::default(), rngs)
    }

    /// As configured.
    ///
    /// # Errors
    /// Those of [`BatchNorm::new`], and of the initializers.
    pub fn with_config(features: usize, config: &BatchNormConfig, rngs: &Rngs) -> Result<Self> {
        let statistics = bridge_ops::statistics_dtype(rngs.dtype());
        // Each parameter draws a key, whether its initializer needs one or not: so the seeds agree with Flax.
        let param = |used: bool, initializer: &VariableInitializer| -> Result<Option<Param>> {
            used.then(|| rngs.param(initializer, features)).transpose()
        };
        Ok(Self {
            mean: BatchStat::new(rngs.full(0., features, statistics)?),
            var: BatchStat::new(rngs.full(1., features, statistics)?),
            scale: param(config.use_scale, &config.scale_init)?,
            bias: param(config.use_bias, &config.bias_init)?,
            use_running_average: Flag::new(false),
            momentum: config.momentum,
            epsilon: config.epsilon,
        })
    }

    /// `x` of shape `[.., features]`; the result has the same.
    ///
    /// # Errors
    /// If the last dimension of `x` is not `features`, or the batch is empty.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        observe(self, x, || self.normalize(x))
    }

    fn normalize(&self, x: &Tensor) -> Result<Tensor> {
        let running_mean = self.mean.value()?;
        bridge_ops::check_features("BatchNorm", x, running_mean.elem_count())?;
        let (mean, var) = if self.use_running_average.get() {
            (running_mean, self.var.value()?)
        } else {
            let axes: Vec<usize> = (0..x.rank().saturating_sub(1)).collect();
            let batch = bridge_ops::batch_statistics(x, axes)?;
            // Detached, because a running statistic outlives the graph of the batch.
            let average = |running: &BatchStat, batch: &Tensor| -> Result<Tensor> {
                Ok(bridge_ops::moving_average(&running.value()?, &batch.detach(), self.momentum)?)
            };
            let (mean, var) = (average(&self.mean, &batch.0)?, average(&self.var, &batch.1)?);
            self.mean.set(mean)?;
            self.var.set(var)?;
            batch
        };
        let value = |param: &Option<Param>| param.as_ref().map(|param| param.value()).transpose();
        let (scale, bias) = (value(&self.scale)?, value(&self.bias)?);
        Ok(bridge_ops::normalize(x, &mean, &var, scale.as_ref(), bias.as_ref(), self.epsilon)?)
    }
}

candle_module!(BatchNorm);
