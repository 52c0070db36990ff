//! Operators beside candle-nn's, in one process, so with the same pool and the same matrix products. The backward pass is
//! that of a kept graph.

use std::hint::black_box;

use candle_bridge::ops;
use candle_bridge::random::{key, normal};
use candle_core::{D, DType, Device, Tensor, Var};
use candle_nn::{Embedding, Linear, Module, loss, ops as nn};

use crate::harness::{Entry, Outcome, Row, Time};

type Result<T> = candle_bridge::Result<T>;

/// As the hidden layer of a small transformer.
const HIDDEN: &[usize] = &[8, 64, 1536];

/// As its attention.
const SCORES: &[usize] = &[8, 12, 64, 64];

/// Inputs, kernel and bias of its widening layer.
const LINEAR: &[&[usize]] = &[&[8, 64, 384], &[384, 1536], &[1536]];

fn their_linear(x: &[Tensor]) -> candle_core::Result<Tensor> {
    // In the layout that candle-nn keeps; a view.
    Linear::new(x[1].t()?, Some(x[2].clone())).forward(&x[0])
}

fn random(number: u32, shape: &[usize]) -> Outcome<Tensor> {
    Ok(normal(key(number.into()), shape, DType::F32, &Device::Cpu)?)
}

fn variable(number: u32, shape: &[usize]) -> Outcome<Tensor> {
    Ok(Var::from_tensor(&random(number, shape)?)?.as_tensor().clone())
}

type Theirs = fn(&[Tensor]) -> candle_core::Result<Tensor>;

/// Ours and candle-nn's, as functions of the same tensors.
#[derive(Clone, Copy)]
struct Operator {
    name: &'static str,
    shapes: &'static [&'static [usize]],
    ours: fn(&[Tensor]) -> Result<Tensor>,
    theirs: Theirs,
    /// What candle-nn has beside it: faster, and without a gradient.
    fast: Option<Theirs>,
}

impl Operator {
    fn inputs(self, make: fn(u32, &[usize]) -> Outcome<Tensor>) -> Outcome<Vec<Tensor>> {
        self.shapes.iter().zip(0..).map(|(shape, number)| make(number, shape)).collect()
    }

    fn forward(self) -> Entry {
        Entry::new(format!("ops/{}/forward/candle-nn", self.name), move || {
            let inputs = self.inputs(random)?;
            let (others, theirs) = (inputs.clone(), self.fast.unwrap_or(self.theirs));
            let ours = move || {
                black_box((self.ours)(&inputs)?);
                Ok(())
            };
            Ok(Row::new(Time::Microseconds, ours).against("candle-nn", move || {
                black_box(theirs(&others)?);
                Ok(())
            }))
        })
    }

    fn backward(self) -> Entry {
        Entry::new(format!("ops/{}/backward/candle-nn", self.name), move || {
            let inputs = self.inputs(variable)?;
            let (ours, theirs) = ((self.ours)(&inputs)?, (self.theirs)(&inputs)?);
            let ours = move || {
                black_box(ours.backward()?);
                Ok(())
            };
            Ok(Row::new(Time::Microseconds, ours).against("candle-nn", move || {
                black_box(theirs.backward()?);
                Ok(())
            }))
        })
    }
}

pub(crate) fn rows() -> Vec<Entry> {
    operators().into_iter().flat_map(|operator| [operator.forward(), operator.backward()]).collect()
}

