//! Split a module into its static description and its state, and merge it back.
//!
//! `#[derive(StatefulModule)]` on a struct of variables, other modules and plain data makes it a node of a
//! graph. [`split`] gives its [`GraphDef`] and its [`State`](bridge_vars::State); [`merge`] builds it again;
//! sharing survives. [`Rngs`] and [`value_and_grad`] live here too, because both paradigms need them.
//!
//! This crate does not know what a layer is.
#![forbid(unsafe_code)]

mod alias;
mod attribute;
mod call;
mod capture;
mod containers;
mod context;
mod describe;
mod detach;
mod diff;
mod dynamic;
mod edit;
mod encode;
mod error;
mod flag;
mod graphdef;
mod merge;
mod mode;
mod module_filter;
mod observe;
mod outline;
mod policy;
mod program;
mod pytree;
mod registry;
mod reseed;
mod rng_stream;
mod rngs;
mod shapes;
mod shared;
mod source;
mod split;
mod split_rngs;
mod summary;
mod tabulate;
mod update;
mod value_and_grad;
mod values;
mod visit;
mod walk;

pub use alias::{find_duplicates, variable_at};
pub use attribute::{Attribute, EncodedValue, Static, StaticValue, visit_static};
pub use bridge_derive::StatefulModule;
pub use call::{call, set_metadata};
pub use capture::{CALL, Capture, Sow, tensors};
#[doc(hidden)]
pub use capture::{CaptureInside, capture_inside};
pub use containers::MapKey;
pub use context::{CallContext, Initialization};
pub use describe::{describe, is_described, materialize};
pub use detach::Detach;
pub use diff::GraphDiff;
pub use dynamic::{BoxableModule, ErasedRebuild, Rebuild};
pub use edit::{pop, replace, replace_at};
pub use error::{GraphError, Misfit, Mismatch};
pub use flag::Flag;
pub use graphdef::GraphDef;
pub use merge::{clone, map, merge, merge_with};
pub use mode::{
    DETERMINISTIC, EVALUATING, EVALUATION_FLAGS, Mode, USE_RUNNING_AVERAGE, eval, set_flags, set_flags_of,
    set_mode, train, view, view_where,
};
pub use module_filter::ModuleFilter;
#[doc(hidden)]
pub use observe::{is_tabulated, tabulate_inside};
pub use observe::{observe, observe_method};
pub use policy::Policy;
pub use program::Program;
pub use pytree::Pytree;
pub use registry::Registry;
pub use reseed::{ReseedPolicy, iter_streams, reseed, reseed_with, restart_streams};
pub use rng_stream::{RngSeed, RngStream};
pub use rngs::Rngs;
pub use shapes::shapes;
pub use shared::{Shared, WeakShared};
pub use source::{BareTensor, BareTensorKind, Source};
pub use split::{graphdef, split, split_by, split_dyn, state};
pub use split_rngs::{RngBackup, fork_rngs, split_rngs, split_rngs_squeezed};
pub use summary::{Count, Summary, SummaryRow, SummaryVariable};
#[doc(hidden)]
pub use tabulate::{rows_of, stand_ins};
pub use tabulate::{tabulate, tabulate_structure};
pub use update::{update, update_with};
pub use value_and_grad::{gradients, value_and_grad, value_and_grad_with};
pub use visit::{Field, StatefulModule, Structure, Visit, Visitor};
pub use walk::{GraphNode, iter_children, iter_graph, iter_modules, iter_variables, variables};
#[doc(hidden)]
pub use walk::{Reached, reached};

/// What derived code names.
#[doc(hidden)]
pub mod private {
    pub use bridge_vars::{Name, PathKey, Result};
}
