//! Numbers that kernels compute on: f32 and f64 as they are, bf16 and f16 in f32.

use candle_core::WithDType;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use std::cell::Cell;
use std::mem::MaybeUninit;
use std::ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Sub, SubAssign};

use super::lanes::Lanes;
use super::simd::Instructions;

/// How many elements of a narrow dtype are widened at a time: little enough for the innermost cache.
pub(crate) const BLOCK: usize = 512;

/// The most numbers of a buffer that a thread keeps.
const KEPT: usize = 1 << 21;

/// A dtype of tensors.
pub(crate) trait Element: WithDType {
    /// What its arithmetic is done in.
    type Wide: Real;

    fn widen(self) -> Self::Wide;

    fn narrow(wide: Self::Wide) -> Self;

    /// The values in the dtype of the arithmetic: themselves, or converted in `scratch`, which is as long at least.
    fn wide<'a>(values: &'a [Self], scratch: &'a mut [Self::Wide]) -> &'a [Self::Wide];

    /// The values themselves, where they are in the dtype of the arithmetic.
    fn as_wide(values: &[Self]) -> Option<&[Self::Wide]>;

    /// Writes all of `out` through `write`, which gets as much room in the dtype of the arithmetic and fills it: `out`
    /// itself, or `scratch`, which is as long at least.
    fn fill(
        out: &mut [MaybeUninit<Self>],
        scratch: &mut [Self::Wide],
        write: impl FnOnce(&mut [MaybeUninit<Self::Wide>]),
    );
}

/// A dtype of arithmetic.
pub(crate) trait Real:
    Element<Wide = Self>
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
    + PartialOrd
{
    const ZERO: Self;
    const ONE: Self;
    const INFINITY: Self;

    /// The vector of such numbers.
    type Lanes<I: Instructions>: Lanes<Scalar = Self>;

    /// Calls `work` with a buffer of the thread, to use again in later calls unless it has grown large. What is in it is
    /// left from those.
    fn with_buffer<O>(work: impl FnOnce(&mut Vec<Self>) -> O) -> O;

    /// The nearest value.
    fn real(value: f64) -> Self;

    fn sqrt(self) -> Self;

    fn abs(self) -> Self;

    /// `self * factor + term`, rounded once where that is an instruction.
    fn times_plus<I: Instructions>(self, factor: Self, term: Self) -> Self;

    /// The exponential function. NaN stays NaN.
    fn exponential<I: Instructions>(self) -> Self;

    /// The natural logarithm.
    fn logarithm(self) -> Self;

    /// `e^x - 1`, precise near 0.
    fn exp_m1<I: Instructions>(self) -> Self;

    /// The hyperbolic tangent.
    fn tanh<I: Instructions>(self) -> Self;

    /// `1 / (1 + e^-x)`, precise where it is small.
    fn logistic<I: Instructions>(self) -> Self;

    /// `ln(1 + x)`, precise near 0.
    fn ln_1p<I: Instructions>(self) -> Self;

    /// The standard normal distribution: the cumulative probability, precise where it is small, and the density.
    fn normal<I: Instructions>(self) -> (Self, Self);

    /// Whether the sign is minus, that of -0 too.
    fn is_sign_negative(self) -> bool;
}

/// Room that a dtype without need of it can do without.
pub(crate) fn scratch<T: Element>() -> [T::Wide; BLOCK] {
    [T::Wide::ZERO; BLOCK]
}

macro_rules! real {
    ($type:ty, $lanes:ident, $functions:path) => {
        impl Element for $type {
            type Wide = Self;

            #[inline(always)]
            fn widen(self) -> Self {
                self
            }
            #[inline(always)]
            fn narrow(wide: Self) -> Self {
                wide
            }
            #[inline(always)]
            fn wide<'a>(values: &'a [Self], _: &'a mut [Self]) -> &'a [Self] {
                values
            }
            fn as_wide(values: &[Self]) -> Option<&[Self]> {
                Some(values)
            }
            #[inline(always)]
            fn fill(
                out: &mut [MaybeUninit<Self>],
                _: &mut [Self],
                write: impl FnOnce(&mut [MaybeUninit<Self>]),
            ) {
                write(out);
            }
        }

        impl Real for $type {
            const ZERO: Self = 0.;
            const ONE: Self = 1.;
            const INFINITY: Self = Self::INFINITY;
            type Lanes<I: Instructions> = I::$lanes;

            #[inline(always)]
            fn with_buffer<O>(work: impl FnOnce(&mut Vec<Self>) -> O) -> O {
                thread_local! {
                    static BUFFER: Cell<Vec<$type>> = const { Cell::new(Vec::new()) };
                }
                let mut buffer = BUFFER.take();
                let result = work(&mut buffer);
                if buffer.len() <= KEPT {
                    BUFFER.set(buffer);
                }
                result
            }
            #[inline(always)]
            fn real(value: f64) -> Self {
                value as Self
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                self.sqrt()
            }
            #[inline(always)]
            fn abs(self) -> Self {
                self.abs()
            }
            #[inline(always)]
            fn times_plus<I: Instructions>(self, factor: Self, term: Self) -> Self {
                if I::FUSED { self.mul_add(factor, term) } else { self * factor + term }
            }
            #[inline(always)]
            fn exponential<I: Instructions>(self) -> Self {
                use $functions as functions;
                functions::exponential::<I>(self)
            }
            #[inline(always)]
            fn logarithm(self) -> Self {
                self.ln()
            }
            #[inline(always)]
            fn exp_m1<I: Instructions>(self) -> Self {
                use $functions as functions;
                functions::exp_m1::<I>(self)
            }
            #[inline(always)]
            fn tanh<I: Instructions>(self) -> Self {
                use $functions as functions;
                functions::tanh::<I>(self)
            }
            #[inline(always)]
            fn logistic<I: Instructions>(self) -> Self {
                use $functions as functions;
                functions::logistic::<I>(self)
            }
            #[inline(always)]
            fn ln_1p<I: Instructions>(self) -> Self {
                use $functions as functions;
                functions::ln_1p::<I>(self)
            }
            #[inline(always)]
            fn normal<I: Instructions>(self) -> (Self, Self) {
                use $functions as functions;
                functions::normal::<I>(self)
            }
            #[inline(always)]
            fn is_sign_negative(self) -> bool {
                self.is_sign_negative()
            }
        }
    };
}

