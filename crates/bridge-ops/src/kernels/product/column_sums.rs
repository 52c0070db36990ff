//! Sums of the columns of a matrix: the gradient of a bias.

use super::super::element::Real;
use super::super::parallel;
use super::super::simd::{Instructions, Kernel, dispatch};
use super::Source;

/// How many rows are added up before the sum is put aside.
const BLOCK_ROWS: usize = 64;

/// How many columns are added up at a time.
const COLUMNS: usize = 256;

/// How many elements a thread should add up at least.
const WORTH_A_THREAD: usize = 1 << 15;

/// Writes the sums of the columns, or adds them to what is there.
///
/// The order in which numbers are added depends on how many rows there are, and on nothing else.
pub(crate) fn column_sums<R: Real>(matrix: &dyn Source<R>, sums: &mut [R], add: bool) {
    let rows = matrix.rows();
    let threads = (rows * sums.len() / WORTH_A_THREAD).clamp(1, parallel::threads());
    let width = sums.len().div_ceil(threads).next_multiple_of(16).min(COLUMNS);
    let parts: Vec<_> = sums.chunks_mut(width.max(1)).enumerate().collect();
    let wanted = |(_, sums): &(usize, &mut [R])| sums.len() * rows;
    parallel::items(parts, wanted, |(number, sums)| {
        dispatch(Columns { matrix, first: number * width, sums, add });
    });
}

struct Columns<'a, R> {
    matrix: &'a dyn Source<R>,
    first: usize,
    sums: &'a mut [R],
    add: bool,
}

impl<R: Real> Kernel for Columns<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<I: Instructions>(self) {
        let Self { matrix, first, sums, add } = self;
        if !add {
            sums.fill(R::ZERO);
        }
        let mut block = [R::ZERO; COLUMNS];
        let mut scratch = [R::ZERO; 3 * COLUMNS];
        let block = &mut block[..sums.len()];
        for start in (0..matrix.rows()).step_by(BLOCK_ROWS) {
            block.fill(R::ZERO);
            let end = (start + BLOCK_ROWS).min(matrix.rows());
            if matrix.lines_are_columns() {
                for (column, sum) in block.iter_mut().enumerate() {
                    let line = matrix.line(first + column, start, end - start, &mut scratch);
                    line.iter().for_each(|&value| *sum += value);
                }
            } else {
                for row in start..end {
                    let line = matrix.line(row, first, block.len(), &mut scratch);
                    block.iter_mut().zip(line).for_each(|(sum, &value)| *sum += value);
                }
            }
            sums.iter_mut().zip(&*block).for_each(|(sum, &block)| *sum += block);
        }
    }
}