fn operators() -> Vec<Operator> {
    let operator = |name, shapes, ours, theirs: Theirs| Operator { name, shapes, ours, theirs, fast: None };
    vec![
        operator("linear", LINEAR, |x| Ok(ops::linear(&x[0], &x[1], Some(&x[2]))?), their_linear),
        operator(
            "linear_relu",
            LINEAR,
            |x| Ok(ops::linear_with_activation(&x[0], &x[1], Some(&x[2]), ops::Activation::Relu)?),
            |x| their_linear(x)?.relu(),
        ),
        operator("relu", &[HIDDEN], |x| Ok(ops::relu(&x[0])?), |x| x[0].relu()),
        operator("gelu", &[HIDDEN], |x| Ok(ops::gelu(&x[0])?), |x| x[0].gelu()),
        operator("gelu_exact", &[HIDDEN], |x| Ok(ops::gelu_exact(&x[0])?), |x| x[0].gelu_erf()),
        operator("silu", &[HIDDEN], |x| Ok(ops::silu(&x[0])?), |x| nn::silu(&x[0])),
        operator("sigmoid", &[HIDDEN], |x| Ok(ops::sigmoid(&x[0])?), |x| nn::sigmoid(&x[0])),
        // candle-nn has none.
        operator("softplus", &[HIDDEN], |x| Ok(ops::softplus(&x[0])?), |x| ops::composition::softplus(&x[0])),
        operator("tanh", &[HIDDEN], |x| Ok(ops::tanh(&x[0])?), |x| x[0].tanh()),
        Operator {
            fast: Some(|x| nn::softmax_last_dim(&x[0])),
            ..operator("softmax", &[SCORES], |x| Ok(ops::softmax(&x[0])?), |x| nn::softmax(&x[0], D::Minus1))
        },
        operator(
            "log_softmax",
            &[SCORES],
            |x| Ok(ops::log_softmax(&x[0])?),
            |x| nn::log_softmax(&x[0], D::Minus1),
        ),
        operator(
            "cross_entropy",
            &[&[1024, 1024]],
            |x| Ok(ops::softmax_cross_entropy(&x[0], &labels()?)?),
            |x| loss::cross_entropy(&x[0], &labels()?),
        ),
        Operator {
            fast: Some(|x| nn::layer_norm(&x[0], &x[1], &x[2], 1e-5)),
            ..operator(
                "layer_norm",
                &[&[8, 128, 256], &[256], &[256]],
                |x| Ok(ops::layer_norm(&x[0], Some(&x[1]), Some(&x[2]), 1e-5)?),
                |x| nn::layer_norm_slow(&x[0], &x[1], &x[2], 1e-5),
            )
        },
        Operator {
            fast: Some(|x| nn::rms_norm(&x[0], &x[1], 1e-5)),
            ..operator(
                "rms_norm",
                &[&[8, 128, 256], &[256]],
                |x| Ok(ops::rms_norm(&x[0], Some(&x[1]), 1e-5)?),
                |x| nn::rms_norm_slow(&x[0], &x[1], 1e-5),
            )
        },
        operator(
            "embedding",
            &[&[30522, 384]],
            |x| Ok(ops::embedding(&x[0], &words()?)?),
            |x| Embedding::new(x[0].clone(), 384).forward(&words()?),
        ),
        operator(
            "mse",
            &[HIDDEN, HIDDEN],
            |x| Ok(ops::mean_squared_error(&x[0], &x[1])?),
            |x| loss::mse(&x[0], &x[1]),
        ),
        operator(
            "binary_cross_entropy",
            &[HIDDEN, HIDDEN],
            |x| Ok(ops::binary_cross_entropy_with_logits(&x[0], &x[1])?),
            |x| loss::binary_cross_entropy_with_logit(&x[0], &x[1]),
        ),
        operator("elu", &[HIDDEN], |x| Ok(ops::elu(&x[0], 1.0)?), |x| x[0].elu(1.0)),
        operator(
            "leaky_relu",
            &[HIDDEN],
            |x| Ok(ops::leaky_relu(&x[0], 0.01)?),
            |x| nn::leaky_relu(&x[0], 0.01),
        ),
        operator("abs", &[HIDDEN], |x| Ok(ops::abs(&x[0])?), |x| x[0].abs()),
        operator(
            "dropout",
            &[HIDDEN],
            |x| Ok(ops::dropout_with_key(&x[0], 0.1, key(0), &[])?),
            |x| nn::dropout(&x[0], 0.1),
        ),
    ]
}

/// Of 1024 examples and classes. Made in each call, which is nothing beside the rest.
fn labels() -> candle_core::Result<Tensor> {
    Tensor::arange(0u32, 1024, &Device::Cpu)
}

/// 512 of them, each once.
fn words() -> candle_core::Result<Tensor> {
    Tensor::arange_step(0u32, 512 * 59, 59, &Device::Cpu)
}
