//! What the samplers ask of a floating point type. Supporting another dtype is another implementation, and an arm of
//! [`for_float_dtype`].

use candle_core::{DType, WithDType};

use crate::bits::Word;
use crate::special::{double, single};

/// The dtypes that implement [`Float`].
pub(crate) const FLOAT_DTYPES: &[DType] = &[DType::F32, DType::F64];

/// Evaluates the body with `$T` as the type of the dtype; an error that names `$operation` where there is none.
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
            found => Err($crate::Error::UnsupportedDType {
                operation: $operation,
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
pub(crate) trait Float: WithDType + Default {
    /// A number from 0 to 1 (exclusive), evenly spaced, from the two words of a block.
    fn unit(first: u32, second: u32) -> Self;

    /// `self * scale + offset`, rounded as XLA does.
    fn scale_and_shift(self, scale: Self, offset: Self) -> Self;

    fn sqrt(self) -> Self;
    fn erf(self) -> Self;
    fn erf_inv(self) -> Self;

    /// The next number above.
    fn next_up(self) -> Self;

    /// The next number below.
    fn next_down(self) -> Self;
}

impl Float for f32 {
    #[inline(always)]
    fn unit(first: u32, second: u32) -> Self {
        Self::from_bits(u32::from_block(first, second) >> 9 | 1f32.to_bits()) - 1.0
    }

    #[inline(always)]
    fn scale_and_shift(self, scale: Self, offset: Self) -> Self {
        self.mul_add(scale, offset)
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        self.sqrt()
    }

    fn erf(self) -> Self {
        single::erf(self, single::ERF_SATURATION)
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
    #[inline(always)]
    fn unit(first: u32, second: u32) -> Self {
        Self::from_bits(u64::from_block(first, second) >> 12 | 1f64.to_bits()) - 1.0
    }

    #[inline(always)]
    fn scale_and_shift(self, scale: Self, offset: Self) -> Self {
        self.mul_add(scale, offset)
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        self.sqrt()
    }

    fn erf(self) -> Self {
        double::erf(self)
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
