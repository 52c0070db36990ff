//! Logistic numbers.

use candle_core::{DType, Device, Shape, Tensor};

use crate::fill::{Sampler, draw_tensor};
use crate::float::{Float, for_float_dtype};
use crate::gumbel::unit_above_zero;
use crate::{Key, Result};

/// Numbers from the logistic distribution of mean 0 and scale 1: `ln(u) - ln(1 - u)`, with `u` uniform from 0 to 1 (both
/// exclusive).
///
/// The variance is π²/3. As in JAX, a `u` of 0 (one in 2^23 for f32, 2^10 for f16, 2^7 for bf16) becomes the least positive
/// number, which gives -87.3 in f32 and bf16.
///
/// Dtypes: f32, f64, f16, bf16. The numbers are made on the host and sent to `device`.
///
/// # Errors
///
/// Another dtype.
///
/// ```
/// use bridge_random::{logistic, key};
/// use candle_core::{DType, Device};
///
/// let x = logistic(key(0), (2, 3), DType::F32, &Device::Cpu)?;
/// assert_eq!(x.dims(), [2, 3]);
/// # Ok::<(), bridge_random::Error>(())
/// ```
pub fn logistic(key: Key, shape: impl Into<Shape>, dtype: DType, device: &Device) -> Result<Tensor> {
    for_float_dtype!(dtype, "logistic", T => draw_tensor(Logistic::<T>::new(), key, shape.into(), device))
}

#[derive(Clone, Copy)]
struct Logistic<T>(std::marker::PhantomData<T>);

impl<T: Float> Logistic<T> {
    fn new() -> Self {
        Self(std::marker::PhantomData)
    }
}

impl<T: Float> Sampler for Logistic<T> {
    type Word = T::Word;
    type Output = T;

    #[inline(always)]
    fn sample(self, _: usize, [word]: [T::Word; 1]) -> T {
        let u = unit_above_zero::<T>(word);
        u.ln() - (-u).log1p()
    }
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::*;
    use crate::fill::tests::check_paths;

    #[test]
    fn every_path_fills_the_same_numbers() {
        check_paths("f32", Logistic::<f32>::new(), f32::to_bits);
        check_paths("f64", Logistic::<f64>::new(), f64::to_bits);
        check_paths("f16", Logistic::<f16>::new(), f16::to_bits);
        check_paths("bf16", Logistic::<bf16>::new(), bf16::to_bits);
    }
}
