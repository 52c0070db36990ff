//! Variables, state trees and filters for candle.
//!
//! A [`Variable`] is a shared, mutable reference to one value with a type and metadata. A [`State`] is a
//! snapshot of many, a tree from [`Path`] to [`Leaf`]; [`Variables`] is the same tree with the collection's
//! name in front. [`Filter`]s select among them by type, path or closure.
//!
//! This crate does not know what a module is.
#![forbid(unsafe_code)]

mod collection_filter;
mod described;
mod display;
mod error;
mod filter;
mod form;
mod glob;
mod hooks;
mod kind;
mod leaf;
mod metadata;
mod partition_spec;
mod path;
mod serial;
mod sharding;
mod state;
mod tree;
mod value;
mod variable;
mod variable_initializer;
mod variable_type;
mod variables;

pub use collection_filter::CollectionFilter;
pub use described::Described;
#[doc(hidden)]
pub use display::{byte_size, grouped};
pub use error::{Error, Result, VarsError};
pub use filter::{Filter, IsKind};
pub use form::TensorForm;
pub use hooks::Hooks;
pub use kind::{
    BatchStat, Cache, Intermediate, LoraParam, MetricState, OptimizerState, Param, Perturbation, RngCount,
    RngKey, RngState, VariableKind, VariableOf,
};
pub use leaf::Leaf;
pub use metadata::Metadata;
pub use partition_spec::PartitionSpec;
pub use path::{Name, Path, PathKey};
pub use sharding::Sharding;
pub use state::State;
pub use tree::{Node, Tree};
pub use value::{Opaque, TensorValue, Value};
pub use variable::{Tracking, Variable};
pub use variable_initializer::{
    Initialize, VariableInitializer, with_logical_partitioning, with_metadata, with_partitioning,
};
pub use variable_type::VariableType;
pub use variables::Variables;

#[doc(hidden)]
pub mod private {
    pub use std::sync::OnceLock;
}
