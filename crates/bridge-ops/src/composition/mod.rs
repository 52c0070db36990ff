//! The operators as compositions of candle's own: what runs on devices without a kernel, and what kernels are compared
//! with.

mod activation;
mod dropout;
mod elementwise;
mod linear;

pub use activation::{abs, elu, gelu, gelu_exact, leaky_relu, relu, sigmoid, silu, softplus, tanh};
pub use dropout::dropout;
pub use linear::linear;
mod cross_entropy;
mod embedding;
mod pairs;
mod row_norm;
mod softmax;
pub use cross_entropy::{cross_entropy, cross_entropy_per_example};
pub use embedding::embedding;
pub use pairs::{
    binary_cross_entropy_with_logits, binary_cross_entropy_with_logits_per_element, mean_squared_error,
};
pub use row_norm::{layer_norm, rms_norm};
pub use softmax::{log_softmax, softmax};
