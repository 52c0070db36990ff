//! Activation functions of one element. Their derivatives at corners are those of JAX.

use super::element::Real;
use super::function::{Function, Reads};
use super::simd::Instructions;
use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

/// `max(x, 0)`; the derivative at 0 is 0.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Relu;

impl Function for Relu {
    const NAME: &'static str = "relu";
    const READS: Reads = Reads::Output;

    #[inline(always)]
    fn value<R: Real, I: Instructions>(self, x: R) -> R {
        // In this order, so that NaN stays.
        if x <= R::ZERO { R::ZERO } else { x }
    }
    #[inline(always)]
    fn pull_back<R: Real, I: Instructions>(self, y: R, gradient: R) -> R {
        if y > R::ZERO { gradient } else { R::ZERO }
    }
}

/// The logistic function.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sigmoid;

impl Function for Sigmoid {
    const NAME: &'static str = "sigmoid";
    const READS: Reads = Reads::Output;

    #[inline(always)]
    fn value<R: Real, I: Instructions>(self, x: R) -> R {
        x.logistic::<I>()
    }
    #[inline(always)]
    fn pull_back<R: Real, I: Instructions>(self, y: R, gradient: R) -> R {
        gradient * (y * (R::ONE - y))
    }
}

/// The hyperbolic tangent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tanh;

impl Function for Tanh {
    const NAME: &'static str = "tanh";
    const READS: Reads = Reads::Output;

    #[inline(always)]
    fn value<R: Real, I: Instructions>(self, x: R) -> R {
        x.tanh::<I>()
    }
    #[inline(always)]
    fn pull_back<R: Real, I: Instructions>(self, y: R, gradient: R) -> R {
        gradient * ((R::ONE - y) * (R::ONE + y))
    }
}

/// `x` above 0, else `alpha (e^x - 1)`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Elu {
    /// Not negative: the output's sign tells the input's.
    pub(crate) alpha: f64,
}

impl Function for Elu {
    const NAME: &'static str = "elu";
    const READS: Reads = Reads::Output;

    #[inline(always)]
    fn value<R: Real, I: Instructions>(self, x: R) -> R {
        if x > R::ZERO { x } else { R::real(self.alpha) * x.exp_m1::<I>() }
    }
    #[inline(always)]
    fn pull_back<R: Real, I: Instructions>(self, y: R, gradient: R) -> R {
        gradient * if y > R::ZERO { R::ONE } else { y + R::real(self.alpha) }
    }
}

/// `x` from 0 on, else `negative_slope x`; the derivative at 0 is 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeakyRelu {
    /// Without a minus: the output's sign tells the input's.
    pub(crate) negative_slope: f64,
}

impl Function for LeakyRelu {
    const NAME: &'static str = "leaky_relu";
    const READS: Reads = Reads::Output;

    #[inline(always)]
    fn value<R: Real, I: Instructions>(self, x: R) -> R {
        // -0 becomes 0, so that an output has the sign minus where the input was below 0, even if it is rounded to -0.
        if x >= R::ZERO { x + R::ZERO } else { x * R::real(self.negative_slope) }
    }
    #[inline(always)]
    fn pull_back<R: Real, I: Instructions>(self, y: R, gradient: R) -> R {
        // NaN is not from 0 on.
        let above = y >= R::ZERO && !y.is_sign_negative();
        if above { gradient } else { gradient * R::real(self.negative_slope) }
    }
}

/// The Gaussian error linear unit by a hyperbolic tangent: `x / 2 (1 + tanh(u))`, which is `x` times the logistic function
/// of `2 u`, with `u = sqrt(2 / pi) (x + 0.044715 x^3)`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gelu;

/// `2 sqrt(2 / pi)`.
const TWICE_SCALE: f64 = 2.0 * FRAC_2_SQRT_PI * FRAC_1_SQRT_2;
const CUBIC: f64 = 0.044715;

impl Function for Gelu {
    const NAME: &'static str = "gelu";
    const READS: Reads = Reads::Input;

    #[inline(always)]
    fn value<R: Real, I: Instructions>(self, x: R) -> R {
        let twice_u = x * (x * x).times_plus::<I>(R::real(TWICE_SCALE * CUBIC), R::real(TWICE_SCALE));
        x * twice_u.logistic::<I>()
    }
    #[inline(always)]
    fn pull_back<R: Real, I: Instructions>(self, x: R, gradient: R) -> R {
        let square = x * x;
        let gate =
            (x * square.times_plus::<I>(R::real(TWICE_SCALE * CUBIC), R::real(TWICE_SCALE))).logistic::<I>();
        let slope = square.times_plus::<I>(R::real(3.0 * TWICE_SCALE * CUBIC), R::real(TWICE_SCALE));
        // `gate (1 - gate)` is 0 long before the slope overflows, which it does where `x²` does: there the product of the two
        // is NaN, as in the composition.
        gradient * (gate * (R::ONE - gate) * x).times_plus::<I>(slope, gate)
    }
}

/// The Gaussian error linear unit: `x` times the cumulative probability of the normal distribution.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GeluExact;

impl Function for GeluExact {
    const NAME: &'static str = "gelu_exact";
    const READS: Reads = Reads::Input;

    #[inline(always)]
    fn value<R: Real, I: Instructions>(self, x: R) -> R {
        x * x.normal::<I>().0
    }
    #[inline(always)]
    fn pull_back<R: Real, I: Instructions>(self, x: R, gradient: R) -> R {
        let (cumulative, density) = x.normal::<I>();
        gradient * x.times_plus::<I>(density, cumulative)
    }
}

/// `x` times the logistic function.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Silu;

impl Function for Silu {
    const NAME: &'static str = "silu";
    const READS: Reads = Reads::Input;

    #[inline(always)]
    fn value<R: Real, I: Instructions>(self, x: R) -> R {
        x * x.logistic::<I>()
    }
    #[inline(always)]
    fn pull_back<R: Real, I: Instructions>(self, x: R, gradient: R) -> R {
        let gate = x.logistic::<I>();
        gradient * (gate * (R::ONE - gate)).times_plus::<I>(x, gate)
    }
}

/// `ln(1 + e^x)`, without overflow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Softplus;

impl Function for Softplus {
    const NAME: &'static str = "softplus";
    const READS: Reads = Reads::Input;

    #[inline(always)]
    fn value<R: Real, I: Instructions>(self, x: R) -> R {
        let above = if x <= R::ZERO { R::ZERO } else { x };
        above + (-x.abs()).exponential::<I>().ln_1p::<I>()
    }
    #[inline(always)]
    fn pull_back<R: Real, I: Instructions>(self, x: R, gradient: R) -> R {
        gradient * x.logistic::<I>()
    }
}

/// `|x|`; the derivative at 0 is 1, that of NaN -1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Abs;

impl Function for Abs {
    const NAME: &'static str = "abs";
    const READS: Reads = Reads::Input;

    #[inline(always)]
    fn value<R: Real, I: Instructions>(self, x: R) -> R {
        x.abs()
    }
    #[inline(always)]
    fn pull_back<R: Real, I: Instructions>(self, x: R, gradient: R) -> R {
        if x >= R::ZERO { gradient } else { -gradient }
    }
}
