//! A sampler whose numbers are multiplied.

use crate::fill::Sampler;
use crate::float::Float;

/// `sampler`'s numbers times `factor`, rounded once more.
#[derive(Clone, Copy)]
pub(crate) struct Scaled<S, T> {
    pub(crate) sampler: S,
    pub(crate) factor: T,
}

impl<T: Float, S: Sampler<Output = T>> Sampler for Scaled<S, T> {
    type Word = S::Word;
    type Output = T;

    #[inline(always)]
    fn sample(self, index: usize, words: [S::Word; 1]) -> T {
        self.sampler.sample(index, words) * self.factor
    }
}
