//! The networks, as one writes them with burn.

use std::error::Error;

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::{LayerNorm, Linear};
use burn::tensor::Tensor;
use burn::tensor::activation::{gelu_approximate, relu, softmax};

use crate::weights::Weights;

type Outcome<T> = Result<T, Box<dyn Error>>;

#[derive(Module, Debug)]
pub struct Mlp {
    layers: Vec<Linear>,
}

impl Mlp {
    pub fn new(weights: &Weights) -> Outcome<Self> {
        let layer = |number| weights.linear(&format!("layers.{number}"));
        Ok(Self { layers: (0..3).map(layer).collect::<Outcome<_>>()? })
    }

    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let x = relu(self.layers[0].forward(x));
        let x = relu(self.layers[1].forward(x));
        self.layers[2].forward(x)
    }
}

#[derive(Module, Debug)]
pub struct Cnn {
    convs: Vec<Conv2d>,
    pool: MaxPool2d,
    dense: Linear,
}

impl Cnn {
    pub fn new(weights: &Weights) -> Outcome<Self> {
        let convs = vec![weights.conv("convs.0")?, weights.conv("convs.1")?];
        let pool = MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init();
        Ok(Self { convs, pool, dense: weights.linear("dense")? })
    }

    pub fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = relu(self.convs[0].forward(x.permute([0, 3, 1, 2])));
        let x = self.pool.forward(relu(self.convs[1].forward(x)));
        self.dense.forward(x.permute([0, 2, 3, 1]).flatten::<2>(1, 3))
    }
}

#[derive(Module, Debug)]
struct Attention {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    heads: usize,
}

impl Attention {
    fn new(weights: &Weights, name: &str, heads: usize) -> Outcome<Self> {
        let linear = |part: &str| weights.linear(&format!("{name}.{part}"));
        let (query, key, value, output) =
            (linear("query")?, linear("key")?, linear("value")?, linear("output")?);
        Ok(Self { query, key, value, output, heads })
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, tokens, width] = x.dims();
        let size = width / self.heads;
        let split = |x: Tensor<3>| x.reshape([batch, tokens, self.heads, size]).swap_dims(1, 2);
        let query = split(self.query.forward(x.clone()));
        let key = split(self.key.forward(x.clone()));
        let value = split(self.value.forward(x));
        let scores = query.matmul(key.swap_dims(2, 3)).div_scalar((size as f64).sqrt());
        let attended = softmax(scores, 3).matmul(value).swap_dims(1, 2);
        self.output.forward(attended.reshape([batch, tokens, width]))
    }
}

#[derive(Module, Debug)]
struct Block {
    attention_norm: LayerNorm,
    attention: Attention,
    mlp_norm: LayerNorm,
    widen: Linear,
    narrow: Linear,
}

impl Block {
    fn new(weights: &Weights, name: &str) -> Outcome<Self> {
        Ok(Self {
            attention_norm: weights.norm(&format!("{name}.attention_norm"), Transformer::EPSILON)?,
            attention: Attention::new(weights, &format!("{name}.attention"), 4)?,
            mlp_norm: weights.norm(&format!("{name}.mlp_norm"), Transformer::EPSILON)?,
            widen: weights.linear(&format!("{name}.widen"))?,
            narrow: weights.linear(&format!("{name}.narrow"))?,
        })
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let x = x.clone() + self.attention.forward(self.attention_norm.forward(x));
        let hidden = gelu_approximate(self.widen.forward(self.mlp_norm.forward(x.clone())));
        x + self.narrow.forward(hidden)
    }
}

#[derive(Module, Debug)]
pub struct Transformer {
    blocks: Vec<Block>,
    norm: LayerNorm,
    head: Linear,
}

impl Transformer {
    const EPSILON: f64 = 1e-6;

    pub fn new(weights: &Weights) -> Outcome<Self> {
        let block = |number| Block::new(weights, &format!("blocks.{number}"));
        let blocks = (0..4).map(block).collect::<Outcome<_>>()?;
        Ok(Self { blocks, norm: weights.norm("norm", Self::EPSILON)?, head: weights.linear("head")? })
    }

    pub fn forward(&self, x: Tensor<3>) -> Tensor<2> {
        let x = self.blocks.iter().fold(x, |x, block| block.forward(x));
        self.head.forward(self.norm.forward(x).mean_dim(1).squeeze_dim::<2>(1))
    }
}
