//! Rows of a table, looked up by index, and the gradient of the table.

#![allow(unsafe_code, reason = "results are written into memory that is not set to zero first")]

use super::element::{BLOCK, Element, Real, scratch};
use super::parallel::{self, threads};
use super::simd::{Instructions, Kernel, dispatch};
use super::storage::{Written, parallel_written};

/// Below how many elements a copy stays on one thread, which memory bounds.
const WORTH_COPYING: usize = 1 << 17;

/// Below how many elements sums stay on one thread.
const WORTH_SHARING: usize = 1 << 14;

/// A table with its strides.
#[derive(Clone, Copy)]
pub(crate) struct Table<'a, T> {
    /// From the first element on.
    pub(crate) values: &'a [T],
    pub(crate) features: usize,
    pub(crate) row_stride: usize,
    pub(crate) feature_stride: usize,
}

impl<T: Element> Table<'_, T> {
    /// The rows of the indices, one after the other.
    pub(crate) fn rows(self, indices: &[usize]) -> Vec<T> {
        let features = self.features;
        parallel_written(indices.len() * features, features, WORTH_COPYING, |start, room| {
            let indices = &indices[start / features..];
            for (out, &index) in room.chunks_exact_mut(features).zip(indices) {
                let row = &self.values[index * self.row_stride..];
                if self.feature_stride == 1 {
                    out.write_copy_of_slice(&row[..features]);
                } else {
                    for (feature, out) in out.iter_mut().enumerate() {
                        out.write(row[feature * self.feature_stride]);
                    }
                }
            }
            // SAFETY: a share is a number of whole rows, with an index for each, and all their elements were written.
            unsafe { Written::trusted(room) }
        })
    }
}

/// Adds to each row of `sums`, or sets it to, the sum of the rows of `gradient` whose index it has, in their order.
pub(crate) fn add_rows<T: Element>(
    gradient: &[T],
    indices: &[usize],
    features: usize,
    sums: &mut [T::Wide],
    add: bool,
) {
    let rows = sums.len().checked_div(features).unwrap_or(0);
    let work = gradient.len() + if add { 0 } else { sums.len() };
    let shares = if work < WORTH_SHARING { 1 } else { threads() };
    let rows = rows.div_ceil(shares).max(1);
    let shares: Vec<_> = sums.chunks_mut((rows * features).max(1)).enumerate().collect();
    parallel::items(
        shares,
        |(_, sums)| sums.len(),
        |(number, sums)| dispatch(AddRows { gradient, indices, features, first: number * rows, sums, add }),
    );
}

/// The rows from `first` on.
struct AddRows<'a, T: Element> {
    gradient: &'a [T],
    indices: &'a [usize],
    features: usize,
    first: usize,
    sums: &'a mut [T::Wide],
    add: bool,
}

impl<T: Element> Kernel for AddRows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Instructions>(self) {
        let mut wide = scratch::<T>();
        if !self.add {
            self.sums.fill(T::Wide::ZERO);
        }
        for (row, &index) in self.gradient.chunks_exact(self.features).zip(self.indices) {
            let Some(start) = index.checked_sub(self.first).map(|row| row * self.features) else { continue };
            let Some(sums) = self.sums.get_mut(start..start + self.features) else { continue };
            for (sums, row) in sums.chunks_mut(BLOCK).zip(row.chunks(BLOCK)) {
                for (sum, &value) in sums.iter_mut().zip(T::wide(row, &mut wide)) {
                    *sum += value;
                }
            }
        }
    }
}
