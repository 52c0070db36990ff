use bridge_vars::{Leaf, Path, PathKey, Result, State, Variable};
use candle_core::Tensor;
use rustc_hash::FxHashSet;

use crate::alias::Aliases;
#[cfg(doc)]
use crate::error::GraphError;
use crate::error::{Misfit, Mismatch};
use crate::program::described;
use crate::split::program_of_part;
use crate::values::Place;
use crate::visit::goes_inside;
use crate::{Policy, Visit, Visitor};

/// Takes a state's values over into a module's variables, in place, by path.
///
/// Variables that the state does not mention keep their values. Nothing is changed unless everything
/// fits. A variable without a value takes a value of any shape.
///
/// ```
/// use bridge_graph::{StatefulModule, state, update};
/// use bridge_vars::Param;
/// use candle_core::{Device, Tensor};
///
/// #[derive(StatefulModule)]
/// struct Scale { factor: Param }
///
/// let scale = Scale { factor: Param::new(Tensor::new(2f32, &Device::Cpu)?) };
/// let before = state(&scale)?;
/// scale.factor.set(Tensor::new(3f32, &Device::Cpu)?)?;
/// update(&scale, &before)?;
/// assert_eq!(scale.factor.value()?.to_scalar::<f32>()?, 2.);
/// # Ok::<(), bridge_vars::Error>(())
/// ```
///
/// # Errors
/// [`GraphError::Misfit`] with every path that the module does not have or whose type, shape or dtype
/// differs, or where the state has another tensor for one that is no variable.
#[doc(alias = "nnx.update")]
pub fn update<M: Visit + ?Sized>(module: &M, state: &State) -> Result<()> {
    take_over(module, state, Policy::Subset, false).map(|_| ())
}

/// [`update`] under a policy, and what did not fit.
///
/// Paths of the module that the state lacks are in the report under every policy; only [`Policy::Strict`] refuses them.
///
/// # Errors
/// [`GraphError::Misfit`], as far as the policy says; nothing has changed then.
pub fn update_with<M: Visit + ?Sized>(module: &M, state: &State, policy: Policy) -> Result<Misfit> {
    take_over(module, state, policy, true)
}

fn take_over<M: Visit + ?Sized>(
    module: &M,
    state: &State,
    policy: Policy,
    note_missing: bool,
) -> Result<Misfit> {
    let mut updater = Updater { note_missing, ..Updater::new(state) };
    module.visit(&mut updater)?;
    if updater.met < state.len() {
        let mut met = Updater { met_paths: Some(Vec::new()), ..Updater::new(state) };
        module.visit(&mut met)?;
        let mut known = met.met_paths.unwrap_or_default();
        known.sort();
        let paths = state.iter().map(|(path, _)| path);
        let unexpected: Vec<Path> = paths.filter(|path| known.binary_search(path).is_err()).collect();
        let program = program_of_part(module)?;
        if let Some(renamed) = Aliases::of(&program).renamed(state, &unexpected)? {
            return take_over(module, &renamed, policy, note_missing);
        }
        updater.misfit.unexpected = unexpected;
        if !note_missing {
            updater.misfit.guess(&program.value_paths());
        }
    }
    let Updater { updates, misfit, .. } = updater;
    let misfit = misfit.settled(policy)?;
    for (variable, leaf) in updates {
        variable.assign(leaf);
    }
    Ok(misfit)
}

/// Finds the leaf of each variable, without a path for each: a state's tree is gone down beside the module.
struct Updater<'a> {
    places: Vec<Place<'a>>,
    keys: Vec<PathKey>,
    seen: FxHashSet<usize>,
    updates: Vec<(Variable, &'a Leaf)>,
    /// How many of the state's leaves have a place in the module.
    met: usize,
    met_paths: Option<Vec<Path>>,
    note_missing: bool,
    misfit: Misfit,
}

impl<'a> Updater<'a> {
    fn new(state: &'a State) -> Self {
        Self {
            places: vec![Place::of(state.tree())],
            keys: Vec::new(),
            seen: FxHashSet::default(),
            updates: Vec::new(),
            met: 0,
            met_paths: None,
            note_missing: false,
            misfit: Misfit::default(),
        }
    }

    fn path(&self) -> Path {
        self.keys.iter().cloned().collect()
    }

    /// The state's leaf at this place, which is noted.
    fn leaf(&mut self) -> Option<&'a Leaf> {
        match self.places.last() {
            Some(Place::Leaf(leaf)) => {
                self.met += 1;
                let path = self.met_paths.is_some().then(|| self.path());
                if let Some(paths) = &mut self.met_paths {
                    paths.extend(path);
                }
                Some(leaf)
            }
            _ => {
                if self.note_missing {
                    let path = self.path();
                    self.misfit.missing.push(path);
                }
                None
            }
        }
    }
}

impl Visitor for Updater<'_> {
    fn child(&mut self, key: &PathKey, child: &dyn Visit) -> Result<()> {
        let place = self.places.last_mut().map_or(Place::Nothing, |place| place.child(key));
        self.places.push(place);
        self.keys.push(key.clone());
        child.visit(self)?;
        self.keys.pop();
        self.places.pop();
        Ok(())
    }

    goes_inside!(once);

    fn variable(&mut self, variable: &Variable) -> Result<()> {
        if variable.has_other_handles() && !self.seen.insert(variable.id()) {
            return Ok(());
        }
        let Some(leaf) = self.leaf() else { return Ok(()) };
        if variable.accepts(leaf) {
            self.updates.push((variable.clone(), leaf));
            return Ok(());
        }
        let current = variable.leaf()?;
        self.misfit.mismatched.push(Mismatch {
            path: self.path(),
            expected: described(&current),
            found: described(leaf),
        });
        Ok(())
    }

    fn tensor(&mut self, tensor: &Tensor) -> Result<()> {
        let Some(leaf) = self.leaf() else { return Ok(()) };
        // Nothing has to change where the state has the very same tensor.
        if !matches!(&leaf.value, bridge_vars::Value::Tensor(other) if other.is_tensor(tensor)) {
            self.misfit.mismatched.push(Mismatch {
                path: self.path(),
                expected: "the module's own bare tensor, which can only be merged (make the field a \
                           variable to update it)"
                    .into(),
                found: described(leaf),
            });
        }
        Ok(())
    }
}
