use bridge_graph::{GraphNode, Misfit, Visit, iter_graph};
use bridge_vars::{
    Filter, Leaf, OptimizerState, Path, PathKey, Result, State, TensorValue, Tree, Value, Variables,
};
use candle_core::Tensor;

use crate::fit::{differences, placed};
use crate::gradients::{checked, clipping};
use crate::optimizer_slot::{Pull, Slot};
use crate::parameter::{Cursor, Parameter, selected, tensors, unexpected};
use crate::{OptimizerError, UpdateRule};

const STEP: &str = "step";

/// Changes parameters along their gradients, by an [`UpdateRule`], and remembers what the rule needs.
///
/// One arithmetic serves modules ([`Optimizer::step`]), variables ([`Optimizer::step_variables`]) and plain
/// states ([`Optimizer::update`]): with the same numbers they stay equal to the bit. It is done in f32 for
/// bf16, f16 and f32 parameters and in f64 for f64, on the CPU in one pass over all parameters if the rule
/// [has a kernel](UpdateRule::fused).
///
/// Snapshots stay what they were: new values are new tensors. A graph can begin at them without a copy; the memory of one
/// that no graph and no reader was given is used again two steps later.
///
/// ```
/// use bridge_graph::{StatefulModule, value_and_grad};
/// use bridge_train::{AdamW, Optimizer};
/// use bridge_vars::{Filter, Param};
/// use candle_core::{Device, Tensor};
///
/// #[derive(StatefulModule)]
/// struct Scale { factor: Param }
///
/// let scale = Scale { factor: Param::new(Tensor::new(3f32, &Device::Cpu)?) };
/// let mut optimizer = Optimizer::for_module(AdamW::new(0.1), &scale, Filter::of::<Param>())?;
/// for _ in 0..100 {
///     let (_, gradients) =
///         value_and_grad(&scale, Filter::of::<Param>(), |scale| Ok(scale.factor.value()?.sqr()?))?;
///     optimizer.step(&scale, &gradients)?;
/// }
/// assert!(scale.factor.value()?.to_scalar::<f32>()?.abs() < 0.1);
/// assert_eq!(optimizer.state().get("step")?.value.count()?, 100);
/// # Ok::<(), bridge_vars::Error>(())
/// ```
///
/// A clone is an optimizer of its own, which goes on from the same memory.
#[doc(alias("nnx.Optimizer", "TrainState", "optax"))]
#[derive(Clone, Debug)]
pub struct Optimizer<R> {
    /// That of the parameters that are in no group, then those of the groups.
    rules: Vec<R>,
    parameters: Vec<Parameter>,
    /// As many as there are parameters.
    slots: Vec<Slot>,
    step: Leaf,
    max_norm: Option<f64>,
}

impl<R: UpdateRule> Optimizer<R> {
    /// An optimizer of every leaf of a state.
    ///
    /// # Errors
    /// [`OptimizerError::NoParameters`], [`OptimizerError::NotFloat`].
    pub fn new(rule: R, parameters: &State) -> Result<Self> {
        let (known, misfit) = Parameter::all(parameters);
        if !misfit.is_empty() {
            return Err(OptimizerError::NotFloat(misfit).into());
        }
        if known.is_empty() {
            return Err(OptimizerError::NoParameters.into());
        }
        let slot =
            |parameter: &Parameter| Slot::new(parameter, parameters.get(&parameter.path)?, rule.memory());
        let slots = known.iter().map(slot).collect::<Result<_>>()?;
        let step = OptimizerState::leaf(0);
        let optimizer = Self { rules: vec![rule], parameters: known, slots, step, max_norm: None };
        optimizer.as_state()?;
        Ok(optimizer)
    }

    /// An optimizer of a module's variables that a filter matches: the filter that gradients are taken with.
    ///
    /// # Errors
    /// Those of [`Optimizer::new`].
    #[doc(alias = "wrt")]
    pub fn for_module<M: Visit + ?Sized>(rule: R, module: &M, wrt: impl Into<Filter>) -> Result<Self> {
        Self::new(rule, &selected(module, &wrt.into())?)
    }

