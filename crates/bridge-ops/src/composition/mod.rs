//! The operators as compositions of candle's own: what runs on devices without a kernel, and what kernels are compared
//! with.

mod linear;

pub use linear::linear;
