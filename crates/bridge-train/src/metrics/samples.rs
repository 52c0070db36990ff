use bridge_vars::Result;
use candle_core::{DType, Device, Shape, Tensor};

use crate::MetricError;

/// Numbers with weights, in f64 on the host.
pub(crate) struct Samples {
    values: Vec<f64>,
    weights: Option<Vec<f64>>,
}

impl Samples {
    pub(crate) fn new(values: Vec<f64>, weights: Option<Vec<f64>>) -> Self {
        Self { values, weights }
    }

    /// The elements of a tensor, with the weights that a mask gives them.
    pub(crate) fn read(metric: &'static str, values: &Tensor, mask: Option<&Tensor>) -> Result<Self> {
        let weights = mask.map(|mask| weights(metric, mask, values.shape())).transpose()?;
        Ok(Self::new(elements(values)?, weights))
    }

    /// Those that count, each with its weight.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (f64, f64)> {
        let weight = |position: usize| match &self.weights {
            Some(weights) => weights.get(position).copied().unwrap_or_default(),
            None => 1.,
        };
        let weighted =
            self.values.iter().enumerate().map(move |(position, value)| (*value, weight(position)));
        // Left out, not multiplied: NaN times 0 is NaN.
        weighted.filter(|(_, weight)| *weight != 0.)
    }
}

/// The elements of a tensor of any number dtype.
pub(crate) fn elements(tensor: &Tensor) -> Result<Vec<f64>> {
    // Converted on the host, because not every device has f64.
    let tensor = tensor.detach().to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
    Ok(tensor.flatten_all()?.to_vec1()?)
}

/// The weights that a mask gives to values of a shape.
pub(crate) fn weights(metric: &'static str, mask: &Tensor, values: &Shape) -> Result<Vec<f64>> {
    let Ok(spread) = mask.broadcast_as(values) else {
        return Err(MetricError::Shape {
            metric,
            input: "mask",
            expected: format!("a shape that broadcasts to {values:?}"),
            found: mask.shape().clone(),
        }
        .into());
    };
    let weights = elements(&spread)?;
    let mut found = weights.iter().copied().enumerate();
    match found.find(|(_, weight)| !(weight.is_finite() && *weight >= 0.)) {
        Some((position, found)) => Err(MetricError::Weight { metric, found, position }.into()),
        None => Ok(weights),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_keep_their_weights_in_any_layout() {
        let values = Tensor::new(&[[1f32, 2.], [3., 4.], [f32::NAN, 6.]], &Device::Cpu).unwrap();
        let mask = Tensor::new(&[1u8, 1, 0], &Device::Cpu).unwrap();
        let samples = Samples::read("test", &values.t().unwrap(), Some(&mask)).unwrap();
        assert_eq!(samples.iter().collect::<Vec<_>>(), [(1., 1.), (3., 1.), (2., 1.), (4., 1.)]);
        let samples = Samples::read("test", &values.narrow(0, 0, 1).unwrap(), None).unwrap();
        assert_eq!(samples.iter().collect::<Vec<_>>(), [(1., 1.), (2., 1.)]);
    }
}
