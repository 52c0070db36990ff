//! Transcendental functions of f64: those of the standard library and of libm, under the names of [`super::math`].

use super::simd::Instructions;

#[inline(always)]
pub(crate) fn exponential<I: Instructions>(x: f64) -> f64 {
    x.exp()
}

#[inline(always)]
pub(crate) fn exp_m1<I: Instructions>(x: f64) -> f64 {
    x.exp_m1()
}

#[inline(always)]
pub(crate) fn tanh<I: Instructions>(x: f64) -> f64 {
    x.tanh()
}

#[inline(always)]
pub(crate) fn logistic<I: Instructions>(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}
