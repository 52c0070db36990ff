//! Results that are computed row by row, each row in the innermost cache.

#![allow(unsafe_code, reason = "results are written into memory that is not set to zero first")]

use candle_core::WithDType;
use std::marker::PhantomData;
use std::mem::MaybeUninit;

use super::element::{BLOCK, Element, Real, scratch};
use super::product::rooms;
use super::simd::{Instructions, Kernel, dispatch};
use super::storage::{Written, parallel_written};

/// Rows are padded to a multiple of this, so that no loop over one ends with less than a vector.
pub(crate) const PADDING: usize = 16;

/// How many sums run side by side.
const LANES: usize = 32;

/// Below how many elements work stays on one thread.
pub(crate) const WORTH_SHARING: usize = 1 << 12;

/// A result that is computed row by row with `N` rooms, each a row and its [padding](PADDING) long.
pub(crate) trait Rows<R: Real, const N: usize>: Sync {
    /// Leaves the row of that number in the first room. What the rooms hold before is of no use.
    fn row<I: Instructions>(&self, row: usize, rooms: [&mut [R]; N]);
}

/// All rows of a result of `rows` times `columns` elements, one after the other.
pub(crate) fn rows_written<T: Element, const N: usize>(
    rows: usize,
    columns: usize,
    work: &impl Rows<T::Wide, N>,
) -> Vec<T> {
    parallel_written(rows * columns, columns, WORTH_SHARING, |start, room| {
        dispatch(Share { first: start / columns, columns, work, room, number: PhantomData::<[T::Wide; N]> })
    })
}

struct Share<'a, 'w, T: Element, W, const N: usize> {
    first: usize,
    columns: usize,
    work: &'w W,
    room: &'a mut [MaybeUninit<T>],
    number: PhantomData<[T::Wide; N]>,
}

impl<'a, T: Element, W: Rows<T::Wide, N>, const N: usize> Kernel for Share<'a, '_, T, W, N> {
    type Output = Written<'a, T>;

    #[inline(always)]
    fn run<I: Instructions>(self) -> Written<'a, T> {
        let padded = self.columns.next_multiple_of(PADDING);
        T::Wide::with_buffer(|buffer| {
            let mut rows: [&mut [T::Wide]; N] = rooms(buffer, [padded; N]);
            let mut narrow = scratch::<T>();
            for (row, out) in self.room.chunks_exact_mut(self.columns).enumerate() {
                self.work.row::<I>(self.first + row, rows.each_mut().map(|room| &mut **room));
                if let Some(result) = rows.first() {
                    put::<T>(&result[..self.columns], out, &mut narrow);
                }
            }
        });
        // SAFETY: the room is a number of whole rows, and `put` has written each.
        unsafe { Written::trusted(self.room) }
    }
}

/// Writes all of a row, rounded to its dtype. `narrow` is room for [`BLOCK`] elements.
#[inline(always)]
pub(crate) fn put<T: Element>(row: &[T::Wide], out: &mut [MaybeUninit<T>], narrow: &mut [T::Wide]) {
    for (out, row) in out.chunks_mut(BLOCK).zip(row.chunks(BLOCK)) {
        T::fill(out, narrow, |out| {
            for (out, &value) in out.iter_mut().zip(row) {
                out.write(value);
            }
        });
    }
}

/// Copies a row into a room, in the dtype of the arithmetic, and sets what is behind it to `rest`.
#[inline(always)]
pub(crate) fn load<T: Element>(values: &[T], room: &mut [T::Wide], rest: T::Wide) {
    let (row, padding) = room.split_at_mut(values.len());
    for (row, values) in row.chunks_mut(BLOCK).zip(values.chunks(BLOCK)) {
        if T::DTYPE == <T::Wide as WithDType>::DTYPE {
            row.copy_from_slice(T::wide(values, &mut []));
        } else {
            T::wide(values, row);
        }
    }
    padding.fill(rest);
}

/// All numbers of a padded row combined by an operation whose order does not matter but for rounding.
#[inline(always)]
fn combined<R: Real>(values: &[R], start: R, combine: impl Fn(R, R) -> R) -> R {
    let mut total = [start; LANES];
    for block in values.chunks(BLOCK) {
        let mut lanes = [start; LANES];
        let chunks = block.chunks_exact(LANES);
        let rest = chunks.remainder();
        for chunk in chunks {
            for (lane, &value) in lanes.iter_mut().zip(chunk) {
                *lane = combine(*lane, value);
            }
        }
        for (lane, &value) in lanes.iter_mut().zip(rest) {
            *lane = combine(*lane, value);
        }
        for (total, &lane) in total.iter_mut().zip(&lanes) {
            *total = combine(*total, lane);
        }
    }
    let mut width = LANES / 2;
    while width > 0 {
        let (first, second) = total.split_at_mut(width);
        for (first, &second) in first.iter_mut().zip(&*second) {
            *first = combine(*first, second);
        }
        width /= 2;
    }
    total[0]
}

/// The sum of a padded row, whose padding is zero.
#[inline(always)]
pub(crate) fn total<R: Real>(values: &[R]) -> R {
    combined(values, R::ZERO, |sum, value| sum + value)
}

/// The largest of a padded row, NaN left out.
#[inline(always)]
pub(crate) fn largest<R: Real>(values: &[R]) -> R {
    combined(values, -R::INFINITY, |largest, value| if value > largest { value } else { largest })
}

/// A number for each row, computed with `N` rooms as in [`Rows`].
pub(crate) trait Numbers<R: Real, const N: usize>: Sync {
    fn number<I: Instructions>(&self, row: usize, rooms: [&mut [R]; N]) -> R;
}

/// The numbers of all rows, each `columns` long.
pub(crate) fn numbers_written<R: Real, const N: usize>(
    rows: usize,
    columns: usize,
    work: &impl Numbers<R, N>,
) -> Vec<R> {
    parallel_written(rows, 1, WORTH_SHARING / columns.max(1), |first, room| {
        dispatch(NumbersShare { first, columns, work, room })
    })
}

struct NumbersShare<'a, 'w, R, W, const N: usize> {
    first: usize,
    columns: usize,
    work: &'w W,
    room: &'a mut [MaybeUninit<R>],
}

impl<'a, R: Real, W: Numbers<R, N>, const N: usize> Kernel for NumbersShare<'a, '_, R, W, N> {
    type Output = Written<'a, R>;

    #[inline(always)]
    fn run<I: Instructions>(self) -> Written<'a, R> {
        let padded = self.columns.next_multiple_of(PADDING);
        R::with_buffer(|buffer| {
            let mut rooms: [&mut [R]; N] = rooms(buffer, [padded; N]);
            for (row, out) in self.room.iter_mut().enumerate() {
                out.write(self.work.number::<I>(self.first + row, rooms.each_mut().map(|room| &mut **room)));
            }
        });
        // SAFETY: every number has been written.
        unsafe { Written::trusted(self.room) }
    }
}