    /// An optimizer of those of a functional module's variables that a filter matches: the filter that
    /// gradients are taken with. Paths begin with the collection.
    ///
    /// # Errors
    /// Those of [`Optimizer::new`].
    #[doc(alias = "wrt")]
    pub fn for_variables(rule: R, variables: &Variables, wrt: impl Into<Filter>) -> Result<Self> {
        Self::new(rule, &State::from(variables.tree().clone()).filter(wrt))
    }

    /// Moves the parameters that a filter matches by a rule of their own, with its own learning rate and decay. A
    /// parameter stays in the first group that it is put into.
    ///
    /// ```
    /// use bridge_train::{AdamW, Optimizer};
    /// use bridge_vars::{Filter, Param, Path, State};
    /// use candle_core::{Device, Tensor};
    /// let mut parameters = State::default();
    /// for name in ["kernel", "bias"] {
    ///     parameters.insert(&Path::from(name), Param::leaf(Tensor::new(1f32, &Device::Cpu)?))?;
    /// }
    /// let optimizer = Optimizer::new(AdamW::new(1e-3).with_weight_decay(0.1), &parameters)?
    ///     .with_group(Filter::path_contains("bias"), AdamW::new(1e-3).with_weight_decay(0.))?;
    /// assert_eq!(optimizer.group_rule(0).map(|rule| rule.weight_decay), Some(0.));
    /// # Ok::<(), bridge_vars::Error>(())
    /// ```
    ///
    /// What the optimizer remembers of them by the names of the new rule stays as it is.
    ///
    /// # Errors
    /// [`OptimizerError::EmptyGroup`].
    #[doc(alias("param_groups", "optax.multi_transform", "optax.partition", "optax.masked"))]
    pub fn with_group(mut self, filter: impl Into<Filter>, rule: R) -> Result<Self> {
        let filter = filter.into();
        let (number, names, before) = (self.rules.len(), rule.memory(), self.rules[0].memory());
        for (Parameter { path, .. }, slot) in self.parameters.iter().zip(&mut self.slots) {
            if slot.rule == 0 && filter.matches(path, &slot.described) {
                slot.follow(number, before, names)?;
            }
        }
        if self.slots.iter().all(|slot| slot.rule != number) {
            return Err(OptimizerError::EmptyGroup { filter: filter.to_string() }.into());
        }
        self.rules.push(rule);
        self.as_state()?;
        Ok(self)
    }

    /// Multiplies gradients whose norm over all parameters is above `max_norm` by `max_norm / norm` before each step, as
    /// [`clip_by_global_norm`](crate::clip_by_global_norm) does.
    ///
    /// # Errors
    /// [`OptimizerError::MaxNorm`] if it is not above 0.
    #[doc(alias("optax.clip_by_global_norm", "clip_grad_norm_"))]
    pub fn with_global_norm_clipping(self, max_norm: f64) -> Result<Self> {
        Ok(Self { max_norm: Some(checked(max_norm)?), ..self })
    }

    /// The parameters after one step; leaves that the optimizer was not made for come back as they are.
    ///
    /// If this fails, the optimizer is as it was before.
    ///
    /// # Errors
    /// [`OptimizerError::Gradients`] and [`OptimizerError::Parameters`] with every path that is missing,
    /// unexpected or of another shape or dtype; and if candle fails.
    #[doc(alias("apply_gradients", "apply_updates"))]
    pub fn update(&mut self, parameters: &State, gradients: &State) -> Result<State> {
        self.updated(parameters.tree(), gradients.tree()).map(State::from)
    }

