//! What losses of predictions and their targets share.

use crate::kernels::element::{Element, Real};
use crate::kernels::pairs::{Gradient, Pair, Pairs};
use crate::kernels::storage::{tensor, with_elements};
use crate::operator::{Argument, Fused, apply};
use crate::precision::{compute_dtype, require_float, widen};
use crate::{Error, Result, is_shapes_only, kernels, stand_in};
use candle_core::{CpuStorage, Shape, Tensor, WithDType};

/// A loss to apply.
pub(crate) struct Loss<P> {
    pub(crate) operator: &'static str,
    /// What errors call the predictions.
    pub(crate) predictions: &'static str,
    pub(crate) pair: P,
    pub(crate) mean: bool,
    pub(crate) composition: fn(&Tensor, &Tensor) -> Result<Tensor>,
}

impl<P: Pair> Loss<P> {
    /// Checks the arguments, and computes the loss of each pair or the mean.
    pub(crate) fn apply(&self, predictions: &Tensor, targets: &Tensor) -> Result<Tensor> {
        let operator = self.operator;
        if predictions.shape() != targets.shape() {
            return Err(Error::Shape {
                operator,
                argument: "targets",
                expected: format!("the shape of `{}`, {:?}", self.predictions, predictions.shape()),
                found: targets.shape().clone(),
            });
        }
        if self.mean && predictions.elem_count() == 0 {
            return Err(Error::Empty {
                operator,
                argument: self.predictions,
                found: predictions.shape().clone(),
            });
        }
        require_float(operator, self.predictions, predictions)?;
        require_float(operator, "targets", targets)?;
        let dtype = compute_dtype(predictions.dtype());
        if dtype != compute_dtype(targets.dtype()) {
            return Err(Error::DType {
                operator,
                argument: "targets",
                expected: "the dtype of the predictions",
                found: targets.dtype(),
            });
        }
        if is_shapes_only() {
            let shape = if self.mean { ().into() } else { predictions.shape().clone() };
            return stand_in(shape, dtype, predictions.device());
        }
        let pair = Operator { pair: self.pair, mean: self.mean };
        let same = predictions.dtype() == targets.dtype();
        if same && kernels::run_for(predictions) {
            return Ok(apply(pair, &[predictions, targets])?);
        }
        let predictions = widen(operator, self.predictions, predictions)?;
        let targets = widen(operator, "targets", targets)?;
        if kernels::run_for(&predictions) {
            return Ok(apply(pair, &[&predictions, &targets])?);
        }
        (self.composition)(&predictions, &targets)
    }
}

struct Operator<P> {
    pair: P,
    mean: bool,
}

impl<P: Pair> Fused for Operator<P> {
    const NAME: &'static str = P::NAME;

    fn forward<T: Element>(&self, arguments: &[Argument]) -> candle_core::Result<(CpuStorage, Shape)> {
        let &[predictions, targets] = arguments else { candle_core::bail!("a loss has two arguments") };
        let shape = predictions.layout.shape().clone();
        let (predictions, targets) = (predictions.elements::<T>()?, targets.elements::<T>()?);
        let pairs = Pairs::new(&predictions, &targets, self.pair);
        Ok(match self.mean {
            true => {
                let mean = pairs.sum() / T::Wide::real(predictions.len() as f64);
                (T::Wide::to_cpu_storage_owned(vec![mean]), ().into())
            }
            false => (T::Wide::to_cpu_storage_owned(pairs.losses()), shape),
        })
    }

    fn backward<T: Element>(
        &self,
        arguments: &[&Tensor],
        _: &Tensor,
        gradient: &Tensor,
    ) -> candle_core::Result<Vec<Option<Tensor>>> {
        let &[predictions, targets] = arguments else { candle_core::bail!("a loss has two arguments") };
        let shape = predictions.shape();
        let elements = |gradient: Gradient<'_, T::Wide>| {
            with_elements::<T, _>(predictions, |first| {
                with_elements::<T, _>(targets, |second| {
                    let pairs = Pairs::new(first, second, self.pair);
                    let of_predictions = predictions.track_op().then(|| pairs.pulled_back::<false>(gradient));
                    let of_targets = targets.track_op().then(|| pairs.pulled_back::<true>(gradient));
                    let finished =
                        |values: Option<Vec<T>>| values.map(|values| tensor(values, shape)).transpose();
                    Ok(vec![finished(of_predictions)?, finished(of_targets)?])
                })
            })
        };
        with_elements::<T::Wide, _>(gradient, |gradient| match gradient {
            [gradient] if self.mean => {
                elements(Gradient::One(*gradient / T::Wide::real(shape.elem_count() as f64)))
            }
            gradient => elements(Gradient::Each(gradient)),
        })
    }
}
