//! Gumbel numbers.

use std::marker::PhantomData;

use candle_core::{DType, Device, Shape, Tensor, WithDType};

use crate::fill::{Sampler, Source, draw, draw_from, element_count};
use crate::float::{Float, for_float_dtype};
use crate::{Key, Result, SamplingMode};

/// Numbers from the standard Gumbel distribution: `-ln(-ln(u))`, with `u` uniform from 0 to 1 (both exclusive).
///
/// As in JAX, a `u` of 0 (one in 2^23 for f32, 2^10 for f16, 2^7 for bf16) becomes the least positive number.
///
/// Added to logits, they make the index of the greatest sum a draw from the categorical distribution:
/// [`Categorical`](crate::Categorical).
///
/// Dtypes: f32, f64, f16, bf16. The numbers are made on the host and sent to `device`.
///
/// # Errors
///
/// Another dtype.
///
/// ```
/// use bridge_random::{gumbel, key};
/// use candle_core::{DType, Device};
///
/// let x = gumbel(key(0), (2, 3), DType::F32, &Device::Cpu)?;
/// assert_eq!(x.dims(), [2, 3]);
/// # Ok::<(), bridge_random::Error>(())
/// ```
pub fn gumbel(key: Key, shape: impl Into<Shape>, dtype: DType, device: &Device) -> Result<Tensor> {
    gumbel_with(key, shape, SamplingMode::Low, dtype, device)
}

/// [`gumbel`] that resolves the lower tail more finely, if asked to.
///
/// # Errors
///
/// Those of [`gumbel`].
///
/// ```
/// use bridge_random::{SamplingMode, gumbel_with, key};
/// use candle_core::{DType, Device};
///
/// let x = gumbel_with(key(0), 5, SamplingMode::High, DType::F32, &Device::Cpu)?;
/// assert_eq!(x.dims(), [5]);
/// # Ok::<(), bridge_random::Error>(())
/// ```
#[doc(alias = "gumbel")]
pub fn gumbel_with(
    key: Key,
    shape: impl Into<Shape>,
    mode: SamplingMode,
    dtype: DType,
    device: &Device,
) -> Result<Tensor> {
    let shape = shape.into();
    for_float_dtype!(dtype, "gumbel", T => {
        let numbers = gumbel_numbers::<T>(key, element_count::<T>(&shape)?, mode);
        Ok(Tensor::from_vec(numbers, shape, device)?)
    })
}

/// A draw on the host.
pub(crate) fn gumbel_numbers<T: Float>(key: Key, count: usize, mode: SamplingMode) -> Vec<T> {
    match mode {
        SamplingMode::Low => draw(Gumbel::new(), key, count),
        SamplingMode::High => draw_from(FineGumbel(PhantomData), Source::rows(key, count), count),
    }
}

/// A uniform number, or the least positive one in place of 0.
///
/// JAX adds the least positive number to all; XLA finds that this adds nothing.
#[inline(always)]
pub(crate) fn unit_above_zero<T: Float>(word: T::Word) -> T {
    let u = T::unit(word);
    if u < T::TINY { T::TINY } else { u }
}

#[derive(Clone, Copy)]
struct Gumbel<T>(PhantomData<T>);

impl<T: Float> Gumbel<T> {
    fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T: Float> Sampler for Gumbel<T> {
    type Word = T::Word;
    type Output = T;

    #[inline(always)]
    fn sample(self, _: usize, [word]: [T::Word; 1]) -> T {
        -(-unit_above_zero::<T>(word).ln()).ln()
    }
}

/// From `1 - u`, which has the digits of two uniform numbers where it is small.
#[derive(Clone, Copy)]
struct FineGumbel<T>(PhantomData<T>);

impl<T: Float> Sampler<2> for FineGumbel<T> {
    type Word = T::Word;
    type Output = T;

    #[inline(always)]
    fn sample(self, _: usize, [high, low]: [T::Word; 2]) -> T {
        let (high, low) = (T::unit(high), T::unit(low));
        let fine = (high + T::EPSILON * low) + T::TINY;
        let x = if high < <T as WithDType>::from_f64(0.5) { fine } else { high };
        -(-(-x).log1p()).ln()
    }
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::*;
    use crate::fill::tests::check_paths;

    #[test]
    fn every_path_fills_the_same_numbers() {
        check_paths("f32", Gumbel::<f32>::new(), f32::to_bits);
        check_paths("f64", Gumbel::<f64>::new(), f64::to_bits);
        check_paths("f16", Gumbel::<f16>::new(), f16::to_bits);
        check_paths("bf16", Gumbel::<bf16>::new(), bf16::to_bits);
        check_paths("fine f32", FineGumbel::<f32>(PhantomData), f32::to_bits);
    }
}
