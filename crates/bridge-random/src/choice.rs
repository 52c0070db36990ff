//! Random choices from a population.

use candle_core::{DType, Device, Shape, Tensor};
use rayon::prelude::*;

use crate::axis::checked_axis;
use crate::cumulative_sum::cumulative_sum;
use crate::fill::{draw, element_count};
use crate::float::Float;
use crate::gumbel::gumbel_numbers;
use crate::top::top;
use crate::uniform::Unit;
use crate::{Error, Key, Result, SamplingMode, permutation_vec, randint_vec};

/// Random choices from a population: with replacement, and each as likely, unless said otherwise.
///
/// The choices are made on the host and sent to the device.
///
/// ```
/// use bridge_random::{Choice, key};
/// use candle_core::{Device, Tensor};
///
/// let hand = Choice::new().without_replacement().indices(key(0), 52, 5, &Device::Cpu)?;
/// assert_eq!(hand.dims(), [5]);
///
/// let weights = Tensor::new(&[0f32, 1., 3.], &Device::Cpu)?;
/// let rows = Tensor::new(&[[1f32, 2.], [3., 4.], [5., 6.]], &Device::Cpu)?;
/// let x = Choice::new().weights(&weights).elements(key(0), &rows, 0, (2, 2))?;
/// assert_eq!(x.dims(), [2, 2, 2]);
/// # Ok::<(), bridge_random::Error>(())
/// ```
#[doc(alias = "choice")]
#[doc(alias = "multinomial")]
#[must_use = "it does nothing until `indices` or `elements` is called on it"]
#[derive(Debug, Clone)]
pub struct Choice {
    replace: bool,
    weights: Option<Tensor>,
    mode: SamplingMode,
}

impl Default for Choice {
    fn default() -> Self {
        Self::new()
    }
}

impl Choice {
    /// With replacement, each as likely.
    pub fn new() -> Self {
        Self { replace: true, weights: None, mode: SamplingMode::Low }
    }

    /// Nothing is chosen twice.
    #[doc(alias = "replace")]
    pub fn without_replacement(self) -> Self {
        Self { replace: false, ..self }
    }

    /// Each with a probability proportional to its weight, of a tensor `(population,)` in f32 or f64, which is read on the
    /// host.
    #[doc(alias = "p")]
    pub fn weights(self, weights: &Tensor) -> Self {
        Self { weights: Some(weights.clone()), ..self }
    }

    /// How finely small weights are resolved; of consequence without replacement alone.
    pub fn mode(self, mode: SamplingMode) -> Self {
        Self { mode, ..self }
    }

    /// Numbers from 0 to `population` (exclusive), as u32.
    ///
    /// # Errors
    ///
    /// An empty population; without replacement, more choices than there is to choose from; weights of another shape or
    /// dtype, negative, not finite, or all zero; more than 2^32 to choose from.
    pub fn indices(
        &self,
        key: Key,
        population: usize,
        shape: impl Into<Shape>,
        device: &Device,
    ) -> Result<Tensor> {
        let shape = shape.into();
        let count = element_count::<u32>(&shape)?;
        let chosen = self.choose(key, population, count)?;
        Ok(Tensor::from_vec(chosen, shape, device)?)
    }

    /// What a tensor has at random places of an axis. In its shape, `shape` takes the place of the axis; a negative one
    /// counts from the end.
    ///
    /// # Errors
    ///
    /// Those of [`Choice::indices`], and an axis that the tensor does not have.
    pub fn elements(
        &self,
        key: Key,
        population: &Tensor,
        axis: isize,
        shape: impl Into<Shape>,
    ) -> Result<Tensor> {
        let (axis, shape) = (checked_axis("axis", axis, population.shape())?, shape.into());
        let (before, after) = (&population.dims()[..axis], &population.dims()[axis + 1..]);
        let dims = [before, shape.dims(), after].concat();
        let count = element_count::<u32>(&shape)?;
        let indices = self.indices(key, population.dim(axis)?, count, population.device())?;
        Ok(population.contiguous()?.index_select(&indices, axis)?.reshape(dims)?)
    }

    fn choose(&self, key: Key, population: usize, count: usize) -> Result<Vec<u32>> {
        if count == 0 {
            return Ok(Vec::new());
        }
        if population == 0 {
            return Err(Error::NothingToChoose { operation: "choice", line: None });
        }
        u32::try_from(population - 1).map_err(|_| Error::PermutationLength { found: population })?;
        if let Some(weights) = &self.weights {
            return match weights.dtype() {
                DType::F32 => self.choose_weighted::<f32>(key, weights, population, count),
                DType::F64 => self.choose_weighted::<f64>(key, weights, population, count),
                found => Err(Error::InputDType {
                    operation: "choice",
                    name: "weights",
                    found,
                    supported: &[DType::F32, DType::F64],
                }),
            };
        }
        if self.replace {
            // JAX draws i32.
            return match i32::try_from(population) {
                Ok(high) => {
                    let chosen: Vec<i32> = randint_vec(key, count, 0, high)?;
                    Ok(chosen.into_iter().map(i32::cast_unsigned).collect())
                }
                Err(_) => randint_vec(key, count, 0, population as i128),
            };
        }
        self.check_count(population, count)?;
        let mut order = permutation_vec(key, population)?;
        order.truncate(count);
        Ok(order)
    }

