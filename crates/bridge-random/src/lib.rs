//! JAX's random numbers, bit for bit, as candle tensors.
//!
//! Everything is a function of a [`Key`]: the same key, shape and dtype give the same numbers, on every device and with any
//! number of threads. The numbers are those of `jax.random` and `jax.nn.initializers` (called outside of `jit`, on a CPU
//! with fused multiply-adds), so that a model started from the same seed starts with the same weights.
//!
//! ```
//! use bridge_random::{Initializer, key, normal};
//! use candle_core::{DType, Device};
//!
//! let [weights, noise] = key(0).split();
//! let kernel = Initializer::lecun_normal().init(weights, (3, 4), DType::F32, &Device::Cpu)?;
//! let noise = normal(noise, kernel.shape(), DType::F32, &Device::Cpu)?;
//! assert_eq!((kernel + noise)?.dims(), [3, 4]);
//! # Ok::<(), bridge_random::Error>(())
//! ```
//!
//! # Guarantees
//!
//! - Element `i` of a draw (in row-major order) depends on the key and `i` alone: a longer draw begins with the shorter
//!   one, and any part can be made again without the rest.
//! - Tensors on other devices are made on the host and sent there, so that their bits are the same.
//! - f32 and all integers have the same bits on every platform. f64 beyond uniform numbers calls the C library's
//!   logarithm; it agrees with JAX where that rounds as the GNU C library's does.

#![deny(unsafe_code)]

mod bernoulli;
mod bits;
mod error;
mod fill;
mod float;
mod fold_static;
mod initializer;
mod key;
mod normal;
mod permutation;
mod randint;
mod scaled;
mod special;
mod threefry;
mod truncated_normal;
mod uniform;
mod variance_scaling;

pub use bernoulli::{bernoulli, fill_bernoulli};
pub use error::{Error, Result};
pub use fold_static::{PathItem, Separator, fold_static};
pub use initializer::Initializer;
pub use key::{Key, key};
pub use normal::normal;
pub use permutation::{permutation, permutation_vec};
pub use randint::randint;
pub use truncated_normal::truncated_normal;
pub use uniform::{uniform, uniform_between};
pub use variance_scaling::{Distribution, FanMode, VarianceScaling};
