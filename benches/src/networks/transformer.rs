use candle_bridge::graph::{Rngs, StatefulModule};
use candle_bridge::ops::gelu;
use candle_bridge::random::{Key, normal};
use candle_bridge::stateful::Linear;
use candle_core::{DType, Device, Tensor};

use super::encoder::{Attention, Norm};
use super::{Network, Result};

const LAYERS: usize = 4;
const WIDTH: usize = 256;
const HEADS: usize = 4;
const EPSILON: f64 = 1e-6;

#[derive(StatefulModule)]
struct Block {
    attention_norm: Norm,
    attention: Attention,
    mlp_norm: Norm,
    widen: Linear,
    narrow: Linear,
}

impl Block {
    fn new(rngs: &Rngs) -> Result<Self> {
        Ok(Self {
            attention_norm: Norm::new(WIDTH, rngs)?,
            attention: Attention::new(WIDTH, rngs)?,
            mlp_norm: Norm::new(WIDTH, rngs)?,
            widen: Linear::new(WIDTH, 4 * WIDTH, rngs)?,
            narrow: Linear::new(4 * WIDTH, WIDTH, rngs)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = (x + self.attention.forward(&self.attention_norm.forward(x, EPSILON)?, HEADS)?)?;
        let hidden = gelu(&self.widen.forward(&self.mlp_norm.forward(&x, EPSILON)?)?)?;
        Ok((&x + self.narrow.forward(&hidden)?)?)
    }
}

/// An encoder that normalizes first, on 8 sequences of 128 tokens: 4 layers, width 256, 4 heads, tanh gelu; then a norm,
/// the mean over the tokens, and a dense layer. 3,162,122 parameters.
#[derive(StatefulModule)]
pub(crate) struct Transformer {
    blocks: Vec<Block>,
    norm: Norm,
    head: Linear,
}

impl Network for Transformer {
    fn new(rngs: &Rngs) -> Result<Self> {
        let blocks = (0..LAYERS).map(|_| Block::new(rngs)).collect::<Result<_>>()?;
        Ok(Self { blocks, norm: Norm::new(WIDTH, rngs)?, head: Linear::new(WIDTH, 10, rngs)? })
    }

    fn inputs(key: Key) -> Result<Tensor> {
        Ok(normal(key, (8, 128, WIDTH), DType::F32, &Device::Cpu)?)
    }

    fn forward(&self, inputs: &Tensor) -> Result<Tensor> {
        let x = self.blocks.iter().try_fold(inputs.clone(), |x, block| block.forward(&x))?;
        self.head.forward(&self.norm.forward(&x, EPSILON)?.mean(1)?)
    }
}
