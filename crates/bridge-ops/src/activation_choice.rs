use crate::{Result, gelu, gelu_exact, relu, sigmoid, silu, tanh};
use candle_core::Tensor;

/// One of the activation functions, as a value.
///
/// ```
/// use bridge_ops::Activation;
/// use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[-1f32, 2.0], &Device::Cpu)?;
/// let y = Activation::Relu.apply(&x)?;
/// assert_eq!(y.to_vec1::<f32>()?, [0.0, 2.0]);
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
        }
    }
}
