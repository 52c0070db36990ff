//! Rows of a table, looked up by index.

use crate::kernels::element::Element;
use crate::kernels::embedding::{Table, add_rows};
use crate::kernels::storage::with_elements;
use crate::operator::{Argument, Fused, apply};
use crate::precision::require_float;
use crate::{Error, Result, composition, gradient_sink, is_shapes_only, kernels, stand_in};
use candle_core::{CpuStorage, DType, Shape, Tensor};

/// The row of the table for each index.
///
/// - `table`: `[rows, features]`, any float;
/// - `indices`: `[...]`, an integer dtype, each in `0..rows`;
/// - result: `[..., features]`, in the dtype of `table`.
///
/// The gradient of a row is the sum over all places where its index stands, in their order (in f32 for half precision).
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let table = Tensor::new(&[[1f32, 2.0], [3.0, 4.0]], &Device::Cpu)?;
/// let indices = Tensor::new(&[1u32, 0, 1], &Device::Cpu)?;
/// let rows = bridge_ops::embedding(&table, &indices)?;
/// assert_eq!(rows.to_vec2::<f32>()?, [[3.0, 4.0], [1.0, 2.0], [3.0, 4.0]]);
/// # Ok::<(), bridge_ops::Error>(())
/// ```
///
/// # Errors
///
/// When the shapes or dtypes do not fit, and, on the CPU, when an index is out of range (a GPU would have to be waited for
/// to check it).
#[doc(alias = "Embed")]
#[doc(alias = "take")]
#[doc(alias = "index_select")]
pub fn embedding(table: &Tensor, indices: &Tensor) -> Result<Tensor> {
    let operator = "embedding";
    let &[rows, features] = table.dims() else {
        return Err(Error::Shape {
            operator,
            argument: "table",
            expected: "shape [rows, features]".into(),
            found: table.shape().clone(),
        });
    };
    require_float(operator, "table", table)?;
    if !indices.dtype().is_int() {
        let expected = "an integer dtype (u8, u32, i32 or i64)";
        return Err(Error::DType { operator, argument: "indices", expected, found: indices.dtype() });
    }
    if is_shapes_only() {
        return stand_in([indices.dims(), &[features]].concat(), table.dtype(), table.device());
    }
    let indices = indices.to_dtype(DType::I64)?.contiguous()?;
    if !indices.device().is_cpu() {
        return composition::embedding(table, &indices);
    }
    let in_range = |(position, index): (usize, &i64)| match usize::try_from(*index) {
        Ok(row) if row < rows => Ok(row),
        _ => Err(Error::IndexOutOfRange { operator, index: *index, position, rows }),
    };
    let checked = with_elements::<i64, _>(&indices, |indices| {
        Ok(indices.iter().enumerate().map(in_range).collect::<Result<Vec<usize>>>())
    })??;
    if !kernels::run_for(table) {
        return composition::embedding(table, &indices);
    }
    Ok(apply(Embedding { indices: checked, shape: indices.shape().clone() }, &[table])?)
}

struct Embedding {
    /// Each that of a row.
    indices: Vec<usize>,
    shape: Shape,
}

impl Fused for Embedding {
    const NAME: &'static str = "embedding";

    fn forward<T: Element>(&self, arguments: &[Argument]) -> candle_core::Result<(CpuStorage, Shape)> {
        let &[table] = arguments else { candle_core::bail!("an embedding has one argument") };
        let (&[_, features], &[row_stride, feature_stride]) = (table.layout.dims(), table.layout.stride())
        else {
            candle_core::bail!("a table has two dimensions, found {:?}", table.layout.shape())
        };
        let values = table.storage::<T>()?.get(table.layout.start_offset()..).unwrap_or_default();
        let rows = Table { values, features, row_stride, feature_stride }.rows(&self.indices);
        let shape = [self.shape.dims(), &[features]].concat();
        Ok((T::to_cpu_storage_owned(rows), shape.into()))
    }

    fn backward<T: Element>(
        &self,
        arguments: &[&Tensor],
        _: &Tensor,
        gradient: &Tensor,
    ) -> candle_core::Result<Vec<Option<Tensor>>> {
        let &[table] = arguments else { candle_core::bail!("an embedding has one argument") };
        let features = table.dim(1)?;
        let gradient = with_elements::<T, _>(gradient, |gradient| {
            gradient_sink::gradient::<T>(table, |sums, add| {
                add_rows(gradient, &self.indices, features, sums, add);
                Ok(())
            })
        })?;
        Ok(vec![gradient])
    }
}
