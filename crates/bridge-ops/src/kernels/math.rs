//! Transcendental functions of f32 as plain arithmetic, so that loops over them become vector instructions.

mod logarithm;
mod normal;

pub(crate) use logarithm::ln_1p;
pub(crate) use normal::normal;

use super::element::Real;
use super::simd::Instructions;

/// `e^x`, to within 1.3 units in the last place; 0 and infinity beyond the range, NaN for NaN.
///
/// `x = n ln 2 + r` with `|r| <= ln 2 / 2`, and a polynomial for `e^r` (Cephes, `expf`). `2^n` is applied in two halves,
/// so that results below the smallest normal number are rounded once.
#[inline(always)]
pub(crate) fn exponential<I: Instructions>(x: f32) -> f32 {
    let (r, n) = reduced::<I>(x, -104.0);
    let mut p = 1.987_569_2e-4_f32;
    for coefficient in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = p.times_plus::<I>(r, coefficient);
    }
    let p = p.times_plus::<I>(r * r, r + 1.0);
    let half = n >> 1;
    p * power_of_two(half) * power_of_two(n.wrapping_sub(half))
}

/// `e^x - 1`, to within 2 units in the last place; -1 and infinity beyond the range, NaN for NaN.
///
/// As [`exponential`], with a polynomial for `(e^r - 1 - r) / r^2` whose largest relative error in `e^r - 1` is least.
#[inline(always)]
pub(crate) fn exp_m1<I: Instructions>(x: f32) -> f32 {
    let (r, n) = reduced::<I>(x, -20.0);
    let mut p = 1.984_559_6e-4_f32;
    for coefficient in [1.394_165_4e-3, 8.333_392e-3, 4.166_635e-2, 1.666_666_6e-1, 0.5] {
        p = p.times_plus::<I>(r, coefficient);
    }
    let p = p.times_plus::<I>(r * r, r);
    // (2^n p + 2^n - 1), in two halves because 2^n may be too large.
    let half = n >> 1;
    let rest = n.wrapping_sub(half);
    p.times_plus::<I>(power_of_two(half), power_of_two(half) - power_of_two(rest.wrapping_neg()))
        * power_of_two(rest)
}

/// The hyperbolic tangent, to within 3 units in the last place.
#[inline(always)]
pub(crate) fn tanh<I: Instructions>(x: f32) -> f32 {
    let less = exp_m1::<I>(-2.0 * x.abs());
    (less / (less + 2.0)).copysign(x)
}

/// `1 / (1 + e^-x)`, to within 3 units in the last place, also where it is small.
#[inline(always)]
pub(crate) fn logistic<I: Instructions>(x: f32) -> f32 {
    let power = exponential::<I>(-x.abs());
    let above = 1.0 / (1.0 + power);
    if x < 0.0 { power * above } else { above }
}

/// `r` and `n` with `x = n ln 2 + r` and `|r| <= ln 2 / 2`, where `x` is cut off at 89 and at `least`.
#[inline(always)]
fn reduced<I: Instructions>(x: f32, least: f32) -> (f32, i32) {
    // Adding it rounds to an integer, which is then in the low bits.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // Comparisons in this form keep NaN.
    let inside = if x > 89.0 { 89.0 } else { x };
    let inside = if inside < least { least } else { inside };
    let shifted = inside.times_plus::<I>(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.times_plus::<I>(-LN_2_HIGH, inside);
    let r = n.times_plus::<I>(-LN_2_LOW, r);
    (r, (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32))
}

/// `2^n`, for exponents of normal numbers.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::simd::{Kernel, Portable, dispatch};
    use super::*;

    /// A function of f32, for all levels.
    pub(crate) trait Approximation: Copy {
        fn of<I: Instructions>(self, x: f32) -> f32;
    }

    struct Apply<'a, A>(A, &'a mut [f32]);

    impl<A: Approximation> Kernel for Apply<'_, A> {
        type Output = ();
        #[inline(always)]
        fn run<I: Instructions>(self) {
            self.1.iter_mut().for_each(|x| *x = self.0.of::<I>(*x));
        }
    }

    /// Every 4099th float of all, of either sign and of every exponent, NaN too.
    pub(crate) fn sample() -> impl Iterator<Item = f32> {
        (0..=u32::MAX).step_by(4099).chain([0, 1 << 31, 0x7f80_0000, 0xff80_0000]).map(f32::from_bits)
    }

    /// The largest error in units in the last place, at the level of the process and at the lowest, over the numbers of
    /// [`sample`] that are `inside`. NaN and infinity must come where they are `exact`.
    pub(crate) fn worst<A: Approximation>(
        approximation: A,
        exact: impl Fn(f64) -> f64,
        inside: impl Fn(f32) -> bool,
    ) -> f64 {
        let inputs: Vec<f32> = sample().filter(|&x| x.is_nan() || inside(x)).collect();
        let mut here = inputs.clone();
        dispatch(Apply(approximation, &mut here));
        let mut portable = inputs.clone();
        Apply(approximation, &mut portable).run::<Portable>();
        let (mut worst, mut at) = (0f64, 0.0);
        for outputs in [here, portable] {
            for (&x, found) in inputs.iter().zip(outputs) {
                let exact = exact(f64::from(x));
                if exact.is_nan() {
                    assert!(found.is_nan(), "{found} instead of NaN for {x}");
                } else if exact.abs() > f64::from(f32::MAX) * 1.000_000_1 {
                    assert_eq!(f64::from(found), exact.signum() * f64::INFINITY, "{x}");
                } else {
                    let magnitude = (exact as f32).abs();
                    let error = (f64::from(found) - exact).abs() / f64::from(magnitude.next_up() - magnitude);
                    assert!(!error.is_nan(), "{found} instead of {exact} for {x}");
                    if error > worst {
                        (worst, at) = (error, x);
                    }
                }
            }
        }
        println!("{worst} units in the last place at {at}");
        worst
    }

    /// Names a function for [`worst`].
    macro_rules! approximation {
        ($name:ident, $function:path) => {
            #[derive(Clone, Copy)]
            struct $name;
            impl $crate::kernels::math::tests::Approximation for $name {
                #[inline(always)]
                fn of<I: Instructions>(self, x: f32) -> f32 {
                    $function(x)
                }
            }
        };
    }
    pub(crate) use approximation;

    approximation!(Exponential, exponential::<I>);
    approximation!(ExpM1, exp_m1::<I>);
    approximation!(Tanh, tanh::<I>);
    approximation!(Logistic, logistic::<I>);

    #[test]
    fn functions_are_close_everywhere() {
        let everywhere = |_: f32| true;
        assert!(worst(Exponential, f64::exp, everywhere) < 1.3);
        assert!(worst(ExpM1, f64::exp_m1, everywhere) < 2.0);
        assert!(worst(Tanh, f64::tanh, everywhere) < 3.0);
        assert!(worst(Logistic, |x| 1.0 / (1.0 + (-x).exp()), everywhere) < 3.0);
    }
}
