//! The networks that are compared with other frameworks: what each computes is said at its type, what all programs start
//! from in [`data`], and what they do in [`program`].

mod cnn;
pub(crate) mod data;
mod encoder;
mod minilm;
mod mlp;
pub(crate) mod program;
mod transformer;

use candle_bridge::graph::{Rngs, StatefulModule};
use candle_core::Tensor;

pub(crate) use cnn::Cnn;
pub(crate) use minilm::MiniLm;
pub(crate) use mlp::Mlp;
pub(crate) use transformer::Transformer;

type Result<T> = candle_bridge::Result<T>;

/// A network with the numbers it is given.
pub(crate) trait Network: StatefulModule + Sized + 'static {
    fn new(rngs: &Rngs) -> Result<Self>;

    /// One batch of inputs, as [`Network::forward`] takes it.
    fn inputs(key: candle_bridge::random::Key) -> Result<Tensor>;

    fn forward(&self, inputs: &Tensor) -> Result<Tensor>;
}
