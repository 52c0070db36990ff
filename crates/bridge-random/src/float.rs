//! What the samplers ask of a floating point type. Supporting another dtype is another implementation, and an arm of
//! [`for_float_dtype`].

use candle_core::{DType, WithDType};
use half::{bf16, f16};

use crate::special::{c_library, double, single};
use crate::word::Word;

/// The dtypes that implement [`Float`].
pub(crate) const FLOAT_DTYPES: &[DType] = &[DType::F32, DType::F64, DType::F16, DType::BF16];

/// Evaluates the body with `$T` as the type of the dtype; an error that names `$operation` where there is none. With `input`,
/// the dtype is that of a tensor that was given, not of the one to be made.
macro_rules! for_float_dtype {
    ($dtype:expr, $operation:expr, $T:ident => $body:expr) => {
        match $dtype {
            candle_core::DType::F32 => {
                type $T = f32;
                $body
            }
            candle_core::DType::F64 => {
                type $T = f64;
                $body
            }
            candle_core::DType::F16 => {
                type $T = half::f16;
                $body
            }
            candle_core::DType::BF16 => {
                type $T = half::bf16;
                $body
            }
            found => Err($crate::Error::UnsupportedDType {
                operation: $operation,
                found,
                supported: $crate::float::FLOAT_DTYPES,
            }),
        }
    };
    ($dtype:expr, $operation:expr, input $name:literal, $T:ident => $body:expr) => {
        match $dtype {
            dtype if $crate::float::FLOAT_DTYPES.contains(&dtype) => {
                $crate::float::for_float_dtype!(dtype, $operation, $T => $body)
            }
            found => Err($crate::Error::InputDType {
                operation: $operation,
                name: $name,
                found,
                supported: $crate::float::FLOAT_DTYPES,
            }),
        }
    };
}
pub(crate) use for_float_dtype;

/// A floating point type that can be drawn.
///
/// Arithmetic comes with [`WithDType`]; each operation rounds once.
pub(crate) trait Float: WithDType + Default + std::ops::Neg<Output = Self> {
    /// The random bits that a uniform number takes.
    type Word: Word;

    /// The distance from 1 to the next number above.
    const EPSILON: Self;

    /// The least positive number that is not subnormal.
    const TINY: Self;

    /// Whether XLA's compiler makes one constant of two that a value is multiplied with.
    const MERGES_FACTORS: bool;

    /// A number as JAX converts a Python float.
    fn number(value: f64) -> Self;

    /// A number from 0 to 1 (exclusive), evenly spaced.
    fn unit(word: Self::Word) -> Self;

    /// `self * scale + offset`, rounded as XLA does.
    fn scale_and_shift(self, scale: Self, offset: Self) -> Self;

    fn sqrt(self) -> Self;
    fn abs(self) -> Self;
    fn ln(self) -> Self;
    fn log1p(self) -> Self;

    fn erf_inv(self) -> Self;

    /// `erf(self / sqrt(2))`, as XLA evaluates it.
    fn erf_over_sqrt_2(self) -> Self;

    /// The same of a constant of a compiled function, which XLA evaluates when it compiles.
    fn constant_erf_over_sqrt_2(self) -> Self {
        self.erf_over_sqrt_2()
    }

    /// The next number above.
    fn next_up(self) -> Self;

    /// The next number below.
    fn next_down(self) -> Self;
}

impl Float for f32 {
    type Word = u32;
    const EPSILON: Self = Self::EPSILON;
    const TINY: Self = Self::MIN_POSITIVE;
    const MERGES_FACTORS: bool = true;

    fn number(value: f64) -> Self {
        value as Self
    }

    #[inline(always)]
    fn unit(word: u32) -> Self {
        Self::from_bits(word >> 9 | 1f32.to_bits()) - 1.0
    }

    #[inline(always)]
    fn scale_and_shift(self, scale: Self, offset: Self) -> Self {
        self.mul_add(scale, offset)
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
    fn ln(self) -> Self {
        single::ln(self)
    }

    #[inline(always)]
    fn log1p(self) -> Self {
        single::log1p(self)
    }

    fn erf_over_sqrt_2(self) -> Self {
        // XLA multiplies by the reciprocal where JAX divides.
        single::erf(self * std::f32::consts::FRAC_1_SQRT_2, single::FUSED_ERF_SATURATION)
    }

    fn constant_erf_over_sqrt_2(self) -> Self {
        c_library::erff(self / std::f32::consts::SQRT_2)
    }

    #[inline(always)]
    fn erf_inv(self) -> Self {
        single::erf_inv(self)
    }

    fn next_up(self) -> Self {
        self.next_up()
    }

    fn next_down(self) -> Self {
        self.next_down()
    }
}

impl Float for f64 {
    type Word = u64;
    const EPSILON: Self = Self::EPSILON;
    const TINY: Self = Self::MIN_POSITIVE;
    const MERGES_FACTORS: bool = true;

