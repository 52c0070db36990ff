use bridge_graph::{Misfit, Visit, variables};
use bridge_vars::{Filter, Leaf, Result, State, Tree, Variables};
use candle_core::Tensor;

use crate::EmaError;
use crate::fit::{differences, placed};
use crate::parameter::{Parameter, compute_dtype, selected, unexpected};

/// Exponential moving averages of parameters, which often do better in evaluation than the parameters do.
///
/// They begin as the parameters. After each step of training:
///
/// ```text
/// average = decay * average + (1 - decay) * parameter
/// ```
///
/// It is done in f32 for bf16, f16 and f32 parameters, in f64 for f64, and the averages are kept so; what
/// [`Ema::apply_to`] puts into a module is of the parameter's dtype. Flax keeps the averages of a bf16 parameter in
/// bf16, where a step with a decay of 0.999 is lost. New averages are new tensors, so snapshots stay what they were.
/// A shared parameter has one average.
///
/// ```
/// use bridge_graph::{StatefulModule, update};
/// use bridge_train::Ema;
/// use bridge_vars::{Filter, Param};
/// use candle_core::{Device, Tensor};
///
/// #[derive(StatefulModule)]
/// struct Scale { factor: Param }
///
/// let scalar = |value: f32| Tensor::new(value, &Device::Cpu);
/// let scale = Scale { factor: Param::new(scalar(1.)?) };
/// let mut ema = Ema::for_module(0.75, &scale, Filter::of::<Param>())?;
/// scale.factor.set(scalar(3.)?)?;
/// ema.update(&scale)?;
///
/// let trained = ema.apply_to(&scale)?;
/// assert_eq!(scale.factor.value()?.to_scalar::<f32>()?, 1.5);
/// update(&scale, &trained)?;
/// assert_eq!(scale.factor.value()?.to_scalar::<f32>()?, 3.);
/// # Ok::<(), bridge_vars::Error>(())
/// ```
///
/// A clone has averages of its own, which go on from the same.
#[doc(alias("nnx.EMA", "optax.ema", "AveragedModel", "Polyak"))]
#[derive(Clone, Debug)]
pub struct Ema {
    decay: f64,
    only: Filter,
    parameters: Vec<Parameter>,
    averages: State,
}

impl Ema {
    /// Averages of those leaves of a state that a filter matches.
    ///
    /// # Errors
    /// [`EmaError::Decay`], [`EmaError::NoParameters`], [`EmaError::NotFloat`].
    pub fn new(decay: f64, parameters: &State, only: impl Into<Filter>) -> Result<Self> {
        let only = only.into();
        Self::of(decay, &parameters.filter(only.clone()), only)
    }

    /// Averages of those of a module's variables that a filter matches.
    ///
    /// # Errors
    /// Those of [`Ema::new`].
    #[doc(alias = "only")]
    pub fn for_module<M: Visit + ?Sized>(decay: f64, module: &M, only: impl Into<Filter>) -> Result<Self> {
        let only = only.into();
        Self::of(decay, &selected(module, &only)?, only)
    }

    /// Averages of those of a functional module's variables that a filter matches. Paths begin with the collection.
    ///
    /// # Errors
    /// Those of [`Ema::new`].
    #[doc(alias = "only")]
    pub fn for_variables(decay: f64, variables: &Variables, only: impl Into<Filter>) -> Result<Self> {
        Self::new(decay, &State::from(variables.tree().clone()), only)
    }

    fn of(decay: f64, selected: &State, only: Filter) -> Result<Self> {
        check(decay)?;
        let (parameters, misfit) = Parameter::all(selected);
        if !misfit.is_empty() {
            return Err(EmaError::NotFloat(misfit).into());
        }
        if parameters.is_empty() {
            return Err(EmaError::NoParameters.into());
        }
        // A copy: whoever made a parameter of a candle `Var` may change that in place.
        let copied = |leaf: &Leaf| Ok(leaf.with_value(widened(leaf.tensor()?)?.force_contiguous()?));
        let averages = selected.map(|_, leaf| copied(leaf))?;
        Ok(Self { decay, only, parameters, averages })
    }

    /// Moves the averages towards a module's variables as they are now.
    ///
    /// If this fails, nothing has changed.
    ///
    /// # Errors
    /// [`EmaError::Parameters`] with every path that is missing, unexpected or of another shape or dtype; and if
    /// candle fails.
    #[doc(alias = "nnx.EMA.update")]
    pub fn update<M: Visit + ?Sized>(&mut self, module: &M) -> Result<()> {
        let parameters = selected(module, &self.only)?;
        self.move_towards(&parameters)
    }

    /// Moves the averages towards the leaves of a state.
    ///
    /// If this fails, nothing has changed.
    ///
    /// # Errors
    /// Those of [`Ema::update`].
    pub fn update_state(&mut self, parameters: &State) -> Result<()> {
        self.move_towards(&parameters.filter(self.only.clone()))
    }

