//! Random decisions.

use candle_core::{DType, Device, Shape, Tensor};

use crate::fill::{Sampler, Source, fill_part};
use crate::float::{Float, for_float_dtype};
use crate::number_or_tensor::{NumberOrTensor, draw_with};
use crate::{Error, Key, Result, SamplingMode};

/// Ones with probability `probability`, zeros otherwise, as u8: where [`uniform`](crate::uniform) of the same key is below
/// the probability.
///
/// The uniform numbers have the probability's dtype: that of a tensor, or f32 for a number, which is rounded to it first. A
/// tensor broadcasts to `shape`. The numbers are made on the host and sent to `device`.
///
/// # Errors
///
/// A probability outside of 0 to 1; a tensor of another dtype than f32, f64, f16 and bf16, or that does not broadcast.
///
/// ```
/// use bridge_random::{bernoulli, key};
/// use candle_core::Device;
///
/// let keep = bernoulli(key(42), 0.9, 5, &Device::Cpu)?;
/// assert_eq!(keep.to_vec1::<u8>()?, [1, 1, 1, 1, 1]);
/// # Ok::<(), bridge_random::Error>(())
/// ```
pub fn bernoulli(
    key: Key,
    probability: impl Into<NumberOrTensor>,
    shape: impl Into<Shape>,
    device: &Device,
) -> Result<Tensor> {
    bernoulli_with(key, probability, shape, SamplingMode::Low, device)
}

/// [`bernoulli`] that resolves small probabilities more finely, if asked to.
///
/// # Errors
///
/// Those of [`bernoulli`].
///
/// ```
/// use bridge_random::{SamplingMode, bernoulli_with, key};
/// use candle_core::Device;
///
/// let rare = bernoulli_with(key(0), 1e-9, 100, SamplingMode::High, &Device::Cpu)?;
/// assert_eq!(rare.to_vec1::<u8>()?, [0; 100]);
/// # Ok::<(), bridge_random::Error>(())
/// ```
#[doc(alias = "bernoulli")]
pub fn bernoulli_with(
    key: Key,
    probability: impl Into<NumberOrTensor>,
    shape: impl Into<Shape>,
    mode: SamplingMode,
    device: &Device,
) -> Result<Tensor> {
    let (probability, shape) = (probability.into(), shape.into());
    let dtype = match &probability {
        NumberOrTensor::Number(_) => DType::F32,
        NumberOrTensor::Tensor(tensor) => tensor.dtype(),
    };
    let parameters = [("probability", &probability)];
    if let NumberOrTensor::Number(number) = probability {
        check(number)?;
    }
    for_float_dtype!(dtype, "bernoulli", input "probabilities", T => match mode {
        SamplingMode::Low => {
            let make = |[probability]: [T; 1]| Bernoulli::new(probability);
            draw_with(parameters, make, |count| [Source::whole(key, count)], shape, device)
        }
        SamplingMode::High => {
            let make = |[probability]: [T; 1]| Ok(FineBernoulli(Bernoulli::new(probability)?));
            draw_with(parameters, make, |count| Source::rows(key, count), shape, device)
        }
    })
}

/// Elements `start..` (in row-major order) of a [`bernoulli`] draw, into memory of the caller's.
///
/// For kernels that regenerate a mask instead of storing it.
///
/// # Errors
///
/// A probability outside of 0 to 1; a key of the legacy scheme, whose elements depend on the length of the whole.
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
    check(probability)?;
    fill_part(Bernoulli::new(f32::number(probability))?, key, start, out)
}

#[derive(Clone, Copy)]
pub(crate) struct Bernoulli<T> {
    probability: T,
}

impl<T: Float> Bernoulli<T> {
    pub(crate) fn new(probability: T) -> Result<Self> {
        check(probability.to_f64())?;
        Ok(Self { probability })
    }
}

fn check(probability: f64) -> Result<()> {
    match (0.0..=1.0).contains(&probability) {
        true => Ok(()),
        false => Err(Error::Probability { operation: "bernoulli", found: probability }),
    }
}

impl<T: Float> Sampler for Bernoulli<T> {
    type Word = T::Word;
    type Output = u8;

    #[inline(always)]
    fn sample(self, _: usize, [word]: [T::Word; 1]) -> u8 {
        u8::from(T::unit(word) < self.probability)
    }
}

/// A second number has the digits below the first one's.
#[derive(Clone, Copy)]
struct FineBernoulli<T>(Bernoulli<T>);

impl<T: Float> Sampler<2> for FineBernoulli<T> {
    type Word = T::Word;
    type Output = u8;

    #[inline(always)]
    fn sample(self, _: usize, [first, second]: [T::Word; 2]) -> u8 {
        u8::from(T::unit(second) * T::EPSILON < self.0.probability - T::unit(first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fill::tests::check_paths;
    use crate::{key, uniform};

    #[test]
    fn every_path_fills_the_same_decisions() {
        check_paths("f32", Bernoulli::new(0.3f32).unwrap(), |keep| keep);
        check_paths("bf16", Bernoulli::new(half::bf16::from_f32(0.3)).unwrap(), |keep| keep);
        check_paths("high", FineBernoulli(Bernoulli::new(0.3f32).unwrap()), |keep| keep);
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
        for probability in [-0.1, 1.1, 1.0 + 1e-12, f64::NAN, f64::INFINITY] {
            let error = bernoulli(key(0), probability, 3, &Device::Cpu).unwrap_err();
            assert!(matches!(error, Error::Probability { .. }), "{probability}");
        }
        let probabilities = Tensor::new(&[0.5f32, 1.5], &Device::Cpu).unwrap();
        let error = bernoulli(key(0), probabilities, 2, &Device::Cpu).unwrap_err();
        assert_eq!(error.to_string(), "`bernoulli` found the probability 1.5: expected one from 0 to 1");
    }
}