    fn number(value: f64) -> Self {
        value
    }

    #[inline(always)]
    fn unit(word: u64) -> Self {
        Self::from_bits(word >> 12 | 1f64.to_bits()) - 1.0
    }

    #[inline(always)]
    fn scale_and_shift(self, scale: Self, offset: Self) -> Self {
        self.mul_add(scale, offset)
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
    fn ln(self) -> Self {
        self.ln()
    }

    #[inline(always)]
    fn log1p(self) -> Self {
        double::log1p(self)
    }

    fn erf_over_sqrt_2(self) -> Self {
        // Not `FRAC_1_SQRT_2`, which is the next number.
        c_library::erf(self * (1.0 / std::f64::consts::SQRT_2))
    }

    fn constant_erf_over_sqrt_2(self) -> Self {
        c_library::erf(self / std::f64::consts::SQRT_2)
    }

    #[inline(always)]
    fn erf_inv(self) -> Self {
        double::erf_inv(self)
    }

    fn next_up(self) -> Self {
        self.next_up()
    }

    fn next_down(self) -> Self {
        self.next_down()
    }
}

/// Half precision: functions are evaluated in f32, and each result is rounded.
macro_rules! impl_half {
    ($half:ident, $word:ident, $sign:literal, $merges:literal, $unit:expr, $over_sqrt_2:expr) => {
        impl Float for $half {
            type Word = $word;
            const EPSILON: Self = Self::EPSILON;
            const TINY: Self = Self::MIN_POSITIVE;
            const MERGES_FACTORS: bool = $merges;

            fn number(value: f64) -> Self {
                Self::from_f32(value as f32)
            }

            #[inline(always)]
            fn unit(word: $word) -> Self {
                let unit: fn($word) -> u16 = $unit;
                Self::from_f32(Self::from_bits(unit(word)).to_f32() - 1.0)
            }

            #[inline(always)]
            fn scale_and_shift(self, scale: Self, offset: Self) -> Self {
                self * scale + offset
            }

            #[inline(always)]
            fn sqrt(self) -> Self {
                Self::from_f32(self.to_f32().sqrt())
            }

            #[inline(always)]
            fn abs(self) -> Self {
                Self::from_bits(self.to_bits() & !$sign)
            }

            #[inline(always)]
            fn ln(self) -> Self {
                Self::from_f32(single::ln(self.to_f32()))
            }

            #[inline(always)]
            fn log1p(self) -> Self {
                Self::from_f32(single::log1p(self.to_f32()))
            }

            fn erf_over_sqrt_2(self) -> Self {
                let over_sqrt_2: fn(Self) -> Self = $over_sqrt_2;
                Self::from_f32(single::erf(over_sqrt_2(self).to_f32(), single::FUSED_ERF_SATURATION))
            }

            #[inline(always)]
            fn erf_inv(self) -> Self {
                Self::from_f32(single::erf_inv(self.to_f32()))
            }

            fn next_up(self) -> Self {
                let bits = self.to_bits();
                if self.is_nan() || self == Self::INFINITY {
                    self
                } else if bits & !$sign == 0 {
                    Self::from_bits(1)
                } else if bits & $sign == 0 {
                    Self::from_bits(bits + 1)
                } else {
                    Self::from_bits(bits - 1)
                }
            }

            fn next_down(self) -> Self {
                -(-self).next_up()
            }
        }
    };
}

impl_half!(f16, u16, 0x8000, true, |word| word >> 6 | f16::ONE.to_bits(), |x| x * f16::FRAC_1_SQRT_2);
impl_half!(bf16, u8, 0x8000, false, |word| u16::from(word) >> 1 | bf16::ONE.to_bits(), |x| x / bf16::SQRT_2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_of_half_precision() {
        let check = |x: f32, above: u16| {
            let x = f16::from_f32(x);
            assert_eq!(x.next_up().to_bits(), above);
            if x.is_finite() && x != f16::ZERO {
                assert_eq!(x.next_up().next_down(), x);
            }
        };
        check(1.0, 0x3C01);
        check(-1.0, 0xBBFF);
        check(0.0, 1);
        check(-0.0, 1);
        check(f32::INFINITY, 0x7C00);
        check(f32::NEG_INFINITY, 0xFBFF);
        assert_eq!(bf16::from_f32(-1.0).next_up().to_bits(), 0xBF7F);
        assert_eq!(bf16::ZERO.next_down().to_bits(), 0x8001);
    }

    #[test]
    fn python_floats_pass_through_f32() {
        // Rounded at once, these would be the numbers above.
        assert_eq!(f16::number(1.0 + 2f64.powi(-11) + 2f64.powi(-40)), f16::ONE);
        assert_eq!(bf16::number(1.0 + 2f64.powi(-8) + 2f64.powi(-40)), bf16::ONE);
    }
}
