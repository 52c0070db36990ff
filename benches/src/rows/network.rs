//! A forward pass of whole networks, functional and stateful, beside the same network of bare candle with the same weights; what
//! wrappers add to it; and what it takes to make one.

use std::hint::black_box;

use candle_bridge::functional::{Dense, FunctionalModule, Scope};
use candle_bridge::graph::{Rngs, StatefulModule, iter_variables};
use candle_bridge::random::{Initializer, Key, key};
use candle_bridge::stateful::Linear;
use candle_bridge::vars::{Name, Param, Variables};
use candle_bridge::wrappers::{ToStateful, lazy_init, to_functional};
use candle_core::{D, DType, Device, Module, Tensor};
use serde::{Deserialize, Serialize};

use crate::harness::{Entry, Outcome, Routine, Row, Time};

type Result<T> = candle_bridge::Result<T>;

const LAYERS: usize = 4;
const WIDTH: usize = 256;
const HEADS: usize = 4;
const TOKENS: usize = 128;

/// What all three networks compute beside their affine maps.
fn layer_norm(x: &Tensor, scale: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let x = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = x.sqr()?.mean_keepdim(D::Minus1)?;
    let normal = x.broadcast_div(&(variance + 1e-6)?.sqrt()?)?;
    Ok(normal.broadcast_mul(scale)?.broadcast_add(bias)?)
}

fn attention(query: &Tensor, key: &Tensor, value: &Tensor) -> Result<Tensor> {
    let heads = |x: &Tensor| -> Result<Tensor> {
        let (batch, tokens, width) = x.dims3()?;
        Ok(x.reshape((batch, tokens, HEADS, width / HEADS))?.transpose(1, 2)?.contiguous()?)
    };
    let (query, key, value) = (heads(query)?, heads(key)?, heads(value)?);
    let scores = (query.matmul(&key.t()?.contiguous()?)? / ((WIDTH / HEADS) as f64).sqrt())?;
    let scores = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?)?.exp()?;
    let weights = scores.broadcast_div(&scores.sum_keepdim(D::Minus1)?)?;
    let (batch, _, tokens, _) = query.dims4()?;
    Ok(weights.matmul(&value)?.transpose(1, 2)?.reshape((batch, tokens, WIDTH))?)
}

/// An affine map of bare candle, of a matrix or of a batch of them.
fn affine(x: &Tensor, kernel: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let (rows, inputs) = (x.elem_count() / kernel.dim(0)?, kernel.dim(0)?);
    let y = x.reshape((rows, inputs))?.matmul(kernel)?.broadcast_add(bias)?;
    let mut shape = x.dims().to_vec();
    if let Some(last) = shape.last_mut() {
        *last = kernel.dim(1)?;
    }
    Ok(y.reshape(shape)?)
}

#[derive(Clone, Debug, PartialEq)]
struct Norm;

