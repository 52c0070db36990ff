//! The cross entropy of rows of logits with labels, and its gradient.

use super::element::{Element, Real};
use super::rows::{Numbers, Rows, load, total};
use super::simd::Instructions;
use super::softmax::{Normalizer, normalizer, probabilities};

/// The label of an example that does not count.
pub(crate) const IGNORED: i64 = -1;

/// Logits with the classes to compare them with.
#[derive(Clone, Copy)]
pub(crate) struct Examples<'a, T> {
    pub(crate) logits: &'a [T],
    pub(crate) classes: usize,
    /// Each a class or [`IGNORED`].
    pub(crate) labels: &'a [i64],
    /// How much of the label's probability is spread over all classes.
    pub(crate) smoothing: f64,
}

impl<'a, T: Element> Examples<'a, T> {
    /// The label of an example that counts.
    #[inline(always)]
    fn label(&self, example: usize) -> Option<usize> {
        usize::try_from(self.labels[example]).ok()
    }

    #[inline(always)]
    fn logits(&self, example: usize) -> &'a [T] {
        &self.logits[example * self.classes..][..self.classes]
    }
}

/// The losses.
impl<T: Element> Numbers<T::Wide, 2> for Examples<'_, T> {
    #[inline(always)]
    fn number<I: Instructions>(&self, row: usize, [room, exponentials]: [&mut [T::Wide]; 2]) -> T::Wide {
        let Some(label) = self.label(row) else { return T::Wide::ZERO };
        load(self.logits(row), room, -T::Wide::INFINITY);
        let Normalizer { largest, sum } = normalizer::<_, I>(room, exponentials);
        let chosen = room[label] - largest;
        if self.smoothing == 0.0 {
            return sum.logarithm() - chosen;
        }
        let logits = &mut room[..self.classes];
        for logit in logits.iter_mut() {
            *logit = *logit - largest;
        }
        let even = total::<_, I>(logits) * T::Wide::real(self.smoothing / self.classes as f64);
        sum.logarithm() - chosen * T::Wide::real(1.0 - self.smoothing) - even
    }
}

/// The rows of the gradient of the logits.
pub(crate) struct Backward<'a, T: Element> {
    pub(crate) examples: Examples<'a, T>,
    /// The gradients of the losses, or one for all of them.
    pub(crate) gradient: &'a [T::Wide],
    pub(crate) factor: T::Wide,
}

impl<T: Element> Rows<T::Wide, 1> for Backward<'_, T> {
    #[inline(always)]
    fn row<I: Instructions>(&self, row: usize, [room]: [&mut [T::Wide]; 1]) {
        let examples = &self.examples;
        let Some(label) = examples.label(row) else { return room.fill(T::Wide::ZERO) };
        load(examples.logits(row), room, -T::Wide::INFINITY);
        probabilities::<_, I>(room);
        room[label] = room[label] - T::Wide::real(1.0 - examples.smoothing);
        let even = T::Wide::real(examples.smoothing / examples.classes as f64);
        let gradient =
            if let [gradient] = self.gradient { *gradient } else { self.gradient[row] } * self.factor;
        for value in room.iter_mut() {
            *value = (*value - even) * gradient;
        }
    }
}
