//! Normalization over the last axis.

use crate::kernels::element::{Element, Real};
use crate::kernels::row_norm::{Backward, Forward, Gradients, Norm};
use crate::kernels::rows::rows_written;
use crate::kernels::storage::{tensor, with_elements};
use crate::operator::{Argument, Fused, apply, with_float};
use crate::precision::{compute_dtype, require_float};
use crate::shapes_only::like;
use crate::softmax::rows_and_columns;
use crate::{Error, Result, composition, gradient_sink, kernels};
use candle_core::{CpuStorage, Shape, Tensor, WithDType};

/// `(x - mean) / sqrt(variance + epsilon) * scale + bias`, with mean and variance over the last axis.
///
/// - `x`: `[..., features]`, any float;
/// - `scale`, `bias`: `[features]`, any float;
/// - result: shape and dtype of `x`.
///
/// Flax's `LayerNorm`, whose `epsilon` is 1e-6 unless set. Computes in f32 (f64 for f64). The variance is the mean square
/// of the deviations (Flax's `use_fast_variance=False`), so that a large mean costs no precision. Gradients flow into all
/// arguments.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[[1f32, 3.0], [-6.0, -2.0]], &Device::Cpu)?;
/// let bias = Tensor::new(&[10f32, 20.0], &Device::Cpu)?;
/// let y = bridge_ops::layer_norm(&x, None, Some(&bias), 0.0)?;
/// assert_eq!(y.to_vec2::<f32>()?, [[9.0, 21.0], [9.0, 21.0]]);
/// # Ok::<(), bridge_ops::Error>(())
/// ```
///
/// # Errors
///
/// When the shapes do not fit, `x` has no features, or an argument is not a float tensor.
#[doc(alias = "LayerNorm")]
pub fn layer_norm(x: &Tensor, scale: Option<&Tensor>, bias: Option<&Tensor>, epsilon: f64) -> Result<Tensor> {
    check("layer_norm", x, [("scale", scale), ("bias", bias)])?;
    if let Some(stand_in) = like(x) {
        return stand_in;
    }
    if !kernels::run_for(x) {
        return composition::layer_norm(x, scale, bias, epsilon);
    }
    normalized(x, scale, bias, true, epsilon)
}

/// `x / sqrt(mean(x^2) + epsilon) * scale`, with the mean over the last axis.
///
/// - `x`: `[..., features]`, any float;
/// - `scale`: `[features]`, any float;
/// - result: shape and dtype of `x`.
///
/// Flax's `RMSNorm`, whose `epsilon` is 1e-6 unless set. Computes in f32 (f64 for f64). Gradients flow into both
/// arguments.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[[1f32, -1.0], [5.0, 5.0]], &Device::Cpu)?;
/// let scale = Tensor::new(&[1f32, 2.0], &Device::Cpu)?;
/// let y = bridge_ops::rms_norm(&x, Some(&scale), 0.0)?;
/// assert_eq!(y.to_vec2::<f32>()?, [[1.0, -2.0], [1.0, 2.0]]);
/// # Ok::<(), bridge_ops::Error>(())
/// ```
///
/// # Errors
///
/// When the shapes do not fit, `x` has no features, or an argument is not a float tensor.
#[doc(alias = "RMSNorm")]
pub fn rms_norm(x: &Tensor, scale: Option<&Tensor>, epsilon: f64) -> Result<Tensor> {
    check("rms_norm", x, [("scale", scale)])?;
    if let Some(stand_in) = like(x) {
        return stand_in;
    }
    if !kernels::run_for(x) {
        return composition::rms_norm(x, scale, epsilon);
    }
    normalized(x, scale, None, false, epsilon)
}

