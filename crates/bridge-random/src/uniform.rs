//! Uniform numbers.

use candle_core::{DType, Device, Shape, Tensor};

use crate::fill::{Sampler, Source, draw_tensor};
use crate::float::{Float, for_float_dtype};
use crate::number_or_tensor::{NumberOrTensor, draw_with};
use crate::{Error, Key, Result};

/// Numbers from 0 to 1 (exclusive), evenly distributed: [`uniform_between`] 0 and 1.
///
/// Dtypes: f32, f64, f16, bf16. The numbers are made on the host and sent to `device`.
///
/// # Errors
///
/// Another dtype.
///
/// ```
/// use bridge_random::{key, uniform};
/// use candle_core::{DType, Device};
///
/// let x = uniform(key(42), (2, 3), DType::F32, &Device::Cpu)?;
/// assert_eq!(x.dims(), [2, 3]);
/// assert_eq!(x.get(0)?.get(0)?.to_scalar::<f32>()?, 0.48870957);
/// # Ok::<(), bridge_random::Error>(())
/// ```
pub fn uniform(key: Key, shape: impl Into<Shape>, dtype: DType, device: &Device) -> Result<Tensor> {
    for_float_dtype!(dtype, "uniform", T => draw_tensor(Unit::<T>::new(), key, shape.into(), device))
}

/// Numbers from `low` to `high`, evenly distributed: `max(low, u·(high - low) + low)`.
///
/// `u` is one of 2^23 (f32), 2^52 (f64), 2^10 (f16) or 2^7 (bf16) evenly spaced numbers from 0 to 1 (exclusive). The sum is
/// rounded, and may be rounded to `high`. Bounds that are tensors broadcast to `shape`.
///
/// Dtypes: f32, f64, f16, bf16. The numbers are made on the host and sent to `device`.
///
/// # Errors
///
/// Another dtype; bounds that are not finite, too far apart for the dtype, not in order, or that do not broadcast.
///
/// ```
/// use bridge_random::{key, uniform_between};
/// use candle_core::{DType, Device};
///
/// let x = uniform_between(key(0), 100, -1.0, 1.0, DType::F32, &Device::Cpu)?;
/// assert!(x.to_vec1::<f32>()?.iter().all(|x| (-1.0..=1.0).contains(x)));
/// # Ok::<(), bridge_random::Error>(())
/// ```
#[doc(alias = "uniform")]
pub fn uniform_between(
    key: Key,
    shape: impl Into<Shape>,
    low: impl Into<NumberOrTensor>,
    high: impl Into<NumberOrTensor>,
    dtype: DType,
    device: &Device,
) -> Result<Tensor> {
    let (low, high) = (low.into(), high.into());
    for_float_dtype!(dtype, "uniform_between", T => draw_with(
        [("low", &low), ("high", &high)],
        |[low, high]| Uniform::<T>::checked(low, high),
        |count| [Source::whole(key, count)],
        shape.into(),
        device,
    ))
}

/// From 0 to 1 (exclusive).
#[derive(Clone, Copy)]
pub(crate) struct Unit<T>(std::marker::PhantomData<T>);

impl<T: Float> Unit<T> {
    pub(crate) fn new() -> Self {
        Self(std::marker::PhantomData)
    }
}

impl<T: Float> Sampler for Unit<T> {
    type Word = T::Word;
    type Output = T;

    #[inline(always)]
    fn sample(self, _: usize, [word]: [T::Word; 1]) -> T {
        T::unit(word)
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Uniform<T> {
    low: T,
    span: T,
}

impl<T: Float> Uniform<T> {
    pub(crate) fn new(low: T, high: T) -> Self {
        Self { low, span: high - low }
    }

    fn checked(low: T, high: T) -> Result<Self> {
        let sampler = Self::new(low, high);
        let span = sampler.span.to_f64();
        if span.is_finite() && span >= 0.0 {
            return Ok(sampler);
        }
        Err(Error::Bounds {
            operation: "uniform_between",
            expected: "finite numbers in order, with a difference that the dtype can hold",
            low: low.to_f64(),
            high: high.to_f64(),
        })
    }
}

impl<T: Float> Sampler for Uniform<T> {
    type Word = T::Word;
    type Output = T;

    #[inline(always)]
    fn sample(self, _: usize, [word]: [T::Word; 1]) -> T {
        let value = T::unit(word).scale_and_shift(self.span, self.low);
        if value < self.low { self.low } else { value }
    }
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::*;
    use crate::fill::tests::check_paths;
    use crate::key;

    #[test]
    fn every_path_fills_the_same_numbers() {
        check_paths("f32", Uniform::new(0.1f32, 0.7), f32::to_bits);
        check_paths("f64", Uniform::new(0.1f64, 0.7), f64::to_bits);
        check_paths("f16", Uniform::new(f16::ZERO, f16::PI), f16::to_bits);
        check_paths("bf16", Uniform::new(bf16::ZERO, bf16::PI), bf16::to_bits);
        check_paths("unit f32", Unit::<f32>::new(), f32::to_bits);
    }

    #[test]
    fn equal_bounds_give_that_number() {
        let x = uniform_between(key(0), 3, 0.3, 0.3, DType::F32, &Device::Cpu).unwrap();
        assert_eq!(x.to_vec1::<f32>().unwrap(), [0.3; 3]);
    }

    #[test]
    fn bad_bounds_are_errors() {
        for (low, high) in [(1.0, 0.0), (f64::NAN, 1.0), (0.0, f64::INFINITY), (0.0, 1e39), (-3e38, 3e38)] {
            let error = uniform_between(key(0), 3, low, high, DType::F32, &Device::Cpu).unwrap_err();
            assert!(matches!(error, Error::Bounds { .. }), "{low} {high}");
        }
        let bounds = Tensor::new(&[1f32, 2., 0.], &Device::Cpu).unwrap();
        let error = uniform_between(key(0), (2, 3), 1.0, &bounds, DType::F32, &Device::Cpu).unwrap_err();
        assert!(matches!(error, Error::Bounds { low: 1.0, high: 0.0, .. }), "{error}");
        let error = uniform_between(key(0), (2, 4), 0.0, &bounds, DType::F32, &Device::Cpu).unwrap_err();
        assert_eq!(error.to_string(), "`high` of shape [3] does not broadcast to the shape drawn, [2, 4]");
    }

    #[test]
    fn other_dtypes_are_errors_that_name_the_supported_ones() {
        for dtype in [DType::U8, DType::I64] {
            let error = uniform(key(0), 3, dtype, &Device::Cpu).unwrap_err();
            assert!(matches!(error, Error::UnsupportedDType { found, .. } if found == dtype));
            assert!(error.to_string().contains("[F32, F64, F16, BF16]"), "{error}");
        }
    }
}