    fn choose_weighted<T: Float>(
        &self,
        key: Key,
        weights: &Tensor,
        population: usize,
        count: usize,
    ) -> Result<Vec<u32>> {
        if weights.dims() != [population] {
            return Err(Error::WeightsShape { found: weights.shape().clone(), population });
        }
        let weights: Vec<T> = weights.to_vec1()?;
        for (index, weight) in weights.iter().enumerate() {
            let weight = weight.to_f64();
            if !(weight >= 0.0 && weight.is_finite()) {
                return Err(Error::Weight { index, found: weight });
            }
        }
        let possible = weights.iter().filter(|weight| weight.to_f64() > 0.0).count();
        if possible == 0 {
            return Err(Error::NothingToChoose { operation: "choice", line: None });
        }
        if !self.replace {
            self.check_count(possible, count)?;
            let mut scores: Vec<T> = gumbel_numbers(key, population, self.mode);
            for (score, weight) in scores.iter_mut().zip(&weights) {
                *score += weight.ln();
            }
            return Ok(top(&scores, count));
        }
        let sums = cumulative_sum(&weights);
        let Some((total, last)) = sums.last().zip(u32::try_from(population - 1).ok()) else {
            return Err(Error::NothingToChoose { operation: "choice", line: None });
        };
        if !total.to_f64().is_finite() {
            return Err(Error::WeightsSum { found: total.to_f64() });
        }
        let choose = |u: T| {
            let target = *total * (T::number(1.0) - u);
            (sums.partition_point(|sum| *sum < target) as u32).min(last)
        };
        let drawn = draw(Unit::<T>::new(), key, count).into_par_iter().with_min_len(1 << 12);
        Ok(drawn.map(choose).collect())
    }

    fn check_count(&self, available: usize, count: usize) -> Result<()> {
        if count <= available {
            return Ok(());
        }
        Err(Error::TooManyChoices { operation: "choice", asked: count, available })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key;

    fn weights(values: &[f32]) -> Tensor {
        Tensor::new(values, &Device::Cpu).unwrap()
    }

    fn check(choice: &Choice, population: usize, count: usize, message: &str) {
        let error = choice.indices(key(0), population, count, &Device::Cpu).unwrap_err();
        assert_eq!(error.to_string(), message);
    }

    #[test]
    fn bad_input_is_an_error_that_names_the_value() {
        let plain = Choice::new();
        check(&plain, 0, 1, "`choice` has nothing to choose from");
        check(
            &plain.clone().without_replacement(),
            3,
            4,
            "`choice` can not choose 4 of 3 without replacement",
        );
        check(
            &plain.clone().weights(&weights(&[1., 0., 1.])).without_replacement(),
            3,
            3,
            "`choice` can not choose 3 of 2 without replacement",
        );
        check(&plain.clone().weights(&weights(&[1., 2.])), 3, 1, "expected weights of shape [3], found [2]");
        for (bad, text) in [(-1., "-1"), (f32::NAN, "NaN"), (f32::INFINITY, "inf")] {
            let message = format!("weight 1 is {text}: expected a finite number of at least 0");
            check(&plain.clone().weights(&weights(&[1., bad])), 2, 1, &message);
        }
        check(&plain.clone().weights(&weights(&[0., 0.])), 2, 1, "`choice` has nothing to choose from");
        check(&plain.weights(&weights(&[3e38, 3e38])), 2, 1, "the weights add up to inf: scale them down");
    }

    #[test]
    fn no_choices_ask_nothing_of_the_population() {
        let none = Choice::new().indices(key(0), 0, (0, 2), &Device::Cpu).unwrap();
        assert_eq!(none.dims(), [0, 2]);
    }

    #[test]
    fn elements_are_those_at_the_indices() {
        let x = Tensor::arange(0u32, 24, &Device::Cpu).unwrap().reshape((2, 3, 4)).unwrap();
        let choice = Choice::new().without_replacement();
        let found = choice.elements(key(3), &x, -2, (1, 2)).unwrap();
        assert_eq!(found.dims(), [2, 1, 2, 4]);
        let indices = choice.indices(key(3), 3, 2, &Device::Cpu).unwrap();
        let expected = x.index_select(&indices, 1).unwrap().unsqueeze(1).unwrap();
        let values = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<u32>().unwrap();
        assert_eq!(values(&found), values(&expected));
        assert!(matches!(choice.elements(key(3), &x, 3, 1).unwrap_err(), Error::Axis { axis: 3, .. }));
        let huge = choice.elements(key(3), &x, 0, (usize::MAX, 2)).unwrap_err();
        assert!(matches!(huge, Error::TooLarge { .. }), "{huge}");
    }

    #[test]
    fn what_has_no_weight_is_never_chosen() {
        let choice = Choice::new().weights(&weights(&[0., 1., 0., 2., 0.]));
        let chosen = choice.indices(key(1), 5, 1000, &Device::Cpu).unwrap().to_vec1::<u32>().unwrap();
        assert!(chosen.iter().all(|index| [1, 3].contains(index)));
        assert!(chosen.contains(&1) && chosen.contains(&3));
        let both = choice.without_replacement().indices(key(1), 5, 2, &Device::Cpu).unwrap();
        let mut both = both.to_vec1::<u32>().unwrap();
        both.sort_unstable();
        assert_eq!(both, [1, 3]);
    }
}
