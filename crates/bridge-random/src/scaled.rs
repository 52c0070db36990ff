//! A sampler whose numbers are multiplied.

use candle_core::{Device, Shape, Tensor};

use crate::fill::{Sampler, draw_tensor};
use crate::float::Float;
use crate::word::Word;
use crate::{Error, Key, Result};

/// `sampler`'s numbers times `factor`, rounded once more.
#[derive(Clone, Copy)]
pub(crate) struct Scaled<S, T> {
    sampler: S,
    factor: T,
}

impl<T: Float, S: Sampler<Output = T, Word = T::Word>> Scaled<S, T> {
    /// # Errors
    ///
    /// A factor that makes numbers infinite or NaN.
    pub(crate) fn new(sampler: S, factor: T) -> Result<Self> {
        let scaled = Self { sampler, factor };
        check_range(scaled, factor)?;
        Ok(scaled)
    }
}

/// A draw of `sampler`'s numbers times `factor`.
pub(crate) fn draw_scaled<T: Float>(
    sampler: impl Sampler<Output = T, Word = T::Word>,
    factor: T,
    key: Key,
    shape: Shape,
    device: &Device,
) -> Result<Tensor> {
    draw_tensor(Scaled::new(sampler, factor)?, key, shape, device)
}

/// Fails unless the greatest and the least of a sampler's numbers, which it makes of the words of all ones and of all zeros,
/// are finite. `factor` is what they were multiplied with.
pub(crate) fn check_range<T: Float>(
    sampler: impl Sampler<Output = T, Word = T::Word>,
    factor: T,
) -> Result<()> {
    let ends = [T::Word::default(), T::Word::MAX].map(|word| sampler.sample(0, [word]).to_f64());
    if factor.to_f64().is_finite() && ends.into_iter().all(f64::is_finite) {
        return Ok(());
    }
    Err(Error::Factor { found: factor.to_f64(), dtype: T::DTYPE })
}

impl<T: Float, S: Sampler<Output = T>> Sampler for Scaled<S, T> {
    type Word = S::Word;
    type Output = T;

    #[inline(always)]
    fn sample(self, index: usize, words: [S::Word; 1]) -> T {
        self.sampler.sample(index, words) * self.factor
    }
}
