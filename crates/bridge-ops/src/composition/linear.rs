//! The affine map of a dense layer.

use crate::Result;
use crate::precision::compute_dtype;
use candle_core::{DType, Tensor};

/// `x @ kernel + bias`, of arguments that fit.
pub fn linear(x: &Tensor, kernel: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (leading, (inputs, outputs)) = (&x.dims()[..x.rank().saturating_sub(1)], kernel.dims2()?);
    if leading.len() == 1 {
        return add_bias(product(&as_matrix(x)?, kernel)?, bias);
    }
    // Two dimensions, and a copy where needed, because candle multiplies a transposed lhs wrongly with a broadcast
    // rhs on the CPU (huggingface/candle#3744, huggingface/candle#3758).
    let rows = leading.iter().product::<usize>();
    let y = product(&x.reshape((rows, inputs))?, kernel)?;
    let shape = [leading, &[outputs]].concat();
    Ok(add_bias(y, bias)?.reshape(shape)?)
}

fn product(x: &Tensor, kernel: &Tensor) -> Result<Tensor> {
    let kernel = as_matrix(kernel)?;
    // candle's f16 product on the CPU accumulates in f16.
    if x.device().is_cpu() && (x.dtype(), kernel.dtype()) == (DType::F16, DType::F16) {
        let wide = x.to_dtype(DType::F32)?.matmul(&kernel.to_dtype(DType::F32)?)?;
        return Ok(wide.to_dtype(DType::F16)?);
    }
    Ok(x.matmul(&kernel)?)
}

fn add_bias(y: Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let Some(bias) = bias else { return Ok(y) };
    let (dtype, wide) = (y.dtype(), compute_dtype(y.dtype()));
    if dtype == wide || bias.dtype() != dtype {
        return Ok(y.broadcast_add(bias)?);
    }
    // Rounds as the sum in half precision does; the bias gradient is a sum over rows, which needs the wider dtype.
    Ok(y.to_dtype(wide)?.broadcast_add(&bias.to_dtype(wide)?)?.to_dtype(dtype)?)
}

/// The matrix as it is where every backend can multiply it: row-major or column-major.
fn as_matrix(matrix: &Tensor) -> Result<Tensor> {
    if matrix.layout().is_fortran_contiguous() {
        return Ok(matrix.clone());
    }
    Ok(matrix.contiguous()?)
}
