//! What each program does, ours and those of `benches/peers`: `PROGRAM NETWORK FILE`.
//!
//! It takes 20 steps, or one forward pass of `minilm`, and prints `losses` and the losses of all steps, or sixteen numbers
//! of the outputs. Then, for each line with a number of steps that it reads, it takes so many and prints the seconds
//! for each. A step is forward, mean cross entropy, backward, and AdamW with the settings below.

use std::hint::black_box;
use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;

use candle_bridge::graph::value_and_grad;
use candle_bridge::ops::softmax_cross_entropy;
use candle_bridge::train::{AdamW, Optimizer};
use candle_bridge::vars::{Filter, Param};
use candle_core::Tensor;

use super::data::Loaded;
use super::{Cnn, MiniLm, Mlp, Network, Transformer};
use crate::harness::Outcome;

/// The argument with which this program is the one described above.
pub(crate) const COMMAND: &str = "train-network";

const STEPS: usize = 20;

/// Epsilon is 1e-8, the betas 0.9 and 0.999.
pub(crate) const LEARNING_RATE: f64 = 1e-3;
pub(crate) const WEIGHT_DECAY: f64 = 1e-2;

/// Runs the program.
pub(crate) fn run(network: &str, file: &Path) -> Outcome {
    match network {
        "mlp" => train::<Mlp>(file),
        "cnn" => train::<Cnn>(file),
        "transformer" => train::<Transformer>(file),
        "minilm" => forward(file),
        _ => Err(format!("there is no network {network:?}").into()),
    }
}

/// One step of training after the other.
pub(crate) struct Training<N> {
    loaded: Loaded<N>,
    optimizer: Optimizer<AdamW>,
    filter: Filter,
    steps: usize,
}

impl<N: Network> Training<N> {
    /// Of the variables that a filter matches.
    pub(crate) fn new(loaded: Loaded<N>, filter: Filter) -> Outcome<Self> {
        let rule = AdamW::new(LEARNING_RATE).with_weight_decay(WEIGHT_DECAY);
        let optimizer = Optimizer::for_module(rule, &loaded.network, filter.clone())?;
        Ok(Self { loaded, optimizer, filter, steps: 0 })
    }

    /// The loss before the step.
    pub(crate) fn step(&mut self) -> Outcome<Tensor> {
        let Loaded { network, inputs, labels } = &self.loaded;
        let batch = self.steps % inputs.len();
        let (inputs, labels) = (&inputs[batch], &labels[batch]);
        let (loss, gradients) = value_and_grad(network, self.filter.clone(), |network| {
            Ok(softmax_cross_entropy(&network.forward(inputs)?, labels)?)
        })?;
        self.optimizer.step(network, &gradients)?;
        self.steps += 1;
        Ok(loss)
    }
}

fn train<N: Network>(file: &Path) -> Outcome {
    let mut training = Training::<N>::new(Loaded::new(file)?, Filter::of::<Param>())?;
    let losses: Vec<f32> = (0..STEPS).map(|_| Ok(training.step()?.to_scalar()?)).collect::<Outcome<_>>()?;
    serve(&losses, || training.step())
}

fn forward(file: &Path) -> Outcome {
    let Loaded { network, inputs, .. } = Loaded::<MiniLm>::new(file)?;
    let outputs = network.forward(&inputs[0])?;
    let (sizes, largest) = (outputs.abs()?.mean(1)?, outputs.max(1)?);
    let mut passes = 0;
    serve(&[sizes.to_vec1::<f32>()?, largest.to_vec1()?].concat(), || {
        passes += 1;
        Ok(network.forward(&inputs[passes % inputs.len()])?)
    })
}

fn serve(losses: &[f32], mut step: impl FnMut() -> Outcome<Tensor>) -> Outcome {
    let mut output = std::io::stdout().lock();
    write!(output, "losses")?;
    for loss in losses {
        write!(output, " {loss}")?;
    }
    writeln!(output)?;
    output.flush()?;
    for line in std::io::stdin().lock().lines() {
        let steps: u32 = line?.trim().parse()?;
        let started = Instant::now();
        for _ in 0..steps {
            black_box(step()?);
        }
        writeln!(output, "{}", started.elapsed().as_secs_f64() / f64::from(steps))?;
        output.flush()?;
    }
    Ok(())
}
