//! burn's side of the training benchmarks: `burn-train NETWORK FILE`. What it does, and what the file holds, is said in
//! `benches/src/networks`.

mod networks;
mod weights;

use std::error::Error;
use std::hint::black_box;
use std::io::{BufRead, Write};
use std::time::Instant;

use burn::module::Module;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{Device, Int, Tensor};

use networks::{Cnn, Mlp, Transformer};
use weights::Weights;

const STEPS: usize = 20;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [network, file] = &arguments[..] else {
        return Err("usage: burn-train (mlp|cnn|transformer) FILE".into());
    };
    let device = Device::flex().autodiff();
    let bytes = std::fs::read(file)?;
    let weights = Weights::new(&bytes, &device)?;
    match network.as_str() {
        "mlp" => train(Mlp::new(&weights)?, &weights, Mlp::forward),
        "cnn" => train(Cnn::new(&weights)?, &weights, Cnn::forward),
        "transformer" => train(Transformer::new(&weights)?, &weights, Transformer::forward),
        other => Err(format!("there is no network {other:?}").into()),
    }
}

/// With the inputs as they are for the network: one rank less than in the file.
fn train<M: Module, const D: usize>(
    network: M,
    weights: &Weights,
    forward: impl Fn(&M, Tensor<D>) -> Tensor<2>,
) -> Result<(), Box<dyn Error>> {
    let inputs = weights.batches::<D>("inputs")?;
    let labels = weights.labels()?;
    let cross_entropy = CrossEntropyLossConfig::new().init(weights.device());
    let mut optimizer = AdamWConfig::new().with_epsilon(1e-8).with_weight_decay(1e-2).init();
    let mut network = Some(network);
    let mut steps = 0;
    let mut step = || -> Result<Tensor<1>, Box<dyn Error>> {
        let batch = steps % inputs.len();
        let model = network.take().ok_or("the network is gone")?;
        let labels: Tensor<1, Int> = labels[batch].clone();
        let loss = cross_entropy.forward(forward(&model, inputs[batch].clone()), labels);
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        network = Some(optimizer.step(1e-3, model, gradients));
        steps += 1;
        Ok(loss)
    };

    let mut output = std::io::stdout().lock();
    write!(output, "losses")?;
    for _ in 0..STEPS {
        write!(output, " {}", step()?.into_scalar::<f32>())?;
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