    /// Moves the averages towards a functional module's variables.
    ///
    /// If this fails, nothing has changed.
    ///
    /// # Errors
    /// Those of [`Ema::update`].
    pub fn update_variables(&mut self, variables: &Variables) -> Result<()> {
        self.update_state(&State::from(variables.tree().clone()))
    }

    fn move_towards(&mut self, selected: &State) -> Result<()> {
        let mut averages = self.averages.clone();
        for (Parameter { path, .. }, leaf) in self.matched(selected.tree())? {
            let average = averages.get(path)?;
            let kept = average.tensor()?.affine(self.decay, 0.)?;
            let moved = (kept + widened(leaf.tensor()?)?.affine(1. - self.decay, 0.)?)?;
            let moved = average.with_value(moved);
            averages.insert(path, moved)?;
        }
        self.averages = averages;
        Ok(())
    }

    /// Puts the averages into a module's variables; gives back what was there, for
    /// [`bridge_graph::update`] to put back.
    ///
    /// If this fails, nothing has changed. Hooks do not run. An [`Ema::update`] before the parameters are back
    /// would average the averages.
    ///
    /// # Errors
    /// Those of [`Ema::update`].
    #[doc(alias("nnx.EMA.apply_to", "swap"))]
    pub fn apply_to<M: Visit + ?Sized>(&self, module: &M) -> Result<State> {
        let before = selected(module, &self.only)?;
        let averaged = self.averaged(before.tree(), before.tree())?;
        for (path, variable) in variables(module)? {
            if let Some(leaf) = averaged.get(&path) {
                variable.set_raw(leaf.value.clone());
            }
        }
        Ok(before)
    }

    /// A state with the averages in the place of the leaves that they are of; others come back as they are.
    ///
    /// # Errors
    /// Those of [`Ema::update`].
    pub fn apply_to_state(&self, parameters: &State) -> Result<State> {
        let selected = parameters.filter(self.only.clone());
        self.averaged(parameters.tree(), selected.tree()).map(State::from)
    }

    /// A functional module's variables with the averages in the place of those that they are of; others come back as
    /// they are.
    ///
    /// # Errors
    /// Those of [`Ema::update`].
    pub fn apply_to_variables(&self, variables: &Variables) -> Result<Variables> {
        let applied = self.apply_to_state(&State::from(variables.tree().clone()))?;
        Ok(Variables::from(applied.tree().clone()))
    }

    fn averaged(&self, parameters: &Tree<Leaf>, selected: &Tree<Leaf>) -> Result<Tree<Leaf>> {
        let mut averaged = parameters.clone();
        for (Parameter { path, dtype, .. }, leaf) in self.matched(selected)? {
            let average = self.averages.get(path)?.tensor()?.to_dtype(*dtype)?;
            averaged.insert(path, leaf.with_value(average))?;
        }
        Ok(averaged)
    }

    /// Every parameter with its leaf.
    fn matched<'a>(&'a self, selected: &'a Tree<Leaf>) -> Result<Vec<(&'a Parameter, &'a Leaf)>, EmaError> {
        let mut misfit = Misfit::default();
        let found = |parameter: &'a Parameter| Some((parameter, parameter.find(selected, &mut misfit)?));
        let matched: Vec<_> = self.parameters.iter().filter_map(found).collect();
        if matched.len() < selected.len() {
            misfit.unexpected = unexpected(&self.parameters, selected);
        }
        match misfit.is_empty() {
            true => Ok(matched),
            false => Err(EmaError::Parameters(misfit)),
        }
    }

    /// The averages, under the paths of the parameters and with their types: f64 for f64 parameters, f32 for all
    /// others.
    ///
    /// A snapshot: later updates do not change it.
    #[doc(alias = "nnx.EMA.params")]
    pub fn state(&self) -> State {
        self.averages.clone()
    }

    /// Goes on from what [`Ema::state`] gave, perhaps in another program. The tensors move to the device of the
    /// parameters.
    ///
    /// If this fails, nothing has changed.
    ///
    /// # Errors
    /// [`EmaError::State`] with every path that is missing, unexpected or different.
    pub fn restore(&mut self, state: &State) -> Result<()> {
        let misfit = differences(&self.averages, state);
        if !misfit.is_empty() {
            return Err(EmaError::State(misfit).into());
        }
        self.averages = placed(&self.averages, state)?;
        Ok(())
    }

    /// The share of the averages that an update keeps.
    pub fn decay(&self) -> f64 {
        self.decay
    }

    /// Changes the decay, from the next update on: it may begin lower, so that the first parameters are forgotten
    /// sooner.
    ///
    /// # Errors
    /// [`EmaError::Decay`].
    pub fn set_decay(&mut self, decay: f64) -> Result<()> {
        check(decay)?;
        self.decay = decay;
        Ok(())
    }
}

fn check(decay: f64) -> Result<(), EmaError> {
    match (0. ..=1.).contains(&decay) {
        true => Ok(()),
        false => Err(EmaError::Decay(decay)),
    }
}

fn widened(tensor: &Tensor) -> candle_core::Result<Tensor> {
    tensor.detach().to_dtype(compute_dtype(tensor.dtype()))
}
