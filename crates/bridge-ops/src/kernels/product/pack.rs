//! The two sides of a product in the order in which the tiles read them.

use std::ops::Range;

use super::super::element::Real;
use super::super::lanes::{Lanes, MOST, transpose};
use super::super::simd::Instructions;
use super::source::prefetch;
use super::tile::Packing;
use super::{GROUP, Source};

/// The heights, first rows and places of the panels of a packed left side, as even as they can be.
#[inline(always)]
pub(super) fn panels<I: Instructions>(
    rows: usize,
    depth: usize,
    packing: Packing,
) -> impl Iterator<Item = (usize, usize, usize)> {
    let count = rows.div_ceil(I::ROWS).max(1);
    let (height, higher) = (rows / count, rows % count);
    let (mut top, mut start) = (0, 0);
    (0..count).map(move |panel| {
        let height = height + usize::from(panel < higher);
        let found = (height, top, start);
        top += height;
        start += match packing {
            Packing::Rows => height * depth.next_multiple_of(GROUP),
            Packing::Columns => GROUP * depth,
            Packing::InPlace { .. } => height,
        };
        found
    })
}

/// Blocks of the left side: where they lie, or packed. The block that was packed last stays.
pub(super) struct LeftBlocks<'a, R> {
    side: &'a dyn Source<R>,
    in_place: Option<(&'a [R], usize)>,
    room: &'a mut [R],
    packed: Option<(usize, usize)>,
    packing: Packing,
}

impl<'a, R: Real> LeftBlocks<'a, R> {
    pub(super) fn new(side: &'a dyn Source<R>, room: &'a mut [R]) -> Self {
        let in_place = side.in_place().filter(|_| side.lines_are_columns());
        Self { side, in_place, room, packed: None, packing: Packing::Rows }
    }

    #[inline(always)]
    pub(super) fn block<I: Instructions>(
        &mut self,
        rows: &Range<usize>,
        depths: &Range<usize>,
        scratch: &mut [R],
    ) -> (&[R], Packing) {
        if let Some((values, step)) = self.in_place {
            return (&values[depths.start * step + rows.start..], Packing::InPlace { step });
        }
        let block = Some((rows.start, depths.start));
        if self.packed != block {
            self.packing = pack_left::<R, I>(self.side, rows.clone(), depths.clone(), self.room, scratch);
            self.packed = block;
        }
        (self.room, self.packing)
    }
}

/// Panels of the right side, as wide as a tile.
#[derive(Clone, Copy)]
pub(super) struct Panels<'a, R> {
    pub(super) values: &'a [R],
    /// How far panels are from each other.
    pub(super) apart: usize,
    /// How far the rows of a panel are from each other.
    pub(super) step: usize,
}

/// Blocks of the right side: where they lie if they are whole tiles, or packed. The block that was packed last stays.
pub(super) struct RightBlocks<'a, R> {
    side: &'a dyn Source<R>,
    in_place: Option<(&'a [R], usize)>,
    room: &'a mut [R],
    packed: Option<(usize, usize)>,
}

impl<'a, R: Real> RightBlocks<'a, R> {
    pub(super) fn new(side: &'a dyn Source<R>, room: &'a mut [R]) -> Self {
        let in_place = side.in_place().filter(|_| !side.lines_are_columns());
        Self { side, in_place, room, packed: None }
    }

    #[inline(always)]
    pub(super) fn block<I: Instructions>(
        &mut self,
        depths: &Range<usize>,
        columns: &Range<usize>,
        scratch: &mut [R],
    ) -> Panels<'_, R> {
        let width = 2 * R::Lanes::<I>::COUNT;
        if let Some((values, step)) = self.in_place
            && columns.len().is_multiple_of(width)
        {
            return Panels { values: &values[depths.start * step + columns.start..], apart: width, step };
        }
        let block = Some((columns.start, depths.start));
        if self.packed != block {
            pack_right::<R, I>(self.side, depths.clone(), columns.clone(), self.room, scratch);
            self.packed = block;
        }
        Panels { values: self.room, apart: width * depths.len(), step: width }
    }
}

/// Packs rows of the left side, in the way that suits the order in which its elements lie.
#[inline(always)]
fn pack_left<R: Real, I: Instructions>(
    left: &dyn Source<R>,
    rows: Range<usize>,
    depths: Range<usize>,
    packed: &mut [R],
    scratch: &mut [R],
) -> Packing {
    let depth = depths.len();
    if left.lines_are_columns() {
        for (step, line) in depths.enumerate() {
            left.prefetch(line + AHEAD, rows.start, rows.len());
            let line = left.line(line, rows.start, rows.len(), scratch);
            for (height, top, start) in panels::<I>(rows.len(), depth, Packing::Columns) {
                let place = &mut packed[start + step * GROUP..][..GROUP];
                match line[top..].first_chunk::<GROUP>() {
                    Some(group) => place.copy_from_slice(group),
                    None => place[..height].copy_from_slice(&line[top..top + height]),
                }
            }
        }
        return Packing::Columns;
    }
    for (height, top, start) in panels::<I>(rows.len(), depth, Packing::Rows) {
        for row in 0..height {
            let line = left.line(rows.start + top + row, depths.start, depth, scratch);
            let (groups, rest) = line.as_chunks::<GROUP>();
            let mut place = start + row * GROUP;
            for group in groups {
                packed[place..][..GROUP].copy_from_slice(group);
                place += height * GROUP;
            }
            if !rest.is_empty() {
                packed[place..][..rest.len()].copy_from_slice(rest);
            }
        }
    }
    Packing::Rows
}

