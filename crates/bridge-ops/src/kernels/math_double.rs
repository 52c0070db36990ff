//! Transcendental functions of f64: those of the standard library, of libm and of candle, under the names of [`super::math`].

use super::simd::Instructions;
use candle_core::cpu::erf::erf_f64;
use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

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

#[inline(always)]
pub(crate) fn ln_1p<I: Instructions>(x: f64) -> f64 {
    x.ln_1p()
}

#[inline(always)]
pub(crate) fn normal<I: Instructions>(x: f64) -> (f64, f64) {
    // The faster function loses digits where the probability is small.
    let cumulative = match x < -2.0 {
        true => 0.5 * libm::erfc(-x * FRAC_1_SQRT_2),
        false => 0.5 + 0.5 * erf_f64(x * FRAC_1_SQRT_2),
    };
    (cumulative, (-0.5 * x * x).exp() * (0.5 * FRAC_2_SQRT_PI * FRAC_1_SQRT_2))
}
