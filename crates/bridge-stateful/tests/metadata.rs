//! What layers' variables say about their values: from the configuration, through all that is done to them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails panics")]

use std::sync::atomic::{AtomicUsize, Ordering};

use bridge_graph::{
    Mode, Rngs, StatefulModule, clone, describe, eval, materialize, merge, set_metadata, split, state,
    update, value_and_grad, view,
};
use bridge_random::Initializer;
use bridge_stateful::{BatchNorm, BatchNormConfig, Linear, LinearConfig};
use bridge_vars::{
    BatchStat, Filter, Hooks, Metadata, Param, Result, State, with_logical_partitioning, with_metadata,
    with_partitioning,
};
use candle_core::{DType, Device, Tensor};

#[derive(StatefulModule)]
struct Model {
    linear: Linear,
    norm: BatchNorm,
}

fn construct(rngs: &Rngs) -> Result<Model> {
    let linear = LinearConfig {
        kernel_init: with_partitioning(Initializer::lecun_normal(), ["in", "out"]),
        bias_init: with_metadata(Initializer::Zeros, Metadata::default().with("frozen", true)),
        ..LinearConfig::default()
    };
    let rules = [("features", "model")];
    let norm = BatchNormConfig {
        scale_init: with_logical_partitioning(Initializer::Ones, ["features"], rules),
        ..BatchNormConfig::default()
    };
    Ok(Model {
        linear: Linear::with_config(2, 3, &linear, rngs)?,
        norm: BatchNorm::with_config(3, &norm, rngs)?,
    })
}

/// What is said about each value.
fn said(state: &State) -> Vec<String> {
    let specs = state.partition_specs().unwrap();
    let each = |(path, leaf): (bridge_vars::Path, &bridge_vars::Leaf)| {
        format!("{path}: {} {:?}", specs.get(&path).unwrap(), leaf.metadata.get("frozen"))
    };
    state.iter().map(each).collect()
}

const SAID: [&str; 6] = [
    "linear.bias: P() Some(Bool(true))",
    "linear.kernel: P(in, out) None",
    "norm.bias: P() None",
    "norm.mean: P() None",
    "norm.scale: P(model) None",
    "norm.var: P() None",
];

/// In a model that is constructed, and in one that is described.
#[track_caller]
fn check(with: impl Fn(&Model) -> State) {
    assert_eq!(said(&with(&construct(&Rngs::new(0)).unwrap())), SAID);
    assert_eq!(said(&with(&describe(&Rngs::new(0), construct).unwrap())), SAID);
}

#[test]
fn comes_from_the_configuration() {
    check(|model| state(model).unwrap());
}

#[test]
fn stays_when_the_values_are_made() {
    check(|model| {
        materialize(model).unwrap();
        state(model).unwrap()
    });
}

#[test]
fn stays_through_split_merge_clone_and_view() {
    check(|model| {
        let (graphdef, taken) = split(model).unwrap();
        state(&merge(&graphdef, &taken).unwrap()).unwrap()
    });
    check(|model| state(&clone(model).unwrap()).unwrap());
    check(|model| state(&view(model, Mode::Eval).unwrap()).unwrap());
    check(|model| state(model).unwrap().materialize().unwrap());
}

#[test]
fn stays_where_values_are_set_and_trained() {
    let model = construct(&Rngs::new(0)).unwrap();
    let x = Tensor::new(&[[1f32, 2.], [3., -1.]], &Device::Cpu).unwrap();
    let loss = |model: &Model| Ok(model.norm.forward(&model.linear.forward(&x)?)?.sqr()?.sum_all()?);
    let (_, gradients) = value_and_grad(&model, Filter::of::<Param>(), loss).unwrap();
    // A gradient says about its axes what its parameter says.
    assert_eq!(gradients.get("linear.kernel").unwrap().partition_spec().unwrap().to_string(), "P(in, out)");
    let stepped = gradients
        .zip(&state(&model).unwrap().filter(Filter::of::<Param>()), |_, gradient, leaf| {
            Ok(leaf.with_value((leaf.tensor()? - gradient.tensor()?)?))
        });
    update(&model, &stepped.unwrap()).unwrap();
    eval(&model).unwrap();
    assert_eq!(said(&state(&model).unwrap()), SAID);
}

#[test]
fn is_part_of_the_description() {
    let plain = Linear::new(2, 3, &Rngs::new(0)).unwrap();
    let said = construct(&Rngs::new(0)).unwrap().linear;
    assert_ne!(bridge_graph::graphdef(&plain).unwrap(), bridge_graph::graphdef(&said).unwrap());
    // The values are those that the initializer makes alone.
    let kernel = |linear: &Linear| linear.kernel.value().unwrap().to_vec2::<f32>().unwrap();
    assert_eq!(kernel(&plain), kernel(&said));
}

#[test]
fn is_changed_where_a_filter_matches() {
    let model = construct(&Rngs::new(0)).unwrap();
    set_metadata(&model, Filter::of::<BatchStat>(), |path, metadata| {
        metadata.set("frozen", path.to_string());
    })
    .unwrap();
    let changed = said(&state(&model).unwrap());
    assert_eq!(changed[3], "norm.mean: P() Some(String(\"norm.mean\"))");
    assert_eq!(changed[5], "norm.var: P() Some(String(\"norm.var\"))");
    assert_eq!([&changed[..3], &changed[4..5]], [&SAID[..3], &SAID[4..5]]);
}

#[test]
fn hooks_of_an_initializer_run_where_the_value_is_read_and_once_where_it_is_made() {
    static MADE: AtomicUsize = AtomicUsize::new(0);
    let hooks = Hooks::new("metadata.hooks")
        .on_create(|_, value| {
            MADE.fetch_add(1, Ordering::SeqCst);
            Ok((value.tensor()? + 1.)?.into())
        })
        .on_get(|_, value| Ok((value.tensor()? * 10.)?.into()));
    let config = LinearConfig {
        kernel_init: with_metadata(Initializer::Ones, Metadata::default().with_hooks(hooks)),
        ..LinearConfig::default()
    };
    let linear = Linear::with_config(1, 1, &config, &Rngs::new(0)).unwrap();
    let one = Tensor::ones((1, 1), DType::F32, &Device::Cpu).unwrap();
    let y = |linear: &Linear| linear.forward(&one).unwrap().to_vec2::<f32>().unwrap();
    assert_eq!(y(&linear), [[20.]]);
    assert_eq!(y(&clone(&linear).unwrap()), [[20.]]);
    assert_eq!(MADE.load(Ordering::SeqCst), 1);
}

#[test]
fn hooks_that_read_the_value_run_in_a_described_layer_when_it_is_loaded() {
    let triple = Hooks::new("metadata.triple").on_get(|_, value| Ok((value.tensor()? * 3.)?.into()));
    let config = LinearConfig {
        kernel_init: with_metadata(Initializer::Ones, Metadata::default().with_hooks(triple)),
        ..LinearConfig::default()
    };
    let described = describe(&Rngs::new(0), |rngs| Linear::with_config(1, 1, &config, rngs)).unwrap();
    assert!(described.kernel.value().is_err());
    materialize(&described).unwrap();
    assert_eq!(described.kernel.value().unwrap().to_vec2::<f32>().unwrap(), [[3.]]);
    assert_eq!(described.kernel.raw_value().unwrap().to_vec2::<f32>().unwrap(), [[1.]]);
}
