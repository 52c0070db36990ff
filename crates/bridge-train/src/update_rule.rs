use bridge_ops::UpdateFormula;
use bridge_vars::Result;
use candle_core::Tensor;

use crate::OptimizerError;

/// How one parameter moves, given its gradient: what an [`Optimizer`](crate::Optimizer) does to each.
///
/// ```
/// use bridge_train::{Optimizer, UpdateRule};
/// use bridge_vars::{Param, Path, Result, State};
/// use candle_core::{Device, Tensor};
///
/// /// Moves by the sign of the gradient.
/// #[derive(Debug)]
/// struct SignSgd(f64);
///
/// impl UpdateRule for SignSgd {
///     fn memory(&self) -> &'static [&'static str] {
///         &[]
///     }
///     fn learning_rate(&self) -> f64 {
///         self.0
///     }
///     fn set_learning_rate(&mut self, learning_rate: f64) {
///         self.0 = learning_rate;
///     }
///     fn update(&self, _: u32, parameter: &Tensor, gradient: &Tensor, _: &mut [Tensor]) -> Result<Tensor> {
///         Ok((parameter - (gradient.sign()? * self.0)?)?)
///     }
/// }
///
/// let state = |value: f32| {
///     let mut state = State::default();
///     state.insert(&Path::from("w"), Param::leaf(Tensor::new(value, &Device::Cpu)?))?;
///     Ok::<_, bridge_vars::Error>(state)
/// };
/// let mut optimizer = Optimizer::new(SignSgd(0.5), &state(2.)?)?;
/// let updated = optimizer.update(&state(2.)?, &state(-7.)?)?;
/// assert_eq!(updated.get("w")?.tensor()?.to_scalar::<f32>()?, 2.5);
/// # Ok::<(), bridge_vars::Error>(())
/// ```
#[doc(alias("GradientTransformation", "GradientTransform"))]
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say how parameters change",
    note = "use `Sgd` or `AdamW`, or write `impl UpdateRule for {Self}`"
)]
pub trait UpdateRule {
    /// The names of the tensors to remember for each parameter, none of them `step`. They begin as zeros,
    /// in the shape of the parameter. Must stay the same over the life of an optimizer.
    fn memory(&self) -> &'static [&'static str];

    /// The learning rate of the next update.
    fn learning_rate(&self) -> f64;

    /// Changes the learning rate.
    fn set_learning_rate(&mut self, learning_rate: f64);

    /// The parameter's new value.
    ///
    /// All tensors are of one shape and dtype: f64 for f64 parameters, f32 for all others. `step` is 1 at
    /// the first update. `memory` is as [`UpdateRule::memory`] names it; what is put into it is there at the
    /// next step.
    ///
    /// # Errors
    /// If candle fails.
    fn update(
        &self,
        step: u32,
        parameter: &Tensor,
        gradient: &Tensor,
        memory: &mut [Tensor],
    ) -> Result<Tensor>;

    /// The formula whose kernel may do the same as [`UpdateRule::update`], in one pass over all parameters on the CPU, if
    /// there is one. It remembers what [`UpdateRule::memory`] names, in that order.
    ///
    /// A rule that wraps another, such as one with a schedule, can hand on the other's.
    fn fused(&self, step: u32) -> Option<UpdateFormula> {
        let _ = step;
        None
    }
}

/// As many tensors as a rule remembers.
pub(crate) fn remembered<'a, const N: usize>(
    names: &'static [&'static str],
    memory: &'a mut [Tensor],
) -> Result<&'a mut [Tensor; N], OptimizerError> {
    let found = memory.len();
    memory.try_into().map_err(|_| OptimizerError::Memory { names, found })
}
