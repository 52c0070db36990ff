//! Rows of a table, looked up by index.

use crate::Result;
use candle_core::Tensor;

/// [`crate::embedding`] of a table `[rows, features]` and checked i64 indices.
///
/// # Errors
/// Those of candle.
pub fn embedding(table: &Tensor, indices: &Tensor) -> Result<Tensor> {
    let rows = table.contiguous()?.index_select(&indices.flatten_all()?.contiguous()?, 0)?;
    let features = &table.dims()[1..];
    Ok(rows.reshape([indices.dims(), features].concat())?)
}
