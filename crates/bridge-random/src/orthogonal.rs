//! Random orthogonal matrices.

use candle_core::{DType, Device, Shape, Tensor};
use rayon::prelude::*;

use crate::axis::{checked_axis, last_to_axis};
use crate::fill::{draw, element_count};
use crate::float::Float;
use crate::normal::Normal;
use crate::{Error, Key, Result};

const SUPPORTED: &[DType] = &[DType::F32, DType::F64];

/// A matrix with orthonormal columns or rows, times `scale`, in a shape whose `column_axis` is that of the columns.
pub(crate) fn orthogonal(
    key: Key,
    scale: f64,
    column_axis: isize,
    shape: Shape,
    dtype: DType,
    device: &Device,
) -> Result<Tensor> {
    match dtype {
        DType::F32 => orthogonal_as::<f32>(key, scale, column_axis, shape, device),
        DType::F64 => orthogonal_as::<f64>(key, scale, column_axis, shape, device),
        found => Err(Error::UnsupportedDType { operation: "orthogonal", found, supported: SUPPORTED }),
    }
}

/// An orthogonal matrix at the centre of a convolution's kernel, zeros elsewhere.
pub(crate) fn delta_orthogonal(
    key: Key,
    scale: f64,
    column_axis: isize,
    shape: Shape,
    dtype: DType,
    device: &Device,
) -> Result<Tensor> {
    let wrong =
        |expected| Error::OrthogonalShape { initializer: "delta_orthogonal", expected, shape: shape.clone() };
    let (spatial, inputs, outputs) = match shape.dims() {
        [spatial @ .., inputs, outputs] if (1..=3).contains(&spatial.len()) => (spatial, *inputs, *outputs),
        _ => return Err(wrong("3 to 5 dimensions")),
    };
    if outputs < inputs {
        return Err(wrong("a last dimension that is not smaller than the one before"));
    }
    element_count::<f64>(&shape)?;
    let mut kernel = orthogonal(key, scale, column_axis, (inputs, outputs).into(), dtype, device)?;
    // From the last spatial axis to the first: zeros before and after the centre.
    for size in spatial.iter().rev() {
        let Some(last) = size.checked_sub(1) else {
            return Ok(Tensor::zeros(&shape, dtype, device)?);
        };
        let before = last / 2;
        kernel = kernel.unsqueeze(0)?.pad_with_zeros(0, before, last - before)?;
    }
    Ok(kernel)
}

fn orthogonal_as<T: Float>(
    key: Key,
    scale: f64,
    column_axis: isize,
    shape: Shape,
    device: &Device,
) -> Result<Tensor> {
    if shape.rank() < 2 {
        let (initializer, expected) = ("orthogonal", "at least two dimensions");
        return Err(Error::OrthogonalShape { initializer, expected, shape });
    }
    let factor = T::number(scale);
    if !factor.to_f64().is_finite() {
        return Err(Error::Factor { found: scale, dtype: T::DTYPE });
    }
    let axis = checked_axis("column_axis", column_axis, &shape)?;
    let count = element_count::<f64>(&shape)?;
    let mut dims = shape.dims().to_vec();
    let columns = dims.remove(axis);
    dims.push(columns);
    let rows = count.checked_div(columns).unwrap_or(0);
    let (long, short) = (rows.max(columns), rows.min(columns));
    let drawn: Vec<T> = draw(Normal::new(), key, if count == 0 { 0 } else { long * short });
    // Row by row as drawn; column by column from here on.
    let by_columns = (0..short).flat_map(|column| (0..long).map(move |row| (row, column)));
    let mut matrix: Vec<f64> =
        by_columns.map(|(row, column)| drawn[row * short + column].to_f64()).take(count).collect();
    orthonormalize(&mut matrix, long);
    let values: Vec<T> = matrix.into_iter().map(|x| factor * T::number(x)).collect();
    let tensor = if rows < columns {
        // The transpose: the columns that were made are its rows.
        Tensor::from_vec(values, (short, long), device)?
    } else {
        Tensor::from_vec(values, (short, long), device)?.t()?.contiguous()?
    };
    Ok(last_to_axis(&tensor.reshape(dims)?, axis)?.contiguous()?)
}

