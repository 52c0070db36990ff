//! What both encoders are made of.

use candle_bridge::graph::{Rngs, StatefulModule};
use candle_bridge::ops::{layer_norm, softmax};
use candle_bridge::random::Initializer;
use candle_bridge::stateful::Linear;
use candle_bridge::vars::Param;
use candle_core::Tensor;

use super::Result;

#[derive(StatefulModule)]
pub(super) struct Norm {
    scale: Param,
    bias: Param,
}

impl Norm {
    pub(super) fn new(width: usize, rngs: &Rngs) -> Result<Self> {
        let scale = rngs.param(&Initializer::Ones, width)?;
        Ok(Self { scale, bias: rngs.param(&Initializer::Zeros, width)? })
    }

    pub(super) fn forward(&self, x: &Tensor, epsilon: f64) -> Result<Tensor> {
        Ok(layer_norm(x, Some(&self.scale.value()?), Some(&self.bias.value()?), epsilon)?)
    }
}

#[derive(StatefulModule)]
pub(super) struct Attention {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
}

impl Attention {
    pub(super) fn new(width: usize, rngs: &Rngs) -> Result<Self> {
        let linear = || Linear::new(width, width, rngs);
        Ok(Self { query: linear()?, key: linear()?, value: linear()?, output: linear()? })
    }

    /// Of each token to all of its sequence, `[batch, tokens, width]`.
    pub(super) fn forward(&self, x: &Tensor, heads: usize) -> Result<Tensor> {
        let (batch, tokens, width) = x.dims3()?;
        let size = width / heads;
        let split = |x: Tensor| -> Result<Tensor> {
            Ok(x.reshape((batch, tokens, heads, size))?.transpose(1, 2)?.contiguous()?)
        };
        let (query, key) = (split(self.query.forward(x)?)?, split(self.key.forward(x)?)?);
        let value = split(self.value.forward(x)?)?;
        let scores = (query.matmul(&key.t()?.contiguous()?)? / (size as f64).sqrt())?;
        let attended = softmax(&scores)?.matmul(&value)?.transpose(1, 2)?;
        self.output.forward(&attended.reshape((batch, tokens, width))?)
    }
}
