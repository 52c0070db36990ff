//! Numerical operators with gradients for candle: what neural network layers stand on.
//!
//! Each operator is a free function from tensors to a tensor that differentiates rightly through
//! [`Tensor::backward`](candle_core::Tensor::backward), takes inputs of any layout (transposed, narrowed,
//! broadcast), and computes sums, exponentials and statistics of half-precision inputs in f32.
//!
//! | operators | functions |
//! |---|---|
//! | affine map | [`linear`], [`linear_with_activation`] |
//! | activations | [`relu`], [`gelu`], [`gelu_exact`], [`silu`], [`sigmoid`], [`tanh`], [`softplus`], [`elu`], [`leaky_relu`], [`abs`], [`Activation`] |
//! | probabilities | [`softmax`], [`log_softmax`] |
//! | losses of classes | [`softmax_cross_entropy`], [`softmax_cross_entropy_per_example`], [`CrossEntropy`] |
//! | other losses | [`mean_squared_error`], [`binary_cross_entropy_with_logits`], [`binary_cross_entropy_with_logits_per_element`] |
//! | metrics | [`accuracy`] |
//! | normalization | [`layer_norm`], [`rms_norm`], [`batch_statistics`], [`normalize`] |
//! | rows of a table | [`embedding`] |
//! | dropout | [`dropout`], [`dropout_with_key`] |
//! | optimizers | [`update_parameters`], [`global_norm`], [`all_finite`] |
//! | shapes without numbers | [`shapes_only`], [`stand_in`] |
//!
//! ```
//! use bridge_ops::{linear, relu, softmax_cross_entropy};
//! use candle_core::{Device, Tensor, Var};
//!
//! let device = Device::Cpu;
//! let kernel = Var::from_tensor(&Tensor::new(&[[1f32, -1.0], [0.5, 2.0]], &device)?)?;
//! let bias = Var::zeros(2, kernel.dtype(), &device)?;
//! let x = Tensor::new(&[[1f32, 2.0], [3.0, 4.0]], &device)?;
//! let labels = Tensor::new(&[0u32, 1], &device)?;
//!
//! let logits = relu(&linear(&x, &kernel, Some(&bias))?)?;
//! let gradients = softmax_cross_entropy(&logits, &labels)?.backward()?;
//! assert_eq!(gradients.get(&kernel).map(|gradient| gradient.dims()), Some(&[2, 2][..]));
//! # Ok::<(), bridge_ops::Error>(())
//! ```
#![deny(unsafe_code)]

mod accuracy;
mod activation;
mod activation_choice;
mod binary_cross_entropy;
#[doc(hidden)]
pub mod composition;
mod cross_entropy;
mod dropout;
mod embedding;
mod error;
mod gradient_sink;
mod gradients;
mod kernels;
mod labels;
mod linear;
mod mean_squared_error;
mod normalization;
mod operator;
mod optimizer_step;
mod pairs;
mod precision;
mod row_norm;
mod shapes_only;
mod softmax;

pub use accuracy::accuracy;
pub use activation::{abs, elu, gelu, gelu_exact, leaky_relu, relu, sigmoid, silu, softplus, tanh};
pub use activation_choice::Activation;
pub use binary_cross_entropy::{
    binary_cross_entropy_with_logits, binary_cross_entropy_with_logits_per_element,
};
pub use cross_entropy::{CrossEntropy, softmax_cross_entropy, softmax_cross_entropy_per_example};
pub use dropout::{dropout, dropout_with_key};
pub use embedding::embedding;
pub use error::{Error, Result};
pub use gradient_sink::{Collected, Home, collect_gradients};
pub use gradients::{all_finite, global_norm};
pub use linear::linear;
pub use linear::{linear, linear_with_activation};
pub use mean_squared_error::mean_squared_error;
pub use normalization::{batch_statistics, check_features, moving_average, normalize, statistics_dtype};
pub use optimizer_step::{ParameterUpdate, UpdateFormula, update_parameters};
pub use row_norm::{layer_norm, rms_norm};
pub use shapes_only::{is_shapes_only, shapes_only, stand_in};
pub use softmax::{log_softmax, softmax};
