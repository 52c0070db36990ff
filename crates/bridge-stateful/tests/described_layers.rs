//! Layers that are described, not made.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails panics")]

use bridge_graph::{
    Rngs, StatefulModule, describe, eval, graphdef, is_described, materialize, split, state, tabulate,
    tabulate_structure, update,
};
use bridge_ops::stand_in;
use bridge_random::Initializer;
use bridge_stateful::{
    Activation, BatchNorm, BatchNormConfig, Dropout, DropoutConfig, Layer, Linear, LinearConfig, Sequential,
};
use bridge_vars::{Result, with_partitioning};
use candle_core::{DType, Device, Tensor};

fn counts(rngs: &Rngs) -> Vec<u32> {
    rngs.iter().map(|(_, stream)| stream.count().count().unwrap()).collect()
}

fn ones(shape: &[usize]) -> Tensor {
    Tensor::ones(shape, DType::F32, &Device::Cpu).unwrap()
}

/// Described and made is constructed, to the bit, with as much drawn, in every dtype.
#[track_caller]
fn check<M: bridge_graph::Field>(construct: impl Fn(&Rngs) -> Result<M>) {
    for dtype in [DType::F32, DType::BF16, DType::F16, DType::F64] {
        let rngs = || Rngs::new(0).with_stream("params", 1).with_stream("dropout", 2).with_dtype(dtype);
        let (given, other) = (rngs(), rngs());
        let (described, eager) = (describe(&given, &construct).unwrap(), construct(&other).unwrap());
        assert_eq!(counts(&given), counts(&other));
        assert_eq!(graphdef(&described).unwrap(), graphdef(&eager).unwrap());
        assert_eq!(
            tabulate_structure(&described).unwrap().to_json().unwrap(),
            tabulate_structure(&eager).unwrap().to_json().unwrap()
        );
        materialize(&described).unwrap();
        assert!(state(&described).unwrap().identical(&state(&eager).unwrap()).unwrap());
    }
}

#[test]
fn every_layer_is_made_as_it_would_have_been() {
    check(|rngs| Linear::new(3, 4, rngs));
    check(|rngs| BatchNorm::new(3, rngs));
    check(|rngs| Dropout::new(0.5, rngs));
    check(|rngs| {
        let config = DropoutConfig { broadcast_dims: vec![0], rng_collection: "params".into() };
        Ok((Dropout::with_config(0.1, &config, rngs)?, Linear::new(2, 2, rngs)?))
    });
}

#[test]
fn as_configured() {
    let normal = || with_partitioning(Initializer::normal(0.5), ["model"]);
    for used in [false, true] {
        check(|rngs| {
            let config = LinearConfig {
                activation: None,
                use_bias: used,
                kernel_init: with_partitioning(Initializer::he_normal(), ["", "model"]),
                bias_init: normal(),
            };
            Linear::with_config(4, 3, &config, rngs)
        });
        for scaled in [false, true] {
            check(|rngs| {
                let config = BatchNormConfig {
                    use_bias: used,
                    use_scale: scaled,
                    bias_init: normal(),
                    scale_init: Initializer::uniform(1.).into(),
                    ..BatchNormConfig::default()
                };
                Ok((BatchNorm::with_config(5, &config, rngs)?, Linear::new(1, 2, rngs)?))
            });
        }
    }
}

#[test]
fn of_layers_one_after_the_other() {
    check(|rngs| Ok(Sequential::new((Linear::new(3, 8, rngs)?, Activation::Relu, Linear::new(8, 2, rngs)?))));
    check(|rngs| {
        let layers = Sequential::dynamic().with(Linear::new(3, 8, rngs)?).with(BatchNorm::new(8, rngs)?);
        Ok(layers.with(Dropout::new(0.5, rngs)?).with(Activation::Gelu))
    });
}

#[derive(StatefulModule)]
struct Huge {
    dropout: Dropout,
    layers: Vec<Box<dyn Layer>>,
    norm: BatchNorm,
}

const SIZE: usize = 1 << 20;

fn huge(rngs: &Rngs) -> Result<Huge> {
    Ok(Huge {
        dropout: Dropout::new(0.5, rngs)?,
        layers: vec![Box::new(Linear::new(SIZE, SIZE, rngs)?), Box::new(Linear::new(SIZE, 2, rngs)?)],
        norm: BatchNorm::new(SIZE, rngs)?,
    })
}

