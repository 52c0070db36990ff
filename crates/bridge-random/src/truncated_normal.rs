//! Normal numbers within bounds.

use candle_core::{DType, Device, Shape, Tensor};

use crate::fill::{Sampler, Source};
use crate::float::{Float, for_float_dtype};
use crate::normal::Normal;
use crate::parameter::{Parameter, draw_with};
use crate::{Error, Key, Result};

/// Numbers from the standard normal distribution, conditioned on lying strictly between `lower` and `upper`:
/// `sqrt(2)·erf_inv(u)`, with `u` uniform from `erf(lower/sqrt(2))` to `erf(upper/sqrt(2))`, clamped.
///
/// The deviation is less than 1: for -2 and 2 it is 0.8796 (which the initializers that scale correct for). Bounds that
/// are tensors broadcast to `shape`.
///
/// Dtypes: f32, f64, f16, bf16. Either bound may be infinite. The numbers are made on the host and sent to `device`.
///
/// # Errors
///
/// Another dtype; bounds that are not in order, as numbers of the dtype, or that do not broadcast.
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
    lower: impl Into<Parameter>,
    upper: impl Into<Parameter>,
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
        if lower < upper {
            return Ok(Self {
                normal: Normal::within(erf_over_sqrt_2(lower), erf_over_sqrt_2(upper)),
                min: lower.next_up(),
                max: upper.next_down(),
            });
        }
        Err(Error::Bounds {
            operation: "truncated_normal",
            expected: "a lower bound below the upper one",
            low: lower.to_f64(),
            high: upper.to_f64(),
        })
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
    fn bounds_far_out_still_hold() {
        let x = truncated_normal(key(0), 6.0, 7.0, 100, DType::F32, &Device::Cpu).unwrap();
        let x = x.to_vec1::<f32>().unwrap();
        assert!(x.iter().all(|x| (6.0..7.0).contains(x)), "{x:?}");
    }

    #[test]
    fn bad_bounds_are_errors() {
        for (lower, upper) in [(2.0, -2.0), (1.0, 1.0), (1.0, 1.0 + 1e-12), (f64::NAN, 1.0)] {
            let error = truncated_normal(key(0), lower, upper, 3, DType::F32, &Device::Cpu).unwrap_err();
            assert!(matches!(error, Error::Bounds { .. }), "{lower} {upper}");
        }
    }
}
