mod batch_norm;
mod dense;
mod dropout;

pub use batch_norm::BatchNorm;
pub use dense::Dense;
pub use dropout::Dropout;