/// Makes columns of this length orthonormal: each loses what it has of those before it, by Gram and Schmidt's method.
///
/// That is the `Q` of a QR decomposition whose `R` has a positive diagonal. Twice is enough (Giraud et al., 2005) for Q to be
/// orthogonal to rounding. Sums are in a fixed order, so that threads and processors make no difference.
fn orthonormalize(matrix: &mut [f64], length: usize) {
    /// Fewer numbers than this are not worth a second thread.
    const PARALLEL: usize = 1 << 16;
    const ROWS: usize = 512;

    let columns = matrix.len().checked_div(length).unwrap_or(0);
    for index in 0..columns {
        let (before, rest) = matrix.split_at_mut(index * length);
        let column = &mut rest[..length];
        for _ in 0..2 {
            let parallel = before.len() >= PARALLEL;
            let shadow = |other: &[f64]| dot(other, column);
            let shadows: Vec<f64> = match parallel {
                true => before.par_chunks_exact(length).map(shadow).collect(),
                false => before.chunks_exact(length).map(shadow).collect(),
            };
            let subtract = |(number, rows): (usize, &mut [f64])| {
                for (other, shadow) in before.chunks_exact(length).zip(&shadows) {
                    let other = &other[number * ROWS..][..rows.len()];
                    rows.iter_mut().zip(other).for_each(|(x, other)| *x -= shadow * other);
                }
            };
            match parallel {
                true => column.par_chunks_mut(ROWS).enumerate().for_each(subtract),
                false => column.chunks_mut(ROWS).enumerate().for_each(subtract),
            }
        }
        let norm = dot(column, column).sqrt();
        column.iter_mut().for_each(|x| *x /= norm);
    }
}

/// The sum of products, in eight interleaved parts.
fn dot(left: &[f64], right: &[f64]) -> f64 {
    const LANES: usize = 8;
    let mut sums = [0.0; LANES];
    let (left_chunks, right_chunks) = (left.chunks_exact(LANES), right.chunks_exact(LANES));
    let rest = left_chunks.remainder().iter().zip(right_chunks.remainder());
    let rest: f64 = rest.map(|(left, right)| left * right).sum();
    for (left, right) in left_chunks.zip(right_chunks) {
        for lane in 0..LANES {
            sums[lane] += left[lane] * right[lane];
        }
    }
    sums.into_iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Initializer, key};

    fn init(initializer: &Initializer, dims: &[usize], dtype: DType) -> Result<Tensor> {
        initializer.init(key(5), dims, dtype, &Device::Cpu)
    }

    #[test]
    fn the_shorter_side_is_orthonormal() {
        for (rows, columns) in [(1, 1), (5, 3), (3, 5), (40, 40), (300, 257)] {
            for dtype in [DType::F32, DType::F64] {
                let x = init(&Initializer::orthogonal(), &[rows, columns], dtype).unwrap();
                let x = x.to_dtype(DType::F64).unwrap();
                let (t, n) = (x.t().unwrap(), rows.min(columns));
                let product = if rows < columns { x.matmul(&t) } else { t.matmul(&x) }.unwrap();
                let error = (product - Tensor::eye(n, DType::F64, &Device::Cpu).unwrap()).unwrap();
                let error = error.abs().unwrap().max_all().unwrap().to_scalar::<f64>().unwrap();
                let bound = if dtype == DType::F32 { 2e-6 } else { 1e-14 };
                assert!(error < bound, "{rows} by {columns} of {dtype:?}: {error}");
            }
        }
    }

    #[test]
    fn does_not_depend_on_threads() {
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let x = pool.install(|| init(&Initializer::orthogonal(), &[700, 300], DType::F64));
            x.unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap()
        };
        assert!(with(1) == with(3));
    }

    #[test]
    fn shapes_that_have_no_such_matrix_are_errors() {
        let check = |initializer: &Initializer, dims: &[usize], expected: &str| {
            let error = init(initializer, dims, DType::F32).unwrap_err();
            assert!(error.to_string().ends_with(expected), "{error}");
        };
        check(&Initializer::orthogonal(), &[3], "expected at least two dimensions");
        check(&Initializer::delta_orthogonal(), &[3, 3], "expected 3 to 5 dimensions");
        check(&Initializer::delta_orthogonal(), &[1; 6], "expected 3 to 5 dimensions");
        check(&Initializer::delta_orthogonal(), &[3, 4, 3], "that is not smaller than the one before");
        let axis = Initializer::Orthogonal { scale: 1.0, column_axis: 2 };
        assert!(matches!(init(&axis, &[3, 3], DType::F32), Err(Error::Axis { name: "column_axis", .. })));
        let half = init(&Initializer::orthogonal(), &[3, 3], DType::BF16);
        assert!(matches!(half, Err(Error::UnsupportedDType { .. })));
    }

    #[test]
    fn nothing_is_filled_with_nothing() {
        for dims in [[0, 3], [3, 0], [0, 0]] {
            assert_eq!(init(&Initializer::orthogonal(), &dims, DType::F32).unwrap().dims(), dims);
        }
        let kernel = init(&Initializer::delta_orthogonal(), &[0, 2, 3], DType::F32).unwrap();
        assert_eq!(kernel.dims(), [0, 2, 3]);
    }
}
