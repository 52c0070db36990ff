//! Probabilities and log probabilities of rows, and their gradients.

use super::element::{Element, Real};
use super::rows::{Rows, largest, load, total};
use super::simd::Instructions;

/// What a row of probabilities is made from.
#[derive(Clone, Copy)]
pub(crate) struct Normalizer<R> {
    pub(crate) largest: R,
    /// The sum of the exponentials of the numbers less the largest.
    pub(crate) sum: R,
}

/// Of the row that a room holds, whose padding is minus infinity. The exponentials are left in the other room.
#[inline(always)]
pub(crate) fn normalizer<R: Real, I: Instructions>(room: &[R], exponentials: &mut [R]) -> Normalizer<R> {
    let largest = largest::<_, I>(room);
    for (exponential, &value) in exponentials.iter_mut().zip(room) {
        *exponential = (value - largest).exponential::<I>();
    }
    Normalizer { largest, sum: total::<_, I>(exponentials) }
}

/// Makes probabilities of the row that a room holds, whose padding is minus infinity.
#[inline(always)]
pub(crate) fn probabilities<R: Real, I: Instructions>(room: &mut [R]) {
    let largest = largest::<_, I>(room);
    for value in room.iter_mut() {
        *value = (*value - largest).exponential::<I>();
    }
    let factor = R::ONE / total::<_, I>(room);
    for value in room.iter_mut() {
        *value *= factor;
    }
}

/// The rows of `softmax` or `log_softmax` of `x`.
pub(crate) struct Forward<'a, T> {
    pub(crate) x: &'a [T],
    pub(crate) columns: usize,
    pub(crate) logarithm: bool,
}

impl<T: Element> Rows<T::Wide, 2> for Forward<'_, T> {
    #[inline(always)]
    fn row<I: Instructions>(&self, row: usize, [room, exponentials]: [&mut [T::Wide]; 2]) {
        load(&self.x[row * self.columns..][..self.columns], room, -T::Wide::INFINITY);
        if !self.logarithm {
            return probabilities::<_, I>(room);
        }
        let Normalizer { largest, sum } = normalizer::<_, I>(room, exponentials);
        let logarithm = sum.logarithm();
        for value in room.iter_mut() {
            *value = (*value - largest) - logarithm;
        }
    }
}

/// The rows of the gradient of `x`: `y * (g - sum(g * y))` or, for the logarithm, `g - exp(y) * sum(g)`.
pub(crate) struct Backward<'a, T> {
    pub(crate) from: From<'a, T>,
    pub(crate) gradient: &'a [T],
    pub(crate) columns: usize,
    pub(crate) logarithm: bool,
}

/// What probabilities are taken from.
pub(crate) enum From<'a, T> {
    Input(&'a [T]),
    Output(&'a [T]),
}

impl<T: Element> Backward<'_, T> {
    #[inline(always)]
    fn load_probabilities<I: Instructions>(&self, row: usize, room: &mut [T::Wide]) {
        match (&self.from, self.logarithm) {
            (From::Input(x), _) => {
                load(&x[row * self.columns..][..self.columns], room, -T::Wide::INFINITY);
                probabilities::<_, I>(room);
            }
            (From::Output(y), false) => load(&y[row * self.columns..][..self.columns], room, T::Wide::ZERO),
            (From::Output(y), true) => {
                load(&y[row * self.columns..][..self.columns], room, -T::Wide::INFINITY);
                for value in room.iter_mut() {
                    *value = value.exponential::<I>();
                }
            }
        }
    }
}

impl<T: Element> Rows<T::Wide, 3> for Backward<'_, T> {
    #[inline(always)]
    fn row<I: Instructions>(&self, row: usize, [result, y, gradient]: [&mut [T::Wide]; 3]) {
        load(&self.gradient[row * self.columns..][..self.columns], gradient, T::Wide::ZERO);
        self.load_probabilities::<I>(row, y);
        if self.logarithm {
            let sum = total::<_, I>(gradient);
            for (result, (&y, &gradient)) in result.iter_mut().zip(y.iter().zip(&*gradient)) {
                *result = gradient - y * sum;
            }
        } else {
            for (result, (&y, &gradient)) in result.iter_mut().zip(y.iter().zip(&*gradient)) {
                *result = y * gradient;
            }
            let sum = total::<_, I>(result);
            for (result, (&y, &gradient)) in result.iter_mut().zip(y.iter().zip(&*gradient)) {
                *result = y * (gradient - sum);
            }
        }
    }
}
