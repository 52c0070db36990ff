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
//! Samplers are there for bits, uniform, normal, truncated normal, exponential, Laplace, logistic and Gumbel numbers, signs,
//! decisions, integers, orders, choices and categories, in f32, f64, f16 and bf16 where they are floats. Batches of keys
//! ([`KeyArray`]), generators for the `rand` crate ([`KeyRng`]) and the orders of a training's epochs ([`Shuffler`]) come with
//! them.
//!
//! # Guarantees
//!
//! - A draw is a function of the key, the number of elements and the dtype. Where one element takes one piece of randomness,
//!   element `i` (in row-major order) depends on the key and `i` alone: a longer draw begins with the shorter one, and any part
//!   can be made again without the rest.
//! - Tensors on other devices are made on the host and sent there, so that their bits are the same.
//! - Floats in f32, f16 and bf16 and all integers have the same bits on every platform. f64 beyond uniform numbers calls the C
//!   library's logarithm; it agrees with JAX where that rounds as the GNU C library's does.
//!
//! [`guide::reproducibility`] says all that is promised, and what is not; [`guide::same_numbers_as_jax`] shows the same
//! lines in JAX and here.

#![deny(unsafe_code)]

mod axis;
mod bernoulli;
mod bits;
mod categorical;
mod choice;
mod cumulative_sum;
mod custom_initializer;
mod error;
mod exponential;
mod fill;
mod float;
mod fold_static;
mod gumbel;
mod host_array;
mod initializer;
mod key;
mod key_rng;
mod laplace;
mod logistic;
mod normal;
mod number_or_tensor;
mod number_or_text;
mod orthogonal;
mod permutation;
mod rademacher;
mod randint;
mod sampling_mode;
mod scaled;
mod scheme;
mod shuffler;
mod special;
mod threefry;
mod top;
mod truncated_normal;
mod uniform;
mod variance_scaling;
mod word;

pub use bernoulli::{bernoulli, bernoulli_with, fill_bernoulli};
pub use bits::bits;
pub use categorical::{Categorical, categorical};
pub use choice::Choice;
pub use custom_initializer::CustomInitializer;
pub use error::{Error, Result};
pub use exponential::exponential;
pub use fold_static::{PathItem, Separator, fold_static};
pub use gumbel::{gumbel, gumbel_with};
pub use host_array::{CountArray, HostArray, KeyArray};
pub use initializer::Initializer;
pub use key::{Key, key};
pub use key_rng::KeyRng;
pub use laplace::laplace;
pub use logistic::logistic;
pub use normal::normal;
pub use number_or_tensor::NumberOrTensor;
pub use permutation::{permutation, permutation_vec, permute, shuffle};
pub use rademacher::rademacher;
pub use randint::{RandomInteger, randint, randint_vec};
pub use sampling_mode::SamplingMode;
pub use scheme::Scheme;
pub use shuffler::{Batches, Shuffler};
pub use truncated_normal::truncated_normal;
pub use uniform::{uniform, uniform_between};
pub use variance_scaling::{Distribution, FanMode, VarianceScaling};

/// Pages to read.
pub mod guide {
    #[doc = include_str!("../docs/reproducibility.md")]
    pub mod reproducibility {}
    #[doc = include_str!("../docs/same-numbers-as-jax.md")]
    pub mod same_numbers_as_jax {}
}
