//! Random categories.

use candle_core::{Shape, Tensor};
use rayon::prelude::*;

use crate::axis::checked_axis;
use crate::fill::element_count;
use crate::float::{Float, for_float_dtype};
use crate::gumbel::gumbel_numbers;
use crate::top::top;
use crate::{Error, Key, Result, SamplingMode};

/// A category for each line of `logits` along the last axis: [`Categorical`] with its defaults.
///
/// # Errors
///
/// Those of [`Categorical::sample`].
///
/// ```
/// use bridge_random::{categorical, key};
/// use candle_core::{Device, Tensor};
///
/// let logits = Tensor::new(&[[0f32, f32::NEG_INFINITY], [f32::NEG_INFINITY, 0.]], &Device::Cpu)?;
/// assert_eq!(categorical(key(0), &logits)?.to_vec1::<u32>()?, [0, 1]);
/// # Ok::<(), bridge_random::Error>(())
/// ```
pub fn categorical(key: Key, logits: &Tensor) -> Result<Tensor> {
    Categorical::new(logits).sample(key)
}

/// Random categories, by unnormalised log probabilities: the index of the greatest of `logits + gumbel`.
///
/// `softmax(logits)` need not be computed. Without replacement, it is the indices of the greatest few, in order (Kool et
/// al., 2019). Logits are read on the host, where the numbers are made; the indices, as u32, go to the logits' device.
///
/// ```
/// use bridge_random::{Categorical, key};
/// use candle_core::{Device, Tensor};
///
/// let logits = Tensor::new(&[[1f32, 2., 3.], [0., 0., 0.]], &Device::Cpu)?;
/// // 100 draws for each of the two lines.
/// let drawn = Categorical::new(&logits).shape((100, 2)).sample(key(0))?;
/// assert_eq!(drawn.dims(), [100, 2]);
/// // All three categories of each line, in a random order.
/// let order = Categorical::new(&logits).shape((3, 2)).without_replacement().sample(key(0))?;
/// assert_eq!(order.dims(), [3, 2]);
/// # Ok::<(), bridge_random::Error>(())
/// ```
#[doc(alias = "categorical")]
#[must_use = "it does nothing until `sample` is called on it"]
#[derive(Debug, Clone)]
pub struct Categorical {
    logits: Tensor,
    axis: isize,
    shape: Option<Shape>,
    replace: bool,
    mode: SamplingMode,
}

impl Categorical {
    /// One draw, with the categories on the last axis.
    ///
    /// Dtypes: f32, f64, f16, bf16.
    pub fn new(logits: &Tensor) -> Self {
        let mode = SamplingMode::Low;
        Self { logits: logits.clone(), axis: -1, shape: None, replace: true, mode }
    }

    /// With the categories on another axis; a negative one counts from the end.
    pub fn axis(self, axis: isize) -> Self {
        Self { axis, ..self }
    }

    /// With a result of this shape. It ends with that of the logits without the axis, which broadcasts to it; what stands
    /// in front says how many draws there are for each line.
    pub fn shape(self, shape: impl Into<Shape>) -> Self {
        Self { shape: Some(shape.into()), ..self }
    }

    /// No category twice in the draws for one line.
    #[doc(alias = "replace")]
    pub fn without_replacement(self) -> Self {
        Self { replace: false, ..self }
    }

    /// How finely rare categories are resolved.
    pub fn mode(self, mode: SamplingMode) -> Self {
        Self { mode, ..self }
    }

    /// Draws.
    ///
    /// # Errors
    ///
    /// Another dtype; an axis that the logits do not have; a shape that does not end with that of the lines; a logit that is
    /// NaN; no category to draw, or without replacement too few, counting those that are not minus infinity.
    pub fn sample(&self, key: Key) -> Result<Tensor> {
        for_float_dtype!(self.logits.dtype(), "categorical", input "logits", T => self.sample_as::<T>(key))
    }

    fn sample_as<T: Float>(&self, key: Key) -> Result<Tensor> {
        let axis = checked_axis("axis", self.axis, self.logits.shape())?;
        let mut lines = self.logits.dims().to_vec();
        let categories = lines.remove(axis);
        let shape = self.shape.as_ref().map_or(&lines[..], Shape::dims);
        let mismatch = || Error::CategoricalShape {
            shape: shape.into(),
            logits: self.logits.shape().clone(),
            lines: lines.clone().into(),
        };
        let split = shape.len().checked_sub(lines.len()).ok_or_else(mismatch)?;
        let (prefix, drawn_lines) = shape.split_at(split);
        if !self.replace && drawn_lines != lines {
            return Err(mismatch());
        }

        let mut dims = drawn_lines.to_vec();
        dims.insert(axis, categories);
        let all = Shape::from([prefix, &dims].concat());
        let count = element_count::<T>(&all)?;
        element_count::<T>(&dims.as_slice().into())?;
        let logits = self.logits.broadcast_as(dims.as_slice()).map_err(|_| mismatch())?;
        let logits: Vec<T> = logits.flatten_all()?.to_vec1()?;
        let size = Size {
            draws: element_count::<u32>(&prefix.into())?,
            outer: dims[..axis].iter().product(),
            categories,
            inner: dims[axis + 1..].iter().product(),
        };
        let needed = if self.replace { size.draws.min(1) } else { size.draws };
        size.check(&logits, needed)?;
        let indices = match self.replace {
            true => {
                let noise = gumbel_numbers::<T>(key, count, self.mode);
                size.greatest(&logits, &noise)
            }
            false => {
                let noise = gumbel_numbers::<T>(key, logits.len(), self.mode);
                size.greatest_few(&logits, &noise)
            }
        };
        Ok(Tensor::from_vec(indices, shape, self.logits.device())?)
    }
}

