use candle_bridge::graph::{Rngs, StatefulModule};
use candle_bridge::ops::{embedding, gelu_exact};
use candle_bridge::random::{Initializer, Key, randint};
use candle_bridge::stateful::Linear;
use candle_bridge::vars::Param;
use candle_core::{DType, Device, Tensor};

use super::encoder::{Attention, Norm};
use super::{Network, Result};

const LAYERS: usize = 6;
const WIDTH: usize = 384;
const HEADS: usize = 12;
const WORDS: usize = 30522;
const POSITIONS: usize = 512;
const EPSILON: f64 = 1e-12;

#[derive(StatefulModule)]
struct Layer {
    attention: Attention,
    attention_norm: Norm,
    widen: Linear,
    narrow: Linear,
    mlp_norm: Norm,
}

impl Layer {
    fn new(rngs: &Rngs) -> Result<Self> {
        Ok(Self {
            attention: Attention::new(WIDTH, rngs)?,
            attention_norm: Norm::new(WIDTH, rngs)?,
            widen: Linear::new(WIDTH, 4 * WIDTH, rngs)?,
            narrow: Linear::new(4 * WIDTH, WIDTH, rngs)?,
            mlp_norm: Norm::new(WIDTH, rngs)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.attention_norm.forward(&(x + self.attention.forward(x, HEADS)?)?, EPSILON)?;
        let hidden = gelu_exact(&self.widen.forward(&x)?)?;
        self.mlp_norm.forward(&(&x + self.narrow.forward(&hidden)?)?, EPSILON)
    }
}

/// In the shape of MiniLM-L6-v2, on 8 sequences of 64 tokens without padding: embeddings of words, positions and the first
/// of two types, a norm, and 6 layers that normalize last, of width 384 with 12 heads and exact gelu. Gives the mean
/// over the tokens.
#[derive(StatefulModule)]
pub(crate) struct MiniLm {
    words: Param,
    positions: Param,
    types: Param,
    norm: Norm,
    layers: Vec<Layer>,
}

impl Network for MiniLm {
    fn new(rngs: &Rngs) -> Result<Self> {
        let table = |rows: usize| rngs.param(&Initializer::normal(1.0), (rows, WIDTH));
        let layers = (0..LAYERS).map(|_| Layer::new(rngs)).collect::<Result<_>>()?;
        let (words, positions, types) = (table(WORDS)?, table(POSITIONS)?, table(2)?);
        Ok(Self { words, positions, types, norm: Norm::new(WIDTH, rngs)?, layers })
    }

    fn inputs(key: Key) -> Result<Tensor> {
        Ok(randint(key, (8, 64), 0, WORDS as i64, DType::I64, &Device::Cpu)?)
    }

    fn forward(&self, inputs: &Tensor) -> Result<Tensor> {
        let tokens = inputs.dim(1)?;
        let words = embedding(&self.words.value()?, inputs)?;
        let places = self.positions.value()?.narrow(0, 0, tokens)?;
        let places = places.broadcast_add(&self.types.value()?.narrow(0, 0, 1)?)?;
        let x = self.norm.forward(&words.broadcast_add(&places)?, EPSILON)?;
        let x = self.layers.iter().try_fold(x, |x, layer| layer.forward(&x))?;
        Ok(x.mean(1)?)
    }
}
