use crate::{Result, abs, elu, gelu, gelu_exact, leaky_relu, relu, sigmoid, silu, softplus, tanh};
use candle_core::Tensor;

/// One of the activation functions, as a value.
///
/// ```
/// use bridge_ops::Activation;
/// use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[-1f32, 2.0], &Device::Cpu)?;
/// let y = Activation::LeakyRelu { negative_slope: 0.5 }.apply(&x)?;
/// assert_eq!(y.to_vec1::<f32>()?, [-0.5, 2.0]);
/// # Ok::<(), bridge_ops::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Activation {
    /// [`relu`].
    Relu,
    /// [`gelu`], by a hyperbolic tangent.
    Gelu,
    /// [`gelu_exact`], by the error function.
    GeluExact,
    /// [`silu`].
    Silu,
    /// [`sigmoid`].
    Sigmoid,
    /// [`tanh`].
    Tanh,
    /// [`softplus`].
    Softplus,
    /// [`elu`].
    Elu {
        /// What the function goes to for negative numbers, negated.
        alpha: f64,
    },
    /// [`leaky_relu`].
    LeakyRelu {
        /// What negative numbers are multiplied by.
        negative_slope: f64,
    },
    /// [`abs`].
    Abs,
}

impl Activation {
    /// The function of each element.
    ///
    /// # Errors
    ///
    /// When `x` is not a float tensor.
    pub fn apply(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Relu => relu(x),
            Self::Gelu => gelu(x),
            Self::GeluExact => gelu_exact(x),
            Self::Silu => silu(x),
            Self::Sigmoid => sigmoid(x),
            Self::Tanh => tanh(x),
            Self::Softplus => softplus(x),
            Self::Elu { alpha } => elu(x, alpha),
            Self::LeakyRelu { negative_slope } => leaky_relu(x, negative_slope),
            Self::Abs => abs(x),
        }
    }
}