impl FunctionalModule for Norm {
    type Output = Tensor;
    fn call(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
        let (size, device) = (x.dim(D::Minus1)?, x.device());
        let scale = scope.param(Name::from_static(&"scale"), &Initializer::Ones, size, DType::F32, device)?;
        let bias = scope.param(Name::from_static(&"bias"), &Initializer::Zeros, size, DType::F32, device)?;
        layer_norm(x, &scale, &bias)
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Block;

impl FunctionalModule for Block {
    type Output = Tensor;
    fn call(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
        let dense = Dense::new(WIDTH);
        let normal = scope.call(&Norm, x)?;
        let query = scope.call(&dense, &normal)?;
        let key = scope.call(&dense, &normal)?;
        let value = scope.call(&dense, &normal)?;
        let x = (x + scope.call(&dense, &attention(&query, &key, &value)?)?)?;
        let hidden = scope.call(&Dense::new(4 * WIDTH), &scope.call(&Norm, &x)?)?.gelu()?;
        Ok((&x + scope.call(&dense, &hidden)?)?)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Transformer;

impl FunctionalModule for Transformer {
    type Output = Tensor;
    fn call(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
        (0..LAYERS).try_fold(x.clone(), |x, _| scope.call(&Block, &x))
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Mlp;

impl FunctionalModule for Mlp {
    type Output = Tensor;
    fn call(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
        let x = scope.call(&Dense::new(128), x)?.relu()?;
        let x = scope.call(&Dense::new(128), &x)?.relu()?;
        scope.call(&Dense::new(10), &x)
    }
}

#[derive(StatefulModule)]
struct StatefulNorm {
    scale: Param,
    bias: Param,
}

impl StatefulNorm {
    fn new(rngs: &Rngs) -> Result<Self> {
        let (scale, bias) = (rngs.param(&Initializer::Ones, WIDTH)?, rngs.param(&Initializer::Zeros, WIDTH)?);
        Ok(Self { scale, bias })
    }
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        layer_norm(x, &self.scale.value()?, &self.bias.value()?)
    }
}

#[derive(StatefulModule)]
struct StatefulBlock {
    norms: [StatefulNorm; 2],
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    widen: Linear,
    narrow: Linear,
}

impl StatefulBlock {
    fn new(rngs: &Rngs) -> Result<Self> {
        let linear = || Linear::new(WIDTH, WIDTH, rngs);
        Ok(Self {
            norms: [StatefulNorm::new(rngs)?, StatefulNorm::new(rngs)?],
            query: linear()?,
            key: linear()?,
            value: linear()?,
            output: linear()?,
            widen: Linear::new(WIDTH, 4 * WIDTH, rngs)?,
            narrow: Linear::new(4 * WIDTH, WIDTH, rngs)?,
        })
    }
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let normal = self.norms[0].forward(x)?;
        let (query, key) = (self.query.forward(&normal)?, self.key.forward(&normal)?);
        let attended = attention(&query, &key, &self.value.forward(&normal)?)?;
        let x = (x + self.output.forward(&attended)?)?;
        let hidden = self.widen.forward(&self.norms[1].forward(&x)?)?.gelu()?;
        Ok((&x + self.narrow.forward(&hidden)?)?)
    }
}

#[derive(StatefulModule)]
struct StatefulMlp {
    layers: [Linear; 3],
}

impl StatefulMlp {
    fn new(rngs: &Rngs) -> Result<Self> {
        let linear = |inputs, outputs| Linear::new(inputs, outputs, rngs);
        Ok(Self { layers: [linear(64, 128)?, linear(128, 128)?, linear(128, 10)?] })
    }
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let [first, second, third] = &self.layers;
        third.forward(&second.forward(&first.forward(x)?.relu()?)?.relu()?)
    }
}

/// Kernels and biases, or scales and biases, in the order in which the network uses them.
type Weights = Vec<(Tensor, Tensor)>;

fn bare_transformer(weights: &Weights, x: &Tensor) -> Result<Tensor> {
    let mut x = x.clone();
    for block in weights.chunks(8) {
        let [first, second, query, key, value, output, widen, narrow] = block else { break };
        let normal = layer_norm(&x, &first.0, &first.1)?;
        let (query, key) = (affine(&normal, &query.0, &query.1)?, affine(&normal, &key.0, &key.1)?);
        let attended = attention(&query, &key, &affine(&normal, &value.0, &value.1)?)?;
        x = (&x + affine(&attended, &output.0, &output.1)?)?;
        let normal = layer_norm(&x, &second.0, &second.1)?;
        let hidden = affine(&normal, &widen.0, &widen.1)?.gelu()?;
        x = (&x + affine(&hidden, &narrow.0, &narrow.1)?)?;
    }
    Ok(x)
}

fn bare_mlp(weights: &Weights, x: &Tensor) -> Result<Tensor> {
    let mut x = x.clone();
    for (number, (kernel, bias)) in weights.iter().enumerate() {
        if number > 0 {
            x = x.relu()?;
        }
        x = x.matmul(kernel)?.broadcast_add(bias)?;
    }
    Ok(x)
}

fn pair(variables: &Variables, path: &str, first: &str) -> Result<(Tensor, Tensor)> {
    let tensor = |name: &str| -> Result<Tensor> {
        Ok(variables.get("params", format!("{path}.{name}").as_str())?.tensor()?.clone())
    };
    Ok((tensor(first)?, tensor("bias")?))
}

fn transformer_weights(variables: &Variables) -> Result<Weights> {
    let mut weights = Vec::new();
    for block in 0..LAYERS {
        for norm in 0..2 {
            weights.push(pair(variables, &format!("Block_{block}.Norm_{norm}"), "scale")?);
        }
        for dense in 0..6 {
            weights.push(pair(variables, &format!("Block_{block}.Dense_{dense}"), "kernel")?);
        }
    }
    Ok(weights)
}

fn mlp_weights(variables: &Variables) -> Result<Weights> {
    (0..3).map(|dense| pair(variables, &format!("Dense_{dense}"), "kernel")).collect()
}

/// Fails unless both give the same: they are to be one network.
fn agree(ours: &Tensor, bare: &Tensor) -> Outcome {
    let off = (ours - bare)?.abs()?.max_all()?.to_scalar::<f32>()?;
    if off > 1e-4 { Err(format!("the networks differ by {off}").into()) } else { Ok(()) }
}

type Forward = fn(&Weights, &Tensor) -> Result<Tensor>;

fn functional<F: FunctionalModule<Output = Tensor>>(
    model: F,
    x: Tensor,
    weights: impl Fn(&Variables) -> Result<Weights>,
    bare: Forward,
) -> Outcome<Row> {
    let variables = model.init(key(0), &x)?;
    let weights = weights(&variables)?;
    agree(&model.apply(&variables, &x)?, &bare(&weights, &x)?)?;
    let input = x.clone();
    let ours: Routine = Box::new(move || {
        black_box(model.apply(&variables, &input)?);
        Ok(())
    });
    Ok(Row::new(Time::Microseconds, ours).against("candle", move || {
        black_box(bare(&weights, &x)?);
        Ok(())
    }))
}

/// A stateful network with the weights in the order of the walk, which `order` puts into that of their use.
fn stateful<M: StatefulModule>(
    model: M,
    x: Tensor,
    forward: impl Fn(&M, &Tensor) -> Result<Tensor> + 'static,
    order: impl Fn(Weights) -> Weights,
    bare: Forward,
) -> Outcome<Row> {
    let mut tensors = Vec::new();
    iter_variables(&model, |variable| {
        tensors.push(variable.value()?);
        Ok(())
    })?;
    // Each part has its bias first.
    let pairs = tensors.chunks(2).filter_map(|pair| match pair {
        [bias, first] => Some((first.clone(), bias.clone())),
        _ => None,
    });
    let weights = order(pairs.collect());
    agree(&forward(&model, &x)?, &bare(&weights, &x)?)?;
    let input = x.clone();
    let ours: Routine = Box::new(move || {
        black_box(forward(&model, &input)?);
        Ok(())
    });
    Ok(Row::new(Time::Microseconds, ours).against("candle", move || {
        black_box(bare(&weights, &x)?);
        Ok(())
    }))
}

fn blocks_in_order(weights: Weights) -> Weights {
    // Sorted: key, narrow, norms.0, norms.1, output, query, value, widen.
    let order = [2, 3, 5, 0, 6, 4, 7, 1];
    weights.chunks(8).flat_map(|block| order.map(|place| block[place].clone())).collect()
}

fn tokens() -> Outcome<Tensor> {
    Ok(candle_bridge::random::normal(key(1), (1, TOKENS, WIDTH), DType::F32, &Device::Cpu)?)
}

fn examples() -> Outcome<Tensor> {
    Ok(candle_bridge::random::normal(key(1), (16, 64), DType::F32, &Device::Cpu)?)
}

pub(crate) fn rows() -> Vec<Entry> {
    let mut rows = bare();
    rows.extend(wrapped());
    rows.extend(construction());
    rows
}

fn bare() -> Vec<Entry> {
    vec![
        Entry::new("call/functional_apply/mlp", || functional(Mlp, examples()?, mlp_weights, bare_mlp)),
        Entry::new("call/stateful_forward/mlp", || {
            let model = StatefulMlp::new(&Rngs::new(0))?;
            stateful(model, examples()?, StatefulMlp::forward, |weights| weights, bare_mlp)
        }),
        Entry::new("call/functional_apply/transformer4", || {
            functional(Transformer, tokens()?, transformer_weights, bare_transformer)
        }),
        Entry::new("call/stateful_forward/transformer4", || {
            let model = StatefulTransformer::new(&Rngs::new(0))?;
            stateful(model, tokens()?, StatefulTransformer::forward, blocks_in_order, bare_transformer)
        }),
    ]
}

/// The same model wrapped and not.
fn wrapped() -> Vec<Entry> {
    vec![
        Entry::new("call/to_stateful/transformer4", || {
            let x = tokens()?;
            let model = ToStateful::new(Transformer, key(0))?.lazy_init(&x)?;
            let variables = model.variables()?;
            let input = x.clone();
            let ours: Routine = Box::new(move || {
                black_box(model.call(&input)?);
                Ok(())
            });
            Ok(Row::new(Time::Microseconds, ours).against("unwrapped", move || {
                black_box(Transformer.apply(&variables, &x)?);
                Ok(())
            }))
        }),
        Entry::new("call/to_functional/transformer4", || {
            let x = tokens()?;
            let wrapped = to_functional(StatefulTransformer::new);
            let variables = wrapped.init(key(0), &x)?;
            let model = StatefulTransformer::new(&Rngs::new(0))?;
            let input = x.clone();
            let ours: Routine = Box::new(move || {
                black_box(wrapped.apply(&variables, &input)?);
                Ok(())
            });
            Ok(Row::new(Time::Microseconds, ours).against("unwrapped", move || {
                black_box(model.forward(&x)?);
                Ok(())
            }))
        }),
    ]
}

/// The tensors of a transformer's block, made by their initializers alone.
fn bare_block(key: Key) -> Result<Weights> {
    let (kernel, zeros) = (Initializer::lecun_normal(), Initializer::Zeros);
    let make = |initializer: &Initializer, place: u32, shape: &[usize]| {
        initializer.init(key.fold_in(place), shape, DType::F32, &Device::Cpu)
    };
    let mut weights = Vec::new();
    for norm in 0..2 {
        weights.push((make(&Initializer::Ones, norm, &[WIDTH])?, make(&zeros, norm, &[WIDTH])?));
    }
    for dense in 2..8 {
        let (inputs, outputs) = match dense {
            6 => (WIDTH, 4 * WIDTH),
            7 => (4 * WIDTH, WIDTH),
            _ => (WIDTH, WIDTH),
        };
        weights.push((make(&kernel, dense, &[inputs, outputs])?, make(&zeros, dense, &[outputs])?));
    }
    Ok(weights)
}

fn bare_construction() -> Result<Weights> {
    (0..LAYERS as u32).try_fold(Vec::new(), |mut weights, block| {
        weights.extend(bare_block(key(0).fold_in(block))?);
        Ok(weights)
    })
}

/// Making a model, beside making its tensors by the same initializers and, where it takes a call, the same call.
fn construction() -> Vec<Entry> {
    let with_a_call = |x: Tensor| {
        move || {
            black_box(bare_transformer(&bare_construction()?, &x)?);
            Ok(())
        }
    };
    vec![
        Entry::new("init/functional/transformer4", move || {
            let x = tokens()?;
            let input = x.clone();
            let ours: Routine = Box::new(move || {
                black_box(Transformer.init(key(0), &input)?);
                Ok(())
            });
            Ok(Row::new(Time::Milliseconds, ours).against("bare", with_a_call(x)))
        }),
        Entry::new("init/lazy_init/transformer4", move || {
            let x = tokens()?;
            let input = x.clone();
            let ours: Routine = Box::new(move || {
                let model = ToStateful::new(Transformer, key(0))?;
                black_box(lazy_init(&model, |model| model.call(&input))?);
                Ok(())
            });
            Ok(Row::new(Time::Milliseconds, ours).against("bare", with_a_call(x)))
        }),
        Entry::new("init/to_functional/transformer4", move || {
            let x = tokens()?;
            let input = x.clone();
            let wrapped = to_functional(StatefulTransformer::new);
            let ours: Routine = Box::new(move || {
                black_box(wrapped.init(key(0), &input)?);
                Ok(())
            });
            Ok(Row::new(Time::Milliseconds, ours).against("bare", with_a_call(x)))
        }),
        Entry::new("init/stateful/transformer4", || {
            let ours: Routine = Box::new(|| {
                black_box(StatefulTransformer::new(&Rngs::new(0))?);
                Ok(())
            });
            Ok(Row::new(Time::Milliseconds, ours).against("bare", || {
                black_box(bare_construction()?);
                Ok(())
            }))
        }),
    ]
}

#[derive(StatefulModule)]
struct StatefulTransformer {
    blocks: Vec<StatefulBlock>,
}

impl StatefulTransformer {
    fn new(rngs: &Rngs) -> Result<Self> {
        let blocks = (0..LAYERS).map(|_| StatefulBlock::new(rngs));
        Ok(Self { blocks: blocks.collect::<Result<_>>()? })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.blocks.iter().try_fold(x.clone(), |x, block| block.forward(&x))
    }
}

impl Module for StatefulTransformer {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        Ok(Self::forward(self, x)?)
    }
}
