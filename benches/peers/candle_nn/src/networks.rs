//! The networks, as one writes them with candle-nn.

use candle_core::{D, Result, Tensor};
use candle_nn::{Conv2d, Embedding, LayerNorm, Linear, Module, ops};

use crate::weights::Weights;

pub struct Mlp([Linear; 3]);

impl Mlp {
    pub fn new(weights: &mut Weights) -> Result<Self> {
        let mut linear = |number: usize| weights.linear(&format!("layers.{number}"));
        Ok(Self([linear(0)?, linear(1)?, linear(2)?]))
    }

    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let [first, second, third] = &self.0;
        third.forward(&second.forward(&first.forward(x)?.relu()?)?.relu()?)
    }
}

pub struct Cnn {
    convs: [Conv2d; 2],
    dense: Linear,
}

impl Cnn {
    pub fn new(weights: &mut Weights) -> Result<Self> {
        let convs = [weights.conv("convs.0")?, weights.conv("convs.1")?];
        Ok(Self { convs, dense: weights.linear("dense")? })
    }

    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let [first, second] = &self.convs;
        let x = first.forward(&x.permute((0, 3, 1, 2))?.contiguous()?)?.relu()?;
        let x = max_pool(&second.forward(&x)?.relu()?)?;
        self.dense.forward(&x.permute((0, 2, 3, 1))?.flatten_from(1)?)
    }
}

/// Of 2x2 windows. candle's own `max_pool2d` divides its gradient by the area of the window, and would not learn the same.
fn max_pool(x: &Tensor) -> Result<Tensor> {
    let (batch, channels, height, width) = x.dims4()?;
    let windows = x.reshape((batch, channels, height / 2, 2, width / 2, 2))?.permute((0, 1, 2, 4, 3, 5))?;
    windows.contiguous()?.reshape((batch, channels, height / 2, width / 2, 4))?.max(4)
}

/// candle-nn's fast norm and softmax have no gradient.
#[derive(Clone, Copy)]
enum Operators {
    WithGradients,
    Fast,
}

impl Operators {
    fn norm(self, norm: &LayerNorm, x: &Tensor) -> Result<Tensor> {
        match (self, norm.bias()) {
            (Self::WithGradients, Some(bias)) => {
                ops::layer_norm_slow(x, norm.weight(), bias, norm.eps() as f32)
            }
            _ => norm.forward(x),
        }
    }

    fn softmax(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::WithGradients => ops::softmax(x, D::Minus1),
            Self::Fast => ops::softmax_last_dim(x),
        }
    }
}

struct Attention {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    heads: usize,
}

impl Attention {
    fn new(weights: &mut Weights, name: &str, heads: usize) -> Result<Self> {
        let mut linear = |part: &str| weights.linear(&format!("{name}.{part}"));
        let (query, key, value, output) =
            (linear("query")?, linear("key")?, linear("value")?, linear("output")?);
        Ok(Self { query, key, value, output, heads })
    }

    fn forward(&self, x: &Tensor, operators: Operators) -> Result<Tensor> {
        let (batch, tokens, width) = x.dims3()?;
        let size = width / self.heads;
        let split = |x: Tensor| x.reshape((batch, tokens, self.heads, size))?.transpose(1, 2)?.contiguous();
        let (query, key) = (split(self.query.forward(x)?)?, split(self.key.forward(x)?)?);
        let value = split(self.value.forward(x)?)?;
        let scores = (query.matmul(&key.t()?)? / (size as f64).sqrt())?;
        let attended = operators.softmax(&scores)?.matmul(&value)?.transpose(1, 2)?;
        self.output.forward(&attended.reshape((batch, tokens, width))?)
    }
}

struct Block {
    attention_norm: LayerNorm,
    attention: Attention,
    mlp_norm: LayerNorm,
    widen: Linear,
    narrow: Linear,
}

impl Block {
    fn new(weights: &mut Weights, name: &str, heads: usize, epsilon: f64) -> Result<Self> {
        Ok(Self {
            attention_norm: weights.norm(&format!("{name}.attention_norm"), epsilon)?,
            attention: Attention::new(weights, &format!("{name}.attention"), heads)?,
            mlp_norm: weights.norm(&format!("{name}.mlp_norm"), epsilon)?,
            widen: weights.linear(&format!("{name}.widen"))?,
            narrow: weights.linear(&format!("{name}.narrow"))?,
        })
    }
}

pub struct Transformer {
    blocks: Vec<Block>,
    norm: LayerNorm,
    head: Linear,
}

impl Transformer {
    const EPSILON: f64 = 1e-6;

    pub fn new(weights: &mut Weights) -> Result<Self> {
        let block = |number| Block::new(weights, &format!("blocks.{number}"), 4, Self::EPSILON);
        let blocks = (0..4).map(block).collect::<Result<_>>()?;
        Ok(Self { blocks, norm: weights.norm("norm", Self::EPSILON)?, head: weights.linear("head")? })
    }

    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let operators = Operators::WithGradients;
        let mut x = x.clone();
        for block in &self.blocks {
            let normal = operators.norm(&block.attention_norm, &x)?;
            x = (x + block.attention.forward(&normal, operators)?)?;
            let hidden = block.widen.forward(&operators.norm(&block.mlp_norm, &x)?)?.gelu()?;
            x = (x + block.narrow.forward(&hidden)?)?;
        }
        self.head.forward(&operators.norm(&self.norm, &x)?.mean(1)?)
    }
}

pub struct MiniLm {
    words: Embedding,
    places: Tensor,
    norm: LayerNorm,
    layers: Vec<Block>,
}

impl MiniLm {
    const WIDTH: usize = 384;
    const EPSILON: f64 = 1e-12;

    pub fn new(weights: &mut Weights) -> Result<Self> {
        let words = weights.embedding("words", Self::WIDTH)?;
        let positions = weights.embedding("positions", Self::WIDTH)?;
        let types = weights.embedding("types", Self::WIDTH)?;
        let places = positions.embeddings().broadcast_add(&types.embeddings().narrow(0, 0, 1)?)?;
        let norm = weights.norm("norm", Self::EPSILON)?;
        let layer = |number| Block::new(weights, &format!("layers.{number}"), 12, Self::EPSILON);
        Ok(Self { words, places, norm, layers: (0..6).map(layer).collect::<Result<_>>()? })
    }

    pub fn forward(&self, words: &Tensor) -> Result<Tensor> {
        let operators = Operators::Fast;
        let places = self.places.narrow(0, 0, words.dim(1)?)?;
        let x = self.words.forward(words)?.broadcast_add(&places)?;
        let mut x = operators.norm(&self.norm, &x)?;
        for layer in &self.layers {
            let attended = layer.attention.forward(&x, operators)?;
            x = operators.norm(&layer.attention_norm, &(x + attended)?)?;
            let hidden = layer.widen.forward(&x)?.gelu_erf()?;
            x = operators.norm(&layer.mlp_norm, &(x + layer.narrow.forward(&hidden)?)?)?;
        }
        x.mean(1)
    }
}
