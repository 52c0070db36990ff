use candle_core::{Module, Tensor};
use serde::{Deserialize, Serialize};

use crate::{Result, gelu, gelu_exact, relu, sigmoid, silu, tanh};

/// An activation function as a value: configuration that compares and serialises, and a layer of both kinds of module.
///
/// ```
/// use bridge_ops::Activation;
/// use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[-1f32, 2.], &Device::Cpu)?;
/// assert_eq!(Activation::Relu.forward(&x)?.to_vec1::<f32>()?, [0., 2.]);
/// # Ok::<(), bridge_ops::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Activation {
    /// [`relu`](crate::relu()).
    Relu,
    /// [`gelu`](crate::gelu()), by a hyperbolic tangent.
    Gelu,
    /// [`gelu_exact`](crate::gelu_exact()), by the error function.
    GeluExact,
    /// [`silu`](crate::silu()).
    #[doc(alias = "Swish")]
    Silu,
    /// [`sigmoid`](crate::sigmoid()).
    Sigmoid,
    /// [`tanh`](crate::tanh()).
    Tanh,
}

impl Activation {
    /// The function of each element.
    ///
    /// # Errors
    /// If `x` is not a float tensor.
    pub fn forward(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Relu => relu(x),
            Self::Gelu => gelu(x),
            Self::GeluExact => gelu_exact(x),
            Self::Silu => silu(x),
            Self::Sigmoid => sigmoid(x),
            Self::Tanh => tanh(x),
        }
    }
}

impl Module for Activation {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        Ok(Self::forward(*self, x)?)
    }
}
