//! Exponential numbers.

use candle_core::{DType, Device, Shape, Tensor};

use crate::fill::{Sampler, draw_tensor};
use crate::float::{Float, for_float_dtype};
use crate::{Key, Result};

/// Numbers from the exponential distribution of rate 1: `-ln(1 - u)`, with `u` uniform from 0 to 1 (exclusive).
///
/// Divide by a rate for another one.
///
/// Dtypes: f32, f64, f16, bf16. The numbers are made on the host and sent to `device`.
///
/// # Errors
///
/// Another dtype.
///
/// ```
/// use bridge_random::{exponential, key};
/// use candle_core::{DType, Device};
///
/// let x = exponential(key(0), (2, 3), DType::F32, &Device::Cpu)?;
/// assert_eq!(x.dims(), [2, 3]);
/// # Ok::<(), bridge_random::Error>(())
/// ```
pub fn exponential(key: Key, shape: impl Into<Shape>, dtype: DType, device: &Device) -> Result<Tensor> {
    for_float_dtype!(dtype, "exponential", T => draw_tensor(Exponential::<T>::new(), key, shape.into(), device))
}

#[derive(Clone, Copy)]
struct Exponential<T>(std::marker::PhantomData<T>);

impl<T: Float> Exponential<T> {
    fn new() -> Self {
        Self(std::marker::PhantomData)
    }
}

impl<T: Float> Sampler for Exponential<T> {
    type Word = T::Word;
    type Output = T;

    #[inline(always)]
    fn sample(self, _: usize, [word]: [T::Word; 1]) -> T {
        -(-T::unit(word)).log1p()
    }
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::*;
    use crate::fill::tests::check_paths;

    #[test]
    fn every_path_fills_the_same_numbers() {
        check_paths("f32", Exponential::<f32>::new(), f32::to_bits);
        check_paths("f64", Exponential::<f64>::new(), f64::to_bits);
        check_paths("f16", Exponential::<f16>::new(), f16::to_bits);
        check_paths("bf16", Exponential::<bf16>::new(), bf16::to_bits);
    }
}
