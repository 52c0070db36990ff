//! Matrix products, with what comes before and after them done while the numbers are at hand.
//!
//! The innermost loop ([`tile`]) reads both sides in blocks that stay in the second cache: where they lie, if their elements
//! are in the order that it needs, else packed into that order. It writes to the result itself where nothing is left to be
//! done to the sums. Sums over more than [`DEPTH`] products are sums of sums. In what order the numbers of a result are added
//! depends on nothing but how many there are: not on the other dimensions, nor on the number of threads.

mod column_sums;
mod epilogue;
mod finish;
mod pack;
mod source;
mod tile;

use std::ops::Range;

pub(crate) use column_sums::column_sums;
pub(crate) use epilogue::Epilogue;
pub(crate) use finish::{Finish, Sum, output};
pub(crate) use source::{Matrix, PulledBack, Source};

use super::element::Real;
use super::lanes::Lanes;
use super::parallel;
use super::simd::{Instructions, Kernel, dispatch};
use pack::{LeftBlocks, Panels, RightBlocks, copy_rows};
use source::prefetch;
use tile::{Packing, Target, Tile};

/// How many elements that lie side by side are packed together.
const GROUP: usize = 16;

/// How many products are added up before the sum is put aside.
const DEPTH: usize = 512;

/// How many elements of the left side, and of the right side, are packed at a time, or more if a tile needs more.
const PACKED: [usize; 2] = [1 << 17, 1 << 17];

/// How many sums are kept before they are handed on, or more if a tile needs more.
const SUMS: usize = 1 << 16;

/// The most columns, and the most rows, of a block.
const BLOCK: usize = 512;

/// Below how many multiplications a product stays on one thread.
const WORTH_SHARING: usize = 1 << 17;

/// Up to how many rows the right side is read where it is: each of its elements is used too seldom to be packed.
const FEW_ROWS: usize = 4;

/// `left @ right`, handed to `finish` in pieces of rows.
///
/// The columns of `left` are as many as the rows of `right`.
pub(crate) fn product<R: Real>(left: &dyn Source<R>, right: &dyn Source<R>, finish: &dyn Finish<R>) {
    let (rows, depth, columns) = (left.rows(), left.columns(), right.columns());
    assert_eq!(depth, right.rows());
    if rows == 0 || columns == 0 {
        return;
    }
    let work = rows.saturating_mul(columns).saturating_mul(depth);
    let wanted = parallel::threads().min(work / (WORTH_SHARING / 2));
    parallel::run(wanted, &|number, participants| {
        let (across, down) = grid(participants, rows, columns);
        let rows = share(rows, number / across, down, 1);
        let columns = share(columns, number % across, across, 2 * GROUP);
        if !rows.is_empty() && !columns.is_empty() {
            // A closure would not be compiled for the instructions of the kernel that it is in: the buffer comes first.
            R::with_buffer(|buffer| dispatch(Part { left, right, rows, columns, finish, buffer }));
        }
    });
}

/// How many threads share the columns and how many the rows, so that each has little to compute and to pack.
fn grid(participants: usize, rows: usize, columns: usize) -> (usize, usize) {
    let cost = |across: usize| {
        let columns = columns.div_ceil(across).next_multiple_of(2 * GROUP);
        let rows = rows.div_ceil(participants / across);
        rows * columns + 8 * (rows + columns)
    };
    let across = (1..=participants)
        .filter(|across| participants.is_multiple_of(*across))
        .min_by_key(|&across| cost(across));
    let across = across.unwrap_or(1);
    (across, participants / across)
}

fn share(length: usize, number: usize, shares: usize, grain: usize) -> Range<usize> {
    let each = length.div_ceil(shares).next_multiple_of(grain);
    (number * each).min(length)..((number + 1) * each).min(length)
}

/// One thread's part of a product.
struct Part<'a, R> {
    left: &'a dyn Source<R>,
    right: &'a dyn Source<R>,
    rows: Range<usize>,
    columns: Range<usize>,
    finish: &'a dyn Finish<R>,
    buffer: &'a mut Vec<R>,
}

/// The sizes of the blocks that a part is done in.
struct Blocks {
    rows: usize,
    columns: usize,
    depth: usize,
}

