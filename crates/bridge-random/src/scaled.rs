//! A sampler whose numbers are multiplied.

use crate::fill::Sampler;
use crate::float::Float;
use crate::{Error, Result};

/// `sampler`'s numbers times `factor`, rounded once more.
#[derive(Clone, Copy)]
pub(crate) struct Scaled<S, T> {
    sampler: S,
    factor: T,
}

impl<S, T: Float> Scaled<S, T> {
    pub(crate) fn new(sampler: S, factor: T) -> Result<Self> {
        Ok(Self { sampler, factor: finite(factor)? })
    }
}

/// A factor, unless it would make numbers infinite or NaN.
pub(crate) fn finite<T: Float>(factor: T) -> Result<T> {
    match factor.to_f64() {
        number if number.is_finite() => Ok(factor),
        found => Err(Error::Factor { found, dtype: T::DTYPE }),
    }
}

impl<T: Float, S: Sampler<Output = T>> Sampler for Scaled<S, T> {
    type Word = S::Word;
    type Output = T;

    #[inline(always)]
    fn sample(self, index: usize, words: [S::Word; 1]) -> T {
        self.sampler.sample(index, words) * self.factor
    }
}
