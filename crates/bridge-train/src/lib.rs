//! Optimizers, metrics and checkpoints.
//!
//! An [`Optimizer`] turns gradients into new parameters, of a module, a [`State`](bridge_vars::State) or
//! [`Variables`](bridge_vars::Variables), by the same arithmetic. [`Average`] and [`Accuracy`] sum up what
//! is measured over many batches. A [`Checkpoint`] is one file that holds modules, states and variables and
//! describes itself.
#![forbid(unsafe_code)]

mod accuracy;
mod adamw;
mod average;
mod checkpoint;
mod fit;
mod optimizer;
mod optimizer_error;
mod sgd;
mod update_rule;

pub use accuracy::Accuracy;
pub use adamw::AdamW;
pub use average::Average;
pub use checkpoint::{Checkpoint, CheckpointError, CheckpointFile, load, load_as, rebuild, save};
pub use optimizer::Optimizer;
pub use optimizer_error::OptimizerError;
pub use sgd::Sgd;
pub use update_rule::UpdateRule;
