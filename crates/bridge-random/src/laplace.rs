//! Laplace numbers.

use candle_core::{DType, Device, Shape, Tensor};

use crate::fill::{Sampler, draw_tensor};
use crate::float::{Float, for_float_dtype};
use crate::uniform::Uniform;
use crate::{Key, Result};

/// Numbers from the Laplace distribution of mean 0 and scale 1: `sign(u)·ln(1 - |u|)`, with `u` uniform from -1 to 1 (both
/// exclusive).
///
/// The variance is 2.
///
/// Dtypes: f32, f64, f16, bf16. The numbers are made on the host and sent to `device`.
///
/// # Errors
///
/// Another dtype.
///
/// ```
/// use bridge_random::{laplace, key};
/// use candle_core::{DType, Device};
///
/// let x = laplace(key(0), (2, 3), DType::F32, &Device::Cpu)?;
/// assert_eq!(x.dims(), [2, 3]);
/// # Ok::<(), bridge_random::Error>(())
/// ```
pub fn laplace(key: Key, shape: impl Into<Shape>, dtype: DType, device: &Device) -> Result<Tensor> {
    for_float_dtype!(dtype, "laplace", T => draw_tensor(Laplace::<T>::new(), key, shape.into(), device))
}

#[derive(Clone, Copy)]
struct Laplace<T> {
    uniform: Uniform<T>,
}

impl<T: Float> Laplace<T> {
    fn new() -> Self {
        // The number above -1, for numbers between -1 and 0 are twice as dense as those above 1.
        let half_epsilon = T::EPSILON * T::number(0.5);
        Self { uniform: Uniform::new(T::number(-1.0) + half_epsilon, T::number(1.0)) }
    }
}

impl<T: Float> Sampler for Laplace<T> {
    type Word = T::Word;
    type Output = T;

    #[inline(always)]
    fn sample(self, index: usize, words: [T::Word; 1]) -> T {
        let u = self.uniform.sample(index, words);
        let zero = T::default();
        let magnitude = (-u.abs()).log1p();
        if u > zero {
            magnitude
        } else if u < zero {
            -magnitude
        } else {
            zero
        }
    }
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::*;
    use crate::fill::tests::check_paths;

    #[test]
    fn every_path_fills_the_same_numbers() {
        check_paths("f32", Laplace::<f32>::new(), f32::to_bits);
        check_paths("f64", Laplace::<f64>::new(), f64::to_bits);
        check_paths("f16", Laplace::<f16>::new(), f16::to_bits);
        check_paths("bf16", Laplace::<bf16>::new(), bf16::to_bits);
    }
}
