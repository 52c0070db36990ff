//! Probabilities and log probabilities over the last axis.

use crate::kernels::element::Element;
use crate::kernels::rows::rows_written;
use crate::kernels::softmax::{Backward, Forward, From};
use crate::kernels::storage::{tensor, with_elements};
use crate::operator::{Argument, Fused, apply};
use crate::precision::require_float;
use crate::shapes_only::like;
use crate::{Error, Result, composition, kernels};
use candle_core::{CpuStorage, Shape, Tensor, WithDType};

/// `exp(x) / sum(exp(x))` over the last axis.
///
/// Shape and dtype are those of `x`: `[..., classes]`, any float; half precision computes in f32. Large values do not
/// overflow; `-inf` gets probability 0; a row of `-inf` alone gives NaN, as in JAX.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[[1000f32, 1000.0]], &Device::Cpu)?;
/// assert_eq!(bridge_ops::softmax(&x)?.to_vec2::<f32>()?, [[0.5, 0.5]]);
/// # Ok::<(), bridge_ops::Error>(())
/// ```
///
/// # Errors
///
/// When `x` is not a float tensor, is a scalar, or has no classes.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    check_classes("softmax", "x", x)?;
    if let Some(stand_in) = like(x) {
        return stand_in;
    }
    if !kernels::run_for(x) {
        return composition::softmax(x);
    }
    Ok(apply(Softmax { logarithm: false }, &[x])?)
}

/// `x - log(sum(exp(x)))` over the last axis.
///
/// Shape and dtype are those of `x`: `[..., classes]`, any float; half precision computes in f32.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[[0f32, -1000.0]], &Device::Cpu)?;
/// assert_eq!(bridge_ops::log_softmax(&x)?.to_vec2::<f32>()?, [[0.0, -1000.0]]);
/// # Ok::<(), bridge_ops::Error>(())
/// ```
///
/// # Errors
///
/// When `x` is not a float tensor, is a scalar, or has no classes.
pub fn log_softmax(x: &Tensor) -> Result<Tensor> {
    check_classes("log_softmax", "x", x)?;
    if let Some(stand_in) = like(x) {
        return stand_in;
    }
    if !kernels::run_for(x) {
        return composition::log_softmax(x);
    }
    Ok(apply(Softmax { logarithm: true }, &[x])?)
}

/// Probabilities, or their logarithms.
struct Softmax {
    logarithm: bool,
}

impl Fused for Softmax {
    const NAME: &'static str = "softmax";

    fn forward<T: Element>(&self, arguments: &[Argument]) -> candle_core::Result<(CpuStorage, Shape)> {
        let &[x] = arguments else { candle_core::bail!("softmax has one argument") };
        let shape = x.layout.shape().clone();
        let (rows, columns) = rows_and_columns(shape.dims());
        let x = x.elements::<T>()?;
        let work = Forward { x: &x, columns, logarithm: self.logarithm };
        Ok((T::to_cpu_storage_owned(rows_written::<T, _>(rows, columns, &work)), shape))
    }

    fn backward<T: Element>(
        &self,
        arguments: &[&Tensor],
        result: &Tensor,
        gradient: &Tensor,
    ) -> candle_core::Result<Vec<Option<Tensor>>> {
        let &[x] = arguments else { candle_core::bail!("softmax has one argument") };
        let (rows, columns) = rows_and_columns(result.dims());
        let logarithm = self.logarithm;
        // The exponential of a logarithm that was rounded to half precision is off by percents.
        let from_input = logarithm && T::DTYPE != <T::Wide as WithDType>::DTYPE;
        let values = with_elements::<T, _>(if from_input { x } else { result }, |from| {
            with_elements::<T, _>(gradient, |gradient| {
                let from = if from_input { From::Input(from) } else { From::Output(from) };
                let work = Backward { from, gradient, columns, logarithm };
                Ok(rows_written::<T, _>(rows, columns, &work))
            })
        })?;
        Ok(vec![Some(tensor(values, result.shape())?)])
    }
}

/// How many rows there are over the last axis, and how long they are.
pub(crate) fn rows_and_columns(dims: &[usize]) -> (usize, usize) {
    match dims {
        [leading @ .., columns] => (leading.iter().product(), *columns),
        [] => (1, 1),
    }
}

pub(crate) fn check_classes(operator: &'static str, argument: &'static str, x: &Tensor) -> Result<()> {
    match x.dims() {
        [] | [.., 0] => Err(Error::Shape {
            operator,
            argument,
            expected: "shape [..., classes] with at least one class".into(),
            found: x.shape().clone(),
        }),
        _ => require_float(operator, argument, x),
    }
}
