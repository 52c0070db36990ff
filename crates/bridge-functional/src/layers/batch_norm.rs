use bridge_random::Initializer;
use bridge_vars::{Name, Result, VariableInitializer};
use candle_core::{DType, Tensor};
use serde::{Deserialize, Serialize};

use crate::{FunctionalModule, Scope};

/// Normalises over everything but the last dimension: with the batch's statistics in training, with running
/// ones in evaluation. Names, initial values and arithmetic are Flax's.
///
/// Parameters `scale` and `bias`, variables `mean` and `var` in `batch_stats`, each of shape `[features]`.
/// In training, `batch_stats` has to be mutable. Statistics of half-precision inputs are f32.
///
/// ```
/// use bridge_functional::{BatchNorm, FunctionalModule};
/// use bridge_random::key;
/// use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[[1f32], [3.]], &Device::Cpu)?;
/// let norm = BatchNorm::new().momentum(0.9);
/// let variables = norm.eval().init(key(0), &x)?;
/// let (y, updates) = norm.train().apply_mut(&variables, key(0), "batch_stats", &x)?;
/// assert!((y.get(0)?.get(0)?.to_scalar::<f32>()? + 1.).abs() < 1e-4);
/// assert!((updates.get("batch_stats", "mean")?.tensor()?.to_vec1::<f32>()?[0] - 0.2).abs() < 1e-6);
/// # Ok::<(), bridge_vars::Error>(())
/// ```
#[doc(alias = "linen.BatchNorm")]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BatchNorm {
    /// True for running statistics, false for the batch's, whatever the call's mode.
    pub use_running_average: Option<bool>,
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
    /// The dtype of the parameters.
    #[serde(with = "super::param_dtype")]
    pub param_dtype: DType,
}

impl Default for BatchNorm {
    fn default() -> Self {
        Self {
            use_running_average: None,
            momentum: 0.99,
            epsilon: 1e-5,
            use_bias: true,
            use_scale: true,
            bias_init: Initializer::Zeros.into(),
            scale_init: Initializer::Ones.into(),
            param_dtype: DType::F32,
        }
    }
}

impl BatchNorm {
    /// With scale and bias, momentum 0.99 and epsilon 1e-5, in the call's mode.
    pub fn new() -> Self {
        Self::default()
    }

    /// With running statistics (true) or the batch's (false), whatever the call's mode.
    #[must_use]
    pub fn use_running_average(self, use_running_average: bool) -> Self {
        Self { use_running_average: Some(use_running_average), ..self }
    }

    /// With another momentum.
    #[must_use]
    pub fn momentum(self, momentum: f64) -> Self {
        Self { momentum, ..self }
    }

    /// With parameters of another dtype.
    #[must_use]
    pub fn param_dtype(self, param_dtype: DType) -> Self {
        Self { param_dtype, ..self }
    }

    /// With another epsilon.
    #[must_use]
    pub fn epsilon(self, epsilon: f64) -> Self {
        Self { epsilon, ..self }
    }
}

impl FunctionalModule for BatchNorm {
    type Output = Tensor;

    /// `x` of shape `[.., features]`; the result has the same.
    fn call(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
        let running = scope.evaluating(self.use_running_average, "BatchNorm", "use_running_average")?;
        let features = x.dims().last().copied().unwrap_or_default();
        let (dtype, device) = (self.param_dtype, x.device());
        let statistics_dtype = bridge_ops::statistics_dtype(x.dtype());
        let mean = scope.variable("batch_stats", Name::from_static(&"mean"), || {
            scope.full(0., features, statistics_dtype, device)
        })?;
        let var = scope.variable("batch_stats", Name::from_static(&"var"), || {
            scope.full(1., features, statistics_dtype, device)
        })?;
        bridge_ops::check_features("BatchNorm", x, mean.get()?.elem_count())?;
        let statistics = if running {
            (mean.get()?, var.get()?)
        } else {
            let axes: Vec<usize> = (0..x.rank().saturating_sub(1)).collect();
            let batch = bridge_ops::batch_statistics(x, axes)?;
            if !scope.is_initializing() {
                for (variable, new) in [(&mean, &batch.0), (&var, &batch.1)] {
                    // Detached, because a running statistic outlives the graph of the batch.
                    let running = bridge_ops::moving_average(&variable.get()?, &new.detach(), self.momentum)?;
                    variable.set(running)?;
                }
            }
            batch
        };
        let param =
            |name, initializer| scope.param(Name::from_static(name), initializer, features, dtype, device);
        let scale = if self.use_scale { Some(param(&"scale", &self.scale_init)?) } else { None };
        let bias = if self.use_bias { Some(param(&"bias", &self.bias_init)?) } else { None };
        Ok(bridge_ops::normalize(
            x,
            &statistics.0,
            &statistics.1,
            scale.as_ref(),
            bias.as_ref(),
            self.epsilon,
        )?)
    }
}
