//! Results that are computed row by row, each row in the innermost cache.

#![allow(
    unsafe_code,
    reason = "results are written into memory that is not set to zero first, and vectors are loaded from it"
)]

use candle_core::WithDType;
use std::marker::PhantomData;
use std::mem::MaybeUninit;

use super::element::{BLOCK, Element, Real, scratch};
use super::lanes::Lanes;
use super::product::rooms;
use super::simd::{Instructions, Kernel, dispatch};
use super::storage::{Written, parallel_written};

/// Rows are padded to a multiple of this, so that no loop over one ends with less than a vector.
pub(crate) const PADDING: usize = 16;

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
        let mut buffer = take_buffer::<T::Wide>();
        let mut rows: [&mut [T::Wide]; N] = rooms(&mut buffer, [padded; N]);
        let mut narrow = scratch::<T>();
        for (row, out) in self.room.chunks_exact_mut(self.columns).enumerate() {
            self.work.row::<I>(self.first + row, rows.each_mut().map(|room| &mut **room));
            if let Some(result) = rows.first() {
                put::<T>(&result[..self.columns], out, &mut narrow);
            }
        }
        give_back(buffer);
        // SAFETY: the room is a number of whole rows, and `put` has written each.
        unsafe { Written::trusted(self.room) }
    }
}

/// The buffer of this thread, to be [given back](give_back). What works with it inside of a closure would be compiled
/// without the instructions of its kernel.
#[inline(always)]
pub(crate) fn take_buffer<R: Real>() -> Vec<R> {
    R::with_buffer(std::mem::take)
}

#[inline(always)]
pub(crate) fn give_back<R: Real>(buffer: Vec<R>) {
    R::with_buffer(|kept| *kept = buffer);
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

/// The sum of a row.
#[inline(always)]
pub(crate) fn total<R: Real, I: Instructions>(values: &[R]) -> R {
    combined::<R, I>(values, R::ZERO, Combination::Sum)
}

/// The sum of numbers, outside of a kernel.
pub(crate) fn sum<R: Real>(values: &[R]) -> R {
    dispatch(Sum(values))
}

struct Sum<'a, R>(&'a [R]);

impl<R: Real> Kernel for Sum<'_, R> {
    type Output = R;

    #[inline(always)]
    fn run<I: Instructions>(self) -> R {
        total::<R, I>(self.0)
    }
}

/// The largest of a row, NaN left out.
#[inline(always)]
pub(crate) fn largest<R: Real, I: Instructions>(values: &[R]) -> R {
    combined::<R, I>(values, -R::INFINITY, Combination::Largest)
}

/// How two numbers become one, whatever their order but for rounding.
#[derive(Clone, Copy)]
enum Combination {
    Sum,
    Largest,
}

impl Combination {
    #[inline(always)]
    fn of<R: Real>(self, value: R, before: R) -> R {
        match self {
            Self::Sum => before + value,
            Self::Largest => {
                if value > before {
                    value
                } else {
                    before
                }
            }
        }
    }

    #[inline(always)]
    fn of_lanes<R: Real, I: Instructions>(self, values: R::Lanes<I>, before: R::Lanes<I>) -> R::Lanes<I> {
        // SAFETY: kernels run at a level that the processor has.
        unsafe {
            match self {
                Self::Sum => before.plus(values),
                Self::Largest => values.larger(before),
            }
        }
    }
}

/// Combines a row in vectors, four at a time, and the numbers of each [`BLOCK`] before those of the next.
#[inline(always)]
fn combined<R: Real, I: Instructions>(values: &[R], start: R, how: Combination) -> R {
    let count = R::Lanes::<I>::COUNT;
    // SAFETY: kernels run at a level that the processor has, here and below.
    let start_lanes = unsafe { R::Lanes::<I>::splat(start) };
    let mut all = start_lanes;
    let whole = values.len() / count * count;
    let mut place = 0;
    while place < whole {
        let end = whole.min(place + BLOCK);
        let mut lanes = [start_lanes; 4];
        while place + 4 * count <= end {
            for (number, lane) in lanes.iter_mut().enumerate() {
                // SAFETY: `count` numbers from there on lie before `end`.
                let next = unsafe { R::Lanes::<I>::load(values.as_ptr().add(place + number * count)) };
                *lane = how.of_lanes::<R, I>(next, *lane);
            }
            place += 4 * count;
        }
        while place < end {
            // SAFETY: `end` is a multiple of `count` away.
            let next = unsafe { R::Lanes::<I>::load(values.as_ptr().add(place)) };
            lanes[0] = how.of_lanes::<R, I>(next, lanes[0]);
            place += count;
        }
        let [first, second, third, fourth] = lanes;
        let pair = how.of_lanes::<R, I>(second, first);
        let other = how.of_lanes::<R, I>(fourth, third);
        all = how.of_lanes::<R, I>(how.of_lanes::<R, I>(other, pair), all);
    }
    let mut numbers = [start; PADDING];
    debug_assert!(count <= PADDING);
    // SAFETY: a vector is no longer than the padding.
    unsafe { all.store(numbers.as_mut_ptr()) };
    for (number, &value) in numbers.iter_mut().zip(&values[whole..]) {
        *number = how.of(value, *number);
    }
    let mut width = PADDING / 2;
    while width > 0 {
        for number in 0..width {
            numbers[number] = how.of(numbers[number + width], numbers[number]);
        }
        width /= 2;
    }
    numbers[0]
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
        let mut buffer = take_buffer::<R>();
        let mut rooms: [&mut [R]; N] = rooms(&mut buffer, [padded; N]);
        for (row, out) in self.room.iter_mut().enumerate() {
            out.write(self.work.number::<I>(self.first + row, rooms.each_mut().map(|room| &mut **room)));
        }
        give_back(buffer);
        // SAFETY: every number has been written.
        unsafe { Written::trusted(self.room) }
    }
}
