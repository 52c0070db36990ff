#![doc = include_str!("../README.md")]
//!
//! # The crates behind the modules
//!
//! Examples in the documentation name the crate that an item lives in. From here, read `bridge_train::` as
//! `candle_bridge::train::`, and so on:
//!
//! | crate | module |
//! |---|---|
//! | `bridge_stateful` | [`stateful`] |
//! | `bridge_functional` | [`mod@functional`] |
//! | `bridge_wrappers` | [`wrappers`] |
//! | `bridge_graph` | [`graph`] |
//! | `bridge_vars` | [`vars`] |
//! | `bridge_train` | [`mod@train`] |
//! | `bridge_ops` | [`ops`] |
//! | `bridge_random` | [`random`] |
#![forbid(unsafe_code)]

/// Modules that are their configuration: `init` returns the variables, `apply` takes them.
pub mod functional {
    pub use bridge_functional::*;
}

#[doc = include_str!("../docs/surgery.md")]
pub mod surgery {}

#[doc = include_str!("../docs/migration.md")]
pub mod migration {}

#[doc = include_str!("../docs/think-functional.md")]
pub mod think_functional {}

#[doc = include_str!("../docs/think-stateful.md")]
pub mod think_stateful {}

/// The graph engine: split a module into its static description and its state, and merge it back.
pub mod graph {
    #[doc(inline)]
    pub use bridge_derive::StatefulModuleOfFacade as StatefulModule;
    // The derive above, which names this crate, takes the place of the one in here.
    pub use bridge_graph::*;
}

/// Numerical operators with gradients.
pub mod ops {
    pub use bridge_ops::*;
}

/// JAX's random numbers, and initializers: keys, samplers, what becomes of a parameter's first value.
///
/// [`random::guide`] has the pages on what is reproducible, and on what is called what in JAX.
pub mod random {
    pub use bridge_random::*;
}

/// Modules that own their variables.
pub mod stateful {
    pub use bridge_stateful::{
        Activation, BatchNorm, BatchNormConfig, BoxableLayer, Dropout, DropoutConfig, Layer, Layers, Linear,
        LinearConfig, Sequential,
    };
}

/// Optimizers, metrics and checkpoints.
pub mod train {
    pub use bridge_train::*;
}

/// Variables, state trees and filters.
pub mod vars {
    pub use bridge_vars::*;
}

/// Either kind of module as the other.
pub mod wrappers {
    pub use bridge_wrappers::*;
}

pub use vars::{Error, Result};

/// What most programs need: `use candle_bridge::prelude::*;`.
///
/// Layers that both kinds of module have, such as `BatchNorm`, are not in it: take them from
/// [`stateful`] or [`functional`].
pub mod prelude {
    pub use crate::functional::{Call, Child, FunctionalModule, Keys, Scope};
    pub use crate::graph::{
        Flag, GraphDef, Mode, ModuleFilter, Rngs, Shared, StatefulModule, eval, merge, reseed, set_mode,
        split, split_by, split_rngs, state, train, update, value_and_grad, value_and_grad_with, view,
    };
    pub use crate::random::{Initializer, Key, key};
    pub use crate::vars::{
        BatchStat, Cache, CollectionFilter, Error, Filter, Leaf, Param, Path, Result, State, Variable,
        VariableType, Variables, kinds,
    };
    pub use crate::wrappers::{
        ToFunctional, ToStateful, functional, lazy_init, to_functional, to_functional_with,
    };
    pub use candle_core::{DType, Device, Module, Tensor};
}
