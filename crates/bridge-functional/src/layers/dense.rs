use bridge_ops::{linear, linear_with_activation};
use bridge_random::Initializer;
use bridge_vars::{Name, Result, VariableInitializer};
use candle_core::{DType, Tensor};
use serde::{Deserialize, Serialize};

use super::Activation;
use crate::{FunctionalModule, Scope};

/// A linear map of the last dimension: `y = x kernel + bias`, with Flax's names, shapes and initial values.
///
/// Parameters: `kernel` of shape `[inputs, features]`, `bias` of shape `[features]`.
///
/// ```
/// use bridge_functional::{Dense, FunctionalModule};
/// use bridge_random::key;
/// use candle_core::{DType, Device, Tensor};
/// let x = Tensor::ones((5, 2), DType::F32, &Device::Cpu)?;
/// let (y, variables) = Dense::new(3).init_with_output(key(0), &x)?;
/// assert_eq!(y.dims(), &[5, 3]);
/// assert_eq!(variables.get("params", "kernel")?.tensor()?.dims(), &[2, 3]);
/// # Ok::<(), bridge_vars::Error>(())
/// ```
#[doc(alias = "linen.Dense")]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dense {
    /// The size of the output's last dimension.
    pub features: usize,
    /// Whether a bias is added.
    pub use_bias: bool,
    /// What is applied to each element of the result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation: Option<Activation>,
    /// How the kernel starts.
    pub kernel_init: VariableInitializer,
    /// How the bias starts.
    pub bias_init: VariableInitializer,
    /// The dtype of the parameters, which the input's has to be too.
    #[serde(with = "super::param_dtype")]
    pub param_dtype: DType,
}

impl Dense {
    /// With a bias, a kernel of `lecun_normal` and a bias of zeros, in f32.
    pub fn new(features: usize) -> Self {
        let (kernel_init, bias_init) = (Initializer::lecun_normal().into(), Initializer::Zeros.into());
        Self { features, use_bias: true, activation: None, kernel_init, bias_init, param_dtype: DType::F32 }
    }

    /// Without a bias.
    #[must_use]
    pub fn without_bias(self) -> Self {
        Self { use_bias: false, ..self }
    }

    /// With an activation, which is cheaper than one that is called on the result: see
    /// [`bridge_ops::linear_with_activation`].
    ///
    /// ```
    /// use bridge_functional::{Activation, Dense, FunctionalModule};
    /// use bridge_random::key;
    /// use candle_core::{DType, Device, Tensor};
    /// let x = Tensor::ones((5, 2), DType::F32, &Device::Cpu)?;
    /// let (y, _) = Dense::new(3).activation(Activation::Relu).init_with_output(key(0), &x)?;
    /// assert!(y.min_all()?.to_scalar::<f32>()? >= 0.);
    /// # Ok::<(), bridge_vars::Error>(())
    /// ```
    #[must_use]
    pub fn activation(self, activation: Activation) -> Self {
        Self { activation: Some(activation), ..self }
    }

    /// With parameters of another dtype.
    #[must_use]
    pub fn param_dtype(self, param_dtype: DType) -> Self {
        Self { param_dtype, ..self }
    }

    /// With another start of the kernel.
    #[must_use]
    pub fn kernel_init(self, kernel_init: impl Into<VariableInitializer>) -> Self {
        Self { kernel_init: kernel_init.into(), ..self }
    }

    /// With another start of the bias.
    #[must_use]
    pub fn bias_init(self, bias_init: impl Into<VariableInitializer>) -> Self {
        Self { bias_init: bias_init.into(), ..self }
    }
}

impl FunctionalModule for Dense {
    type Output = Tensor;

    /// `x` of shape `[.., inputs]`; the result has shape `[.., features]`.
    fn call(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
        let Some(&inputs) = x.dims().last() else {
            let (expected, found) = ("shape [.., inputs]".into(), x.shape().clone());
            return Err(bridge_ops::Error::Shape { operator: "Dense", argument: "x", expected, found }.into());
        };
        let (dtype, device) = (self.param_dtype, x.device());
        let shape = (inputs, self.features);
        let kernel = scope.param(Name::from_static(&"kernel"), &self.kernel_init, shape, dtype, device)?;
        let bias = match self.use_bias {
            true => Some(scope.param(
                Name::from_static(&"bias"),
                &self.bias_init,
                self.features,
                dtype,
                device,
            )?),
            false => None,
        };
        Ok(match self.activation {
            Some(activation) => linear_with_activation(x, &kernel, bias.as_ref(), activation.into()),
            None => linear(x, &kernel, bias.as_ref()),
        }?)
    }
}
