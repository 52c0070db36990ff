//! Parameters of distributions.

use candle_core::{Device, Shape, Tensor, WithDType};

use crate::fill::{Each, Sampler, Source, draw_from, element_count};
use crate::float::Float;
use crate::{Error, Result};

/// A parameter of a distribution: a number, or a tensor of numbers that broadcasts to the shape drawn.
///
/// Functions take whatever converts into one: an `f64`, an `f32`, a `Tensor`, a `&Tensor`.
///
/// ```
/// use bridge_random::{bernoulli, key};
/// use candle_core::{Device, Tensor};
///
/// let probabilities = Tensor::new(&[0f32, 0.5, 1.], &Device::Cpu)?;
/// let x = bernoulli(key(0), &probabilities, (100, 3), &Device::Cpu)?;
/// assert_eq!(x.get_on_dim(1, 2)?.to_vec1::<u8>()?, [1; 100]);
/// # Ok::<(), bridge_random::Error>(())
/// ```
#[derive(Debug, Clone)]
pub enum NumberOrTensor {
    /// The same number for every element.
    Number(f64),
    /// A number for each element. Its values are read on the host.
    Tensor(Tensor),
}

impl From<f64> for NumberOrTensor {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<f32> for NumberOrTensor {
    fn from(number: f32) -> Self {
        Self::Number(number.into())
    }
}

impl From<Tensor> for NumberOrTensor {
    fn from(tensor: Tensor) -> Self {
        Self::Tensor(tensor)
    }
}

impl From<&Tensor> for NumberOrTensor {
    fn from(tensor: &Tensor) -> Self {
        Self::Tensor(tensor.clone())
    }
}

impl NumberOrTensor {
    /// The number of each element of a shape, as a `T`.
    fn each<T: Float>(&self, name: &'static str, shape: &Shape, count: usize) -> Result<Vec<T>> {
        match self {
            Self::Number(number) => Ok(vec![T::number(*number); count]),
            Self::Tensor(tensor) => {
                let broadcast = tensor.broadcast_as(shape).map_err(|_| Error::ParameterShape {
                    name,
                    found: tensor.shape().clone(),
                    shape: shape.clone(),
                })?;
                Ok(broadcast.to_dtype(T::DTYPE)?.flatten_all()?.to_vec1()?)
            }
        }
    }
}

/// Draws from a distribution with parameters. `make` gives the sampler of an element's parameters.
pub(crate) fn draw_with<T, S, const N: usize, const P: usize>(
    parameters: [(&'static str, &NumberOrTensor); P],
    make: impl Fn([T; P]) -> Result<S>,
    sources: impl FnOnce(usize) -> [Source; N],
    shape: Shape,
    device: &Device,
) -> Result<Tensor>
where
    T: Float,
    S: Sampler<N, Output: WithDType>,
{
    let count = element_count::<S::Output>(&shape)?;
    let sources = sources(count);
    let mut numbers = [T::default(); P];
    let mut all_numbers = true;
    for (number, (_, parameter)) in numbers.iter_mut().zip(parameters) {
        match parameter {
            NumberOrTensor::Number(value) => *number = T::number(*value),
            NumberOrTensor::Tensor(_) => all_numbers = false,
        }
    }
    let drawn = if all_numbers {
        draw_from(make(numbers)?, sources, count)
    } else {
        element_count::<S>(&shape)?;
        let each = parameters.iter().map(|(name, parameter)| parameter.each::<T>(name, &shape, count));
        let each = each.collect::<Result<Vec<_>>>()?;
        let samplers = (0..count).map(|index| make(std::array::from_fn(|number| each[number][index])));
        let samplers = samplers.collect::<Result<Vec<_>>>()?;
        draw_from(Each(&samplers), sources, count)
    };
    Ok(Tensor::from_vec(drawn, shape, device)?)
}
