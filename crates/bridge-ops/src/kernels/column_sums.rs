//! Sums over the rows of a matrix: the gradient of what is added to each of them.
//!
//! Rows are summed in blocks whose sums are then added in pairs, in an order that depends on nothing but the number of
//! rows and columns: results have the same bits for any number of threads, and stay accurate over many rows.

use super::element::{Element, Real};
use super::function::Function;
use super::parallel;
use super::product::rooms;
use super::simd::{Instructions, Kernel, dispatch};

/// How many rows, and how many columns, are summed without a break.
const ROWS: usize = 128;
const COLUMNS: usize = 256;

/// Rows that are narrower lie side by side as one, so that vectors have something to do.
const NARROW: usize = 64;

/// Below how many elements the work stays on one thread.
const WORTH_SHARING: usize = 1 << 14;

/// The sums of the columns of a matrix, whose rows lie one after the other; added to `sums`, or written over them.
pub(crate) fn column_sums<T: Element>(values: &[T], columns: usize, sums: &mut [T::Wide], add: bool) {
    sum(&Plain(values), columns, sums, add);
}

/// As [`column_sums`], of the gradient of a function's argument: `read` is the function's input or output, whichever its
/// derivative [is computed from](Function::READS).
pub(crate) fn column_sums_pulled_back<T: Element, F: Function>(
    gradient: &[T],
    read: &[T],
    columns: usize,
    function: F,
    sums: &mut [T::Wide],
    add: bool,
) {
    debug_assert_eq!(gradient.len(), read.len());
    sum(&PulledBack { gradient, read, function }, columns, sums, add);
}

/// Adds up consecutive parts of `width` numbers in pairs. The sums are in the first part after it.
pub(crate) fn add_parts<R: Real>(parts: &mut [R], width: usize) {
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

/// Writes sums, or adds them to what is there.
pub(crate) fn put_sums<R: Real>(from: &[R], sums: &mut [R], add: bool) {
    if add {
        sums.iter_mut().zip(from).for_each(|(sum, &value)| *sum += value);
    } else {
        sums.iter_mut().zip(from).for_each(|(sum, &value)| *sum = value);
    }
}

/// Numbers to sum, read in pieces.
trait Values<R: Real>: Sync {
    fn length(&self) -> usize;

    /// `length` of them from `start` on: where they are, or in `scratch`, which is three times as long at least.
    fn piece<'a, I: Instructions>(&'a self, start: usize, length: usize, scratch: &'a mut [R]) -> &'a [R];
}

struct Plain<'a, T>(&'a [T]);

impl<T: Element> Values<T::Wide> for Plain<'_, T> {
    fn length(&self) -> usize {
        self.0.len()
    }

    #[inline(always)]
    fn piece<'a, I: Instructions>(
        &'a self,
        start: usize,
        length: usize,
        scratch: &'a mut [T::Wide],
    ) -> &'a [T::Wide] {
        T::wide(&self.0[start..start + length], scratch)
    }
}

struct PulledBack<'a, T, F> {
    gradient: &'a [T],
    read: &'a [T],
    function: F,
}

impl<T: Element, F: Function> Values<T::Wide> for PulledBack<'_, T, F> {
    fn length(&self) -> usize {
        self.gradient.len()
    }

    #[inline(always)]
    fn piece<'a, I: Instructions>(
        &'a self,
        start: usize,
        length: usize,
        scratch: &'a mut [T::Wide],
    ) -> &'a [T::Wide] {
        let (result, rest) = scratch.split_at_mut(length);
        let (first, second) = rest.split_at_mut(length);
        let gradient = T::wide(&self.gradient[start..start + length], first);
        let read = T::wide(&self.read[start..start + length], second);
        for ((place, &gradient), &read) in result.iter_mut().zip(gradient).zip(read) {
            *place = self.function.pull_back::<_, I>(read, gradient);
        }
        result
    }
}

fn sum<R: Real>(values: &impl Values<R>, columns: usize, sums: &mut [R], add: bool) {
    if columns == 0 {
        return;
    }
    let width = columns * (NARROW / columns).max(1);
    let blocks = values.length().div_ceil(width * ROWS);
    let mut parts = vec![R::ZERO; blocks.max(1) * width];
    let blocks = parts.chunks_mut(width).enumerate().map(|(number, sums)| (number * width * ROWS, sums));
    let pieces = blocks.flat_map(|(start, sums)| {
        let tiles = sums.chunks_mut(COLUMNS).enumerate();
        tiles.map(move |(tile, sums)| Piece { values, start: start + tile * COLUMNS, width, sums })
    });
    if values.length() < WORTH_SHARING {
        pieces.for_each(dispatch);
    } else {
        parallel::items(pieces.collect(), |piece| piece.sums.len(), dispatch);
    }
    add_parts(&mut parts, width);
    let (folded, rest) = parts[..width].split_at_mut(columns);
    for part in rest.chunks(columns) {
        folded.iter_mut().zip(part).for_each(|(sum, &value)| *sum += value);
    }
    put_sums(folded, sums, add);
}

