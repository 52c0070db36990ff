//! Drawing 16 Mi numbers, unless the row says otherwise: beside candle's own generator, where it has one.

use std::hint::black_box;

use candle_bridge::random::{
    Categorical, Choice, Initializer, Key, Result, SamplingMode, bernoulli, bits, exponential, gumbel,
    gumbel_with, key, laplace, logistic, normal, permutation, rademacher, randint, shuffle, truncated_normal,
    uniform,
};
use candle_core::{DType, Device, Tensor};

use crate::harness::{Entry, Row, Time};

const COUNT: usize = 16 << 20;
const CPU: &Device = &Device::Cpu;

const POPULATION: usize = 1 << 16;

fn weights() -> Result<Tensor> {
    Ok(Tensor::ones(POPULATION, DType::F32, CPU)?)
}

/// Measures a sampler, with a new key for each call.
fn row(sample: fn(Key) -> Result<Tensor>) -> Row {
    let mut call = 0;
    let row = Row::new(Time::Milliseconds, move || {
        call += 1;
        black_box(sample(key(0).fold_in(call))?);
        Ok(())
    });
    row.per(1, "draw")
}

fn alone(name: &str, sample: fn(Key) -> Result<Tensor>) -> Entry {
    Entry::new(format!("random/{name}"), move || Ok(row(sample)))
}

fn beside_candle(
    name: &str,
    sample: fn(Key) -> Result<Tensor>,
    candle: fn() -> candle_core::Result<Tensor>,
) -> Entry {
    Entry::new(format!("random/{name}"), move || {
        Ok(row(sample).against("candle", move || {
            black_box(candle()?);
            Ok(())
        }))
    })
}

pub(crate) fn rows() -> Vec<Entry> {
    vec![
        beside_candle(
            "uniform",
            |key| uniform(key, COUNT, DType::F32, CPU),
            || Tensor::rand(0f32, 1., COUNT, CPU),
        ),
        beside_candle(
            "normal",
            |key| normal(key, COUNT, DType::F32, CPU),
            || Tensor::randn(0f32, 1., COUNT, CPU),
        ),
        alone("uniform_f64", |key| uniform(key, COUNT, DType::F64, CPU)),
        alone("uniform_f16", |key| uniform(key, COUNT, DType::F16, CPU)),
        alone("uniform_bf16", |key| uniform(key, COUNT, DType::BF16, CPU)),
        alone("normal_f64", |key| normal(key, COUNT, DType::F64, CPU)),
        alone("normal_bf16", |key| normal(key, COUNT, DType::BF16, CPU)),
        alone("bits_u8", |key| bits(key, COUNT, DType::U8, CPU)),
        alone("bits_u32", |key| bits(key, COUNT, DType::U32, CPU)),
        alone("truncated_normal", |key| truncated_normal(key, -2.0, 2.0, COUNT, DType::F32, CPU)),
        alone("bernoulli", |key| bernoulli(key, 0.9, COUNT, CPU)),
        alone("randint", |key| randint(key, COUNT, 0, 1000, DType::I32, CPU)),
        alone("permutation", |key| permutation(key, COUNT, CPU)),
        alone("choice", |key| Choice::new().indices(key, 1000, COUNT, CPU)),
        alone("choice_weighted", |key| {
            Choice::new().weights(&weights()?).indices(key, POPULATION, COUNT, CPU)
        }),
        alone("choice_weighted_without_replacement", |key| {
            Choice::new().weights(&weights()?).without_replacement().indices(key, POPULATION, 1 << 10, CPU)
        }),
        alone("shuffle", |key| shuffle(key, &Tensor::zeros((1 << 10, 1 << 10), DType::F32, CPU)?, 1)),
        alone("orthogonal_1024", |key| Initializer::orthogonal().init(key, (1024, 1024), DType::F32, CPU)),
        alone("gumbel", |key| gumbel(key, COUNT, DType::F32, CPU)),
        alone("gumbel_high", |key| gumbel_with(key, COUNT, SamplingMode::High, DType::F32, CPU)),
        alone("exponential", |key| exponential(key, COUNT, DType::F32, CPU)),
        alone("laplace", |key| laplace(key, COUNT, DType::F32, CPU)),
        alone("logistic", |key| logistic(key, COUNT, DType::F32, CPU)),
        alone("rademacher", |key| rademacher(key, COUNT, DType::F32, CPU)),
        alone("categorical", |key| {
            Categorical::new(&Tensor::zeros((1 << 9, 1 << 15), DType::F32, CPU)?).sample(key)
        }),
    ]
}
