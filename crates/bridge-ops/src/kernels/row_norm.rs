//! Rows less their mean and divided by their standard deviation, or divided by the root of their mean square.

#![allow(unsafe_code, reason = "results are written into memory that is not set to zero first")]

use std::mem::MaybeUninit;

use super::element::{Element, Real, scratch};
use super::parallel;
use super::product::rooms;
use super::rows::{PADDING, Rows, WORTH_SHARING, give_back, load, put, take_buffer, total};
use super::simd::{Instructions, Kernel, dispatch};
use super::storage::written;

/// How many rows have sums of their own, whatever the number of threads.
const ROWS: usize = 32;

/// How rows are normalized.
#[derive(Clone, Copy)]
pub(crate) struct Norm<'a, R> {
    pub(crate) columns: usize,
    /// Whether the mean is taken off.
    pub(crate) centered: bool,
    pub(crate) epsilon: R,
    pub(crate) scale: Option<&'a [R]>,
    pub(crate) bias: Option<&'a [R]>,
}

impl<R: Real> Norm<'_, R> {
    /// Loads a row, takes its mean off where that is wanted, and returns what it is to be multiplied with. The padding
    /// stays zero.
    #[inline(always)]
    fn load<T: Element<Wide = R>, I: Instructions>(&self, row: &[T], room: &mut [R], squares: &mut [R]) -> R {
        let count = R::real(self.columns as f64);
        load(row, room, R::ZERO);
        if self.centered {
            let mean = total::<_, I>(room) / count;
            for value in room.iter_mut() {
                *value -= mean;
            }
            room[self.columns..].fill(R::ZERO);
        }
        for (square, &value) in squares.iter_mut().zip(&*room) {
            *square = value * value;
        }
        R::ONE / (total::<_, I>(squares) / count + self.epsilon).sqrt()
    }
}

/// The rows of the result.
pub(crate) struct Forward<'a, T: Element> {
    pub(crate) x: &'a [T],
    pub(crate) norm: Norm<'a, T::Wide>,
}

impl<T: Element> Rows<T::Wide, 2> for Forward<'_, T> {
    #[inline(always)]
    fn row<I: Instructions>(&self, row: usize, [room, squares]: [&mut [T::Wide]; 2]) {
        let norm = &self.norm;
        let factor = norm.load::<T, I>(&self.x[row * norm.columns..][..norm.columns], room, squares);
        match (norm.scale, norm.bias) {
            (None, None) => {
                for value in room.iter_mut() {
                    *value *= factor;
                }
            }
            (Some(scale), None) => {
                for (value, &scale) in room.iter_mut().zip(scale) {
                    *value = *value * factor * scale;
                }
            }
            (None, Some(bias)) => {
                for (value, &bias) in room.iter_mut().zip(bias) {
                    *value = value.times_plus::<I>(factor, bias);
                }
            }
            (Some(scale), Some(bias)) => {
                for ((value, &scale), &bias) in room.iter_mut().zip(scale).zip(bias) {
                    *value = (*value * factor).times_plus::<I>(scale, bias);
                }
            }
        }
    }
}

/// Which gradients are wanted, and what they are computed from.
pub(crate) struct Backward<'a, T: Element> {
    pub(crate) x: &'a [T],
    pub(crate) gradient: &'a [T],
    pub(crate) norm: Norm<'a, T::Wide>,
    pub(crate) of_x: bool,
    pub(crate) of_parameters: bool,
}

/// The gradients of the input, if wanted, and of scale and bias, one after the other.
pub(crate) struct Gradients<T: Element> {
    pub(crate) x: Option<Vec<T>>,
    pub(crate) parameters: Vec<T::Wide>,
}