impl Blocks {
    fn new<R: Real, I: Instructions>(rows: usize, columns: usize, depth: usize) -> Self {
        let width = 2 * R::Lanes::<I>::COUNT;
        let even = |length: usize, most: usize| length.div_ceil(length.div_ceil(most).max(1)).max(1);
        let depth = even(depth, DEPTH);
        let [left, right] = PACKED.map(|packed| packed * size_of::<f32>() / size_of::<R>() / depth);
        let columns = even(columns, right.clamp(width, BLOCK) / width * width).next_multiple_of(width);
        let rows = even(rows, left.min(SUMS / columns).clamp(I::ROWS, BLOCK));
        Self { rows, columns, depth }
    }
}

impl<R: Real> Kernel for Part<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<I: Instructions>(self) {
        let blocks = Blocks::new::<R, I>(self.rows.len(), self.columns.len(), self.left.columns());
        match self.rows.len() <= FEW_ROWS && !self.right.lines_are_columns() {
            true => self.few_rows::<I>(&blocks),
            false => self.tiles::<I>(&blocks),
        }
    }
}

impl<R: Real> Part<'_, R> {
    #[inline(always)]
    fn tiles<I: Instructions>(self, blocks: &Blocks) {
        let depth = blocks.depth.next_multiple_of(GROUP);
        let lengths = [
            // A panel of columns has room for a group, whatever its height.
            (blocks.rows.div_ceil(I::ROWS) * GROUP).max(blocks.rows) * depth,
            depth * blocks.columns,
            blocks.rows * blocks.columns,
            3 * blocks.depth.max(blocks.rows).max(blocks.columns),
        ];
        let [left_room, right_room, sums, scratch] = rooms(self.buffer, lengths);
        let (depth, width) = (self.left.columns(), 2 * R::Lanes::<I>::COUNT);
        if depth == 0 {
            sums.fill(R::ZERO);
        }
        let (mut left, mut right) =
            (LeftBlocks::new(self.left, left_room), RightBlocks::new(self.right, right_room));
        // What is no whole tile comes by itself.
        let whole = self.columns.start + self.columns.len() / width * width;
        let whole_tiles = steps(self.columns.start..whole, blocks.columns);
        for columns in whole_tiles.chain(steps(whole..self.columns.end, width)) {
            for rows in steps(self.rows.clone(), blocks.rows) {
                let target = match columns.start < whole && depth > 0 {
                    // SAFETY: each block comes once, and those of two threads do not overlap. What has a target is not
                    // given by pieces below.
                    #[allow(unsafe_code, reason = "see there")]
                    true => unsafe { self.finish.target(&rows, &columns, depth > blocks.depth) },
                    false => None,
                };
                let by_pieces = target.is_none();
                let (mut target, add) =
                    target.unwrap_or_else(|| (Target::of_slice(sums, blocks.columns), false));
                for depths in steps(0..depth, blocks.depth) {
                    let (left, packing) = left.block::<I>(&rows, &depths, scratch);
                    dispatch(Multiply {
                        rows: rows.len(),
                        columns: columns.len(),
                        depth: depths.len(),
                        left,
                        packing,
                        right: right.block::<I>(&depths, &columns, scratch),
                        sums: &mut target,
                        add: add || depths.start > 0,
                    });
                }
                if by_pieces {
                    for (sums, row) in sums.chunks(blocks.columns).zip(rows) {
                        // SAFETY: as above.
                        #[allow(unsafe_code, reason = "see there")]
                        unsafe {
                            self.finish.piece(row, columns.start, &sums[..columns.len()]);
                        }
                    }
                }
            }
        }
    }

    /// Row by row of the right side, which is not copied.
    #[inline(always)]
    fn few_rows<I: Instructions>(self, blocks: &Blocks) {
        let (rows, width) = (self.rows.len(), self.columns.len().min(BLOCK));
        let lengths =
            [rows * blocks.depth, rows * width, rows * width, 3 * blocks.depth.max(width).max(rows)];
        let [left, part, sums, scratch] = rooms(self.buffer, lengths);
        for columns in steps(self.columns.clone(), width) {
            sums.fill(R::ZERO);
            for depths in steps(0..self.left.columns(), blocks.depth) {
                copy_rows(self.left, self.rows.clone(), depths.clone(), left, scratch);
                part.fill(R::ZERO);
                for (step, depth) in depths.clone().enumerate() {
                    let line = self.right.line(depth, columns.start, columns.len(), scratch);
                    for (part, left) in part.chunks_mut(width).zip(left.chunks(depths.len())) {
                        let factor = left[step];
                        for (sum, &value) in part.iter_mut().zip(line) {
                            *sum = factor.times_plus::<I>(value, *sum);
                        }
                    }
                }
                if depths.start == 0 {
                    sums.copy_from_slice(part);
                } else {
                    sums.iter_mut().zip(&*part).for_each(|(sum, &part)| *sum += part);
                }
            }
            for (sums, row) in sums.chunks(width).zip(self.rows.clone()) {
                // SAFETY: each piece comes once, and those of two threads do not overlap.
                #[allow(unsafe_code, reason = "see there")]
                unsafe {
                    self.finish.piece(row, columns.start, &sums[..columns.len()]);
                }
            }
        }
    }
}

