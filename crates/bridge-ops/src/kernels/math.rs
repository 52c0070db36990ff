//! Transcendental functions of f32 as plain arithmetic, so that loops over them become vector instructions.

use super::element::Real;
use super::simd::Instructions;

/// `e^x`, to within 1.1 units in the last place; 0 and infinity beyond the range, NaN for NaN.
///
/// `x = n ln 2 + r` with `|r| <= ln 2 / 2`, and a polynomial for `e^r` (Cephes, `expf`). `2^n` is applied in two halves,
/// so that results below the smallest normal number are rounded once.
#[inline(always)]
pub(crate) fn exponential<I: Instructions>(x: f32) -> f32 {
    // Adding it rounds to an integer, which is then in the low bits.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // Beyond these the result is 0 or infinity. Comparisons in this form keep NaN.
    let inside = if x > 89.0 { 89.0 } else { x };
    let inside = if inside < -104.0 { -104.0 } else { inside };
    let shifted = inside.times_plus::<I>(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.times_plus::<I>(-LN_2_HIGH, inside);
    let r = n.times_plus::<I>(-LN_2_LOW, r);
    let mut p = 1.987_569_2e-4_f32;
    for coefficient in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5.000_000_1e-1] {
        p = p.times_plus::<I>(r, coefficient);
    }
    let p = p.times_plus::<I>(r * r, r + 1.0);
    let n = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let half = n >> 1;
    let power = |n: i32| f32::from_bits((n.wrapping_add(127) as u32) << 23);
    p * power(half) * power(n.wrapping_sub(half))
}

#[cfg(test)]
mod tests {
    use super::super::simd::{Kernel, dispatch};
    use super::*;

    struct Apply(f32);

    impl Kernel for Apply {
        type Output = f32;
        #[inline(always)]
        fn run<I: Instructions>(self) -> f32 {
            exponential::<I>(self.0)
        }
    }

    #[test]
    fn exponential_is_close_everywhere() {
        let mut worst = 0f64;
        for bits in (0..=u32::MAX).step_by(4099) {
            let x = f32::from_bits(bits);
            let (found, exact) = (dispatch(Apply(x)), f64::from(x).exp());
            if x.is_nan() {
                assert!(found.is_nan());
            } else if exact > f64::from(f32::MAX) * 1.000_000_1 {
                assert_eq!(found, f32::INFINITY, "{x}");
            } else {
                let unit = (f64::from(exact as f32) * 2f64.powi(-23)).max(f64::from(f32::from_bits(1)));
                worst = worst.max((f64::from(found) - exact).abs() / unit);
            }
        }
        assert!(worst < 1.1, "{worst} units in the last place");
    }
}