fn check<const N: usize>(
    operator: &'static str,
    x: &Tensor,
    parameters: [(&'static str, Option<&Tensor>); N],
) -> Result<()> {
    let shape_error = |argument, expected, found: &Tensor| {
        Err(Error::Shape { operator, argument, expected, found: found.shape().clone() })
    };
    let features = match x.dims() {
        &[.., features] if features > 0 => features,
        _ => return shape_error("x", "shape [..., features] with at least one feature".into(), x),
    };
    require_float(operator, "x", x)?;
    for (argument, parameter) in parameters {
        let Some(parameter) = parameter else { continue };
        if parameter.dims() != [features] {
            return shape_error(
                argument,
                format!("shape [{features}], because `x` has {features} features"),
                parameter,
            );
        }
        require_float(operator, argument, parameter)?;
    }
    Ok(())
}

fn normalized(
    x: &Tensor,
    scale: Option<&Tensor>,
    bias: Option<&Tensor>,
    centered: bool,
    epsilon: f64,
) -> Result<Tensor> {
    let operator = RowNorm { scale: scale.is_some(), bias: bias.is_some(), centered, epsilon };
    let mut arguments = vec![x.clone()];
    for parameter in [scale, bias].into_iter().flatten() {
        let dtype = compute_dtype(x.dtype());
        arguments.push(match compute_dtype(parameter.dtype()) == dtype {
            // The gradient is put aside by the tensor's identity.
            true => parameter.clone(),
            false => parameter.to_dtype(dtype)?,
        });
    }
    Ok(apply(operator, &arguments.iter().collect::<Vec<_>>())?)
}

/// Of the arguments `x`, then `scale` and `bias` if there are such.
struct RowNorm {
    scale: bool,
    bias: bool,
    centered: bool,
    epsilon: f64,
}

impl RowNorm {
    /// The parameters in the dtype of the arithmetic are `scale` and `bias` as far as they are there.
    fn norm<'a, R: Real>(&self, columns: usize, parameters: &'a [Vec<R>]) -> Norm<'a, R> {
        let mut parameters = parameters.iter().map(Vec::as_slice);
        let scale = if self.scale { parameters.next() } else { None };
        let bias = if self.bias { parameters.next() } else { None };
        Norm { columns, centered: self.centered, epsilon: R::real(self.epsilon), scale, bias }
    }
}

impl Fused for RowNorm {
    const NAME: &'static str = "row_norm";

    fn forward<T: Element>(&self, arguments: &[Argument]) -> candle_core::Result<(CpuStorage, Shape)> {
        let [x, parameters @ ..] = arguments else { candle_core::bail!("there is nothing to normalize") };
        let shape = x.layout.shape().clone();
        let (rows, columns) = rows_and_columns(shape.dims());
        let parameters: Vec<Vec<T::Wide>> =
            parameters.iter().map(|parameter| parameter.wide()).collect::<candle_core::Result<_>>()?;
        let x = x.elements::<T>()?;
        let work = Forward { x: &x, norm: self.norm(columns, &parameters) };
        Ok((T::to_cpu_storage_owned(rows_written::<T, _>(rows, columns, &work)), shape))
    }

    fn backward<T: Element>(
        &self,
        arguments: &[&Tensor],
        _: &Tensor,
        gradient: &Tensor,
    ) -> candle_core::Result<Vec<Option<Tensor>>> {
        let [x, parameters @ ..] = arguments else { candle_core::bail!("there is nothing to normalize") };
        let (_, columns) = rows_and_columns(x.dims());
        let wide: Vec<Vec<T::Wide>> =
            parameters.iter().map(|parameter| wide(parameter)).collect::<candle_core::Result<_>>()?;
        let found = with_elements::<T, _>(x, |x_elements| {
            with_elements::<T, _>(gradient, |gradient| {
                let work = Backward {
                    x: x_elements,
                    gradient,
                    norm: self.norm(columns, &wide),
                    of_x: x.track_op(),
                    of_parameters: parameters.iter().any(|parameter| parameter.track_op()),
                };
                Ok(work.run())
            })
        })?;
        let Gradients { x: of_x, parameters: sums } = found;
        let mut gradients = vec![of_x.map(|values| tensor(values, x.shape())).transpose()?];
        let (of_scale, of_bias) = sums.split_at(sums.len() / 2);
        let wanted = [self.scale.then_some(of_scale), self.bias.then_some(of_bias)];
        for (parameter, sums) in parameters.iter().zip(wanted.into_iter().flatten()) {
            gradients.push(parameter_gradient(parameter, sums)?);
        }
        Ok(gradients)
    }
}

/// The elements of a parameter, in the dtype of the arithmetic, which may be wider than its own.
fn wide<R: Real>(parameter: &Tensor) -> candle_core::Result<Vec<R>> {
    let (storage, layout) = parameter.storage_and_layout();
    match &*storage {
        candle_core::Storage::Cpu(storage) => Argument { storage, layout }.wide(),
        _ => candle_core::bail!("a parameter on the CPU was expected, found one on {:?}", parameter.device()),
    }
}

/// A parameter's gradient from sums in the dtype of the arithmetic.
fn parameter_gradient<R: Real>(parameter: &Tensor, sums: &[R]) -> candle_core::Result<Option<Tensor>> {
    with_float!(parameter.dtype(), T => {
        gradient_sink::gradient::<T>(parameter, |values, add| {
            let sums = sums.iter().map(|sum| <T as Element>::Wide::from_f64(sum.to_f64()));
            for (value, sum) in values.iter_mut().zip(sums) {
                *value = if add { *value + sum } else { sum };
            }
            Ok(())
        })
    })
}
