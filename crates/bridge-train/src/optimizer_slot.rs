//! What an optimizer holds for each parameter, and the step of one.

use bridge_ops::{ParameterUpdate, UpdateFormula, stand_in};
use bridge_vars::{Leaf, OptimizerState, Result, TensorValue, Value};
use candle_core::Tensor;

use crate::parameter::{Parameter, compute_dtype};
use crate::{OptimizerError, UpdateRule};

/// What is held for a parameter.
#[derive(Debug)]
pub(crate) struct Slot {
    /// The number of the rule that moves it.
    pub(crate) rule: usize,
    /// What the rule remembers, in the order of its names.
    pub(crate) memory: Vec<Leaf>,
    /// The parameter without its elements: what filters look at.
    pub(crate) described: Leaf,
    /// The value before the last, whose memory the next one takes if nobody else has it by then.
    spare: Option<TensorValue>,
}

/// A clone goes on from the same memory, and has nothing to spare.
impl Clone for Slot {
    fn clone(&self) -> Self {
        let Self { rule, memory, described, .. } = self;
        Self { rule: *rule, memory: memory.clone(), described: described.clone(), spare: None }
    }
}

/// A gradient on its way to a parameter.
#[derive(Clone, Copy)]
pub(crate) struct Pull<'a> {
    pub(crate) step: u32,
    pub(crate) gradient: &'a Tensor,
    /// What it is multiplied by first.
    pub(crate) factor: f64,
}

impl Slot {
    pub(crate) fn new(parameter: &Parameter, leaf: &Leaf, names: &[&'static str]) -> Result<Self> {
        let device = match &leaf.value {
            Value::Tensor(tensor) => tensor.device(),
            other => other.tensor()?.device(),
        };
        let described = leaf.with_value(stand_in(&parameter.shape, parameter.dtype, device)?);
        let mut slot = Self { rule: 0, memory: Vec::new(), described, spare: None };
        slot.follow(0, &[], names)?;
        Ok(slot)
    }

    /// Puts the parameter under another rule. What that remembers by a name that the one before has too stays as it is.
    pub(crate) fn follow(
        &mut self,
        rule: usize,
        before: &[&'static str],
        names: &[&'static str],
    ) -> Result<()> {
        let Value::Tensor(like) = &self.described.value else { return Ok(()) };
        let remembered = |name: &&'static str| match before.iter().position(|other| other == name) {
            Some(at) => Ok(self.memory[at].clone()),
            None => {
                let zeros = Tensor::zeros(like.shape(), compute_dtype(like.dtype()), like.device())?;
                Ok(OptimizerState::leaf(Value::owned(zeros)))
            }
        };
        let memory = names.iter().map(remembered).collect::<Result<_>>()?;
        (self.rule, self.memory) = (rule, memory);
        Ok(())
    }

    /// True if everything is where kernels run.
    pub(crate) fn is_on_cpu(&self, parameter: &TensorValue, pull: Pull<'_>) -> bool {
        let on_cpu = |leaf: &Leaf| matches!(&leaf.value, Value::Tensor(tensor) if tensor.device().is_cpu());
        parameter.device().is_cpu() && pull.gradient.device().is_cpu() && self.memory.iter().all(on_cpu)
    }

    /// The parameter's part in a step of all by formulas. Until it is made, nothing has changed for anyone who looks.
    pub(crate) fn update(
        &mut self,
        rule: &impl UpdateRule,
        formula: UpdateFormula,
        parameter: &TensorValue,
        pull: Pull<'_>,
    ) -> Result<ParameterUpdate> {
        if formula.remembers() != self.memory.len() {
            return Err(OptimizerError::Memory { names: rule.memory(), found: formula.remembers() }.into());
        }
        let mut memory = [None, None];
        for (place, leaf) in memory.iter_mut().zip(&mut self.memory) {
            if let Value::Tensor(tensor) = &mut leaf.value {
                *place = Some(handle(tensor)?);
            }
        }
        let form = parameter.form();
        let fits = |spare: &mut TensorValue| {
            spare.is_alone() && spare.form() == form && spare.read(Tensor::is_contiguous)
        };
        self.spare = self.spare.take().and_then(|mut spare| fits(&mut spare).then_some(spare));
        Ok(ParameterUpdate {
            formula,
            parameter: parameter.read(Tensor::clone),
            gradient: pull.gradient.clone(),
            gradient_factor: pull.factor,
            memory,
            updated: self.spare.as_mut().map(handle).transpose()?,
        })
    }

    /// The new value, after the step was made.
    pub(crate) fn finish(&mut self, before: &TensorValue, update: ParameterUpdate) -> Value {
        let value = match self.spare.take() {
            Some(spare) => Value::Tensor(spare),
            // It was made in the step.
            None => update.updated.map_or(Value::Absent, Value::owned),
        };
        // What was handed out never comes back.
        self.spare = (!before.is_handed_out()).then(|| before.clone());
        value
    }

    /// The new value and what is to be remembered, by the rule's own composition.
    pub(crate) fn composed(
        &self,
        rule: &impl UpdateRule,
        parameter: &TensorValue,
        pull: Pull<'_>,
    ) -> Result<(Value, Vec<Tensor>)> {
        let dtype = parameter.dtype();
        let widened = |tensor: &Tensor| tensor.detach().to_dtype(compute_dtype(dtype));
        // A rule may keep what it gets, but not the elements of the gradient that it is given here.
        let gradient = match pull.factor {
            1. => widened(&pull.gradient.copy()?)?,
            factor => widened(pull.gradient)?.affine(factor, 0.)?,
        };
        let mut memory = self.memory.iter().map(|leaf| leaf.tensor().cloned()).collect::<Result<Vec<_>>>()?;
        let moved = rule.update(pull.step, &widened(parameter.get())?, &gradient, &mut memory)?;
        Ok((moved.to_dtype(dtype)?.detach().into(), memory))
    }

    /// Remembers what [`Slot::composed`] gave.
    pub(crate) fn remember(&mut self, memory: Vec<Tensor>) {
        for (leaf, tensor) in self.memory.iter_mut().zip(memory) {
            leaf.value = tensor.detach().into();
        }
    }
}

/// A handle to change a value's elements by. It must be gone before anyone else gets the value.
fn handle(value: &mut TensorValue) -> Result<Tensor> {
    let mut handle = None;
    value.change_in_place(|tensor| {
        handle = Some(tensor.clone());
        Ok(())
    })?;
    Ok(handle.unwrap_or_else(|| value.get().clone()))
}
