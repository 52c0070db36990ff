//! One call of a linear layer, 1x32 to 64, beside the same arithmetic of bare candle on untracked tensors.

use std::hint::black_box;

use candle_bridge::functional::{Dense, FunctionalModule};
use candle_bridge::graph::Rngs;
use candle_bridge::random::key;
use candle_bridge::stateful::Linear;
use candle_bridge::wrappers::{ToStateful, to_functional};
use candle_core::{DType, Device, Tensor};

use crate::harness::{Entry, Outcome, Routine, Row, Time};

fn row(make: impl FnOnce(Tensor) -> candle_bridge::Result<Routine>) -> Outcome<Row> {
    let x = Tensor::ones((1, 32), DType::F32, &Device::Cpu)?;
    let kernel = Tensor::ones((32, 64), DType::F32, &Device::Cpu)?;
    let bias = Tensor::ones(64, DType::F32, &Device::Cpu)?;
    let ours = make(x.clone())?;
    Ok(Row::new(Time::Microseconds, ours).against("candle", move || {
        black_box(x.matmul(&kernel)?.broadcast_add(&bias)?);
        Ok(())
    }))
}

pub(crate) fn rows() -> Vec<Entry> {
    vec![
        Entry::new("call/linear", || {
            row(|x| {
                let linear = Linear::new(32, 64, &Rngs::new(0))?;
                Ok(Box::new(move || {
                    black_box(linear.forward(&x)?);
                    Ok(())
                }))
            })
        }),
        Entry::new("call/dense_apply", || {
            row(|x| {
                let dense = Dense::new(64);
                let variables = dense.init(key(0), &x)?;
                Ok(Box::new(move || {
                    black_box(dense.apply(&variables, &x)?);
                    Ok(())
                }))
            })
        }),
        Entry::new("call/to_stateful", || {
            row(|x| {
                let dense = ToStateful::new(Dense::new(64), &Rngs::new(0))?.lazy_init(&x)?;
                Ok(Box::new(move || {
                    black_box(dense.call(&x)?);
                    Ok(())
                }))
            })
        }),
        Entry::new("call/to_functional", || {
            row(|x| {
                let linear = to_functional(|rngs| Linear::new(32, 64, rngs));
                let variables = linear.init(key(0), &x)?;
                Ok(Box::new(move || {
                    black_box(linear.apply(&variables, &x)?);
                    Ok(())
                }))
            })
        }),
    ]
}