real!(f32, Single, super::math);
real!(f64, Double, super::math_double);

macro_rules! half {
    ($type:ty, $widen:path, $narrow:path) => {
        impl Element for $type {
            type Wide = f32;

            #[inline(always)]
            fn widen(self) -> f32 {
                self.to_f32()
            }
            #[inline(always)]
            fn narrow(wide: f32) -> Self {
                Self::from_f32(wide)
            }
            #[inline(always)]
            fn wide<'a>(values: &'a [Self], scratch: &'a mut [f32]) -> &'a [f32] {
                let scratch = &mut scratch[..values.len()];
                $widen(values, scratch);
                scratch
            }
            fn as_wide(_: &[Self]) -> Option<&[f32]> {
                None
            }
            // Inlined for what it calls: `write` is part of a kernel.
            #[inline(always)]
            fn fill(
                out: &mut [MaybeUninit<Self>],
                scratch: &mut [f32],
                write: impl FnOnce(&mut [MaybeUninit<f32>]),
            ) {
                let wide = &mut scratch[..out.len()];
                write(super::storage::as_uninit(wide));
                $narrow(wide, out);
            }
        }
    };
}

half!(bf16, widen_bf16, narrow_bf16);
half!(f16, widen_f16, narrow_f16);

/// A loop of integers, which becomes vector instructions; that of the crate `half` does not.
#[inline(always)]
fn widen_bf16(narrow: &[bf16], wide: &mut [f32]) {
    for (wide, narrow) in wide.iter_mut().zip(narrow) {
        *wide = f32::from_bits(u32::from(narrow.to_bits()) << 16);
    }
}

/// Rounds to the nearest, to even on a tie; NaN stays NaN.
#[inline(always)]
fn narrow_bf16(wide: &[f32], narrow: &mut [MaybeUninit<bf16>]) {
    for (narrow, wide) in narrow.iter_mut().zip(wide) {
        let bits = wide.to_bits();
        let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
        let quiet = (bits >> 16) | 0x40;
        narrow.write(bf16::from_bits(if wide.is_nan() { quiet } else { rounded } as u16));
    }
}

#[inline(always)]
fn widen_f16(narrow: &[f16], wide: &mut [f32]) {
    narrow.convert_to_f32_slice(wide);
}

#[inline(always)]
fn narrow_f16(wide: &[f32], narrow: &mut [MaybeUninit<f16>]) {
    // A pass over initialised room, because the conversion takes no other.
    narrow.fill(MaybeUninit::new(f16::ZERO));
    super::storage::as_init(narrow).convert_from_f32_slice(wide);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every bf16, its neighbours in f32, the ties between two, and NaN of any payload.
    #[test]
    fn bf16_is_converted_as_the_crate_half_does() {
        let mut wide = Vec::new();
        for high in 0..=u32::from(u16::MAX) {
            for low in [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff] {
                wide.push(f32::from_bits(high << 16 | low));
            }
        }
        let mut narrow = vec![MaybeUninit::new(bf16::ZERO); wide.len()];
        narrow_bf16(&wide, &mut narrow);
        let narrow: Vec<bf16> = super::super::storage::as_init(&mut narrow).to_vec();
        let mut again = vec![0.0; wide.len()];
        widen_bf16(&narrow, &mut again);
        for ((wide, narrow), again) in wide.into_iter().zip(narrow).zip(again) {
            assert_eq!(narrow.to_bits(), bf16::from_f32(wide).to_bits(), "{wide}");
            assert_eq!(again.to_bits(), narrow.to_f32().to_bits(), "{wide}");
        }
    }
}
