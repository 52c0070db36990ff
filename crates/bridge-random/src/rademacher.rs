//! Random signs.

use candle_core::{DType, Device, Shape, Tensor, WithDType};
use half::{bf16, f16};

use crate::bernoulli::Bernoulli;
use crate::fill::{Sampler, draw_tensor};
use crate::float::Float;
use crate::{Error, Key, Result};

/// 1 or -1, each as likely: where [`bernoulli`](crate::bernoulli) of probability ½ gives 1 and 0. The probability is an f32,
/// or an f64 for the dtypes that JAX has under `jax_enable_x64` alone.
///
/// Dtypes: f32, f16, bf16, i16, i32; f64, i64. JAX's default is i32. The numbers are made on the host and sent to `device`.
///
/// # Errors
///
/// Another dtype.
///
/// ```
/// use bridge_random::{key, rademacher};
/// use candle_core::{DType, Device};
///
/// let signs = rademacher(key(42), 5, DType::F32, &Device::Cpu)?;
/// assert!(signs.abs()?.to_vec1::<f32>()?.iter().all(|x| *x == 1.0));
/// # Ok::<(), bridge_random::Error>(())
/// ```
pub fn rademacher(key: Key, shape: impl Into<Shape>, dtype: DType, device: &Device) -> Result<Tensor> {
    const SUPPORTED: &[DType] =
        &[DType::F32, DType::F64, DType::F16, DType::BF16, DType::I16, DType::I32, DType::I64];
    let shape = shape.into();
    match dtype {
        DType::F32 => signs::<f32, f32>(key, shape, device),
        DType::F64 => signs::<f64, f64>(key, shape, device),
        DType::F16 => signs::<f16, f32>(key, shape, device),
        DType::BF16 => signs::<bf16, f32>(key, shape, device),
        DType::I16 => signs::<i16, f32>(key, shape, device),
        DType::I32 => signs::<i32, f32>(key, shape, device),
        DType::I64 => signs::<i64, f64>(key, shape, device),
        found => Err(Error::UnsupportedDType { operation: "rademacher", found, supported: SUPPORTED }),
    }
}

/// Decides by uniform numbers in `P`.
fn signs<T: WithDType, P: Float>(key: Key, shape: Shape, device: &Device) -> Result<Tensor> {
    let (plus, minus) = (T::from_f64(1.0), T::from_f64(-1.0));
    draw_tensor(Signs { heads: Bernoulli::new(P::number(0.5))?, plus, minus }, key, shape, device)
}

#[derive(Clone, Copy)]
struct Signs<T, P> {
    heads: Bernoulli<P>,
    plus: T,
    minus: T,
}

impl<T: WithDType, P: Float> Sampler for Signs<T, P> {
    type Word = P::Word;
    type Output = T;

    #[inline(always)]
    fn sample(self, index: usize, words: [P::Word; 1]) -> T {
        if self.heads.sample(index, words) == 1 { self.plus } else { self.minus }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{bernoulli, key};

    #[test]
    fn are_the_same_in_every_dtype_of_32_bits_or_less_and_of_64() {
        let narrow = [DType::F32, DType::F16, DType::BF16, DType::I16, DType::I32];
        for (probability, dtypes) in [(DType::F32, &narrow[..]), (DType::F64, &[DType::F64, DType::I64])] {
            let half = Tensor::full(0.5f32, (), &Device::Cpu).unwrap().to_dtype(probability).unwrap();
            let heads = bernoulli(key(1), half, 50, &Device::Cpu).unwrap().to_vec1::<u8>().unwrap();
            let expected: Vec<f64> = heads.into_iter().map(|heads| 2.0 * f64::from(heads) - 1.0).collect();
            for dtype in dtypes {
                let signs = rademacher(key(1), 50, *dtype, &Device::Cpu).unwrap();
                assert_eq!(signs.dtype(), *dtype);
                assert_eq!(signs.to_dtype(DType::F64).unwrap().to_vec1::<f64>().unwrap(), expected);
            }
        }
        let error = rademacher(key(1), 50, DType::U8, &Device::Cpu).unwrap_err();
        assert!(matches!(error, Error::UnsupportedDType { found: DType::U8, .. }), "{error}");
    }
}
