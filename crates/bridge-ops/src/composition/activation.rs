//! Activation functions. Half precision computes in f32.

use crate::composition::elementwise::{Elementwise, Storage, apply, constant};
use crate::precision::compute_dtype;
use candle_core::op::CmpOp;
use candle_core::{Layout, Result, Tensor, op};
use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

/// [`crate::relu`].
pub fn relu(x: &Tensor) -> Result<Tensor> {
    apply(x, Relu)
}

/// [`crate::gelu`].
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    in_compute_dtype(x, |x| apply(x, Gelu))
}

/// [`crate::gelu_exact`].
pub fn gelu_exact(x: &Tensor) -> Result<Tensor> {
    in_compute_dtype(x, |x| apply(x, GeluExact))
}

/// [`crate::silu`].
pub fn silu(x: &Tensor) -> Result<Tensor> {
    in_compute_dtype(x, Tensor::silu)
}

/// [`crate::sigmoid`].
pub fn sigmoid(x: &Tensor) -> Result<Tensor> {
    in_compute_dtype(x, |x| apply(x, Sigmoid))
}

/// [`crate::tanh`].
pub fn tanh(x: &Tensor) -> Result<Tensor> {
    in_compute_dtype(x, Tensor::tanh)
}

/// [`crate::softplus`].
pub fn softplus(x: &Tensor) -> Result<Tensor> {
    in_compute_dtype(x, |x| apply(x, Softplus))
}

/// [`crate::elu`].
pub fn elu(x: &Tensor, alpha: f64) -> Result<Tensor> {
    in_compute_dtype(x, |x| apply(x, Elu { alpha }))
}

/// [`crate::leaky_relu`].
pub fn leaky_relu(x: &Tensor, negative_slope: f64) -> Result<Tensor> {
    in_compute_dtype(x, |x| apply(x, LeakyRelu { negative_slope }))
}

/// [`crate::abs`].
pub fn abs(x: &Tensor) -> Result<Tensor> {
    apply(x, Abs)
}

fn in_compute_dtype(x: &Tensor, function: impl FnOnce(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    function(&x.to_dtype(compute_dtype(x.dtype()))?)?.to_dtype(x.dtype())
}

/// A number that broadcasts over `x`.
fn number(value: f64, x: &Tensor) -> Result<Tensor> {
    Tensor::new(value, x.device())?.to_dtype(x.dtype())?.broadcast_as(x.shape())
}

struct Relu;

impl Elementwise for Relu {
    const NAME: &'static str = "relu";

    fn forward<S: Storage>(&self, x: &S, layout: &Layout) -> Result<S> {
        let (zero, zeros) = constant(x, 0.0, layout.shape())?;
        // In this order, because candle's maximum returns its first argument when either is NaN.
        x.binary_impl::<op::Maximum>(&zero, layout, &zeros)
    }

    fn backward(&self, _: &Tensor, y: &Tensor, gradient: &Tensor) -> Result<Tensor> {
        let zeros = Tensor::zeros((), y.dtype(), y.device())?.broadcast_as(y.shape())?;
        y.gt(&zeros)?.where_cond(gradient, &zeros)
    }
}

/// candle's forward; candle's derivative has constants of six digits, too few for f64.
struct Gelu;

impl Elementwise for Gelu {
    const NAME: &'static str = "gelu";

    fn forward<S: Storage>(&self, x: &S, layout: &Layout) -> Result<S> {
        x.unary_impl::<op::Gelu>(layout)
    }

    fn backward(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Tensor> {
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

    fn forward<S: Storage>(&self, x: &S, layout: &Layout) -> Result<S> {
        x.unary_impl::<op::GeluErf>(layout)
    }

    fn backward(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Tensor> {
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

    fn forward<S: Storage>(&self, x: &S, layout: &Layout) -> Result<S> {
        let output = Layout::contiguous(layout.shape());
        x.affine(layout, -1.0, 0.0)?
            .unary_impl::<op::Exp>(&output)?
            .affine(&output, 1.0, 1.0)?
            .unary_impl::<op::Recip>(&output)
    }

    fn backward(&self, _: &Tensor, y: &Tensor, gradient: &Tensor) -> Result<Tensor> {
        gradient * (y * y.affine(-1.0, 1.0)?)?
    }
}

struct Softplus;

impl Elementwise for Softplus {
    const NAME: &'static str = "softplus";

    fn forward<S: Storage>(&self, x: &S, layout: &Layout) -> Result<S> {
        let output = Layout::contiguous(layout.shape());
        let (zero, zeros) = constant(x, 0.0, layout.shape())?;
        let above = x.binary_impl::<op::Maximum>(&zero, layout, &zeros)?;
        let power =
            x.unary_impl::<op::Abs>(layout)?.affine(&output, -1.0, 0.0)?.unary_impl::<op::Exp>(&output)?;
        let rest = power.affine(&output, 1.0, 1.0)?.unary_impl::<op::Log>(&output)?;
        above.binary_impl::<op::Add>(&rest, &output, &output)
    }

    fn backward(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Tensor> {
        gradient * apply(x, Sigmoid)?
    }
}

/// candle's own has no derivative where the input is NaN.
struct Elu {
    alpha: f64,
}

impl Elementwise for Elu {
    const NAME: &'static str = "elu";

    fn forward<S: Storage>(&self, x: &S, layout: &Layout) -> Result<S> {
        x.elu(layout, self.alpha)
    }

    fn backward(&self, x: &Tensor, y: &Tensor, gradient: &Tensor) -> Result<Tensor> {
        let derivative = x.gt(0f64)?.where_cond(&number(1.0, x)?, &y.affine(1.0, self.alpha)?)?;
        gradient * derivative
    }
}

struct LeakyRelu {
    negative_slope: f64,
}

impl Elementwise for LeakyRelu {
    const NAME: &'static str = "leaky_relu";

    fn forward<S: Storage>(&self, x: &S, layout: &Layout) -> Result<S> {
        let output = Layout::contiguous(layout.shape());
        let (zero, zeros) = constant(x, 0.0, layout.shape())?;
        let scaled = x.affine(layout, self.negative_slope, 0.0)?;
        x.cmp(CmpOp::Ge, &zero, layout, &zeros)?.where_cond(&output, x, layout, &scaled, &output)
    }

    fn backward(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Tensor> {
        x.ge(0f64)?.where_cond(gradient, &gradient.affine(self.negative_slope, 0.0)?)
    }
}

struct Abs;

impl Elementwise for Abs {
    const NAME: &'static str = "abs";

    fn forward<S: Storage>(&self, x: &S, layout: &Layout) -> Result<S> {
        x.unary_impl::<op::Abs>(layout)
    }

    fn backward(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Tensor> {
        x.ge(0f64)?.where_cond(gradient, &gradient.neg()?)
    }
}
