use bridge_vars::{Path, PathKey, Result};

use crate::edit::rebuilt;
use crate::error::GraphError;
use crate::{Field, GraphNode, ModuleFilter, Visit, iter_graph};

/// Training or evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Dropout drops; batch norm uses and updates batch statistics.
    Train,
    /// Dropout does nothing; batch norm uses its running statistics.
    Eval,
}

/// The name of the flag that makes a module skip what is random: a dropout's, for one.
pub const DETERMINISTIC: &str = "deterministic";
/// The name of the flag that makes a module use its running statistics: a batch norm's.
pub const USE_RUNNING_AVERAGE: &str = "use_running_average";

/// The name of the flag of a wrapped module that puts all of it into evaluation.
pub const EVALUATING: &str = "<evaluating>";

/// The names of the flags that are on in evaluation.
pub const EVALUATION_FLAGS: [&str; 3] = [DETERMINISTIC, USE_RUNNING_AVERAGE, EVALUATING];

/// Switches a whole module to training: dropout drops, batch norm uses and updates batch statistics.
///
/// # Errors
/// None that a derived module causes.
#[doc(alias("nnx.Module.train", "set_attributes"))]
pub fn train<M: Visit + ?Sized>(module: &M) -> Result<()> {
    set_flags(module, &EVALUATION_FLAGS, false)
}

/// Switches a whole module to evaluation: no dropout, running statistics.
///
/// # Errors
/// None that a derived module causes.
#[doc(alias("nnx.Module.eval", "set_attributes"))]
pub fn eval<M: Visit + ?Sized>(module: &M) -> Result<()> {
    set_flags(module, &EVALUATION_FLAGS, true)
}

/// Switches the modules that a filter matches, each for itself.
///
/// # Errors
/// [`GraphError::NothingToSet`] if none of them has a mode; nothing was switched then.
#[doc(alias("set_attributes", "raise_if_not_found"))]
pub fn set_mode<M: Visit + ?Sized>(module: &M, only: ModuleFilter, mode: Mode) -> Result<()> {
    let found = set_named(module, &only, &EVALUATION_FLAGS, mode == Mode::Eval)?;
    match found.contains(&true) {
        true => Ok(()),
        false => Err(nothing_to_set(&only, &EVALUATION_FLAGS)),
    }
}

/// A module with the same variables in another mode. The module itself stays in its own.
///
/// Flags of a part that is [shared](crate::Shared) are the view's own too.
///
/// ```
/// use bridge_graph::{Flag, Mode, StatefulModule, view};
/// use bridge_vars::Param;
///
/// #[derive(StatefulModule)]
/// struct Model { weight: Param, deterministic: Flag }
///
/// let model = Model { weight: Param::new(1), deterministic: Flag::new(false) };
/// let evaluated = view(&model, Mode::Eval)?;
/// assert!(evaluated.deterministic.get() && !model.deterministic.get());
/// model.weight.set(2)?;
/// assert_eq!(evaluated.weight.count()?, 2);
/// # Ok::<(), bridge_vars::Error>(())
/// ```
///
/// # Errors
/// None that a derived module causes; one without a mode is viewed as it is.
#[doc(alias("nnx.view", "set_view"))]
pub fn view<M: Field>(module: &M, mode: Mode) -> Result<M> {
    let view = rebuilt(module)?;
    set_flags(&view, &EVALUATION_FLAGS, mode == Mode::Eval)?;
    Ok(view)
}

/// [`view`] that switches the modules that a filter matches, each for itself.
///
/// # Errors
/// [`GraphError::NothingToSet`] if none of them has a mode.
#[doc(alias("nnx.view", "with_attributes"))]
pub fn view_where<M: Field>(module: &M, only: ModuleFilter, mode: Mode) -> Result<M> {
    let view = rebuilt(module)?;
    set_mode(&view, only, mode)?;
    Ok(view)
}

/// Sets every flag of a module that has one of these names.
///
/// # Errors
/// None that a derived module causes.
#[doc(alias = "set_attributes")]
pub fn set_flags<M: Visit + ?Sized>(module: &M, names: &[&str], on: bool) -> Result<()> {
    iter_graph(module, |path, node| {
        if let (GraphNode::Flag(flag), Some(PathKey::Name(name))) = (node, path.last())
            && names.contains(&name.as_str())
        {
            flag.set(on);
        }
        Ok(())
    })
}

/// Sets the flags of these names in the modules that a filter matches, each for itself.
///
/// # Errors
/// [`GraphError::NothingToSet`] with the names that no flag of theirs has; the others were set then.
#[doc(alias("set_attributes", "raise_if_not_found"))]
pub fn set_flags_of<M: Visit + ?Sized>(
    module: &M,
    only: ModuleFilter,
    names: &[&str],
    on: bool,
) -> Result<()> {
    let found = set_named(module, &only, names, on)?;
    let missing: Vec<&str> =
        names.iter().zip(found).filter(|(_, found)| !found).map(|(name, _)| *name).collect();
    if missing.is_empty() { Ok(()) } else { Err(nothing_to_set(&only, &missing)) }
}

/// For each name, whether it was found.
fn set_named<M: Visit + ?Sized>(
    module: &M,
    only: &ModuleFilter,
    names: &[&str],
    on: bool,
) -> Result<Vec<bool>> {
    // The modules that the walk is in, and whether the filter matches them.
    let mut open: Vec<(Path, bool)> = Vec::new();
    let mut found = vec![false; names.len()];
    iter_graph(module, |path, node| {
        while open.last().is_some_and(|(module, _)| !path.starts_with(module)) {
            open.pop();
        }
        match (node, path.last()) {
            (GraphNode::Module(module), _) => open.push((path.clone(), only.matches(path, module))),
            (GraphNode::Flag(flag), Some(PathKey::Name(name)))
                if open.last().is_some_and(|(_, matches)| *matches) =>
            {
                for (wanted, found) in names.iter().zip(&mut found) {
                    if name == *wanted {
                        flag.set(on);
                        *found = true;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(found)
}

fn nothing_to_set(only: &ModuleFilter, names: &[&str]) -> bridge_vars::Error {
    let names = names.iter().filter(|name| !name.starts_with('<')).map(ToString::to_string);
    GraphError::NothingToSet { filter: only.to_string(), names: names.collect() }.into()
}