    /// One step of a module's variables, in place. Gradients are those of all parameters that the optimizer was made for.
    ///
    /// If this fails, module and optimizer are as they were before.
    ///
    /// # Errors
    /// Those of [`Optimizer::update`].
    #[doc(alias = "nnx.Optimizer.update")]
    pub fn step<M: Visit + ?Sized>(&mut self, module: &M, gradients: &State) -> Result<()> {
        let gradients = self.gradients(gradients.tree())?;
        let mut cursor = Cursor::new(&self.parameters);
        let mut found = Vec::with_capacity(self.parameters.len());
        iter_graph(module, |path, node| {
            if let GraphNode::Variable(variable) = node
                && let Some(at) = cursor.find(path)
            {
                let value = variable.leaf()?.value;
                if self.parameters[at].tensor(&value).is_some() {
                    found.push((at, variable.clone(), value));
                }
            }
            Ok(())
        })?;
        if found.len() < self.parameters.len() {
            return Err(self.misfit(selected(module, &Filter::Everything)?.tree()).into());
        }
        // They are in order already, unless a `Visit` written by hand has one of its own.
        found.sort_unstable_by_key(|(at, ..)| *at);
        let mut tensors = Vec::with_capacity(found.len());
        tensors.extend(found.iter().filter_map(|(at, _, value)| self.parameters[*at].tensor(value)));
        for ((_, variable, _), value) in found.iter().zip(self.moved(&tensors, &gradients)?) {
            variable.set_raw(value);
        }
        Ok(())
    }

    /// The variables after one step; those that the optimizer was not made for come back as they are.
    ///
    /// If this fails, the optimizer is as it was before.
    ///
    /// # Errors
    /// Those of [`Optimizer::update`].
    #[doc(alias("apply_gradients", "apply_updates"))]
    pub fn step_variables(&mut self, variables: &Variables, gradients: &Variables) -> Result<Variables> {
        self.updated(variables.tree(), gradients.tree()).map(Variables::from)
    }

    fn updated(&mut self, parameters: &Tree<Leaf>, gradients: &Tree<Leaf>) -> Result<Tree<Leaf>> {
        let gradients = self.gradients(gradients)?;
        let Some((values, _)) = tensors(&self.parameters, parameters) else {
            return Err(self.misfit(parameters).into());
        };
        let mut moved = self.moved(&values, &gradients)?.into_iter();
        let mut cursor = Cursor::new(&self.parameters);
        parameters.try_map(|path, leaf| match cursor.find(path) {
            None => Ok(leaf.clone()),
            // The tree's leaves come in the order of the parameters.
            Some(_) => Ok(leaf.with_value(moved.next().unwrap_or(Value::Absent))),
        })
    }

    /// The gradients of all parameters, in their order. These are handles for the time of a step.
    fn gradients(&self, gradients: &Tree<Leaf>) -> Result<Vec<Tensor>, OptimizerError> {
        if let Some((found, 0)) = tensors(&self.parameters, gradients) {
            return Ok(found.into_iter().map(|gradient| gradient.read(Tensor::clone)).collect());
        }
        let mut misfit = Misfit::default();
        for parameter in &self.parameters {
            parameter.find(gradients, &mut misfit);
        }
        misfit.unexpected = unexpected(&self.parameters, gradients);
        Err(OptimizerError::Gradients(misfit))
    }

    /// What is wrong with parameters.
    fn misfit(&self, parameters: &Tree<Leaf>) -> OptimizerError {
        let mut misfit = Misfit::default();
        for parameter in &self.parameters {
            parameter.find(parameters, &mut misfit);
        }
        OptimizerError::Parameters(misfit)
    }

    /// The new values of all parameters. If this fails, nothing has changed.
    fn moved(&mut self, parameters: &[&TensorValue], gradients: &[Tensor]) -> Result<Vec<Value>> {
        let step = self.step.value.count()?.saturating_add(1);
        let factor = match self.max_norm {
            Some(max_norm) => clipping(bridge_ops::global_norm(gradients)?, max_norm),
            None => 1.,
        };
        let formulas: Vec<_> = self.rules.iter().map(|rule| rule.fused(step)).collect();
        let (mut updates, mut composed) = (Vec::with_capacity(self.slots.len()), Vec::new());
        for (at, slot) in self.slots.iter_mut().enumerate() {
            let (rule, parameter) = (&self.rules[slot.rule], parameters[at]);
            let pull = Pull { step, gradient: &gradients[at], factor };
            let known = |error: bridge_vars::Error| error.at(&self.parameters[at].path);
            match formulas[slot.rule] {
                Some(formula) if slot.is_on_cpu(parameter, pull) => {
                    updates.push(slot.update(rule, formula, parameter, pull).map_err(known)?);
                }
                _ => composed.push((at, slot.composed(rule, parameter, pull).map_err(known)?)),
            }
        }
        bridge_ops::update_parameters(&mut updates)?;
        let (mut updates, mut composed) = (updates.into_iter(), composed.into_iter().peekable());
        let moved = self.slots.iter_mut().enumerate().map(|(at, slot)| {
            match composed.next_if(|(composed, _)| *composed == at) {
                Some((_, (value, memory))) => {
                    slot.remember(memory);
                    value
                }
                None => updates.next().map_or(Value::Absent, |update| slot.finish(parameters[at], update)),
            }
        });
        let moved = moved.collect();
        self.step.value = Value::Count(step);
        Ok(moved)
    }

