//! Activation functions of one element. Their derivatives are those of JAX.

use super::element::Real;
use super::function::{Function, Reads};
use super::simd::Instructions;

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
        let below = y.is_sign_negative() || !(y >= R::ZERO);
        if below { gradient * R::real(self.negative_slope) } else { gradient }
    }
}
