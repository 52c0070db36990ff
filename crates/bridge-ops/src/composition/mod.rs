//! The operators as compositions of candle's own: what runs on devices without a kernel, and what kernels are compared
//! with.

mod activation;
mod dropout;
mod elementwise;
mod linear;

pub use activation::{abs, elu, gelu, gelu_exact, leaky_relu, relu, sigmoid, silu, softplus, tanh};
pub use dropout::dropout;
pub use linear::linear;
