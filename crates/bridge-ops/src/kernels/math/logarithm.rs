//! The logarithm near 1.

use crate::kernels::element::Real;
use crate::kernels::simd::Instructions;

/// `ln(1 + x)`, to within 1.5 units in the last place; -infinity for -1, NaN below.
///
/// `1 + x = 2^k (1 + m)` with `m` from -1/4 to 1/2, where `m` is computed without rounding `1 + x` first, and a
/// polynomial for `(ln(1 + m) - m) / m^2` whose largest relative error in `ln(1 + m)` is least.
#[inline(always)]
pub(crate) fn ln_1p<I: Instructions>(x: f32) -> f32 {
    let exponent = ((1.0 + x).to_bits() as i32).wrapping_sub(0.75f32.to_bits() as i32) & !0x007f_ffff;
    let scaled = |value: f32| f32::from_bits((value.to_bits() as i32).wrapping_sub(exponent) as u32);
    // 4 instead of 1, so that its part stays a normal number.
    let m = scaled(x) + scaled(4.0).times_plus::<I>(0.25, -1.0);
    let mut p = -4.492_416e-2_f32;
    for coefficient in [
        1.044_963_5e-1,
        -1.316_227e-1,
        1.448_187_8e-1,
        -1.664_775_7e-1,
        1.999_061_7e-1,
        -2.500_005_5e-1,
        3.333_345_4e-1,
        -5e-1,
    ] {
        p = p.times_plus::<I>(m, coefficient);
    }
    let k = (exponent >> 23) as f32;
    let y = k.times_plus::<I>(std::f32::consts::LN_2, p.times_plus::<I>(m * m, m));
    let y = if x < f32::INFINITY { y } else { x };
    let y = if x == -1.0 { f32::NEG_INFINITY } else { y };
    if x < -1.0 { f32::NAN } else { y }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::math::tests::{approximation, worst};

    approximation!(Ln1p, ln_1p::<I>);

    #[test]
    fn is_close_everywhere() {
        assert!(worst(Ln1p, f64::ln_1p, |_| true) < 1.5);
    }
}
