//! Split a module into its static description and its state, and merge it back.
//!
//! `#[derive(StatefulModule)]` on a struct of variables, other modules and plain data makes it a node of a
//! graph. [`split`] gives its [`GraphDef`] and its [`State`](bridge_vars::State); [`merge`] builds it again;
//! sharing survives. [`Rngs`] and [`value_and_grad`] live here too, because both paradigms need them.
//!
//! This crate does not know what a layer is.
#![forbid(unsafe_code)]

mod attribute;
mod containers;
mod context;
mod detach;
mod encode;
mod error;
mod flag;
mod graphdef;
mod merge;
mod mode;
mod registry;
mod reseed;
mod rng_stream;
mod rngs;
mod shared;
mod source;
mod split;
mod split_rngs;
mod update;
mod value_and_grad;
mod visit;
mod walk;

pub use attribute::{Attribute, EncodedValue, Static, StaticValue, visit_static};
pub use bridge_derive::StatefulModule;
pub use containers::MapKey;
pub use context::{CallContext, Initialization};
pub use detach::Detach;
pub use error::{GraphError, Misfit, Mismatch};
pub use flag::Flag;
pub use graphdef::{GraphDef, Program};
pub use merge::{clone, merge};
pub use mode::{
    DETERMINISTIC, EVALUATING, EVALUATION_FLAGS, USE_RUNNING_AVERAGE, eval, set_evaluating, set_flags, train,
};
pub use registry::Registry;
pub use reseed::{ReseedPolicy, iter_streams, reseed, reseed_with, restart_streams};
pub use rng_stream::{RngSeed, RngStream};
pub use rngs::Rngs;
pub use shared::Shared;
pub use source::{BareTensor, BareTensorKind, Source};
pub use split::{graphdef, split, split_by, split_dyn, state};
pub use split_rngs::{RngBackup, fork_rngs, split_rngs, split_rngs_squeezed};
pub use update::update;
pub use value_and_grad::{gradients, value_and_grad, value_and_grad_with};
pub use visit::{Field, StatefulModule, Structure, Visit, Visitor};
pub use walk::{GraphNode, iter_graph, variables};

/// What derived code names.
#[doc(hidden)]
pub mod private {
    pub use bridge_vars::{Name, PathKey, Result};
}
