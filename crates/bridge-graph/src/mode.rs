use bridge_vars::{PathKey, Result};

use crate::{GraphNode, Visit, iter_graph};

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
    set_evaluating(module, false)
}

/// Switches a whole module to evaluation: no dropout, running statistics.
///
/// # Errors
/// None that a derived module causes.
#[doc(alias("nnx.Module.eval", "set_attributes"))]
pub fn eval<M: Visit + ?Sized>(module: &M) -> Result<()> {
    set_evaluating(module, true)
}

/// Sets every flag of a module that is on during evaluation.
pub fn set_evaluating<M: Visit + ?Sized>(module: &M, evaluating: bool) -> Result<()> {
    set_flags(module, &EVALUATION_FLAGS, evaluating)
}

/// Sets every flag of a module that has one of these names.
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
