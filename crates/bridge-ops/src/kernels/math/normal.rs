//! The normal distribution, and with it the error function.

use crate::kernels::element::Real;
use crate::kernels::simd::Instructions;
use std::f32::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

/// The standard normal distribution at `x`: the cumulative probability `(1 + erf(x / sqrt(2))) / 2`, and the density.
///
/// Both come from one exponential. The probability is right to within 4 units in the last place from 0 on. Below, where
/// most formulas lose all digits, it is right to within `8 + x^2` units.
///
/// `erfc(z) = t q(t) e^(-z^2)` with `t = 1 / (1 + 0.4 z)`, and a polynomial `q` whose largest relative error is least.
#[inline(always)]
pub(crate) fn normal<I: Instructions>(x: f32) -> (f32, f32) {
    let power = (-0.5 * x * x).exponential::<I>();
    let t = 1.0 / x.abs().times_plus::<I>(0.4 * FRAC_1_SQRT_2, 1.0);
    let mut q = -2.920_572_5e-2_f32;
    for coefficient in [
        1.959_025_2e-1,
        -4.938_480_7e-1,
        5.408_165_7e-1,
        -2.788_624_1e-1,
        2.691_124_4e-1,
        1.307_003_4e-1,
        2.147_004_9e-1,
        2.249_783_1e-1,
        2.257_055_6e-1,
    ] {
        q = q.times_plus::<I>(t, coefficient);
    }
    let tail = 0.5 * power * (t * q);
    let cumulative = if x < 0.0 { tail } else { 1.0 - tail };
    (cumulative, power * (0.5 * FRAC_2_SQRT_PI * FRAC_1_SQRT_2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::math::tests::{approximation, worst};
    use std::f64::consts;

    fn cumulative<I: Instructions>(x: f32) -> f32 {
        normal::<I>(x).0
    }

    fn exact(x: f64) -> f64 {
        0.5 * libm::erfc(-x * consts::FRAC_1_SQRT_2)
    }

    approximation!(Cumulative, cumulative::<I>);

    #[test]
    fn is_close_everywhere() {
        assert!(worst(Cumulative, exact, |x| x >= 0.0) < 4.0);
        assert!(worst(Cumulative, exact, |x| x < -20.0) < 1.1);
        for least in 1..=13 {
            let least = -(least as f32);
            let bound = f64::from(8.0 + least * least);
            assert!(worst(Cumulative, exact, |x| (least..=0.0).contains(&x)) < bound, "{least}");
        }
    }
}
