//! Sums over gradients that do not depend on the number of threads.

use candle_core::WithDType;

use super::element::{BLOCK, Element, Real, scratch};
use super::simd::{Instructions, Kernel};

/// How many elements are summed at a time; what the sums of such blocks are added up from.
pub(crate) const SUMMED: usize = 8 * BLOCK;

/// As many sums side by side as the widest vectors hold twice.
const SUMS: usize = 16;

/// The sum of squares in f64.
pub(crate) struct SumOfSquares<'a, T>(pub(crate) &'a [T]);

impl<T: Element> Kernel for SumOfSquares<'_, T> {
    type Output = f64;

    #[inline(always)]
    fn run<I: Instructions>(self) -> f64 {
        let mut wide = scratch::<T>();
        let mut sums = [0f64; SUMS];
        for block in self.0.chunks(BLOCK) {
            let block = T::wide(block, &mut wide);
            let (whole, rest) = block.as_chunks::<SUMS>();
            for values in whole {
                for (sum, &value) in sums.iter_mut().zip(values) {
                    let value = value.to_f64();
                    *sum += value * value;
                }
            }
            for (sum, &value) in sums.iter_mut().zip(rest) {
                let value = value.to_f64();
                *sum += value * value;
            }
        }
        sums.iter().sum()
    }
}

/// Whether all are finite.
pub(crate) struct Finite<'a, T>(pub(crate) &'a [T]);

impl<T: Element> Kernel for Finite<'_, T> {
    type Output = bool;

    #[inline(always)]
    fn run<I: Instructions>(self) -> bool {
        let mut wide = scratch::<T>();
        self.0.chunks(BLOCK).all(|block| {
            let block = T::wide(block, &mut wide);
            // Without an early end, so that it becomes vector instructions.
            block.iter().fold(true, |finite, value| finite & (value.abs() < T::Wide::INFINITY))
        })
    }
}
