//! Stateful modules as functional ones, and functional modules as stateful ones, at any depth.
//!
//! ```
//! use bridge_functional::{Dense, FunctionalModule};
//! use bridge_graph::Rngs;
//! use bridge_random::key;
//! use bridge_stateful::Linear;
//! use bridge_wrappers::{ToStateful, functional, to_functional};
//! use candle_core::{DType, Device, Tensor};
//! let x = Tensor::ones((1, 32), DType::F32, &Device::Cpu)?;
//!
//! // functional -> stateful
//! let model = ToStateful::new(Dense::new(64), &Rngs::new(0))?.lazy_init(&x)?;
//! let y = model.call(&x)?;
//! assert_eq!(model.variable("kernel")?.value()?.dims(), &[32, 64]);
//!
//! // stateful -> functional
//! let model = to_functional(|rngs| Linear::new(32, 64, rngs));
//! let (y, variables) = model.init_with_output(key(0), &x)?;
//! assert_eq!(variables.collections().collect::<Vec<_>>(), ["nnx", "params"]);
//! let y = model.apply(&variables, &x)?;
//!
//! // the functional API over a stateful module
//! let linear = functional(|rngs| Linear::new(32, 64, rngs));
//! let state = linear.init(&Rngs::new(0))?;
//! let (y, state) = linear.apply(&state, |linear| linear.forward(&x))?;
//! # Ok::<(), bridge_vars::Error>(())
//! ```
#![forbid(unsafe_code)]

mod constructor;
mod error;
mod functional;
mod lazy_init;
mod lists;
mod options;
mod rngs_from_scope;
mod seen;
mod stateful_call;
mod to_functional;
mod to_stateful;
mod watched;
mod wrapped_call;

pub use error::WrapperError;
pub use functional::{Functional, States, functional};
pub use lazy_init::{LazyInit, lazy_init, lazy_init_missing, reinitialize};
pub use rngs_from_scope::rngs_from_scope;
pub use stateful_call::StatefulCall;
pub use to_functional::{ToFunctional, to_functional, to_functional_with};
pub use to_stateful::{RngSource, ToStateful};