/// The tiles of a block.
///
/// A kernel of its own, so that it is compiled once for a dtype, not once for whatever is multiplied.
struct Multiply<'a, 't, R> {
    rows: usize,
    columns: usize,
    depth: usize,
    left: &'a [R],
    packing: Packing,
    right: Panels<'a, R>,
    sums: &'a mut Target<'t, R>,
    add: bool,
}

impl<R: Real> Kernel for Multiply<'_, '_, R> {
    type Output = ();

    #[inline(always)]
    fn run<I: Instructions>(self) {
        let (lanes, width) = (R::Lanes::<I>::COUNT, 2 * R::Lanes::<I>::COUNT);
        let share = self.depth.div_ceil(self.rows.div_ceil(I::ROWS));
        for (panel, first) in (0..self.columns).step_by(width).enumerate() {
            let right = &self.right.values[panel * self.right.apart..];
            let panels = pack::panels::<I>(self.rows, self.depth, self.packing);
            for (number, (height, top, start)) in panels.enumerate() {
                if self.right.step != width {
                    // Each tile asks for its share of the next panel: where rows are far from each other, the processor
                    // does not see what comes next.
                    let next = right.as_ptr().wrapping_add(self.right.apart);
                    for step in number * share..self.depth.min((number + 1) * share) {
                        prefetch(next.wrapping_add(step * self.right.step));
                        prefetch(next.wrapping_add(step * self.right.step + lanes));
                    }
                }
                let tile = Tile {
                    rows: height,
                    depth: self.depth,
                    left: &self.left[start..],
                    packing: self.packing,
                    right,
                    right_step: self.right.step,
                    narrow: self.columns - first <= lanes,
                    add: self.add,
                };
                // SAFETY: kernels run at a level that the processor has.
                #[allow(unsafe_code, reason = "see there")]
                unsafe {
                    tile.run::<I>(self.sums, top, first);
                }
            }
        }
    }
}

/// Consecutive pieces of a range.
fn steps(range: Range<usize>, length: usize) -> impl Iterator<Item = Range<usize>> + Clone {
    let end = range.end;
    range.step_by(length.max(1)).map(move |start| start..(start + length).min(end))
}

/// Rooms in one buffer, each aligned to a line of the cache.
pub(super) fn rooms<R: Real, const N: usize>(buffer: &mut Vec<R>, lengths: [usize; N]) -> [&mut [R]; N] {
    let line = 64 / size_of::<R>();
    let total = lengths.iter().map(|length| length.next_multiple_of(line)).sum::<usize>() + line;
    if buffer.len() < total {
        buffer.resize(total, R::ZERO);
    }
    let offset = buffer.as_ptr().align_offset(64).min(line);
    let (_, mut rest) = buffer.split_at_mut(offset);
    lengths.map(|length| {
        let (room, after) = std::mem::take(&mut rest).split_at_mut(length.next_multiple_of(line));
        rest = after;
        &mut room[..length]
    })
}

#[cfg(test)]
mod tests;
