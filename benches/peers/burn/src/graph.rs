//! What burn takes for the operations of the graph benchmarks: `burn-graph OPERATION MODEL`.
//!
//! Prints `leaves N`. Then, for each line with a number of seconds that it reads, repeats the operation for about that
//! long and prints the seconds for each leaf.

use std::error::Error;
use std::hint::black_box;
use std::io::{BufRead, Write};
use std::time::{Duration, Instant};

use burn::module::{Module, ModuleVisitor, Param};
use burn::nn::{Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

const SIZE: usize = 8;

#[derive(Module, Debug)]
struct Mlp {
    input: Linear,
    hidden: Vec<Linear>,
    output: Linear,
}

#[derive(Module, Debug)]
struct List {
    layers: Vec<Linear>,
}

#[derive(Module, Debug)]
struct Attention {
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
}

#[derive(Module, Debug)]
struct Block {
    attention: Attention,
    attention_norm: LayerNorm,
    up: Linear,
    down: Linear,
    mlp_norm: LayerNorm,
}

#[derive(Module, Debug)]
struct Transformer {
    embedding: Embedding,
    blocks: Vec<Block>,
    norm: LayerNorm,
    head: Linear,
}

fn linear(device: &Device) -> Linear {
    LinearConfig::new(SIZE, SIZE).init(device)
}

fn linears(count: usize, device: &Device) -> Vec<Linear> {
    (0..count).map(|_| linear(device)).collect()
}

fn norm(device: &Device) -> LayerNorm {
    LayerNormConfig::new(SIZE).init(device)
}

fn block(device: &Device) -> Block {
    let attention = Attention {
        query: linear(device),
        key: linear(device),
        value: linear(device),
        out: linear(device),
    };
    Block {
        attention,
        attention_norm: norm(device),
        up: linear(device),
        down: linear(device),
        mlp_norm: norm(device),
    }
}

/// Counts parameters, and makes those that are lazy.
#[derive(Default)]
struct Count(usize);

impl ModuleVisitor for Count {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        black_box(param.val());
        self.0 += 1;
    }
}

#[derive(Default)]
struct Nothing(usize);

impl ModuleVisitor for Nothing {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        black_box(param);
        self.0 += 1;
    }
}

fn serve<M: Module>(operation: &str, model: M) -> Result<(), Box<dyn Error>> {
    let mut count = Count::default();
    model.visit(&mut count);
    let once = || match operation {
        "clone" => drop(black_box(model.clone())),
        "visit" => {
            let mut visitor = Nothing::default();
            model.visit(&mut visitor);
            black_box(visitor.0);
        }
        "into_record" => drop(black_box(model.clone().into_record())),
        _ => drop(black_box(model.clone().load_record(model.clone().into_record()))),
    };
    println!("leaves {}", count.0);
    for line in std::io::stdin().lock().lines() {
        let round = Duration::from_secs_f64(line?.trim().parse()?);
        let started = Instant::now();
        let mut calls = 0u32;
        while calls == 0 || started.elapsed() < round {
            for _ in 0..10 {
                once();
            }
            calls += 10;
        }
        println!("{}", started.elapsed().as_secs_f64() / f64::from(calls) / count.0 as f64);
        std::io::stdout().flush()?;
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [operation, model] = &arguments[..] else {
        return Err("usage: burn-graph (clone|visit|into_record|load_record) MODEL".into());
    };
    let device = Device::default();
    match model.as_str() {
        "mlp100" => {
            let hidden = linears(98, &device);
            serve(operation, Mlp { input: linear(&device), hidden, output: linear(&device) })
        }
        "list1000" => serve(operation, List { layers: linears(1000, &device) }),
        "transformer12" => {
            let blocks = (0..12).map(|_| block(&device)).collect();
            let embedding = EmbeddingConfig::new(SIZE, SIZE).init(&device);
            serve(operation, Transformer { embedding, blocks, norm: norm(&device), head: linear(&device) })
        }
        other => Err(format!("no model {other}").into()),
    }
}
