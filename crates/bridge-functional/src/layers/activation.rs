use bridge_vars::Result;
use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::{FunctionalModule, Scope};

/// An activation function as a module, for a [`Sequential`](crate::Sequential), and as configuration that compares and
/// serialises.
///
/// ```
/// use bridge_functional::Activation;
/// use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[-1f32, 2.], &Device::Cpu)?;
/// assert_eq!(Activation::Relu.forward(&x)?.to_vec1::<f32>()?, [0., 2.]);
/// # Ok::<(), bridge_vars::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Activation {
    /// [`bridge_ops::relu`].
    Relu,
    /// [`bridge_ops::gelu`], by a hyperbolic tangent.
    Gelu,
    /// [`bridge_ops::gelu_exact`], by the error function.
    GeluExact,
    /// [`bridge_ops::silu`].
    #[doc(alias = "Swish")]
    Silu,
    /// [`bridge_ops::sigmoid`].
    Sigmoid,
    /// [`bridge_ops::tanh`].
    Tanh,
    /// [`bridge_ops::softplus`].
    Softplus,
    /// [`bridge_ops::elu`] with `alpha` 1.
    Elu,
    /// [`bridge_ops::leaky_relu`] with `negative_slope` 0.01.
    LeakyRelu,
    /// [`bridge_ops::abs`].
    Abs,
}

impl Activation {
    /// The function of each element.
    ///
    /// # Errors
    /// If `x` is not a float tensor.
    pub fn forward(self, x: &Tensor) -> Result<Tensor> {
        Ok(bridge_ops::Activation::from(self).apply(x)?)
    }
}

impl From<Activation> for bridge_ops::Activation {
    fn from(activation: Activation) -> Self {
        match activation {
            Activation::Relu => Self::Relu,
            Activation::Gelu => Self::Gelu,
            Activation::GeluExact => Self::GeluExact,
            Activation::Silu => Self::Silu,
            Activation::Sigmoid => Self::Sigmoid,
            Activation::Tanh => Self::Tanh,
            Activation::Softplus => Self::Softplus,
            Activation::Elu => Self::Elu { alpha: 1.0 },
            Activation::LeakyRelu => Self::LeakyRelu { negative_slope: 0.01 },
            Activation::Abs => Self::Abs,
        }
    }
}

impl FunctionalModule for Activation {
    type Output = Tensor;

    fn call(&self, _scope: &Scope, x: &Tensor) -> Result<Tensor> {
        self.forward(x)
    }
}