/// How logits lie in memory: `outer` times the categories, each `inner` numbers, and how many draws there are of each line.
#[derive(Clone, Copy)]
struct Size {
    draws: usize,
    outer: usize,
    categories: usize,
    inner: usize,
}

impl Size {
    /// The number of lines of one draw.
    fn lines(self) -> usize {
        self.outer * self.inner
    }

    /// Where a category of a line is.
    fn place(self, line: usize, category: usize) -> usize {
        (line / self.inner * self.categories + category) * self.inner + line % self.inner
    }

    fn check<T: Float>(self, logits: &[T], needed: usize) -> Result<()> {
        for line in 0..self.lines() {
            let mut possible = 0;
            for category in 0..self.categories {
                let logit = logits[self.place(line, category)].to_f64();
                if logit.is_nan() {
                    return Err(Error::LogitIsNan { line, category });
                }
                possible += usize::from(logit > f64::NEG_INFINITY);
            }
            if possible == 0 && needed > 0 {
                return Err(Error::NothingToChoose { operation: "categorical", line: Some(line) });
            }
            if possible < needed {
                let (asked, available) = (needed, possible);
                return Err(Error::TooManyChoices { operation: "categorical", asked, available });
            }
        }
        Ok(())
    }

    /// The category of the greatest sum, for each draw and line; of equal ones, the first.
    fn greatest<T: Float>(self, logits: &[T], noise: &[T]) -> Vec<u32> {
        let lines = self.lines();
        let category_of = |number: usize| {
            let (draw, line) = (number / lines, number % lines);
            let noise = &noise[draw * logits.len()..];
            let sum = |category| noise[self.place(line, category)] + logits[self.place(line, category)];
            let mut best = (0, sum(0));
            for category in 1..self.categories {
                let sum = sum(category);
                if sum > best.1 {
                    best = (category, sum);
                }
            }
            best.0 as u32
        };
        (0..self.draws * lines).into_par_iter().with_min_len(64).map(category_of).collect()
    }

    /// The categories of the greatest sums of each line, the draws in front.
    fn greatest_few<T: Float>(self, logits: &[T], noise: &[T]) -> Vec<u32> {
        let mut indices = vec![0; self.draws * self.lines()];
        for line in 0..self.lines() {
            let places = (0..self.categories).map(|category| self.place(line, category));
            let sums: Vec<T> = places.map(|place| noise[place] + logits[place]).collect();
            for (draw, category) in top(&sums, self.draws).into_iter().enumerate() {
                indices[draw * self.lines() + line] = category;
            }
        }
        indices
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::key;

    fn logits<const N: usize>(values: &[[f32; 2]; N]) -> Tensor {
        Tensor::new(values, &Device::Cpu).unwrap()
    }

    fn check(categorical: Categorical, message: &str) {
        assert_eq!(categorical.sample(key(0)).unwrap_err().to_string(), message);
    }

    #[test]
    fn bad_input_is_an_error_that_names_the_value() {
        let infinity = f32::INFINITY;
        let two = Categorical::new(&logits(&[[0., 1.], [2., 3.]]));
        check(
            two.clone().shape((3, 5)),
            "shape [3, 5] does not end with [2], the shape of the logits [2, 2] without the axis of categories",
        );
        check(
            two.clone().shape(()),
            "shape [] does not end with [2], the shape of the logits [2, 2] without the axis of categories",
        );
        check(
            two.clone().axis(2),
            "axis 2 is out of range for shape [2, 2]: expected an axis from -2 to 2 exclusive",
        );
        check(
            two.shape((3, 2)).without_replacement(),
            "`categorical` can not choose 3 of 2 without replacement",
        );
        check(
            Categorical::new(&logits(&[[0., 1.], [2., f32::NAN]])),
            "the logit of category 1 of line 1 is NaN",
        );
        check(
            Categorical::new(&logits(&[[0., 0.], [-infinity, -infinity]])),
            "`categorical` has nothing to choose from in line 1",
        );
        check(
            Categorical::new(&logits(&[[0., -infinity]])).shape((2, 1)).without_replacement(),
            "`categorical` can not choose 2 of 1 without replacement",
        );
        let none = Tensor::zeros((2, 0), DType::F32, &Device::Cpu).unwrap();
        check(Categorical::new(&none), "`categorical` has nothing to choose from in line 0");
        let scalar = Categorical::new(&Tensor::new(1f32, &Device::Cpu).unwrap());
        check(scalar, "axis -1 is out of range for shape []: it has no axes");
        let huge = Categorical::new(&logits(&[[0., 1.]])).shape(usize::MAX);
        assert!(matches!(huge.sample(key(0)), Err(Error::TooLarge { .. })));
        let integers = Tensor::zeros((2, 2), DType::U32, &Device::Cpu).unwrap();
        assert!(matches!(categorical(key(0), &integers), Err(Error::InputDType { .. })));
    }

    #[test]
    fn no_lines_and_no_draws_give_nothing() {
        let none = Tensor::zeros((0, 3), DType::F32, &Device::Cpu).unwrap();
        assert_eq!(categorical(key(0), &none).unwrap().dims(), [0]);
        let drawn = Categorical::new(&logits(&[[0., 1.]])).shape((0, 1)).sample(key(0)).unwrap();
        assert_eq!(drawn.dims(), [0, 1]);
    }

    #[test]
    fn lines_broadcast() {
        let wide = Categorical::new(&logits(&[[0., 1.]])).shape((4, 3)).sample(key(0)).unwrap();
        let repeated = logits(&[[0., 1.], [0., 1.], [0., 1.]]);
        let same = Categorical::new(&repeated).shape((4, 3)).sample(key(0)).unwrap();
        assert_eq!(wide.to_vec2::<u32>().unwrap(), same.to_vec2::<u32>().unwrap());
    }
}
