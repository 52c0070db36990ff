//! Activation functions.

use crate::Result;
use crate::elementwise::{Elementwise, Storage, apply, constant};
use crate::precision::{require_float, widen};
use crate::shapes_only::like;
use candle_core::{Layout, Tensor, op};
use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

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
    require_float("relu", "x", x)?;
    like(x).unwrap_or_else(|| Ok(apply(x, Relu)?))
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
    in_compute_dtype("gelu", x, |x| apply(x, Gelu))
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
    in_compute_dtype("gelu_exact", x, |x| apply(x, GeluExact))
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
    in_compute_dtype("silu", x, Tensor::silu)
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
    in_compute_dtype("sigmoid", x, |x| apply(x, Sigmoid))
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
    in_compute_dtype("tanh", x, Tensor::tanh)
}

fn in_compute_dtype(
    operator: &'static str,
    x: &Tensor,
    function: impl FnOnce(&Tensor) -> candle_core::Result<Tensor>,
) -> Result<Tensor> {
    let wide = widen(operator, "x", x)?;
    like(x).unwrap_or_else(|| Ok(function(&wide)?.to_dtype(x.dtype())?))
}

struct Relu;

impl Elementwise for Relu {
    const NAME: &'static str = "relu";

    fn forward<S: Storage>(&self, x: &S, layout: &Layout) -> candle_core::Result<S> {
        let (zero, zeros) = constant(x, 0.0, layout.shape())?;
        // In this order, because candle's maximum returns its first argument when either is NaN.
        x.binary_impl::<op::Maximum>(&zero, layout, &zeros)
    }

    fn backward(&self, _: &Tensor, y: &Tensor, gradient: &Tensor) -> candle_core::Result<Tensor> {
        let zeros = Tensor::zeros((), y.dtype(), y.device())?.broadcast_as(y.shape())?;
        y.gt(&zeros)?.where_cond(gradient, &zeros)
    }
}

/// candle's forward; candle's derivative has constants of six digits, too few for f64.
struct Gelu;

impl Elementwise for Gelu {
    const NAME: &'static str = "gelu";

    fn forward<S: Storage>(&self, x: &S, layout: &Layout) -> candle_core::Result<S> {
        x.unary_impl::<op::Gelu>(layout)
    }

    fn backward(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> candle_core::Result<Tensor> {
        const CUBIC: f64 = 0.044715;
        // sqrt(2 / pi)
        const SCALE: f64 = FRAC_2_SQRT_PI * FRAC_1_SQRT_2;
        let square = x.sqr()?;
        let tanh = (x * square.affine(SCALE * CUBIC, SCALE)?)?.tanh()?;
        let slope = (x * square.affine(3.0 * SCALE * CUBIC, SCALE)?)?;
        let derivative = (tanh.affine(0.5, 0.5)? + (tanh.sqr()?.affine(-0.5, 0.5)? * slope)?)?;
        gradient * derivative
    }
}

/// candle's forward; candle's derivative has constants of six digits, too few for f64.
struct GeluExact;

impl Elementwise for GeluExact {
    const NAME: &'static str = "gelu_exact";

    fn forward<S: Storage>(&self, x: &S, layout: &Layout) -> candle_core::Result<S> {
        x.unary_impl::<op::GeluErf>(layout)
    }

    fn backward(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> candle_core::Result<Tensor> {
        // 1 / sqrt(2 pi)
        const DENSITY_AT_ZERO: f64 = 0.5 * FRAC_2_SQRT_PI * FRAC_1_SQRT_2;
        let cumulative = x.affine(FRAC_1_SQRT_2, 0.0)?.erf()?.affine(0.5, 0.5)?;
        let density = x.sqr()?.affine(-0.5, 0.0)?.exp()?.affine(DENSITY_AT_ZERO, 0.0)?;
        gradient * (cumulative + (x * density)?)?
    }
}

/// An operator of its own, because the gradient of the composition is `0 * inf` once `exp(-x)` overflows.
struct Sigmoid;

impl Elementwise for Sigmoid {
    const NAME: &'static str = "sigmoid";

    fn forward<S: Storage>(&self, x: &S, layout: &Layout) -> candle_core::Result<S> {
        let output = Layout::contiguous(layout.shape());
        x.affine(layout, -1.0, 0.0)?
            .unary_impl::<op::Exp>(&output)?
            .affine(&output, 1.0, 1.0)?
            .unary_impl::<op::Recip>(&output)
    }

    fn backward(&self, _: &Tensor, y: &Tensor, gradient: &Tensor) -> candle_core::Result<Tensor> {
        gradient * (y * y.affine(-1.0, 1.0)?)?
    }
}
