//! candle-nn's side of the training benchmarks: `train-candle-nn NETWORK FILE`. What it does, and what the file holds, is
//! said in `benches/src/networks`.

mod networks;
mod weights;

use std::error::Error;
use std::hint::black_box;
use std::io::{BufRead, Write};
use std::time::Instant;

use candle_core::{Result, Tensor};
use candle_nn::{AdamW, Optimizer, ParamsAdamW, loss};

use networks::{Cnn, MiniLm, Mlp, Transformer};
use weights::Weights;

const STEPS: usize = 20;

pub fn run() -> std::result::Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [network, file] = &arguments[..] else {
        return Err("usage: train-candle-nn (mlp|cnn|transformer|minilm) FILE".into());
    };
    let mut weights = Weights::load(file, network != "minilm")?;
    let inputs = weights.batches("inputs")?;
    match network.as_str() {
        "mlp" => {
            let mlp = Mlp::new(&mut weights)?;
            train(weights, inputs, |x| mlp.forward(x))
        }
        "cnn" => {
            let cnn = Cnn::new(&mut weights)?;
            train(weights, inputs, |x| cnn.forward(x))
        }
        "transformer" => {
            let transformer = Transformer::new(&mut weights)?;
            train(weights, inputs, |x| transformer.forward(x))
        }
        "minilm" => {
            let minilm = MiniLm::new(&mut weights)?;
            let outputs = minilm.forward(&inputs[0])?;
            let numbers = [outputs.abs()?.mean(1)?.to_vec1::<f32>()?, outputs.max(1)?.to_vec1()?].concat();
            let mut passes = 0;
            serve(&numbers, || {
                passes += 1;
                minilm.forward(&inputs[passes % inputs.len()])
            })
        }
        other => Err(format!("there is no network {other:?}").into()),
    }
}

fn train(
    mut weights: Weights,
    inputs: Vec<Tensor>,
    forward: impl Fn(&Tensor) -> Result<Tensor>,
) -> std::result::Result<(), Box<dyn Error>> {
    let labels = weights.batches("labels")?;
    let settings = ParamsAdamW { lr: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 1e-2 };
    let mut optimizer = AdamW::new(weights.vars, settings)?;
    let mut steps = 0;
    let mut step = || {
        let batch = steps % inputs.len();
        let loss = loss::cross_entropy(&forward(&inputs[batch])?, &labels[batch])?;
        optimizer.backward_step(&loss)?;
        steps += 1;
        Ok(loss)
    };
    let losses = (0..STEPS).map(|_| step()?.to_scalar()).collect::<Result<Vec<f32>>>()?;
    serve(&losses, step)
}

fn serve(
    losses: &[f32],
    mut step: impl FnMut() -> Result<Tensor>,
) -> std::result::Result<(), Box<dyn Error>> {
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
