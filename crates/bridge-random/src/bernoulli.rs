//! Random decisions.

use candle_core::{Device, Shape, Tensor};

use crate::bits::Word;
use crate::fill::{Sampler, draw_tensor, fill};
use crate::{Error, Key, Result};

/// Ones with probability `probability`, zeros otherwise, as u8: where [`uniform`](crate::uniform) of the same key in f32
/// is below the probability.
///
/// The probability is rounded to f32 first. The numbers are made on the host and sent to `device`.
///
/// # Errors
///
/// A probability outside of 0 to 1.
///
/// ```
/// use bridge_random::{bernoulli, key};
/// use candle_core::Device;
///
/// let keep = bernoulli(key(42), 0.9, 5, &Device::Cpu)?;
/// assert_eq!(keep.to_vec1::<u8>()?, [1, 1, 1, 1, 1]);
/// # Ok::<(), bridge_random::Error>(())
/// ```
pub fn bernoulli(key: Key, probability: f64, shape: impl Into<Shape>, device: &Device) -> Result<Tensor> {
    draw_tensor(Bernoulli::new(probability)?, key, shape.into(), device)
}

/// Elements `start..` (in row-major order) of a [`bernoulli`] draw, into memory of the caller's.
///
/// For kernels that regenerate a mask instead of storing it.
///
/// # Errors
///
/// A probability outside of 0 to 1.
///
/// ```
/// use bridge_random::{bernoulli, fill_bernoulli, key};
/// use candle_core::Device;
///
/// let mut tail = [0; 3];
/// fill_bernoulli(key(42), 0.5, 7, &mut tail)?;
/// assert_eq!(bernoulli(key(42), 0.5, 10, &Device::Cpu)?.to_vec1::<u8>()?[7..], tail);
/// # Ok::<(), bridge_random::Error>(())
/// ```
pub fn fill_bernoulli(key: Key, probability: f64, start: u64, out: &mut [u8]) -> Result<()> {
    fill(Bernoulli::new(probability)?, key, start, out);
    Ok(())
}

/// `u < p` for `u` a multiple of 2^-23, without leaving integers: `u·2^23 < ceil(p·2^23)`.
#[derive(Clone, Copy)]
struct Bernoulli {
    threshold: u32,
}

impl Bernoulli {
    fn new(probability: f64) -> Result<Self> {
        let rounded = probability as f32;
        if !(0.0..=1.0).contains(&rounded) {
            return Err(Error::Probability { found: probability });
        }
        Ok(Self { threshold: (rounded * (1 << 23) as f32).ceil() as u32 })
    }
}

impl Sampler for Bernoulli {
    type Output = u8;

    #[inline(always)]
    fn sample(self, first: u32, second: u32) -> u8 {
        u8::from(u32::from_block(first, second) >> 9 < self.threshold)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fill::tests::check_paths;
    use crate::{key, uniform};

    #[test]
    fn every_path_fills_the_same_decisions() {
        check_paths("u8", Bernoulli::new(0.3).unwrap(), |keep| keep);
    }

    #[test]
    fn compares_as_floats_do() {
        let count = 50_000;
        let u = uniform(key(3), count, candle_core::DType::F32, &Device::Cpu).unwrap();
        let u = u.to_vec1::<f32>().unwrap();
        // A drawn number itself, its neighbours, and the ends.
        let probabilities = [u[0], u[0].next_up(), u[0].next_down(), 0.0, 1e-30, 0.1, 1.0];
        for probability in probabilities {
            let drawn = bernoulli(key(3), f64::from(probability), count, &Device::Cpu).unwrap();
            let expected: Vec<_> = u.iter().map(|u| u8::from(*u < probability)).collect();
            assert!(drawn.to_vec1::<u8>().unwrap() == expected, "{probability}");
        }
    }

    #[test]
    fn probabilities_out_of_range_are_errors() {
        for probability in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            let error = bernoulli(key(0), probability, 3, &Device::Cpu).unwrap_err();
            assert!(matches!(error, Error::Probability { .. }), "{probability}");
        }
    }
}
