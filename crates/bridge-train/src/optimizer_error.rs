use bridge_graph::Misfit;
use bridge_vars::{Error, Path};

use crate::fit::lines;

/// What can go wrong in an optimizer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OptimizerError {
    /// There is nothing to optimise.
    #[error("there is no parameter to optimise: is the filter right, and were the parameters created?")]
    NoParameters,
    /// Parameters that are not floats.
    #[error("not every parameter is a tensor of bf16, f16, f32 or f64: use a narrower filter{}", lines(.0))]
    NotFloat(Misfit),
    /// The gradients are not those of the parameters that the optimizer was made for.
    #[error("the gradients do not fit the optimizer: take them with its filter{}", lines(.0))]
    Gradients(Misfit),
    /// The parameters are not those that the optimizer was made for.
    #[error("the parameters do not fit the optimizer: make one for them{}", lines(.0))]
    Parameters(Misfit),
    /// A state to go on from is not one of such an optimizer.
    #[error("the state does not fit the optimizer: was it made with the same rule and filter?{}", lines(.0))]
    State(Misfit),
    /// An update rule was called with other tensors to remember than it names.
    #[error("the update rule remembers {}, but was given {found} tensors", names.join(" and "))]
    Memory {
        /// The names of what it remembers.
        names: &'static [&'static str],
        /// How many tensors were given.
        found: usize,
    },
    /// A group's filter matches no parameter that is in no group yet.
    #[error(
        "the group `{filter}` is empty: its filter matches no parameter, or only those of groups before it"
    )]
    EmptyGroup {
        /// The filter.
        filter: String,
    },
    /// There is no such group.
    #[error("there is no group {found}: there are {groups}, counted from 0")]
    NoGroup {
        /// How many there are.
        groups: usize,
        /// The one that was asked for.
        found: usize,
    },
    /// A norm that gradients can not be clipped to.
    #[error("the largest norm of the gradients must be above 0, found {0}")]
    MaxNorm(f64),
    /// Gradients that hold NaN or an infinity.
    #[error("gradients are not finite:{}", not_finite(.0))]
    NotFinite(Vec<Path>),
}

fn not_finite(paths: &[Path]) -> String {
    paths.iter().map(|path| format!("\n  `{path}`")).collect()
}

impl From<OptimizerError> for Error {
    fn from(error: OptimizerError) -> Self {
        Error::new(error)
    }
}
