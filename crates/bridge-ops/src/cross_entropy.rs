//! The cross entropy of a categorical distribution that is given by logits.

use crate::kernels::cross_entropy::{Backward, Examples, IGNORED};
use crate::kernels::element::{Element, Real};
use crate::kernels::rows::{numbers_written, rows_written, sum};
use crate::kernels::storage::{tensor, with_elements};
use crate::labels::{Labels, checked};
use crate::operator::{Argument, Fused, apply};
use crate::precision::compute_dtype;
use crate::softmax::{check_classes, rows_and_columns};
use crate::{Error, Result, composition, is_shapes_only, kernels, stand_in};
use candle_core::{CpuStorage, Shape, Tensor, WithDType};

/// The mean over all examples of `-log softmax(logits)[label]`, a scalar.
///
/// - `logits`: `[..., classes]`, any float;
/// - `labels`: `[...]`, u32 or i64, each in `0..classes`.
///
/// The loss of half-precision logits is in f32. [`CrossEntropy`] has options: label smoothing, labels to ignore.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let logits = Tensor::zeros((3, 4), candle_core::DType::F32, &Device::Cpu)?;
/// let labels = Tensor::new(&[0u32, 3, 1], &Device::Cpu)?;
/// let loss = bridge_ops::softmax_cross_entropy(&logits, &labels)?.to_scalar::<f32>()?;
/// assert!((loss - 4f32.ln()).abs() < 1e-6);
/// # Ok::<(), bridge_ops::Error>(())
/// ```
///
/// # Errors
///
/// When the shapes or dtypes do not fit, when there are no examples, and, on the CPU, when a label is out of range (a
/// GPU would have to be waited for to check it).
#[doc(alias = "softmax_cross_entropy_with_integer_labels")]
#[doc(alias = "cross_entropy")]
#[doc(alias = "CrossEntropyLoss")]
pub fn softmax_cross_entropy(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    CrossEntropy::new().compute("softmax_cross_entropy", logits, labels, true)
}

/// `-log softmax(logits)[label]` of each example.
///
/// As [`softmax_cross_entropy`], with the losses `[...]` of the examples instead of their mean.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let logits = Tensor::new(&[[0f32, 1000.0], [0.0, 1000.0]], &Device::Cpu)?;
/// let labels = Tensor::new(&[0i64, 1], &Device::Cpu)?;
/// let losses = bridge_ops::softmax_cross_entropy_per_example(&logits, &labels)?;
/// assert_eq!(losses.to_vec1::<f32>()?, [1000.0, 0.0]);
/// # Ok::<(), bridge_ops::Error>(())
/// ```
///
/// # Errors
///
/// As [`softmax_cross_entropy`], except that no examples give no losses.
#[doc(alias = "softmax_cross_entropy_with_integer_labels")]
pub fn softmax_cross_entropy_per_example(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    CrossEntropy::new().compute("softmax_cross_entropy_per_example", logits, labels, false)
}

/// Cross entropy with options.
///
/// With label smoothing `s`, a label's probability is `1 - s`, and `s / classes` is added to that of every class. An
/// example whose label is to be ignored has loss 0 and no gradient, and does not count in the mean. As
/// `torch.nn.functional.cross_entropy`; smoothing also as `optax.smooth_labels`.
///
/// ```
/// use bridge_ops::CrossEntropy;
/// # use candle_core::{DType, Device, Tensor};
/// let logits = Tensor::zeros((3, 4), DType::F32, &Device::Cpu)?;
/// let labels = Tensor::new(&[0i64, -100, 1], &Device::Cpu)?;
/// let loss = CrossEntropy::new().label_smoothing(0.1).ignore_index(-100).mean(&logits, &labels)?;
/// assert!((loss.to_scalar::<f32>()? - 4f32.ln()).abs() < 1e-6);
/// # Ok::<(), bridge_ops::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[doc(alias = "cross_entropy")]
#[doc(alias = "CrossEntropyLoss")]
#[doc(alias = "smooth_labels")]
pub struct CrossEntropy {
    label_smoothing: f64,
    ignore_index: Option<i64>,
}

impl CrossEntropy {
    /// Without options: [`softmax_cross_entropy`].
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How much of a label's probability is spread evenly over all classes, from 0 to 1.
    #[must_use]
    pub fn label_smoothing(self, label_smoothing: f64) -> Self {
        Self { label_smoothing, ..self }
    }

    /// The label of examples that do not count, a class or not.
    #[must_use]
    pub fn ignore_index(self, ignore_index: i64) -> Self {
        Self { ignore_index: Some(ignore_index), ..self }
    }

    /// The mean loss of the examples that are not ignored, a scalar. Arguments are those of [`softmax_cross_entropy`].
    ///
    /// ```
    /// use bridge_ops::CrossEntropy;
    /// # use candle_core::{Device, Tensor};
    /// let logits = Tensor::new(&[[0f32, 1000.0], [0.0, 1000.0]], &Device::Cpu)?;
    /// let labels = Tensor::new(&[0i64, -1], &Device::Cpu)?;
    /// assert_eq!(CrossEntropy::new().ignore_index(-1).mean(&logits, &labels)?.to_scalar::<f32>()?, 1000.0);
    /// # Ok::<(), bridge_ops::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`softmax_cross_entropy`]; when the smoothing is not from 0 to 1; and, on the CPU, when all examples are
    /// ignored (elsewhere the mean of none is NaN).
    pub fn mean(&self, logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
        self.compute("CrossEntropy::mean", logits, labels, true)
    }

