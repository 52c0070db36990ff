use bridge_graph::{Misfit, Visit, variables};
use bridge_vars::{Filter, Leaf, OptimizerState, Path, PathKey, Result, State, Tree, Variables};
use candle_core::Tensor;

use crate::fit::{differences, placed};
use crate::parameter::{Parameter, compute_dtype, selected, unexpected};
use crate::{OptimizerError, UpdateRule};

const STEP: &str = "step";

/// Changes parameters along their gradients, by an [`UpdateRule`], and remembers what the rule needs.
///
/// One arithmetic serves modules ([`Optimizer::step`]), variables ([`Optimizer::step_variables`]) and plain
/// states ([`Optimizer::update`]): with the same numbers they stay equal to the bit. It is done in f32 for
/// bf16, f16 and f32 parameters and in f64 for f64. New values are new tensors, so snapshots stay what they
/// were.
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
    rule: R,
    parameters: Vec<Parameter>,
    state: State,
}

impl<R: UpdateRule> Optimizer<R> {
    /// An optimizer of every leaf of a state.
    ///
    /// # Errors
    /// [`OptimizerError::NoParameters`], [`OptimizerError::NotFloat`].
    pub fn new(rule: R, parameters: &State) -> Result<Self> {
        let mut state = State::default();
        state.insert(&PathKey::from_static(&STEP).into(), OptimizerState::leaf(0))?;
        let (known, misfit) = Parameter::all(parameters);
        if !misfit.is_empty() {
            return Err(OptimizerError::NotFloat(misfit).into());
        }
        for Parameter { path, dtype, shape } in &known {
            let device = parameters.get(path)?.tensor()?.device();
            for name in rule.memory() {
                let zeros = Tensor::zeros(shape, compute_dtype(*dtype), device)?;
                state.insert(&memory_path(name, path), OptimizerState::leaf(zeros))?;
            }
        }
        if known.is_empty() {
            return Err(OptimizerError::NoParameters.into());
        }
        Ok(Self { rule, parameters: known, state })
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
        let mut parameters = State::default();
        let mut moved = Vec::new();
        for (path, variable) in variables(module)? {
            if gradients.tree().get(&path).is_some() {
                parameters.insert(&path, variable.leaf()?)?;
                moved.push((path, variable));
            }
        }
        let updated = self.update(&parameters, gradients)?;
        for (path, variable) in moved {
            if let Some(leaf) = updated.tree().get(&path) {
                variable.set_raw(leaf.value.clone());
            }
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
        let step = self.state.get(STEP)?.value.count()?.saturating_add(1);
        let mut updated = parameters.clone();
        let mut state = self.state.clone();
        state.insert(&PathKey::from_static(&STEP).into(), OptimizerState::leaf(step))?;
        let names = self.rule.memory();
        for (Parameter { path, dtype, .. }, leaf, gradient) in self.matched(parameters, gradients)? {
            let widened = |tensor: &Tensor| tensor.detach().to_dtype(compute_dtype(*dtype));
            let places: Vec<Path> = names.iter().map(|name| memory_path(name, path)).collect();
            let remembered = |place: &Path| state.get(place)?.tensor().cloned();
            let mut memory: Vec<Tensor> = places.iter().map(remembered).collect::<Result<_>>()?;
            let moved = self
                .rule
                .update(step, &widened(leaf.tensor()?)?, &widened(gradient)?, &mut memory)
                .map_err(|error| error.at(path))?;
            for (place, tensor) in places.iter().zip(memory) {
                state.insert(place, OptimizerState::leaf(tensor.detach()))?;
            }
            updated.insert(path, leaf.with_value(moved.to_dtype(*dtype)?.detach()))?;
        }
        self.state = state;
        Ok(updated)
    }

    /// Every parameter with its leaf and its gradient.
    fn matched<'a>(
        &'a self,
        parameters: &'a Tree<Leaf>,
        gradients: &'a Tree<Leaf>,
    ) -> Result<Vec<(&'a Parameter, &'a Leaf, &'a Tensor)>> {
        let (mut gradients_misfit, mut parameters_misfit) = (Misfit::default(), Misfit::default());
        let mut matched = Vec::with_capacity(self.parameters.len());
        for parameter in &self.parameters {
            let gradient = parameter.find(gradients, &mut gradients_misfit);
            let leaf = parameter.find(parameters, &mut parameters_misfit);
            if let (Some(leaf), Some(gradient)) = (leaf, gradient) {
                matched.push((parameter, leaf, gradient.tensor()?));
            }
        }
        if matched.len() < gradients.len() {
            gradients_misfit.unexpected = unexpected(&self.parameters, gradients);
        }
        match (gradients_misfit.is_empty(), parameters_misfit.is_empty()) {
            (false, _) => Err(OptimizerError::Gradients(gradients_misfit).into()),
            (_, false) => Err(OptimizerError::Parameters(parameters_misfit).into()),
            _ => Ok(matched),
        }
    }

    /// What the optimizer remembers: the number of steps at `step`, and what the rule keeps for each
    /// parameter under the rule's name for it (`mu.encoder.kernel`).
    ///
    /// A snapshot: later steps do not change it.
    #[doc(alias = "opt_state")]
    pub fn state(&self) -> State {
        self.state.clone()
    }

    /// Goes on from what [`Optimizer::state`] gave, perhaps in another program. The tensors move to the
    /// device of the parameters.
    ///
    /// If this fails, nothing has changed.
    ///
    /// # Errors
    /// [`OptimizerError::State`] with every path that is missing, unexpected or different.
    pub fn restore(&mut self, state: &State) -> Result<()> {
        let misfit = differences(&self.state, state);
        if !misfit.is_empty() {
            return Err(OptimizerError::State(misfit).into());
        }
        self.state = placed(&self.state, state)?;
        Ok(())
    }

    /// The rule.
    pub fn rule(&self) -> &R {
        &self.rule
    }

    /// The learning rate of the next step.
    pub fn learning_rate(&self) -> f64 {
        self.rule.learning_rate()
    }

    /// Changes the learning rate, from the next step on.
    pub fn set_learning_rate(&mut self, learning_rate: f64) {
        self.rule.set_learning_rate(learning_rate);
    }
}

fn memory_path(name: &'static &'static str, path: &Path) -> Path {
    Path::from(PathKey::from_static(name)).concat(path)
}
