//! One step of AdamW over the parameters of a transformer.

use std::hint::black_box;
use std::thread;

use candle_bridge::graph::{Rngs, variables};
use candle_bridge::train::{AdamW, Optimizer};
use candle_bridge::vars::{Filter, Param, State};
use candle_core::{DType, Device, Tensor, Var};
use candle_nn::{Optimizer as _, ParamsAdamW};

use crate::harness::{Entry, Outcome, Row, Time};
use crate::networks::data::parameters;
use crate::networks::program::{LEARNING_RATE, WEIGHT_DECAY};
use crate::networks::{Network, Transformer};

pub(crate) fn rows() -> Vec<Entry> {
    vec![
        Entry::new("optimizer/adamw/candle-nn", || Ok(ours()?.against("candle-nn", candle_nn()?))),
        Entry::new("optimizer/adamw/stream", || Ok(ours()?.against("28 bytes a parameter", stream()?))),
    ]
}

fn ours() -> Outcome<Row> {
    let network = Transformer::new(&Rngs::new(0))?;
    let rule = AdamW::new(LEARNING_RATE).with_weight_decay(WEIGHT_DECAY);
    let mut optimizer = Optimizer::for_module(rule, &network, Filter::of::<Param>())?;
    let mut gradients = State::default();
    for (path, variable) in variables(&network)? {
        let leaf = variable.leaf()?;
        gradients.insert(&path, leaf.with_value(gradient(leaf.tensor()?)?))?;
    }
    Ok(Row::new(Time::Milliseconds, move || Ok(optimizer.step(&network, &gradients)?)))
}

fn gradient(like: &Tensor) -> Outcome<Tensor> {
    Ok(Tensor::full(1e-3f32, like.shape(), &Device::Cpu)?.contiguous()?)
}

fn candle_nn() -> Outcome<impl FnMut() -> Outcome> {
    let mut vars = Vec::new();
    let mut loss = Tensor::zeros((), DType::F32, &Device::Cpu)?;
    for (_, variable) in variables(&Transformer::new(&Rngs::new(0))?)? {
        let var = Var::from_tensor(&variable.value()?)?;
        loss = (loss + (var.as_tensor() * gradient(&var)?)?.sum_all()?)?;
        vars.push(var);
    }
    let gradients = loss.backward()?;
    let settings = ParamsAdamW { lr: LEARNING_RATE, weight_decay: WEIGHT_DECAY, ..Default::default() };
    let mut optimizer = candle_nn::AdamW::new(vars, settings)?;
    Ok(move || Ok(optimizer.step(&gradients)?))
}

/// What no AdamW can do without: parameters and moments read and written, gradients read, by two threads.
fn stream() -> Outcome<impl FnMut() -> Outcome> {
    let count = parameters(&Transformer::new(&Rngs::new(0))?)?;
    let mut arrays = [(); 3].map(|()| vec![0f32; count]);
    let gradients = vec![1e-3f32; count];
    let pass = |arrays: [&mut [f32]; 3], gradients: &[f32]| {
        let [parameters, means, squares] = arrays;
        for (((parameter, mean), square), gradient) in
            parameters.iter_mut().zip(means).zip(squares).zip(gradients)
        {
            *mean = *mean * 0.9 + gradient;
            *square = *square * 0.999 + gradient * gradient;
            *parameter = *parameter * 0.999 - *mean * *square;
        }
    };
    Ok(move || {
        let half = count / 2;
        let [parameters, means, squares] = &mut arrays;
        let (parameters, means, squares) =
            (parameters.split_at_mut(half), means.split_at_mut(half), squares.split_at_mut(half));
        let (first, second) = gradients.split_at(half);
        thread::scope(|scope| {
            scope.spawn(move || pass([parameters.0, means.0, squares.0], first));
            pass([parameters.1, means.1, squares.1], second);
        });
        black_box(&arrays);
        Ok(())
    })
}