impl<T: Element> Backward<'_, T> {
    pub(crate) fn run(&self) -> Gradients<T> {
        let width = if self.of_parameters { 2 * self.norm.columns } else { 0 };
        assert_eq!(self.gradient.len(), self.x.len());
        let blocks = self.x.len().div_ceil((ROWS * self.norm.columns).max(1));
        let mut sums = vec![T::Wide::ZERO; blocks.max(1) * width];
        let x = match self.of_x {
            // SAFETY: each block's rows are written: there are as many gradients.
            true => Some(unsafe { written(self.x.len(), |out| self.blocks(out, &mut sums)) }),
            false => {
                self.blocks(&mut [], &mut sums);
                None
            }
        };
        add_parts(&mut sums, width);
        sums.truncate(width);
        Gradients { x, parameters: sums }
    }

    /// Does all blocks. Where there is no room for the gradient of the input, it is not wanted.
    fn blocks(&self, out: &mut [MaybeUninit<T>], sums: &mut [T::Wide]) {
        let length = (ROWS * self.norm.columns).max(1);
        let mut outs = out.chunks_mut(length);
        let mut sums = sums.chunks_mut((2 * self.norm.columns).max(1));
        let inputs = self.x.chunks(length).zip(self.gradient.chunks(length));
        let blocks: Vec<Block<'_, T>> = inputs
            .map(|(x, gradient)| {
                let (out, sums) = (outs.next(), sums.next().unwrap_or_default());
                Block { norm: self.norm, x, gradient, out, sums }
            })
            .collect();
        if self.x.len() < WORTH_SHARING {
            blocks.into_iter().for_each(dispatch);
        } else {
            parallel::items(blocks, |block| block.x.len(), dispatch);
        }
    }
}

/// Some rows, and where their gradients and sums go.
struct Block<'a, T: Element> {
    norm: Norm<'a, T::Wide>,
    x: &'a [T],
    gradient: &'a [T],
    out: Option<&'a mut [MaybeUninit<T>]>,
    sums: &'a mut [T::Wide],
}

impl<T: Element> Kernel for Block<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Instructions>(self) {
        let columns = self.norm.columns;
        let padded = columns.next_multiple_of(PADDING);
        let count = T::Wide::real(columns as f64);
        let (scales, biases) = self.sums.split_at_mut(self.sums.len() / 2);
        let mut outs = self.out.map(|out| out.chunks_exact_mut(columns));
        let mut narrow = scratch::<T>();
        let mut buffer = take_buffer::<T::Wide>();
        let [normal, result, gradient] = rooms(&mut buffer, [padded; 3]);
        for (x, row) in self.x.chunks_exact(columns).zip(self.gradient.chunks_exact(columns)) {
            let factor = self.norm.load::<T, I>(x, normal, result);
            for value in normal.iter_mut() {
                *value *= factor;
            }
            load(row, gradient, T::Wide::ZERO);
            let numbers = normal.iter().zip(&*gradient);
            for ((scale, bias), (&normal, &gradient)) in scales.iter_mut().zip(&mut *biases).zip(numbers) {
                *scale = gradient.times_plus::<I>(normal, *scale);
                *bias += gradient;
            }
            let Some(out) = outs.as_mut().and_then(Iterator::next) else { continue };
            if let Some(scale) = self.norm.scale {
                for (value, &scale) in gradient.iter_mut().zip(scale) {
                    *value *= scale;
                }
            }
            let mean = if self.norm.centered { total::<_, I>(gradient) / count } else { T::Wide::ZERO };
            for (result, (&normal, &gradient)) in result.iter_mut().zip(normal.iter().zip(&*gradient)) {
                *result = normal * gradient;
            }
            let projection = total::<_, I>(result) / count;
            for (result, (&normal, &gradient)) in result.iter_mut().zip(normal.iter().zip(&*gradient)) {
                *result = factor * (gradient - mean - normal * projection);
            }
            put::<T>(&result[..columns], out, &mut narrow);
        }
        give_back(buffer);
    }
}

/// Adds up consecutive parts of `width` numbers in pairs. The sums are in the first part after it.
fn add_parts<R: Real>(parts: &mut [R], width: usize) {
    let mut count = parts.len().checked_div(width).unwrap_or(0);
    while count > 1 {
        let half = count.div_ceil(2);
        let (first, second) = parts.split_at_mut(half * width);
        for (sum, &value) in first.iter_mut().zip(&second[..(count - half) * width]) {
            *sum += value;
        }
        count = half;
    }
}
