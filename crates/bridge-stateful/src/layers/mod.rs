mod activation;
mod batch_norm;
mod dropout;
mod linear;

pub use activation::Activation;
pub use batch_norm::{BatchNorm, BatchNormConfig};
pub use dropout::{Dropout, DropoutConfig};
pub use linear::{Linear, LinearConfig};

/// candle's `Module` through the layer's own `forward`.
macro_rules! candle_module {
    ($layer:ty) => {
        impl candle_core::Module for $layer {
            fn forward(&self, x: &candle_core::Tensor) -> candle_core::Result<candle_core::Tensor> {
                Ok(<$layer>::forward(self, x)?)
            }
        }
    };
}
pub(crate) use candle_module;
