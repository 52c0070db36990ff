use bridge_graph::{Rngs, StatefulModule, observe};
use bridge_ops::{linear, linear_with_activation};
use bridge_random::Initializer;
use bridge_vars::{Param, Result, VariableInitializer};
use candle_core::Tensor;

use super::{Activation, candle_module};

/// How a [`Linear`] is made.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearConfig {
    /// Whether a bias is added.
    pub use_bias: bool,
    /// What is applied to each element of the result.
    pub activation: Option<Activation>,
    /// How the kernel starts.
    pub kernel_init: VariableInitializer,
    /// How the bias starts.
    pub bias_init: VariableInitializer,
}

impl Default for LinearConfig {
    /// With a bias, a kernel of `lecun_normal` and a bias of zeros.
    fn default() -> Self {
        let (kernel_init, bias_init) = (Initializer::lecun_normal().into(), Initializer::Zeros.into());
        Self { use_bias: true, activation: None, kernel_init, bias_init }
    }
}

/// A linear map of the last dimension: `y = x kernel + bias`, with Flax's names, shapes and initial values.
///
/// `kernel` has shape `[inputs, outputs]`, `bias` has shape `[outputs]`.
///
/// ```
/// use bridge_graph::Rngs;
/// use bridge_stateful::Linear;
/// use candle_core::{DType, Device, Tensor};
/// let linear = Linear::new(2, 3, &Rngs::new(0))?;
/// let y = linear.forward(&Tensor::ones((5, 2), DType::F32, &Device::Cpu)?)?;
/// assert_eq!(y.dims(), &[5, 3]);
/// # Ok::<(), bridge_vars::Error>(())
/// ```
#[doc(alias = "nnx.Linear")]
#[derive(Debug, StatefulModule)]
#[module(crate = "bridge_graph")]
pub struct Linear {
    /// The matrix, `[inputs, outputs]`.
    pub kernel: Param,
    /// What is added, `[outputs]`.
    pub bias: Option<Param>,
    /// What is applied to each element of the result.
    #[module(static)]
    pub activation: Option<Activation>,
}

impl Linear {
    /// With a bias, a kernel of `lecun_normal` and a bias of zeros. Keys come from the stream `params`.
    ///
    /// # Errors
    /// If the streams have neither `params` nor `default`.
    pub fn new(inputs: usize, outputs: usize, rngs: &Rngs) -> Result<Self> {
        Self::with_config(inputs, outputs, &LinearConfig::default(), rngs)
    }

    /// As configured.
    ///
    /// # Errors
    /// Those of [`Linear::new`], and of the initializers.
    pub fn with_config(inputs: usize, outputs: usize, config: &LinearConfig, rngs: &Rngs) -> Result<Self> {
        // Each parameter draws a key, whether its initializer needs one or not: so the seeds agree with Flax.
        let kernel = rngs.param(&config.kernel_init, (inputs, outputs))?;
        let bias = match config.use_bias {
            true => Some(rngs.param(&config.bias_init, outputs)?),
            false => None,
        };
        Ok(Self { kernel, bias, activation: config.activation })
    }

    /// With an activation, which is cheaper than one that is called on the result: see
    /// [`bridge_ops::linear_with_activation`].
    ///
    /// ```
    /// use bridge_graph::Rngs;
    /// use bridge_stateful::{Activation, Linear};
    /// use candle_core::{DType, Device, Tensor};
    /// let linear = Linear::new(2, 3, &Rngs::new(0))?.with_activation(Activation::Relu);
    /// let y = linear.forward(&Tensor::ones((5, 2), DType::F32, &Device::Cpu)?)?;
    /// assert!(y.min_all()?.to_scalar::<f32>()? >= 0.);
    /// # Ok::<(), bridge_vars::Error>(())
    /// ```
    #[must_use]
    pub fn with_activation(self, activation: Activation) -> Self {
        Self { activation: Some(activation), ..self }
    }

    /// `x` of shape `[.., inputs]`; the result has shape `[.., outputs]`.
    ///
    /// # Errors
    /// If the last dimension of `x` is not `inputs`, or the dtypes differ.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        observe(self, x, || {
            let bias = self.bias.as_ref().map(|bias| bias.value()).transpose()?;
            let kernel = self.kernel.value()?;
            Ok(match self.activation {
                Some(activation) => linear_with_activation(x, &kernel, bias.as_ref(), activation.into()),
                None => linear(x, &kernel, bias.as_ref()),
            }?)
        })
    }
}

candle_module!(Linear);

#[cfg(test)]
mod tests {
    use super::*;
    use bridge_vars::Error;
    use candle_core::{Device, Module};

    #[test]
    fn a_wrong_shape_is_the_same_error_through_candle() {
        let linear = Linear::new(2, 3, &Rngs::new(0)).unwrap();
        let x = Tensor::zeros((1, 4), candle_core::DType::F32, &Device::Cpu).unwrap();
        let direct = linear.forward(&x).unwrap_err();
        let through = Error::from(Module::forward(&linear, &x).unwrap_err());
        assert_eq!(direct.to_string(), through.to_string());
        assert!(matches!(through.downcast_ref(), Some(bridge_ops::Error::Shape { .. })), "{through}");
    }
}
