//! The innermost part of a product: a tile of results that stays in registers.

#![allow(unsafe_code, reason = "loads without checks of bounds, in the loop that all the time is spent in")]

use std::marker::PhantomData;

use super::super::element::Real;
use super::super::lanes::Lanes;
use super::super::simd::Instructions;
use super::super::storage::Pointer;
use super::GROUP;

/// In what order the elements of a left side are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    /// Groups of [`GROUP`] steps, in each the rows one after the other.
    Rows,
    /// For each step, one place for each of [`GROUP`] rows.
    Columns,
    /// For each step the rows where they lie, so far from those of the step before.
    InPlace { step: usize },
}

/// A part of a matrix that is written: its rows lie `step` apart.
pub(crate) struct Target<'a, R> {
    start: Pointer<R>,
    step: usize,
    rows: usize,
    columns: usize,
    lifetime: PhantomData<&'a mut R>,
}

impl<'a, R> Target<'a, R> {
    /// # Safety
    /// The rows lie in memory that lives as long, and that no one else reads or writes meanwhile.
    pub(super) unsafe fn new(start: *mut R, step: usize, rows: usize, columns: usize) -> Self {
        Self { start: Pointer::new(start), step, rows, columns, lifetime: PhantomData }
    }

    pub(super) fn of_slice(values: &'a mut [R], step: usize) -> Self {
        let rows = values.len().checked_div(step).unwrap_or(0);
        // SAFETY: whole rows of the slice, which is borrowed as long.
        unsafe { Self::new(values.as_mut_ptr(), step, rows, step) }
    }

    /// The part that begins at a row and a column.
    #[inline(always)]
    fn part(&mut self, row: usize, column: usize, rows: usize, columns: usize) -> *mut R {
        assert!(row + rows <= self.rows && column + columns <= self.columns);
        self.start.get().wrapping_add(row * self.step + column)
    }
}

/// A tile: `rows` rows of the left side times two vectors of columns (one if `narrow`) of the right side.
pub(super) struct Tile<'a, R> {
    pub(super) rows: usize,
    pub(super) depth: usize,
    pub(super) left: &'a [R],
    pub(super) packing: Packing,
    /// Rows of the right side, `right_step` apart.
    pub(super) right: &'a [R],
    pub(super) right_step: usize,
    pub(super) narrow: bool,
    /// Whether to add to what is in the sums.
    pub(super) add: bool,
}

impl<R: Real> Tile<'_, R> {
    /// Writes to `sums` from a row and a column on.
    ///
    /// # Safety
    /// Runs where the processor has the instructions of `I`.
    #[inline(always)]
    pub(super) unsafe fn run<I: Instructions>(&self, sums: &mut Target<R>, row: usize, column: usize) {
        let lanes = R::Lanes::<I>::COUNT;
        let width = if self.narrow { lanes } else { 2 * lanes };
        // What the loops below reach.
        assert!((1..=I::ROWS).contains(&self.rows));
        let (sums, step) = (sums.part(row, column, self.rows, width), sums.step);
        assert!(self.depth == 0 || self.right.len() >= (self.depth - 1) * self.right_step + width);
        assert!(
            self.left.len()
                >= match self.packing {
                    Packing::Rows => self.depth.div_ceil(GROUP) * GROUP * self.rows,
                    Packing::Columns => self.depth * GROUP,
                    Packing::InPlace { .. } if self.depth == 0 => 0,
                    Packing::InPlace { step } => (self.depth - 1) * step + self.rows,
                }
        );
        macro_rules! rows {
            ($($rows:literal)*) => {
                match self.rows {
                    // SAFETY: of the instructions, the caller's; of what is reached, the checks above.
                    $($rows if const { $rows <= I::ROWS } => unsafe { self.with_rows::<I, $rows>(sums, step) },)*
                    _ => {}
                }
            };
        }
        rows!(1 2 3 4 5 6 7 8 9 10 11 12 13 14)
    }

    #[inline(always)]
    unsafe fn with_rows<I: Instructions, const M: usize>(&self, sums: *mut R, step: usize) {
        // SAFETY: the caller's.
        unsafe {
            match (self.narrow, self.packing) {
                (false, Packing::Rows) => self.with_columns::<I, M, 2, true>(sums, step),
                (false, Packing::Columns | Packing::InPlace { .. }) => {
                    self.with_columns::<I, M, 2, false>(sums, step)
                }
                (true, Packing::Rows) => self.with_columns::<I, M, 1, true>(sums, step),
                (true, Packing::Columns | Packing::InPlace { .. }) => {
                    self.with_columns::<I, M, 1, false>(sums, step)
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn with_columns<I: Instructions, const M: usize, const V: usize, const ROWS: bool>(
        &self,
        sums: *mut R,
        step: usize,
    ) {
        let lanes = R::Lanes::<I>::COUNT;
        let left_step = match self.packing {
            Packing::Rows => 1,
            Packing::Columns => GROUP,
            Packing::InPlace { step } => step,
        };
        let (mut left, mut right) = (self.left.as_ptr(), self.right.as_ptr());
        // SAFETY: `run` checked that the tile's rows and columns, over its whole depth, lie in the two slices and in the
        // target. Pointers that step beyond their last use do so by `wrapping_add`.
        unsafe {
            let mut tile = [[R::Lanes::<I>::splat(R::ZERO); V]; M];
            let mut remaining = self.depth;
            while remaining > 0 {
                let steps = if ROWS { remaining.min(GROUP) } else { remaining };
                for _ in 0..steps {
                    let mut columns = [R::Lanes::<I>::splat(R::ZERO); V];
                    for (number, vector) in columns.iter_mut().enumerate() {
                        *vector = R::Lanes::<I>::load(right.add(number * lanes));
                    }
                    for (row, sums) in tile.iter_mut().enumerate() {
                        let factor = R::Lanes::<I>::splat(*left.add(if ROWS { row * GROUP } else { row }));
                        for (sum, &column) in sums.iter_mut().zip(&columns) {
                            *sum = factor.times_plus(column, *sum);
                        }
                    }
                    right = right.wrapping_add(self.right_step);
                    left = left.wrapping_add(left_step);
                }
                if ROWS {
                    left = left.wrapping_add(GROUP * M - steps);
                }
                remaining -= steps;
            }
            for (row, vectors) in tile.into_iter().enumerate() {
                for (number, vector) in vectors.into_iter().enumerate() {
                    let place = sums.add(row * step + number * lanes);
                    let vector = if self.add { vector.plus(R::Lanes::<I>::load(place)) } else { vector };
                    vector.store(place);
                }
            }
        }
    }
}