#[test]
fn layers_larger_than_any_memory_have_a_table() {
    let model = describe(&Rngs::new(0), huge).unwrap();
    let (description, before) = split(&model).unwrap();
    for evaluating in [false, true] {
        if evaluating {
            eval(&model).unwrap();
        }
        let x = stand_in((4, SIZE), DType::F32, &Device::Cpu).unwrap();
        let summary = tabulate(&model, |model| {
            let x = model.norm.forward(&x)?;
            let x = model.dropout.forward(&x)?;
            Ok(model.layers.iter().try_fold(x, |x, layer| layer.forward(&x))?)
        })
        .unwrap();
        let outputs: Vec<_> = summary
            .rows()
            .iter()
            .map(|row| (row.path.to_string(), row.outputs.clone().unwrap_or_default()))
            .collect();
        let full = || "f32[4, 1048576]".to_owned();
        let expected = [
            ("".to_owned(), String::new()),
            ("dropout".into(), full()),
            ("layers.0".into(), full()),
            ("layers.1".into(), "f32[4, 2]".into()),
            ("norm".into(), full()),
        ];
        assert_eq!(outputs, expected);
        assert_eq!(summary.totals()["params"].elements, (SIZE * SIZE + SIZE) + (2 * SIZE + 2) + 2 * SIZE);
        assert_eq!(summary.totals()["batch_stats"].elements, 2 * SIZE);
    }
    bridge_graph::train(&model).unwrap();
    assert_eq!(graphdef(&model).unwrap(), description);
    assert!(is_described(&model).unwrap() && state(&model).unwrap().identical(&before).unwrap());
}

#[test]
fn a_described_layer_says_what_to_do_when_it_is_called() {
    let linear = describe(&Rngs::new(0), |rngs| Linear::new(2, 3, rngs)).unwrap();
    assert_eq!(linear.kernel.leaf().unwrap().value.tensor_form().unwrap().to_string(), "f32[2, 3]");
    let text = "expected a tensor, found a tensor that was described and is not made yet: `materialize` it, \
                or load its value";
    assert_eq!(linear.forward(&ones(&[1, 2])).unwrap_err().to_string(), text);
    let norm = describe(&Rngs::new(0), |rngs| BatchNorm::new(2, rngs)).unwrap();
    assert_eq!(norm.forward(&ones(&[1, 2])).unwrap_err().to_string(), text);
    // What has no values needs none.
    let dropout = describe(&Rngs::new(0), |rngs| Dropout::new(0.5, rngs)).unwrap();
    assert!(!is_described(&dropout).unwrap() && dropout.forward(&ones(&[1, 2])).is_ok());
}

#[test]
fn a_described_layer_computes_with_the_values_of_another() {
    let eager = Linear::new(2, 3, &Rngs::new(7)).unwrap();
    let described = describe(&Rngs::new(0), |rngs| Linear::new(2, 3, rngs)).unwrap();
    update(&described, &state(&eager).unwrap()).unwrap();
    let y = |linear: &Linear| linear.forward(&ones(&[1, 2])).unwrap().to_vec2::<f32>().unwrap();
    assert_eq!(y(&described), y(&eager));
}

#[derive(StatefulModule)]
struct Block {
    bn: BatchNorm,
    dropout: Dropout,
    linear: Linear,
}

#[derive(StatefulModule)]
struct Blocks {
    block1: Block,
    block2: Block,
}

fn blocks(rngs: &Rngs) -> Result<Blocks> {
    let block = |inputs, outputs| -> Result<Block> {
        Ok(Block {
            linear: Linear::new(inputs, outputs, rngs)?,
            bn: BatchNorm::new(outputs, rngs)?,
            dropout: Dropout::new(0.2, rngs)?,
        })
    };
    Ok(Blocks { block1: block(32, 128)?, block2: block(128, 10)? })
}

fn forward(model: &Blocks) -> Result<Tensor> {
    [&model.block1, &model.block2].into_iter().try_fold(ones(&[1, 32]), |x, block| {
        Ok(block.dropout.forward(&block.bn.forward(&block.linear.forward(&x)?)?)?.relu()?)
    })
}

/// The model is the one of Flax's test of its table.
#[test]
fn a_table_counts_as_flax_does() {
    let model = blocks(&Rngs::new(0)).unwrap();
    let (description, before) = split(&model).unwrap();
    let summary = tabulate(&model, forward).unwrap();
    let paths: Vec<_> = summary.rows().iter().map(|row| row.path.to_string()).collect();
    let expected = [
        "",
        "block1",
        "block1.bn",
        "block1.dropout",
        "block1.linear",
        "block2",
        "block2.bn",
        "block2.dropout",
        "block2.linear",
    ];
    assert_eq!(paths, expected);
    let counts = |collection: &str| summary.totals()[collection].to_string();
    assert_eq!((counts("batch_stats"), counts("params")), ("276 (1.1 kB)".into(), "5,790 (23.2 kB)".into()));
    assert_eq!(summary.total().elements, 6_066);
    assert_eq!(summary.row("block2.linear").unwrap().counts["params"].elements, 1_290);
    assert_eq!(summary.depth(1).row("block2").unwrap().counts["params"].elements, 1_310);
    // Neither statistics nor streams were touched.
    assert_eq!(graphdef(&model).unwrap(), description);
    assert!(state(&model).unwrap().identical(&before).unwrap());
}
