use bridge_vars::{Result, State};

use crate::{Field, GraphDef, Source, split};

/// Builds a module from its two halves. Its variables are new; their tensors are shared with the state,
/// and changing one never changes the other.
///
/// Values are found by path, and their types, shapes and dtypes are checked.
///
/// # Errors
/// [`GraphError::Misfit`](crate::GraphError::Misfit) with every path that is missing, unexpected or different;
/// [`GraphError::Structure`](crate::GraphError::Structure) if the `GraphDef` is not one of an `M`.
#[doc(alias = "nnx.merge")]
pub fn merge<M: Field>(graphdef: &GraphDef<M>, state: &State) -> Result<M> {
    Source::read(&graphdef.program, state.tree(), M::rebuild)
}

/// A copy of a module with variables of its own, sharing what the original shares.
///
/// # Errors
/// If a variable can not be read.
#[doc(alias = "nnx.clone")]
pub fn clone<M: Field>(module: &M) -> Result<M> {
    let (graphdef, state) = split(module)?;
    merge(&graphdef, &state)
}
