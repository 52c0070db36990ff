//! What a product multiplies: matrices of any strides, and gradients that are computed while they are read.

use candle_core::{Layout, Result};

use super::super::element::{Element, Real};
use super::Epilogue;

/// A matrix to multiply, read in lines: rows, or columns where those are what lies side by side.
pub(crate) trait Source<R: Real>: Sync {
    fn rows(&self) -> usize;

    fn columns(&self) -> usize;

    /// Whether a line is a column.
    fn lines_are_columns(&self) -> bool;

    /// The elements where they lie, from the first one on, and how far lines are from each other: of a matrix in the dtype
    /// of the arithmetic whose lines lie in one piece each.
    fn in_place(&self) -> Option<(&[R], usize)> {
        None
    }

    /// Says that [`Source::line`] will soon be asked for this part of a line.
    fn prefetch(&self, _line: usize, _start: usize, _length: usize) {}

    /// `length` elements of a line from `start` on: where they are, or in `scratch`, which is as long at least.
    fn line<'a>(&'a self, line: usize, start: usize, length: usize, scratch: &'a mut [R]) -> &'a [R];
}

/// A matrix in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix<'a, T> {
    values: &'a [T],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a, T: Element> Matrix<'a, T> {
    /// A matrix whose rows lie one after the other.
    #[cfg(test)]
    pub(crate) fn contiguous(values: &'a [T], rows: usize, columns: usize) -> Result<Self> {
        Self::strided(values, [rows, columns], [columns, 1])
    }

    /// The matrix of a layout with two dimensions.
    pub(crate) fn of_layout(values: &'a [T], layout: &Layout) -> Result<Self> {
        let ([rows, columns], [row_stride, column_stride]) = (layout.dims(), layout.stride()) else {
            candle_core::bail!("a matrix was expected, found the shape {:?}", layout.shape())
        };
        let values = values.get(layout.start_offset()..).unwrap_or_default();
        Self::strided(values, [*rows, *columns], [*row_stride, *column_stride])
    }

    fn strided(
        values: &'a [T],
        [rows, columns]: [usize; 2],
        [row_stride, column_stride]: [usize; 2],
    ) -> Result<Self> {
        let last = rows.saturating_sub(1) * row_stride + columns.saturating_sub(1) * column_stride;
        if rows * columns > 0 && last >= values.len() {
            candle_core::bail!("a matrix that ends at {last} lies in a storage of {}", values.len())
        }
        Ok(Self { values, rows, columns, row_stride, column_stride })
    }

    pub(crate) fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

impl<T: Element> Matrix<'_, T> {
    /// How far lines are from each other, and elements of a line.
    fn steps(&self) -> (usize, usize) {
        match self.column_stride != 1 && self.row_stride == 1 {
            true => (self.column_stride, self.row_stride),
            false => (self.row_stride, self.column_stride),
        }
    }
}

impl<T: Element> Source<T::Wide> for Matrix<'_, T> {
    fn rows(&self) -> usize {
        self.rows
    }

    fn columns(&self) -> usize {
        self.columns
    }

    fn lines_are_columns(&self) -> bool {
        self.column_stride != 1 && self.row_stride == 1
    }

    fn in_place(&self) -> Option<(&[T::Wide], usize)> {
        match self.steps() {
            (across, 1) => Some((T::as_wide(self.values)?, across)),
            _ => None,
        }
    }

    fn prefetch(&self, line: usize, start: usize, length: usize) {
        let (across, along) = self.steps();
        if along == 1
            && let Some(values) = self.values.get(line * across + start..)
        {
            let values = &values[..length.min(values.len())];
            for value in values.iter().step_by((64 / size_of::<T>()).max(1)) {
                prefetch(value);
            }
        }
    }

    fn line<'a>(
        &'a self,
        line: usize,
        start: usize,
        length: usize,
        scratch: &'a mut [T::Wide],
    ) -> &'a [T::Wide] {
        let (across, along) = self.steps();
        let values = &self.values[line * across + start * along..];
        if along == 1 {
            return T::wide(&values[..length], scratch);
        }
        for (index, place) in scratch[..length].iter_mut().enumerate() {
            *place = values[index * along].widen();
        }
        &scratch[..length]
    }
}

/// Asks for a line of the cache to be brought from memory, wherever a pointer points. Where there is no instruction for it,
/// the processor's own guess must do.
#[inline(always)]
pub(super) fn prefetch<T>(place: *const T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: every x86-64 processor has the instruction, which reads nothing and never fails.
        #[allow(unsafe_code, reason = "see there")]
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(place.cast());
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}

/// The gradient of the input of an epilogue, computed from its output.
#[derive(Clone, Copy)]
pub(crate) struct PulledBack<'a, T> {
    gradient: Matrix<'a, T>,
    output: Matrix<'a, T>,
    epilogue: Epilogue,
}

impl<'a, T: Element> PulledBack<'a, T> {
    /// Both matrices have the same shape, with their rows one after the other.
    pub(crate) fn new(gradient: Matrix<'a, T>, output: Matrix<'a, T>, epilogue: Epilogue) -> Self {
        Self { gradient, output, epilogue }
    }
}

impl<T: Element> Source<T::Wide> for PulledBack<'_, T> {
    fn rows(&self) -> usize {
        self.gradient.rows
    }

    fn columns(&self) -> usize {
        self.gradient.columns
    }

    fn lines_are_columns(&self) -> bool {
        self.gradient.lines_are_columns()
    }

    fn in_place(&self) -> Option<(&[T::Wide], usize)> {
        match self.epilogue {
            Epilogue::Nothing => self.gradient.in_place(),
            _ => None,
        }
    }

    fn line<'a>(
        &'a self,
        line: usize,
        start: usize,
        length: usize,
        scratch: &'a mut [T::Wide],
    ) -> &'a [T::Wide] {
        if matches!(self.epilogue, Epilogue::Nothing) {
            return self.gradient.line(line, start, length, scratch);
        }
        let (result, rest) = scratch.split_at_mut(length);
        let (first, second) = rest.split_at_mut(length);
        let gradient = self.gradient.line(line, start, length, first);
        let output = self.output.line(line, start, length, second);
        self.epilogue.pull_back(result, output, gradient);
        result
    }
}
