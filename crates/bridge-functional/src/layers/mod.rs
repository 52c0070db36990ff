mod activation;
mod batch_norm;
mod dense;
mod dropout;
mod param_dtype;

pub use activation::Activation;
pub use batch_norm::BatchNorm;
pub use dense::Dense;
pub use dropout::Dropout;
