//! Normal numbers within bounds.

use candle_core::{DType, Device, Shape, Tensor};

use crate::fill::{Sampler, Source};
use crate::float::{Float, for_float_dtype};
use crate::normal::Normal;
use crate::number_or_tensor::{NumberOrTensor, draw_with};
use crate::{Error, Key, Result};

/// Numbers from the standard normal distribution, conditioned on lying strictly between `lower` and `upper`:
/// `sqrt(2)·erf_inv(u)`, with `u` uniform from `erf(lower/sqrt(2))` to `erf(upper/sqrt(2))`, clamped.
///
/// The deviation is less than 1: for -2 and 2 it is 0.8796 (which the initializers that scale correct for). Bounds that
/// are tensors broadcast to `shape`.
///
/// Dtypes: f32, f64, f16, bf16. The numbers are made on the host and sent to `device`.
///
/// A lower bound of minus infinity is allowed, but as in JAX one number in 2^23 (f32), 2^10 (f16) or 2^7 (bf16) is then the
/// dtype's least: use [`normal`](crate::normal), or a finite bound.
///
/// # Errors
///
/// Another dtype; bounds that are not in order, as numbers of the dtype, that have no number between them, or that do not
/// broadcast; bounds so far out that the dtype can not tell the probabilities of lying below them apart, such as 6 and 7 in
/// f32 (JAX gives one number everywhere there, or NaN).
///
/// ```
/// use bridge_random::{key, truncated_normal};
/// use candle_core::{DType, Device};
///
/// let x = truncated_normal(key(0), -2.0, 2.0, 100, DType::F32, &Device::Cpu)?;
/// assert!(x.to_vec1::<f32>()?.iter().all(|x| x.abs() < 2.0));
/// # Ok::<(), bridge_random::Error>(())
/// ```
#[doc(alias = "trunc_normal")]
pub fn truncated_normal(
    key: Key,
    lower: impl Into<NumberOrTensor>,
    upper: impl Into<NumberOrTensor>,
    shape: impl Into<Shape>,
    dtype: DType,
    device: &Device,
) -> Result<Tensor> {
    let (lower, upper) = (lower.into(), upper.into());
    for_float_dtype!(dtype, "truncated_normal", T => draw_with(
        [("lower", &lower), ("upper", &upper)],
        |[lower, upper]| TruncatedNormal::<T>::new(lower, upper),
        |count| [Source::whole(key, count)],
        shape.into(),
        device,
    ))
}

#[derive(Clone, Copy)]
pub(crate) struct TruncatedNormal<T> {
    normal: Normal<T>,
    min: T,
    max: T,
}

impl<T: Float> TruncatedNormal<T> {
    pub(crate) fn new(lower: T, upper: T) -> Result<Self> {
        Self::within(lower, upper, T::erf_over_sqrt_2)
    }

    /// Between bounds that are constants of a compiled function: XLA evaluates what depends on them alone when it
    /// compiles, with a division and the C library's error function.
    pub(crate) fn with_constant_bounds(lower: T, upper: T) -> Result<Self> {
        Self::within(lower, upper, T::constant_erf_over_sqrt_2)
    }

    /// `erf_over_sqrt_2` of a bound is where `u` is to lie.
    fn within(lower: T, upper: T, erf_over_sqrt_2: impl Fn(T) -> T) -> Result<Self> {
        let wrong = |expected| {
            let (low, high) = (lower.to_f64(), upper.to_f64());
            Err(Error::Bounds { operation: "truncated_normal", expected, low, high })
        };
        let (min, max) = (lower.next_up(), upper.next_down());
        // Not true of NaN either.
        if !(lower < upper && min <= max) {
            return wrong("a lower bound below the upper one, with a number of the dtype between them");
        }
        // XLA's approximation is a little above 1 just before it is set to 1, which would become NaN.
        let (one, minus_one) = (T::number(1.0), T::number(-1.0));
        let [from, to] = [lower, upper].map(|bound| match erf_over_sqrt_2(bound) {
            erf if erf > one => one,
            erf if erf < minus_one => minus_one,
            erf => erf,
        });
        if from < to {
            return Ok(Self { normal: Normal::within(from, to), min, max });
        }
        wrong("bounds whose probabilities the dtype can tell apart, so less far from 0 or in a wider dtype")
    }
}

impl<T: Float> Sampler for TruncatedNormal<T> {
    type Word = T::Word;
    type Output = T;

    #[inline(always)]
    fn sample(self, index: usize, words: [T::Word; 1]) -> T {
        let value = self.normal.sample(index, words);
        let value = if value < self.min { self.min } else { value };
        if value > self.max { self.max } else { value }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fill::tests::check_paths;
    use crate::key;

    #[test]
    fn every_path_fills_the_same_numbers() {
        let sampler = TruncatedNormal::<f32>::new(-2.0, 2.0).unwrap();
        check_paths("f32", sampler, f32::to_bits);
        let sampler = TruncatedNormal::<f64>::new(-1.0, f64::INFINITY).unwrap();
        check_paths("f64", sampler, f64::to_bits);
        let sampler = TruncatedNormal::new(half::bf16::NEG_ONE, half::bf16::PI).unwrap();
        check_paths("bf16", sampler, half::bf16::to_bits);
    }

    #[test]
    fn bounds_far_out_hold_as_long_as_the_dtype_tells_them_apart() {
        let draw = |lower, upper, dtype| {
            let x = truncated_normal(key(0), lower, upper, 1000, dtype, &Device::Cpu)?;
            Ok::<_, Error>(x.to_dtype(DType::F64)?.to_vec1::<f64>()?)
        };
        for (lower, upper, dtype) in
            [(5.2, 5.284739, DType::F32), (-5.284739, 0.0, DType::F32), (6.0, 7.0, DType::F64)]
        {
            let x = draw(lower, upper, dtype).unwrap();
            assert!(x.iter().all(|x| (lower..upper).contains(x)), "{x:?}");
        }
        for (lower, upper) in [(6.0, 7.0), (5.284739, 7.0), (-8.0, -6.0), (7.0, f64::INFINITY)] {
            let error = draw(lower, upper, DType::F32).unwrap_err().to_string();
            assert!(error.contains("probabilities the dtype can tell apart"), "{error}");
        }
    }

    #[test]
    fn bad_bounds_are_errors() {
        let next = f64::from(1f32.next_up());
        for (lower, upper) in [(2.0, -2.0), (1.0, 1.0), (1.0, 1.0 + 1e-12), (f64::NAN, 1.0), (1.0, next)] {
            let error = truncated_normal(key(0), lower, upper, 3, DType::F32, &Device::Cpu).unwrap_err();
            assert!(matches!(error, Error::Bounds { .. }), "{lower} {upper}");
        }
    }
}
