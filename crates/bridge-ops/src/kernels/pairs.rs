//! Losses of pairs of numbers, a prediction and its target: each, or the sum of all.

#![allow(unsafe_code, reason = "results are written into memory that is not set to zero first")]

use std::mem::MaybeUninit;

use super::element::{BLOCK, Element, Real, scratch};
use super::rows::{put, sum, total};
use super::simd::{Instructions, Kernel, dispatch};
use super::storage::{Written, parallel_written};

/// How many pairs are summed at a time, whatever the number of threads.
const SUMMED: usize = 8 * BLOCK;

/// Below how many pairs work stays on one thread.
const WORTH_SHARING: usize = 1 << 13;

/// A loss, and its derivatives. All are inlined into the loops of kernels: `#[inline(always)]`.
pub(crate) trait Pair: Copy + Send + Sync + 'static {
    /// The name that errors show.
    const NAME: &'static str;

    fn value<R: Real, I: Instructions>(self, prediction: R, target: R) -> R;

    fn by_prediction<R: Real, I: Instructions>(self, prediction: R, target: R) -> R;

    fn by_target<R: Real, I: Instructions>(self, prediction: R, target: R) -> R;
}

/// The square of the difference.
#[derive(Clone, Copy)]
pub(crate) struct SquaredError;

impl Pair for SquaredError {
    const NAME: &'static str = "mean_squared_error";

    #[inline(always)]
    fn value<R: Real, I: Instructions>(self, prediction: R, target: R) -> R {
        (prediction - target) * (prediction - target)
    }
    #[inline(always)]
    fn by_prediction<R: Real, I: Instructions>(self, prediction: R, target: R) -> R {
        (prediction - target) + (prediction - target)
    }
    #[inline(always)]
    fn by_target<R: Real, I: Instructions>(self, prediction: R, target: R) -> R {
        (target - prediction) + (target - prediction)
    }
}

/// `-target * log(sigmoid(x)) - (1 - target) * log(sigmoid(-x))`, which is stable however large `x` is.
#[derive(Clone, Copy)]
pub(crate) struct BinaryCrossEntropy;

impl Pair for BinaryCrossEntropy {
    const NAME: &'static str = "binary_cross_entropy_with_logits";

    #[inline(always)]
    fn value<R: Real, I: Instructions>(self, x: R, target: R) -> R {
        let common = (-x.abs()).exponential::<I>().ln_1p::<I>();
        let (minimum, opposite) = if x < R::ZERO { (x, R::ZERO) } else { (R::ZERO, -x) };
        -target * (minimum - common) - (R::ONE - target) * (opposite - common)
    }
    #[inline(always)]
    fn by_prediction<R: Real, I: Instructions>(self, x: R, target: R) -> R {
        x.logistic::<I>() - target
    }
    #[inline(always)]
    fn by_target<R: Real, I: Instructions>(self, x: R, _: R) -> R {
        -x
    }
}

/// The predictions and targets of a loss, as many of the one as of the other.
#[derive(Clone, Copy)]
pub(crate) struct Pairs<'a, T, P> {
    predictions: &'a [T],
    targets: &'a [T],
    loss: P,
}

/// The gradients of losses.
#[derive(Clone, Copy)]
pub(crate) enum Gradient<'a, R> {
    /// The same for all.
    One(R),
    Each(&'a [R]),
}

impl<'a, T: Element, P: Pair> Pairs<'a, T, P> {
    pub(crate) fn new(predictions: &'a [T], targets: &'a [T], loss: P) -> Self {
        let length = predictions.len().min(targets.len());
        Self { predictions: &predictions[..length], targets: &targets[..length], loss }
    }

    /// The loss of each pair.
    pub(crate) fn losses(self) -> Vec<T::Wide> {
        parallel_written(self.predictions.len(), BLOCK, WORTH_SHARING, |start, room| {
            let pairs = self.part(start, room.len());
            dispatch(Losses { pairs, room })
        })
    }

    /// The sum of the losses: of blocks' sums, so that it is accurate, and the same for any number of threads.
    pub(crate) fn sum(self) -> T::Wide {
        let blocks = self.predictions.len().div_ceil(SUMMED);
        let sums: Vec<T::Wide> = parallel_written(blocks, 1, WORTH_SHARING / SUMMED, |first, room| {
            Written::by(room, |block| {
                let start = (first + block) * SUMMED;
                dispatch(Sum(self.part(start, SUMMED.min(self.predictions.len() - start))))
            })
        });
        sum(&sums)
    }