    /// The loss of each example. Arguments are those of [`softmax_cross_entropy_per_example`].
    ///
    /// ```
    /// use bridge_ops::CrossEntropy;
    /// # use candle_core::{Device, Tensor};
    /// let logits = Tensor::new(&[[0f32, 1000.0], [0.0, 1000.0]], &Device::Cpu)?;
    /// let labels = Tensor::new(&[0i64, -1], &Device::Cpu)?;
    /// let losses = CrossEntropy::new().ignore_index(-1).per_example(&logits, &labels)?;
    /// assert_eq!(losses.to_vec1::<f32>()?, [1000.0, 0.0]);
    /// # Ok::<(), bridge_ops::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`softmax_cross_entropy_per_example`], and when the smoothing is not from 0 to 1.
    pub fn per_example(&self, logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
        self.compute("CrossEntropy::per_example", logits, labels, false)
    }

    fn compute(
        &self,
        operator: &'static str,
        logits: &Tensor,
        labels: &Tensor,
        mean: bool,
    ) -> Result<Tensor> {
        let &Self { label_smoothing, ignore_index } = self;
        if !(0.0..=1.0).contains(&label_smoothing) {
            return Err(Error::Probability {
                operator,
                argument: "label_smoothing",
                expected: "from 0 to 1",
                found: label_smoothing,
            });
        }
        let Labels { labels, values } = checked(operator, logits, labels, ignore_index)?;
        check_classes(operator, "logits", logits)?;
        let empty =
            |argument, found: &Tensor| Error::Empty { operator, argument, found: found.shape().clone() };
        if mean && labels.elem_count() == 0 {
            return Err(empty("logits", logits));
        }
        if is_shapes_only() {
            let shape = if mean { ().into() } else { labels.shape().clone() };
            return stand_in(shape, compute_dtype(logits.dtype()), logits.device());
        }
        let values = values.map(|mut values| {
            values
                .iter_mut()
                .filter(|label| Some(**label) == ignore_index)
                .for_each(|label| *label = IGNORED);
            values
        });
        let counted = values.as_ref().map(|values| values.iter().filter(|&&label| label != IGNORED).count());
        if mean && counted == Some(0) {
            return Err(empty("labels", &labels));
        }
        match (values, counted) {
            (Some(labels), Some(counted)) if kernels::run_for(logits) => {
                let counted = mean.then_some(counted);
                Ok(apply(Operator { labels, smoothing: label_smoothing, counted }, &[logits])?)
            }
            _ if mean => composition::cross_entropy(logits, &labels, label_smoothing, ignore_index),
            _ => composition::cross_entropy_per_example(logits, &labels, label_smoothing, ignore_index),
        }
    }
}

struct Operator {
    /// Each a class or [`IGNORED`].
    labels: Vec<i64>,
    smoothing: f64,
    /// For the mean: of how many examples it is.
    counted: Option<usize>,
}

impl Operator {
    fn examples<'a, T: Element>(&'a self, logits: &'a [T], classes: usize) -> Examples<'a, T> {
        Examples { logits, classes, labels: &self.labels, smoothing: self.smoothing }
    }
}

impl Fused for Operator {
    const NAME: &'static str = "softmax_cross_entropy";

    fn forward<T: Element>(&self, arguments: &[Argument]) -> candle_core::Result<(CpuStorage, Shape)> {
        let &[logits] = arguments else { candle_core::bail!("cross entropy has one argument") };
        let (examples, classes) = rows_and_columns(logits.layout.dims());
        let elements = logits.elements::<T>()?;
        let losses = numbers_written(examples, classes, &self.examples(&elements, classes));
        let (losses, shape) = match self.counted {
            Some(counted) => (vec![sum(&losses) / T::Wide::real(counted as f64)], ().into()),
            None => {
                (losses, logits.layout.dims().split_last().map_or(&[][..], |(_, leading)| leading).into())
            }
        };
        Ok((T::Wide::to_cpu_storage_owned(losses), shape))
    }

    fn backward<T: Element>(
        &self,
        arguments: &[&Tensor],
        _: &Tensor,
        gradient: &Tensor,
    ) -> candle_core::Result<Vec<Option<Tensor>>> {
        let &[logits] = arguments else { candle_core::bail!("cross entropy has one argument") };
        let (examples, classes) = rows_and_columns(logits.dims());
        let factor = T::Wide::real(1.0 / self.counted.unwrap_or(1) as f64);
        let values = with_elements::<T, _>(logits, |logits| {
            with_elements::<T::Wide, _>(gradient, |gradient| {
                let work = Backward { examples: self.examples(logits, classes), gradient, factor };
                Ok(rows_written::<T, _>(examples, classes, &work))
            })
        })?;
        Ok(vec![Some(tensor(values, logits.shape())?)])
    }
}
