//! Where the sums of a product go.

#![allow(unsafe_code, reason = "threads write the pieces of one result")]

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;

use super::super::element::{BLOCK, Element, Real, scratch};
use super::super::storage::{Pointer, written};
use super::tile::Target;
use super::{Epilogue, Source, product};

/// Takes the finished sums, each once.
pub(crate) trait Finish<R: Real>: Sync {
    /// Takes `sums` of a row, from a column on.
    ///
    /// # Safety
    /// Each place of the result is given once, here or as part of a target.
    unsafe fn piece(&self, row: usize, column: usize, sums: &[R]);

    /// Where the sums of these rows and columns may be written without a call of [`Finish::piece`], and whether they are
    /// added to what is there. `in_parts` if they are sums of sums.
    ///
    /// # Safety
    /// As for [`Finish::piece`].
    unsafe fn target(
        &self,
        _rows: &Range<usize>,
        _columns: &Range<usize>,
        _in_parts: bool,
    ) -> Option<(Target<'_, R>, bool)> {
        None
    }
}

/// A matrix to write, its rows one after the other.
struct Room<'a, T> {
    start: Pointer<T>,
    rows: usize,
    columns: usize,
    lifetime: PhantomData<&'a mut [T]>,
}

impl<'a, T> Room<'a, T> {
    fn new(values: &'a mut [T], columns: usize) -> Self {
        let rows = values.len().checked_div(columns).unwrap_or(0);
        Self { start: Pointer::new(values.as_mut_ptr()), rows, columns, lifetime: PhantomData }
    }

    /// # Safety
    /// No two threads may hold pieces that overlap.
    #[inline(always)]
    #[allow(clippy::mut_from_ref, reason = "the caller vouches for it")]
    unsafe fn piece(&self, row: usize, column: usize, length: usize) -> &mut [T] {
        assert!(row < self.rows && column + length <= self.columns);
        // SAFETY: inside of the slice, by the check; no one else holds it, by the caller.
        unsafe { std::slice::from_raw_parts_mut(self.start.get().add(row * self.columns + column), length) }
    }
}

/// `epilogue(left @ right + bias)`, row after row.
pub(crate) fn output<T: Element>(
    left: &dyn Source<T::Wide>,
    right: &dyn Source<T::Wide>,
    bias: Option<&[T]>,
    epilogue: Epilogue,
) -> Vec<T> {
    let (rows, columns) = (left.rows(), right.columns());
    // SAFETY: a product gives every piece of its result.
    unsafe {
        written(rows * columns, |out| {
            product(left, right, &Output { room: Room::new(out, columns), bias, epilogue });
        })
    }
}

struct Output<'a, T> {
    room: Room<'a, MaybeUninit<T>>,
    bias: Option<&'a [T]>,
    epilogue: Epilogue,
}

impl<T: Element> Finish<T::Wide> for Output<'_, T> {
    #[inline(always)]
    unsafe fn piece(&self, row: usize, column: usize, sums: &[T::Wide]) {
        // SAFETY: the caller's.
        let out = unsafe { self.room.piece(row, column, sums.len()) };
        let bias = self.bias.and_then(|bias| bias.get(column..));
        let (mut wide, mut narrow) = (scratch::<T>(), scratch::<T>());
        for (number, (out, sums)) in out.chunks_mut(BLOCK).zip(sums.chunks(BLOCK)).enumerate() {
            let bias = bias.map(|bias| T::wide(&bias[number * BLOCK..][..sums.len()], &mut wide));
            T::fill(out, &mut narrow, |out| self.epilogue.write(out, sums, bias));
        }
    }
}

/// The sum, written over what is there or added to it.
pub(crate) struct Sum<'a, R> {
    room: Room<'a, R>,
    add: bool,
}

impl<'a, R: Real> Sum<'a, R> {
    pub(crate) fn new(values: &'a mut [R], columns: usize, add: bool) -> Self {
        Self { room: Room::new(values, columns), add }
    }
}

impl<R: Real> Finish<R> for Sum<'_, R> {
    #[inline(always)]
    unsafe fn piece(&self, row: usize, column: usize, sums: &[R]) {
        // SAFETY: the caller's.
        let out = unsafe { self.room.piece(row, column, sums.len()) };
        if self.add {
            out.iter_mut().zip(sums).for_each(|(out, &sum)| *out += sum);
        } else {
            out.copy_from_slice(sums);
        }
    }

    unsafe fn target(
        &self,
        rows: &Range<usize>,
        columns: &Range<usize>,
        in_parts: bool,
    ) -> Option<(Target<'_, R>, bool)> {
        if self.add && in_parts {
            // Parts would be added to what is there one by one, with other bits.
            return None;
        }
        let room = &self.room;
        assert!(rows.end <= room.rows && columns.end <= room.columns);
        let start = room.start.get().wrapping_add(rows.start * room.columns + columns.start);
        // SAFETY: inside of the slice, by the check; no one else has it, by the caller.
        Some((unsafe { Target::new(start, room.columns, rows.len(), columns.len()) }, self.add))
    }
}
