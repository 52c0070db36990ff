//! Half precision: candle sums bf16 and f16 in bf16 and f16 on the CPU (4096 ones give 256 and 2048), so operators
//! compute in a wider dtype and round once.

use crate::{Error, Result, is_shapes_only, stand_in};
use candle_core::{DType, Tensor};

/// The dtype to compute in: f32 for narrower floats, the dtype itself for f32 and f64.
pub(crate) fn compute_dtype(dtype: DType) -> DType {
    match dtype {
        DType::F64 => DType::F64,
        _ => DType::F32,
    }
}

/// Refuses what is not a float: candle's transcendental functions return 0 for integers.
pub(crate) fn require_float(operator: &'static str, argument: &'static str, tensor: &Tensor) -> Result<()> {
    match tensor.dtype() {
        DType::BF16 | DType::F16 | DType::F32 | DType::F64 => Ok(()),
        found => {
            Err(Error::DType { operator, argument, expected: "a float dtype (bf16, f16, f32 or f64)", found })
        }
    }
}

/// The float tensor in the dtype to compute in; free for f32 and f64.
pub(crate) fn widen(operator: &'static str, argument: &'static str, tensor: &Tensor) -> Result<Tensor> {
    require_float(operator, argument, tensor)?;
    if is_shapes_only() {
        return stand_in(tensor.shape(), compute_dtype(tensor.dtype()), tensor.device());
    }
    Ok(tensor.to_dtype(compute_dtype(tensor.dtype()))?)
}
