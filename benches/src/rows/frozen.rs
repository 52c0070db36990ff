//! Training the last layer of the MLP alone, beside what that needs: a forward pass through the rest, and a step of the
//! layer on what comes out.

use std::hint::black_box;
use std::path::Path;

use candle_bridge::graph::value_and_grad;
use candle_bridge::ops::softmax_cross_entropy;
use candle_bridge::train::{AdamW, Optimizer};
use candle_bridge::vars::{Filter, Param};

use crate::harness::{Entry, Outcome, Row, Time};
use crate::networks::Mlp;
use crate::networks::data::{self, Loaded};
use crate::networks::program::{LEARNING_RATE, Training, WEIGHT_DECAY};

pub(crate) fn rows() -> Vec<Entry> {
    vec![Entry::new("ops/frozen_backbone", || {
        let file = data::file("mlp")?;
        let mut training = Training::<Mlp>::new(Loaded::new(&file)?, Filter::path_matches("layers.2.*"))?;
        let step = move || {
            black_box(training.step()?);
            Ok(())
        };
        Ok(Row::new(Time::Milliseconds, step).against("forward and head", forward_and_head(&file)?))
    })]
}

fn forward_and_head(file: &Path) -> Outcome<impl FnMut() -> Outcome + use<>> {
    let Loaded { network, inputs, labels } = Loaded::<Mlp>::new(file)?;
    let rule = AdamW::new(LEARNING_RATE).with_weight_decay(WEIGHT_DECAY);
    let mut optimizer = Optimizer::for_module(rule, &network.layers[2], Filter::of::<Param>())?;
    let mut steps = 0;
    Ok(move || {
        let batch = steps % inputs.len();
        let features = network.features(&inputs[batch])?;
        let head = &network.layers[2];
        let (_, gradients) = value_and_grad(head, Filter::of::<Param>(), |head| {
            Ok(softmax_cross_entropy(&head.forward(&features)?, &labels[batch])?)
        })?;
        optimizer.step(head, &gradients)?;
        steps += 1;
        Ok(())
    })
}
