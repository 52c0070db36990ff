//! Normal numbers.

use candle_core::{DType, Device, Shape, Tensor};

use crate::fill::{Sampler, draw_tensor};
use crate::float::{Float, for_float_dtype};
use crate::uniform::Uniform;
use crate::{Key, Result};

/// Numbers from the standard normal distribution: `sqrt(2)·erf_inv(u)`, with `u` uniform from -1 to 1 (both exclusive).
///
/// Dtypes: f32, f64. The numbers are made on the host and sent to `device`.
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
        Self::within(T::from_f64(-1.0).next_up(), T::from_f64(1.0))
    }

    /// With `u` from `low` to `high`.
    pub(crate) fn within(low: T, high: T) -> Self {
        Self { uniform: Uniform::new(low, high), sqrt_2: T::from_f64(std::f64::consts::SQRT_2) }
    }
}

impl<T: Float> Sampler for Normal<T> {
    type Output = T;

    #[inline(always)]
    fn sample(self, first: u32, second: u32) -> T {
        self.sqrt_2 * self.uniform.sample(first, second).erf_inv()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fill::tests::check_paths;
    use crate::scaled::Scaled;

    #[test]
    fn every_path_fills_the_same_numbers() {
        check_paths("f32", Normal::<f32>::new(), f32::to_bits);
        check_paths("f64", Normal::<f64>::new(), f64::to_bits);
        let scaled = Scaled { sampler: Normal::<f32>::new(), factor: 0.3 };
        check_paths("scaled f32", scaled, f32::to_bits);
    }
}
