use bridge_graph::Misfit;
use bridge_vars::Error;

use crate::fit::lines;

/// What can go wrong in an [`Ema`](crate::Ema).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmaError {
    /// The decay is not between 0 and 1.
    #[error("the decay must be from 0 to 1, such as 0.999, found {0}")]
    Decay(f64),
    /// There is nothing to average.
    #[error("there is no parameter to average: is the filter right, and were the parameters created?")]
    NoParameters,
    /// Parameters that are not floats.
    #[error("not every parameter is a tensor of bf16, f16, f32 or f64: use a narrower filter{}", lines(.0))]
    NotFloat(Misfit),
    /// The parameters are not those that the averages were made for.
    #[error("the parameters do not fit the averages: make averages of them{}", lines(.0))]
    Parameters(Misfit),
    /// A state to go on from is not one of such averages.
    #[error("the state does not fit the averages: was it made of the same parameters and filter?{}", lines(.0))]
    State(Misfit),
}

impl From<EmaError> for Error {
    fn from(error: EmaError) -> Self {
        Error::new(error)
    }
}
