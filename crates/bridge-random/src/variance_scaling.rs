//! Initial weights scaled by how many units feed a layer, or follow it.

use candle_core::{DType, Device, Shape, Tensor};
use serde::{Deserialize, Serialize};

use crate::axis::checked_axis;
use crate::float::{Float, for_float_dtype};
use crate::normal::Normal;
use crate::scaled::draw_scaled;
use crate::truncated_normal::TruncatedNormal;
use crate::uniform::Uniform;
use crate::{Error, Key, Result};

/// The deviation of a standard normal distribution truncated to -2 and 2.
const TRUNCATED_DEVIATION: f64 = 0.879_625_661_034_239_8;

/// What the variance of initial weights is divided by.
///
/// It serialises under JAX's names: `fan_in`, `fan_out`, `fan_avg`, `fan_geo_avg`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FanMode {
    /// The number of inputs of a unit, which keeps the variance of activations.
    #[doc(alias = "fan_in")]
    #[serde(rename = "fan_in")]
    In,
    /// The number of units that an input feeds, which keeps the variance of gradients.
    #[doc(alias = "fan_out")]
    #[serde(rename = "fan_out")]
    Out,
    /// The mean of both.
    #[doc(alias = "fan_avg")]
    #[serde(rename = "fan_avg")]
    Average,
    /// The geometric mean of both.
    #[doc(alias = "fan_geo_avg")]
    #[serde(rename = "fan_geo_avg")]
    GeometricAverage,
}

/// The distribution of initial weights. Each is scaled to have the variance asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Distribution {
    /// Normal within two deviations (before scaling).
    TruncatedNormal,
    /// Normal.
    Normal,
    /// Uniform, centred on 0.
    Uniform,
}

/// Random weights of mean 0 and variance `scale / fan`.
///
/// The fans are the products of the sizes of the input and output axes, each times the sizes of the remaining axes that
/// are not batch axes (the receptive field of a convolution). With the default axes, that suits a dense kernel
/// `(inputs, outputs)` and a convolution kernel `(spatial.., inputs, outputs)`.
///
/// ```
/// use bridge_random::{Distribution, FanMode, Initializer, VarianceScaling};
///
/// // A kernel laid out (outputs, inputs), as candle's and PyTorch's are.
/// let transposed = VarianceScaling {
///     in_axis: vec![1],
///     out_axis: vec![0],
///     ..VarianceScaling::new(2.0, FanMode::In, Distribution::Normal)
/// };
/// assert_eq!(transposed.fans(&(8, 3).into())?, (3.0, 8.0));
/// let initializer = Initializer::from(transposed);
/// # Ok::<(), bridge_random::Error>(())
/// ```
#[doc(alias = "variance_scaling")]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VarianceScaling {
    /// The variance times the fan.
    pub scale: f64,
    /// Which fan.
    pub mode: FanMode,
    /// The shape of the distribution.
    pub distribution: Distribution,
    /// The axes of inputs; a negative one counts from the end.
    pub in_axis: Vec<isize>,
    /// The axes of outputs; a negative one counts from the end.
    pub out_axis: Vec<isize>,
    /// The axes that only number independent kernels; a negative one counts from the end.
    pub batch_axis: Vec<isize>,
}

impl VarianceScaling {
    /// With inputs on the last axis but one, outputs on the last, and no batch axes.
    pub fn new(scale: f64, mode: FanMode, distribution: Distribution) -> Self {
        Self { scale, mode, distribution, in_axis: vec![-2], out_axis: vec![-1], batch_axis: Vec::new() }
    }

    /// Fan-in and fan-out of a parameter: the number of inputs of a unit, and of units that an input feeds.
    ///
    /// # Errors
    ///
    /// A shape of fewer than two dimensions, or without one of the axes.
    pub fn fans(&self, shape: &Shape) -> Result<(f64, f64)> {
        let dims = shape.dims();
        if dims.len() < 2 {
            return Err(Error::NoFans { shape: shape.clone() });
        }
        let size = |name, axes: &[isize]| {
            axes.iter().try_fold(1.0, |product, &axis| {
                Ok::<f64, Error>(product * dims[checked_axis(name, axis, shape)?] as f64)
            })
        };
        let inputs: f64 = size("in_axis", &self.in_axis)?;
        let outputs = size("out_axis", &self.out_axis)?;
        let batch = size("batch_axis", &self.batch_axis)?;
        let all: f64 = dims.iter().map(|size| *size as f64).product();
        let field = all / inputs / outputs / batch;
        Ok((inputs * field, outputs * field))
    }

