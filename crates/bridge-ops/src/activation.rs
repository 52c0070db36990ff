//! Activation functions.

use crate::kernels::activation as functions;
use crate::kernels::elementwise::apply;
use crate::kernels::function::Function;
use crate::precision::require_float;
use crate::shapes_only::like;
use crate::{Result, composition, kernels};
use candle_core::Tensor;

/// `max(x, 0)`, with derivative 0 at 0.
///
/// Shape and dtype are those of `x` (any float). NaN stays NaN. candle's own `relu` has derivative 1 at 0, and turns
/// NaN into 0 on the CPU.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[-1f32, 0.0, 2.0], &Device::Cpu)?;
/// assert_eq!(bridge_ops::relu(&x)?.to_vec1::<f32>()?, [0.0, 0.0, 2.0]);
/// # Ok::<(), bridge_ops::Error>(())
/// ```
///
/// # Errors
///
/// When `x` is not a float tensor.
pub fn relu(x: &Tensor) -> Result<Tensor> {
    activate(x, functions::Relu, composition::relu)
}

/// The Gaussian error linear unit in its tanh approximation:
/// `x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3)))`.
///
/// The default of `jax.nn.gelu`. Shape and dtype are those of `x` (any float; half precision computes in f32).
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[0f32, 100.0], &Device::Cpu)?;
/// assert_eq!(bridge_ops::gelu(&x)?.to_vec1::<f32>()?, [0.0, 100.0]);
/// # Ok::<(), bridge_ops::Error>(())
/// ```
///
/// # Errors
///
/// When `x` is not a float tensor.
#[doc(alias = "gelu_tanh")]
#[doc(alias = "gelu_new")]
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    activate(x, functions::Gelu, composition::gelu)
}

/// The Gaussian error linear unit: `x/2 * (1 + erf(x / sqrt(2)))`.
///
/// `jax.nn.gelu` with `approximate=False`. Shape and dtype are those of `x` (any float; half precision computes
/// in f32).
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[0f32, 100.0], &Device::Cpu)?;
/// assert_eq!(bridge_ops::gelu_exact(&x)?.to_vec1::<f32>()?, [0.0, 100.0]);
/// # Ok::<(), bridge_ops::Error>(())
/// ```
///
/// # Errors
///
/// When `x` is not a float tensor.
#[doc(alias = "gelu_erf")]
pub fn gelu_exact(x: &Tensor) -> Result<Tensor> {
    activate(x, functions::GeluExact, composition::gelu_exact)
}

/// `x * sigmoid(x)`.
///
/// Shape and dtype are those of `x` (any float; half precision computes in f32).
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[0f32, 100.0], &Device::Cpu)?;
/// assert_eq!(bridge_ops::silu(&x)?.to_vec1::<f32>()?, [0.0, 100.0]);
/// # Ok::<(), bridge_ops::Error>(())
/// ```
///
/// # Errors
///
/// When `x` is not a float tensor.
#[doc(alias = "swish")]
pub fn silu(x: &Tensor) -> Result<Tensor> {
    activate(x, functions::Silu, composition::silu)
}

/// The logistic function `1 / (1 + exp(-x))`.
///
/// Shape and dtype are those of `x` (any float; half precision computes in f32).
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[-1000f32, 0.0, 1000.0], &Device::Cpu)?;
/// assert_eq!(bridge_ops::sigmoid(&x)?.to_vec1::<f32>()?, [0.0, 0.5, 1.0]);
/// # Ok::<(), bridge_ops::Error>(())
/// ```
///
/// # Errors
///
/// When `x` is not a float tensor.
#[doc(alias = "logistic")]
#[doc(alias = "expit")]
pub fn sigmoid(x: &Tensor) -> Result<Tensor> {
    activate(x, functions::Sigmoid, composition::sigmoid)
}

/// The hyperbolic tangent.
///
/// Shape and dtype are those of `x` (any float; half precision computes in f32).
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[-1000f32, 0.0, 1000.0], &Device::Cpu)?;
/// assert_eq!(bridge_ops::tanh(&x)?.to_vec1::<f32>()?, [-1.0, 0.0, 1.0]);
/// # Ok::<(), bridge_ops::Error>(())
/// ```
///
/// # Errors
///
/// When `x` is not a float tensor.
pub fn tanh(x: &Tensor) -> Result<Tensor> {
    activate(x, functions::Tanh, composition::tanh)
}

