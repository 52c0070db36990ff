//! The affine map of a dense layer.

use crate::precision::compute_dtype;
use crate::{Error, Result, is_shapes_only, stand_in};
use candle_core::{DType, Tensor};

/// `x @ kernel + bias` over the last axis of `x`.
///
/// - `x`: `[..., in]`, of any rank from 1 and any layout;
/// - `kernel`: `[in, out]`, as Flax stores it (the transpose of PyTorch's `weight`);
/// - `bias`: `[out]`;
/// - result: `[..., out]`.
///
/// All of one float dtype. In half precision, products and the bias gradient accumulate in f32.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[1f32, 2.0], &Device::Cpu)?;
/// let kernel = Tensor::new(&[[1f32, 0.0, -1.0], [0.0, 1.0, 1.0]], &Device::Cpu)?;
/// let bias = Tensor::new(&[10f32, 20.0, 30.0], &Device::Cpu)?;
/// assert_eq!(bridge_ops::linear(&x, &kernel, Some(&bias))?.to_vec1::<f32>()?, [11.0, 22.0, 31.0]);
/// # Ok::<(), bridge_ops::Error>(())
/// ```
///
/// # Errors
///
/// When the shapes do not fit, or the dtypes or devices differ.
#[doc(alias = "Dense")]
#[doc(alias = "dot_general")]
pub fn linear(x: &Tensor, kernel: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let &[inputs, outputs] = kernel.dims() else {
        return Err(shape_error("kernel", "shape [in, out]".into(), kernel));
    };
    let (&found, leading) =
        x.dims().split_last().ok_or_else(|| shape_error("x", format!("shape [..., {inputs}]"), x))?;
    if x.dtype() != kernel.dtype() {
        let (operator, argument) = ("linear", "x");
        return Err(Error::DType { operator, argument, expected: "the dtype of `kernel`", found: x.dtype() });
    }
    if found != inputs {
        let expected = format!("shape [..., {inputs}], because `kernel` has shape [{inputs}, {outputs}]");
        return Err(shape_error("x", expected, x));
    }
    if let Some(bias) = bias.filter(|bias| bias.dims() != [outputs]) {
        let expected = format!("shape [{outputs}], because `kernel` has shape [{inputs}, {outputs}]");
        return Err(shape_error("bias", expected, bias));
    }

    if is_shapes_only() {
        return stand_in([leading, &[outputs]].concat(), x.dtype(), x.device());
    }
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

fn shape_error(argument: &'static str, expected: String, found: &Tensor) -> Error {
    Error::Shape { operator: "linear", argument, expected, found: found.shape().clone() }
}