/// How many lines before its turn a line is asked for.
const AHEAD: usize = 4;

/// How many steps of columns are laid across at a time.
const TRANSPOSED: usize = 64;

/// Packs columns of the right side: panels as wide as a tile, with zeros where there is no column.
#[inline(always)]
fn pack_right<R: Real, I: Instructions>(
    right: &dyn Source<R>,
    depths: Range<usize>,
    columns: Range<usize>,
    packed: &mut [R],
    scratch: &mut [R],
) {
    let (depth, width) = (depths.len(), 2 * R::Lanes::<I>::COUNT);
    if right.lines_are_columns() {
        let in_place = right.in_place();
        for (panel, first) in columns.clone().step_by(width).enumerate() {
            let panel = &mut packed[panel * width * depth..][..width * depth];
            let held = width.min(columns.end - first);
            // A few steps at a time, so that what is written to stays in the innermost cache.
            for (number, steps) in panel.chunks_mut(width * TRANSPOSED).enumerate() {
                let start = depths.start + number * TRANSPOSED;
                if let Some((values, apart)) = in_place
                    && held == width
                    && steps.len() == width * TRANSPOSED
                {
                    lay_across::<R, I>(&values[first * apart + start..], apart, steps);
                    continue;
                }
                for column in 0..held {
                    let line = right.line(first + column, start, steps.len() / width, scratch);
                    for (row, &value) in steps.chunks_exact_mut(width).zip(line) {
                        row[column] = value;
                    }
                }
            }
            if held < width {
                panel.chunks_exact_mut(width).for_each(|row| row[held..].fill(R::ZERO));
            }
        }
        return;
    }
    for (step, line) in depths.enumerate() {
        // Lines are far from each other: the processor does not see which comes next.
        right.prefetch(line + AHEAD, columns.start, columns.len());
        let line = right.line(line, columns.start, columns.len(), scratch);
        for (panel, line) in line.chunks(width).enumerate() {
            let place = &mut packed[(panel * depth + step) * width..][..width];
            if line.len() == width {
                place.copy_from_slice(line);
            } else {
                place[..line.len()].copy_from_slice(line);
                place[line.len()..].fill(R::ZERO);
            }
        }
    }
}

/// Turns columns, which are `apart`, into rows as wide as a tile.
#[inline(always)]
fn lay_across<R: Real, I: Instructions>(columns: &[R], apart: usize, rows: &mut [R]) {
    let lanes = R::Lanes::<I>::COUNT;
    let width = 2 * lanes;
    for (number, rows) in rows.chunks_exact_mut(width * lanes).enumerate() {
        for first in [0, lanes] {
            // SAFETY: kernels run at a level that the processor has. What is loaded and stored are slices of that length.
            #[allow(unsafe_code, reason = "see there")]
            unsafe {
                let mut square = [R::Lanes::<I>::splat(R::ZERO); MOST];
                for (column, vector) in square[..lanes].iter_mut().enumerate() {
                    let start = (first + column) * apart + number * lanes;
                    prefetch(columns.as_ptr().wrapping_add(start + TRANSPOSED));
                    *vector = R::Lanes::<I>::load(columns[start..][..lanes].as_ptr());
                }
                transpose(&mut square);
                for (row, vector) in rows.chunks_exact_mut(width).zip(square) {
                    vector.store(row[first..][..lanes].as_mut_ptr());
                }
            }
        }
    }
}

/// Rows of a side, one after the other.
#[inline(always)]
pub(super) fn copy_rows<R: Real>(
    side: &dyn Source<R>,
    rows: Range<usize>,
    depths: Range<usize>,
    copied: &mut [R],
    scratch: &mut [R],
) {
    let depth = depths.len();
    if side.lines_are_columns() {
        for (step, line) in depths.enumerate() {
            let line = side.line(line, rows.start, rows.len(), scratch);
            for (row, &value) in line.iter().enumerate() {
                copied[row * depth + step] = value;
            }
        }
    } else {
        for (place, row) in copied.chunks_exact_mut(depth).zip(rows) {
            place.copy_from_slice(side.line(row, depths.start, depth, scratch));
        }
    }
}