    /// The gradient of the predictions or, with `TARGETS`, of the targets. There is a gradient for each pair, or one for all.
    pub(crate) fn pulled_back<const TARGETS: bool>(self, gradient: Gradient<T::Wide>) -> Vec<T> {
        parallel_written(self.predictions.len(), BLOCK, WORTH_SHARING, |start, room| {
            let pairs = self.part(start, room.len());
            let gradient = match gradient {
                Gradient::Each(values) => Gradient::Each(&values[start..start + room.len()]),
                one => one,
            };
            dispatch(PulledBack::<T, P, TARGETS> { pairs, gradient, room })
        })
    }

    fn part(self, start: usize, length: usize) -> Self {
        let part = |values: &'a [T]| &values[start..start + length];
        Self { predictions: part(self.predictions), targets: part(self.targets), ..self }
    }

    fn blocks(self) -> impl Iterator<Item = (&'a [T], &'a [T])> {
        self.predictions.chunks(BLOCK).zip(self.targets.chunks(BLOCK))
    }
}

struct Losses<'a, 'o, T: Element, P> {
    pairs: Pairs<'a, T, P>,
    room: &'o mut [MaybeUninit<T::Wide>],
}

impl<'o, T: Element, P: Pair> Kernel for Losses<'_, 'o, T, P> {
    type Output = Written<'o, T::Wide>;

    #[inline(always)]
    fn run<I: Instructions>(self) -> Self::Output {
        let (mut first, mut second) = (scratch::<T>(), scratch::<T>());
        for (out, (predictions, targets)) in self.room.chunks_mut(BLOCK).zip(self.pairs.blocks()) {
            let predictions = T::wide(predictions, &mut first);
            let targets = T::wide(targets, &mut second);
            for ((out, &prediction), &target) in out.iter_mut().zip(predictions).zip(targets) {
                out.write(self.pairs.loss.value::<_, I>(prediction, target));
            }
        }
        // SAFETY: there are as many pairs as there is room, and every one's loss has been written.
        unsafe { Written::trusted(self.room) }
    }
}

struct Sum<'a, T, P>(Pairs<'a, T, P>);

impl<T: Element, P: Pair> Kernel for Sum<'_, T, P> {
    type Output = T::Wide;

    #[inline(always)]
    fn run<I: Instructions>(self) -> T::Wide {
        let (mut first, mut second, mut losses) = (scratch::<T>(), scratch::<T>(), scratch::<T>());
        let mut sum = T::Wide::ZERO;
        for (predictions, targets) in self.0.blocks() {
            let losses = &mut losses[..predictions.len()];
            let predictions = T::wide(predictions, &mut first);
            let targets = T::wide(targets, &mut second);
            for ((loss, &prediction), &target) in losses.iter_mut().zip(predictions).zip(targets) {
                *loss = self.0.loss.value::<_, I>(prediction, target);
            }
            sum += total::<_, I>(losses);
        }
        sum
    }
}

struct PulledBack<'a, 'o, T: Element, P, const TARGETS: bool> {
    pairs: Pairs<'a, T, P>,
    gradient: Gradient<'a, T::Wide>,
    room: &'o mut [MaybeUninit<T>],
}

impl<'o, T: Element, P: Pair, const TARGETS: bool> Kernel for PulledBack<'_, 'o, T, P, TARGETS> {
    type Output = Written<'o, T>;

    #[inline(always)]
    fn run<I: Instructions>(self) -> Self::Output {
        let (mut first, mut second) = (scratch::<T>(), scratch::<T>());
        let (mut wide, mut narrow) = (scratch::<T>(), scratch::<T>());
        for (number, (out, (predictions, targets))) in
            self.room.chunks_mut(BLOCK).zip(self.pairs.blocks()).enumerate()
        {
            let predictions = T::wide(predictions, &mut first);
            let targets = T::wide(targets, &mut second);
            let wide = &mut wide[..out.len()];
            for (wide, (&prediction, &target)) in wide.iter_mut().zip(predictions.iter().zip(targets)) {
                *wide = match TARGETS {
                    true => self.pairs.loss.by_target::<_, I>(prediction, target),
                    false => self.pairs.loss.by_prediction::<_, I>(prediction, target),
                };
            }
            match self.gradient {
                Gradient::One(gradient) => {
                    for wide in wide.iter_mut() {
                        *wide *= gradient;
                    }
                }
                Gradient::Each(gradients) => {
                    for (wide, &gradient) in wide.iter_mut().zip(&gradients[number * BLOCK..]) {
                        *wide *= gradient;
                    }
                }
            }
            put::<T>(wide, out, &mut narrow);
        }
        // SAFETY: there are as many pairs as there is room, and every one's gradient has been written.
        unsafe { Written::trusted(self.room) }
    }
}