/// `ln(1 + exp(x))`, a smooth `relu`, without overflow.
///
/// Shape and dtype are those of `x` (any float; half precision computes in f32).
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[-1000f32, 0.0, 1000.0], &Device::Cpu)?;
/// assert_eq!(bridge_ops::softplus(&x)?.to_vec1::<f32>()?, [0.0, std::f32::consts::LN_2, 1000.0]);
/// # Ok::<(), bridge_ops::Error>(())
/// ```
///
/// # Errors
///
/// When `x` is not a float tensor.
pub fn softplus(x: &Tensor) -> Result<Tensor> {
    activate(x, functions::Softplus, composition::softplus)
}

/// The exponential linear unit: `x` above 0, else `alpha * (exp(x) - 1)`.
///
/// `alpha` is 1 by default in `jax.nn.elu` and PyTorch. Shape and dtype are those of `x` (any float; half precision
/// computes in f32).
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[-1000f32, 0.0, 2.0], &Device::Cpu)?;
/// assert_eq!(bridge_ops::elu(&x, 0.5)?.to_vec1::<f32>()?, [-0.5, 0.0, 2.0]);
/// # Ok::<(), bridge_ops::Error>(())
/// ```
///
/// # Errors
///
/// When `x` is not a float tensor.
pub fn elu(x: &Tensor, alpha: f64) -> Result<Tensor> {
    let composition = |x: &Tensor| composition::elu(x, alpha);
    // The kernel tells from the output whether the input was above 0.
    if alpha >= 0.0 {
        activate(x, functions::Elu { alpha }, composition)
    } else {
        compose(<functions::Elu as Function>::NAME, x, composition)
    }
}

/// `x` from 0 on, else `negative_slope * x`. The derivative at 0 is 1.
///
/// `negative_slope` is 0.01 by default in `jax.nn.leaky_relu` and PyTorch. Shape and dtype are those of `x` (any float;
/// half precision computes in f32). NaN stays NaN.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[-2f32, 0.0, 2.0], &Device::Cpu)?;
/// assert_eq!(bridge_ops::leaky_relu(&x, 0.25)?.to_vec1::<f32>()?, [-0.5, 0.0, 2.0]);
/// # Ok::<(), bridge_ops::Error>(())
/// ```
///
/// # Errors
///
/// When `x` is not a float tensor.
pub fn leaky_relu(x: &Tensor, negative_slope: f64) -> Result<Tensor> {
    let composition = |x: &Tensor| composition::leaky_relu(x, negative_slope);
    // The kernel tells from the output's sign whether the input was below 0.
    if negative_slope.is_sign_positive() && !negative_slope.is_nan() {
        activate(x, functions::LeakyRelu { negative_slope }, composition)
    } else {
        compose(<functions::LeakyRelu as Function>::NAME, x, composition)
    }
}

/// The absolute value, with derivative 1 at 0.
///
/// Shape and dtype are those of `x` (any float). NaN stays NaN. The derivative is that of JAX: 1 from 0 on, else -1, also
/// of NaN. PyTorch's is 0 at 0.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[-2f32, 0.0, 3.0], &Device::Cpu)?;
/// assert_eq!(bridge_ops::abs(&x)?.to_vec1::<f32>()?, [2.0, 0.0, 3.0]);
/// # Ok::<(), bridge_ops::Error>(())
/// ```
///
/// # Errors
///
/// When `x` is not a float tensor.
pub fn abs(x: &Tensor) -> Result<Tensor> {
    activate(x, functions::Abs, composition::abs)
}

fn activate<F: Function>(
    x: &Tensor,
    function: F,
    composition: impl FnOnce(&Tensor) -> candle_core::Result<Tensor>,
) -> Result<Tensor> {
    compose(F::NAME, x, |x| if kernels::run_for(x) { apply(x, function) } else { composition(x) })
}

fn compose(
    operator: &'static str,
    x: &Tensor,
    composition: impl FnOnce(&Tensor) -> candle_core::Result<Tensor>,
) -> Result<Tensor> {
    require_float(operator, "x", x)?;
    like(x).unwrap_or_else(|| Ok(composition(x)?))
}
