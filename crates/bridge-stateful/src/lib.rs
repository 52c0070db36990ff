//! Neural network modules that own their variables: plain structs, used like objects.
//!
//! ```
//! use bridge_graph::{Rngs, StatefulModule, split};
//! use bridge_stateful::Linear;
//! use candle_core::{DType, Device, Module, Result, Tensor};
//!
//! #[derive(StatefulModule)]
//! struct Mlp { hidden: Linear, output: Linear }
//!
//! impl Module for Mlp {
//!     fn forward(&self, x: &Tensor) -> Result<Tensor> {
//!         x.apply(&self.hidden)?.relu()?.apply(&self.output)
//!     }
//! }
//!
//! let rngs = Rngs::new(0);
//! let mlp = Mlp { hidden: Linear::new(8, 16, &rngs)?, output: Linear::new(16, 10, &rngs)? };
//! let y = mlp.forward(&Tensor::zeros((1, 8), DType::F32, &Device::Cpu)?)?;
//! assert_eq!(y.dims(), &[1, 10]);
//! let (_graphdef, state) = split(&mlp)?;
//! assert_eq!(state.get("output.kernel")?.tensor()?.dims(), &[16, 10]);
//! # Ok::<(), bridge_vars::Error>(())
//! ```
//!
//! Layers implement candle's `Module`, so `x.apply(&layer)` works; their own `forward` returns this
//! project's error.
#![forbid(unsafe_code)]

mod layers;
mod sequential;

pub use bridge_graph::{Rngs, StatefulModule, eval, train};
pub use layers::{Activation, BatchNorm, BatchNormConfig, Dropout, DropoutConfig, Linear, LinearConfig};
pub use sequential::{BoxableLayer, Layer, Layers, Sequential};