/// Some columns of a block of rows.
struct Piece<'a, V, R> {
    values: &'a V,
    /// Of the first element.
    start: usize,
    /// From a row to the next.
    width: usize,
    sums: &'a mut [R],
}

impl<R: Real, V: Values<R>> Kernel for Piece<'_, V, R> {
    type Output = ();

    #[inline(always)]
    fn run<I: Instructions>(self) {
        let length = self.sums.len();
        R::with_buffer(|buffer| {
            let [first, second, third, fourth] = rooms(buffer, [3 * COLUMNS; 4]);
            let end = self.values.length().min(self.start + (ROWS - 1) * self.width + length);
            let mut start = self.start;
            while start + 3 * self.width + length <= end {
                let first = self.values.piece::<I>(start, length, first);
                let second = self.values.piece::<I>(start + self.width, length, second);
                let third = self.values.piece::<I>(start + 2 * self.width, length, third);
                let fourth = self.values.piece::<I>(start + 3 * self.width, length, fourth);
                let rows = first.iter().zip(second).zip(third).zip(fourth);
                for (sum, (((&first, &second), &third), &fourth)) in self.sums.iter_mut().zip(rows) {
                    *sum += (first + second) + (third + fourth);
                }
                start += 4 * self.width;
            }
            while start < end {
                let row = self.values.piece::<I>(start, length.min(end - start), first);
                for (sum, &value) in self.sums.iter_mut().zip(row) {
                    *sum += value;
                }
                start += self.width;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::function::Reads;
    use super::*;
    use half::bf16;

    /// The square, whose derivative is twice the input.
    #[derive(Clone, Copy)]
    struct Square;

    impl Function for Square {
        const NAME: &'static str = "square";
        const READS: Reads = Reads::Input;

        #[inline(always)]
        fn value<R: Real, I: Instructions>(self, x: R) -> R {
            x * x
        }
        #[inline(always)]
        fn pull_back<R: Real, I: Instructions>(self, read: R, gradient: R) -> R {
            (read + read) * gradient
        }
    }

    /// Small integers, whose sums are exact.
    fn numbers(length: usize, seed: usize) -> Vec<f32> {
        (0..length).map(|index| ((index * 31 + seed * 7) % 13) as f32 - 6.0).collect()
    }

    fn expected(values: &[f32], columns: usize) -> Vec<f32> {
        let sum = |column| values.iter().skip(column).step_by(columns).sum::<f32>();
        (0..columns).map(sum).collect()
    }

    #[test]
    fn every_row_is_added_once() {
        for columns in [1, 3, 10, 16, 63, 64, 65, 255, 256, 300, 1030] {
            for rows in [0, 1, 2, 5, 127, 128, 129, 300, 1100] {
                let values = numbers(rows * columns, columns);
                let expected = expected(&values, columns);
                let mut sums = vec![f32::NAN; columns];
                column_sums(&values, columns, &mut sums, false);
                assert_eq!(sums, expected, "{rows} rows of {columns}");
                column_sums(&values, columns, &mut sums, true);
                let twice: Vec<f32> = expected.iter().map(|sum| 2.0 * sum).collect();
                assert_eq!(sums, twice, "{rows} rows of {columns}");
                let narrow: Vec<bf16> = values.iter().map(|&value| bf16::from_f32(value)).collect();
                column_sums(&narrow, columns, &mut sums, false);
                assert_eq!(sums, expected, "{rows} rows of {columns} in bf16");
            }
        }
    }

    #[test]
    fn a_gradient_is_pulled_back_before_it_is_summed() {
        for (rows, columns) in [(3, 2), (140, 300), (1000, 17)] {
            let (gradient, read) = (numbers(rows * columns, 1), numbers(rows * columns, 2));
            let products: Vec<f32> = gradient.iter().zip(&read).map(|(g, x)| 2.0 * g * x).collect();
            let mut sums = vec![0.0; columns];
            column_sums_pulled_back(&gradient, &read, columns, Square, &mut sums, false);
            assert_eq!(sums, expected(&products, columns));
        }
    }

    #[test]
    fn many_rows_are_summed_accurately() {
        for columns in [1, 7, 100] {
            let rows = 100_000;
            let mut sums = vec![0.0; columns];
            column_sums(&vec![0.1f32; rows * columns], columns, &mut sums, false);
            let exact = f64::from(0.1f32) * rows as f64;
            for sum in sums {
                assert!((f64::from(sum) / exact - 1.0).abs() < 1e-6, "{sum} instead of {exact}");
            }
        }
    }
}
