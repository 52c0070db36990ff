//! Optimizers, metrics and checkpoints.
//!
//! An [`Optimizer`] turns gradients into new parameters, of a module, a [`State`](bridge_vars::State) or
//! [`Variables`](bridge_vars::Variables), by the same arithmetic, on the CPU in one pass; an [`Ema`] averages the parameters of all
//! three over the steps. [`Average`], [`Welford`] and [`Accuracy`] sum up what is measured over many batches, and a
//! [`MultiMetric`] holds several of them. A [`Checkpoint`] is one file that holds modules, states and variables and
//! describes itself; [`Weights`] brings in what something else saved.
#![deny(unsafe_code)]

mod adamw;
mod checkpoint;
mod ema;
mod ema_error;
mod files;
mod fit;
mod gradients;
mod metrics;
mod optimizer;
mod optimizer_error;
mod optimizer_slot;
mod parameter;
mod sgd;
mod update_rule;
mod weights;

pub use adamw::AdamW;
pub use bridge_ops::UpdateFormula;
pub use checkpoint::{Checkpoint, CheckpointError, CheckpointFile, load, load_into, rebuild, save};
pub use ema::Ema;
pub use ema_error::EmaError;
pub use files::TensorFile;
pub use gradients::{Gradients, check_finite, clip_by_global_norm, global_norm};
pub use metrics::{Accuracy, Average, Inputs, Metric, MetricError, MultiMetric, Statistics, Welford};
pub use optimizer::Optimizer;
pub use optimizer_error::OptimizerError;
pub use sgd::Sgd;
pub use update_rule::UpdateRule;
pub use weights::{LoadReport, Weights};
