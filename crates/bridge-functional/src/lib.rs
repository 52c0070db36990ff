//! Neural network modules that are their configuration: `init` returns the variables, `apply` takes them.
//!
//! ```
//! use bridge_functional::{Dense, FunctionalModule, Scope};
//! use bridge_random::key;
//! use bridge_vars::Result;
//! use candle_core::{DType, Device, Tensor};
//!
//! #[derive(Clone, Debug, PartialEq)]
//! struct Mlp { hidden: usize }
//!
//! impl FunctionalModule for Mlp {
//!     type Output = Tensor;
//!     fn call(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
//!         let x = scope.call(&Dense::new(self.hidden), x)?.relu()?;
//!         scope.call(&Dense::new(10), &x)
//!     }
//! }
//!
//! let x = Tensor::zeros((1, 8), DType::F32, &Device::Cpu)?;
//! let model = Mlp { hidden: 16 };
//! let variables = model.init(key(0), &x)?;
//! assert_eq!(variables.get("params", "Dense_1.kernel")?.tensor()?.dims(), &[16, 10]);
//! assert_eq!(model.apply(&variables, &x)?.dims(), &[1, 10]);
//! # Ok::<(), bridge_vars::Error>(())
//! ```
#![forbid(unsafe_code)]

mod bound;
mod call;
mod child;
mod error;
mod intercept;
mod keys;
mod layers;
mod mode;
mod module;
mod module_calls;
mod named;
mod scope;
mod scope_params;
mod scope_rngs;
mod scope_variable;
mod sequential;
mod sow;
mod value_and_grad;

pub use bound::Bound;
pub use bridge_graph::{Mode, Pytree};
pub use call::Call;
pub use child::Child;
pub use error::ScopeError;
pub use intercept::ModuleCall;
pub use keys::Keys;
pub use layers::{Activation, BatchNorm, Dense, Dropout};
pub use mode::InMode;
pub use module::{FunctionalModule, Method, class_name};
pub use named::Named;
pub use scope::Scope;
pub use scope_rngs::{ScopeRngs, lifted_name};
pub use scope_variable::ScopeVariable;
pub use sequential::{BoxedModule, Sequential};
pub use value_and_grad::{value_and_grad, value_and_grad_with};