    pub(crate) fn init(
        &self,
        key: Key,
        shape: Shape,
        dtype: DType,
        device: &Device,
        jit: bool,
    ) -> Result<Tensor> {
        let variance = self.variance(&shape)?;
        for_float_dtype!(dtype, "variance_scaling", T => {
            self.draw(T::number(variance), key, shape, device, jit)
        })
    }

    fn draw<T: Float>(
        &self,
        variance: T,
        key: Key,
        shape: Shape,
        device: &Device,
        jit: bool,
    ) -> Result<Tensor> {
        match self.distribution {
            Distribution::TruncatedNormal => {
                let sampler = TruncatedNormal::new(T::number(-2.0), T::number(2.0))?;
                let factor = variance.sqrt() / T::number(TRUNCATED_DEVIATION);
                draw_scaled(sampler, factor, key, shape, device)
            }
            Distribution::Normal => Normal::draw_scaled(variance.sqrt(), key, shape, device, jit),
            Distribution::Uniform => {
                let sampler = Uniform::<T>::new(T::number(-1.0), T::number(1.0));
                let factor = (T::number(3.0) * variance).sqrt();
                draw_scaled(sampler, factor, key, shape, device)
            }
        }
    }

    fn variance(&self, shape: &Shape) -> Result<f64> {
        let (fan_in, fan_out) = self.fans(shape)?;
        let fan = match self.mode {
            FanMode::In => fan_in,
            FanMode::Out => fan_out,
            FanMode::Average => (fan_in + fan_out) / 2.0,
            FanMode::GeometricAverage => (fan_in * fan_out).sqrt(),
        };
        let variance = self.scale / fan;
        if variance.is_finite() && variance >= 0.0 {
            return Ok(variance);
        }
        Err(Error::Variance { shape: shape.clone(), scale: self.scale, variance })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scaling() -> VarianceScaling {
        VarianceScaling::new(1.0, FanMode::In, Distribution::TruncatedNormal)
    }

    #[test]
    fn fans_follow_the_axes() {
        let check = |scaling: VarianceScaling, dims: &[usize], fans| {
            assert_eq!(scaling.fans(&dims.into()).unwrap(), fans, "{scaling:?}");
        };
        check(scaling(), &[3, 4], (3.0, 4.0));
        check(scaling(), &[5, 5, 3, 4], (75.0, 100.0));
        let axes = |in_axis: &[isize], out_axis: &[isize], batch_axis: &[isize]| VarianceScaling {
            in_axis: in_axis.into(),
            out_axis: out_axis.into(),
            batch_axis: batch_axis.into(),
            ..scaling()
        };
        check(axes(&[0, 1], &[2], &[]), &[3, 2, 5], (6.0, 5.0));
        check(axes(&[1], &[-1], &[0]), &[7, 3, 4], (3.0, 4.0));
        check(axes(&[-2], &[0], &[]), &[8, 4], (4.0, 4.0));
    }

    #[test]
    fn shapes_without_fans_are_errors() {
        for shape in [Shape::from(()), Shape::from(3)] {
            let error = scaling().fans(&shape).unwrap_err();
            assert!(matches!(error, Error::NoFans { .. }), "{shape:?}");
        }
    }

    #[test]
    fn axes_out_of_range_are_errors() {
        for bad in [2, -3, isize::MIN, isize::MAX] {
            let scaling = VarianceScaling { out_axis: vec![bad], ..scaling() };
            let error = scaling.fans(&(3, 4).into()).unwrap_err();
            assert!(matches!(error, Error::Axis { name: "out_axis", axis, .. } if axis == bad), "{error}");
        }
    }

    #[test]
    fn impossible_variances_are_errors() {
        let check = |scale, dims: (usize, usize)| {
            let scaling = VarianceScaling { scale, ..scaling() };
            let error =
                scaling.init(crate::key(0), dims.into(), DType::F32, &Device::Cpu, false).unwrap_err();
            assert!(matches!(error, Error::Variance { .. }), "{error}");
        };
        check(1.0, (0, 4));
        check(-1.0, (3, 4));
        check(f64::NAN, (3, 4));
    }
}