    /// What the optimizer remembers: the number of steps at `step`, and what the rule keeps for each
    /// parameter under the rule's name for it (`mu.encoder.kernel`).
    ///
    /// A snapshot: later steps do not change it.
    #[doc(alias = "opt_state")]
    pub fn state(&self) -> State {
        // All paths were put into one state when the optimizer was made.
        self.as_state().unwrap_or_default()
    }

    fn as_state(&self) -> Result<State> {
        let mut state = State::default();
        state.insert(&PathKey::from_static(&STEP).into(), self.step.clone())?;
        for (Parameter { path, .. }, slot) in self.parameters.iter().zip(&self.slots) {
            for (name, leaf) in self.rules[slot.rule].memory().iter().zip(&slot.memory) {
                state.insert(&memory_path(name, path), leaf.clone())?;
            }
        }
        Ok(state)
    }

    /// Goes on from what [`Optimizer::state`] gave, perhaps in another program. The tensors move to the
    /// device of the parameters.
    ///
    /// If this fails, nothing has changed.
    ///
    /// # Errors
    /// [`OptimizerError::State`] with every path that is missing, unexpected or different.
    pub fn restore(&mut self, state: &State) -> Result<()> {
        let own = self.as_state()?;
        let misfit = differences(&own, state);
        if !misfit.is_empty() {
            return Err(OptimizerError::State(misfit).into());
        }
        let placed = placed(&own, state)?;
        let mut slots = self.slots.clone();
        for (Parameter { path, .. }, slot) in self.parameters.iter().zip(&mut slots) {
            for (name, leaf) in self.rules[slot.rule].memory().iter().zip(&mut slot.memory) {
                *leaf = placed.get(memory_path(name, path))?.clone();
            }
        }
        (self.step, self.slots) = (placed.get(STEP)?.clone(), slots);
        Ok(())
    }

    /// The rule; with groups, that of the parameters that are in none.
    pub fn rule(&self) -> &R {
        &self.rules[0]
    }

    /// The rule of a group, counted from 0 in the order in which they were made.
    pub fn group_rule(&self, group: usize) -> Option<&R> {
        self.rules.get(group.checked_add(1)?)
    }

    /// The learning rate of the next step; with groups, that of the parameters that are in none.
    pub fn learning_rate(&self) -> f64 {
        self.rule().learning_rate()
    }

    /// Changes the learning rate, from the next step on; with groups, that of the parameters that are in none.
    pub fn set_learning_rate(&mut self, learning_rate: f64) {
        self.rules[0].set_learning_rate(learning_rate);
    }

    /// Changes the learning rate of a group, from the next step on.
    ///
    /// # Errors
    /// [`OptimizerError::NoGroup`].
    pub fn set_group_learning_rate(&mut self, group: usize, learning_rate: f64) -> Result<()> {
        let groups = self.rules.len() - 1;
        match self.rules.get_mut(1..).and_then(|rules| rules.get_mut(group)) {
            Some(rule) => {
                rule.set_learning_rate(learning_rate);
                Ok(())
            }
            None => Err(OptimizerError::NoGroup { groups, found: group }.into()),
        }
    }
}

fn memory_path(name: &'static &'static str, path: &Path) -> Path {
    Path::from(PathKey::from_static(name)).concat(path)
}
