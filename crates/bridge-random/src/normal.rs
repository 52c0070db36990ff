//! Normal numbers.

use candle_core::{DType, Device, Shape, Tensor};

use crate::fill::{Sampler, draw_tensor};
use crate::float::{Float, for_float_dtype};
use crate::scaled::{check_range, draw_scaled};
use crate::uniform::Uniform;
use crate::{Key, Result};

/// Numbers from the standard normal distribution: `sqrt(2)·erf_inv(u)`, with `u` uniform from -1 to 1 (both exclusive).
///
/// Dtypes: f32, f64, f16, bf16. The numbers are made on the host and sent to `device`.
///
/// # Errors
///
/// Another dtype.
///
/// ```
/// use bridge_random::{key, normal};
/// use candle_core::{DType, Device};
///
/// let x = normal(key(0), (), DType::F32, &Device::Cpu)?;
/// assert_eq!(x.to_scalar::<f32>()?, 1.6226422);
/// # Ok::<(), bridge_random::Error>(())
/// ```
#[doc(alias = "randn")]
pub fn normal(key: Key, shape: impl Into<Shape>, dtype: DType, device: &Device) -> Result<Tensor> {
    for_float_dtype!(dtype, "normal", T => {
        draw_tensor(Normal::<T>::new(), key, shape.into(), device)
    })
}

#[derive(Clone, Copy)]
pub(crate) struct Normal<T> {
    uniform: Uniform<T>,
    sqrt_2: T,
}

impl<T: Float> Normal<T> {
    pub(crate) fn new() -> Self {
        // -1 itself would become minus infinity.
        Self::within(T::number(-1.0).next_up(), T::number(1.0))
    }

    /// With `u` from `low` to `high`.
    pub(crate) fn within(low: T, high: T) -> Self {
        Self { uniform: Uniform::new(low, high), sqrt_2: T::number(std::f64::consts::SQRT_2) }
    }

    /// A draw times a factor, as outside of `jit` or, where XLA makes one constant of `sqrt(2)` and the factor, inside.
    pub(crate) fn draw_scaled(
        factor: T,
        key: Key,
        shape: Shape,
        device: &Device,
        jit: bool,
    ) -> Result<Tensor> {
        let sampler = Self::new();
        if jit && T::MERGES_FACTORS {
            let merged = Self { sqrt_2: sampler.sqrt_2 * factor, ..sampler };
            check_range(merged, factor)?;
            return draw_tensor(merged, key, shape, device);
        }
        draw_scaled(sampler, factor, key, shape, device)
    }
}

impl<T: Float> Sampler for Normal<T> {
    type Word = T::Word;
    type Output = T;

    #[inline(always)]
    fn sample(self, index: usize, words: [T::Word; 1]) -> T {
        self.sqrt_2 * self.uniform.sample(index, words).erf_inv()
    }
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::*;
    use crate::fill::tests::check_paths;
    use crate::scaled::Scaled;

    #[test]
    fn every_path_fills_the_same_numbers() {
        check_paths("f32", Normal::<f32>::new(), f32::to_bits);
        check_paths("f64", Normal::<f64>::new(), f64::to_bits);
        check_paths("f16", Normal::<f16>::new(), f16::to_bits);
        check_paths("bf16", Normal::<bf16>::new(), bf16::to_bits);
        let scaled = Scaled::new(Normal::<f32>::new(), 0.3).unwrap();
        check_paths("scaled f32", scaled, f32::to_bits);
    }
}
