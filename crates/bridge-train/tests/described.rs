//! Models that are described: their values from files, and what can not be done without them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

use std::path::PathBuf;

use bridge_graph::{
    Policy, Rngs, StatefulModule, describe, is_described, materialize, split, state, variables,
};
use bridge_random::Initializer;
use bridge_train::{
    AdamW, Checkpoint, CheckpointError, Ema, EmaError, Optimizer, OptimizerError, Weights, load, load_into,
    save,
};
use bridge_vars::{
    BatchStat, Error, Filter, Initialize, Metadata, Param, Result, Value, Variables, with_partitioning,
};
use candle_core::{DType, Device, Tensor};

#[derive(StatefulModule)]
struct Dense {
    bias: Param,
    kernel: Param,
}

#[derive(StatefulModule)]
struct Model {
    layers: Vec<Dense>,
    mean: BatchStat,
    rngs: Rngs,
    step: Param,
}

fn construct(rngs: &Rngs) -> Result<Model> {
    let dense = |inputs: usize, outputs: usize| -> Result<Dense> {
        let init = with_partitioning(Initializer::lecun_normal(), ["", "model"]);
        Ok(Dense {
            kernel: rngs.param(&init, (inputs, outputs))?,
            bias: rngs.param(&Initializer::normal(1.), outputs)?,
        })
    };
    Ok(Model {
        layers: vec![dense(2, 3)?, dense(3, 4)?],
        mean: BatchStat::new(rngs.full(1., 4, DType::F32)?),
        rngs: rngs.fork()?,
        step: Param::new(3),
    })
}

fn described() -> Model {
    describe(&Rngs::new(0), construct).unwrap()
}

fn trained() -> Model {
    let model = construct(&Rngs::new(8)).unwrap();
    model.mean.set(Tensor::new(&[1f32, 2., 3., 4.], &Device::Cpu).unwrap()).unwrap();
    model.step.set(77u32).unwrap();
    model
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
    fn path(&self) -> PathBuf {
        self.0.path().join("model.safetensors")
    }
}

fn unmade(model: &Model) -> Vec<String> {
    let is = |variable: &bridge_vars::Variable| matches!(variable.leaf().unwrap().value, Value::Described(_));
    let unmade = variables(model).unwrap().into_iter().filter(|(_, variable)| is(variable));
    unmade.map(|(path, _)| path.to_string()).collect()
}

const UNMADE: [&str; 5] = ["layers.0.bias", "layers.0.kernel", "layers.1.bias", "layers.1.kernel", "mean"];

#[test]
fn a_checkpoint_is_loaded_into_a_described_model() {
    let (place, trained, model) = (Place::new(), trained(), described());
    save(place.path(), &trained).unwrap();
    load_into(place.path(), &model).unwrap();
    assert!(!is_described(&model).unwrap());
    assert!(state(&model).unwrap().identical(&state(&trained).unwrap()).unwrap());
    // What is loaded stays as it is when the rest would be made.
    materialize(&model).unwrap();
    assert!(state(&model).unwrap().identical(&state(&trained).unwrap()).unwrap());
    let back: Model = load(place.path(), &Device::Cpu).unwrap();
    assert!(split(&back).unwrap().0 == split(&described()).unwrap().0);
}

#[test]
fn weights_are_loaded_into_a_described_model() {
    let (place, trained, model) = (Place::new(), trained(), described());
    let tensor = |leaf: &bridge_vars::Leaf| leaf.tensor().cloned();
    let tensors = state(&trained)
        .unwrap()
        .flatten()
        .into_iter()
        .filter_map(|(path, leaf)| Some((path.to_string(), tensor(&leaf).ok()?)));
    candle_core::safetensors::save(&tensors.collect(), place.path()).unwrap();
    let report = Weights::open(place.path()).unwrap().load_into(&model).unwrap();
    assert_eq!(report.loaded.iter().map(ToString::to_string).collect::<Vec<_>>(), UNMADE);
    assert!(!is_described(&model).unwrap());
    let loaded = |model: &Model| state(model).unwrap().filter(Filter::path_starts_with("layers"));
    assert!(loaded(&model).identical(&loaded(&trained)).unwrap());
    assert_eq!(model.step.count().unwrap(), 3);
}

#[test]
fn weights_of_pytorch_are_laid_out_and_converted_for_a_described_model() {
    let place = Place::new();
    let weight = Tensor::arange(0f64, 6., &Device::Cpu).unwrap().reshape((3, 2)).unwrap();
    let tensors = [
        ("net.weight".to_owned(), weight),
        ("net.bias".to_owned(), Tensor::zeros(3, DType::F64, &Device::Cpu).unwrap()),
    ];
    candle_core::safetensors::save(&tensors.into(), place.path()).unwrap();
    let dense = describe(&Rngs::new(0).with_dtype(DType::BF16), |rngs| {
        Ok(Dense {
            kernel: rngs.param(&Initializer::lecun_normal(), (2, 3))?,
            bias: rngs.param(&Initializer::Zeros, 3)?,
        })
    })
    .unwrap();
    let weights = Weights::open(place.path()).unwrap().prefix("net").from_pytorch();
    let text = weights.load_into(&dense).unwrap_err().to_string();
    let expected = "`kernel`: expected Param bf16[2, 3] (not made yet), found Param f64[2, 3] \
                    (`Weights::cast` would convert it)";
    assert!(text.contains(expected), "{text}");
    weights.cast().load_into(&dense).unwrap();
    let kernel = dense.kernel.value().unwrap();
    assert_eq!(kernel.dtype(), DType::BF16);
    assert_eq!(kernel.to_dtype(DType::F32).unwrap().to_vec2::<f32>().unwrap(), [[0., 2., 4.], [1., 3., 5.]]);
}

#[test]
fn described_variables_are_loaded() {
    let place = Place::new();
    let tensors = [("kernel".to_owned(), Tensor::ones((2, 3), DType::F32, &Device::Cpu).unwrap())];
    candle_core::safetensors::save(&tensors.into(), place.path()).unwrap();
    let mut variables = Variables::default();
    let described = Initializer::Zeros.described(None, &(2, 3).into(), DType::F32, &Device::Cpu);
    variables.insert(&"kernel".into(), Param::leaf(described)).unwrap();
    let (loaded, _) = Weights::open(place.path()).unwrap().load_variables(&variables).unwrap();
    assert_eq!(
        loaded.get("params", "kernel").unwrap().tensor().unwrap().to_vec2::<f32>().unwrap(),
        [[1.; 3]; 2]
    );
}

#[test]
fn what_is_not_in_the_file_is_made_later() {
    let (place, model) = (Place::new(), described());
    let tensors = [("layers.1.bias".to_owned(), Tensor::zeros(4, DType::F32, &Device::Cpu).unwrap())];
    candle_core::safetensors::save(&tensors.into(), place.path()).unwrap();
    let weights = Weights::open(place.path()).unwrap();
    let error = weights.load_into(&model).unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(CheckpointError::Weights { .. })), "{error}");
    assert!(error.to_string().contains("missing `layers.0.kernel`"), "{error}");
    assert_eq!(unmade(&model), UNMADE);
    weights.policy(Policy::Subset).load_into(&model).unwrap();
    assert_eq!(unmade(&model), ["layers.0.bias", "layers.0.kernel", "layers.1.kernel", "mean"]);
    materialize(&model).unwrap();
    let eager = construct(&Rngs::new(0)).unwrap();
    let rest = |model: &Model| state(model).unwrap().filter(!Filter::path("layers.1.bias"));
    assert!(rest(&model).identical(&rest(&eager)).unwrap());
    assert_eq!(model.layers[1].bias.value().unwrap().to_vec1::<f32>().unwrap(), [0.; 4]);
}

#[test]
fn values_of_another_shape_are_refused_and_nothing_is_made() {
    let (place, model) = (Place::new(), described());
    let other = construct(&Rngs::new(0)).unwrap();
    other.layers[0].kernel.set(Tensor::zeros((9, 9), DType::F32, &Device::Cpu).unwrap()).unwrap();
    save(place.path(), &other).unwrap();
    let error = load_into(place.path(), &model).unwrap_err().to_string();
    assert!(
        error.contains("`layers.0.kernel`: expected Param f32[2, 3] (not made yet), found Param f32[9, 9]"),
        "{error}"
    );
    assert_eq!(unmade(&model), UNMADE);
}

/// That saving says which value is not made.
#[track_caller]
fn refused(result: Result<Checkpoint>, part: &str, path: &str) {
    let error: Error = result.map(|_| ()).unwrap_err();
    let Some(CheckpointError::NotMade { part: found_part, path: found_path, .. }) = error.downcast_ref()
    else {
        panic!("{error}")
    };
    assert_eq!((found_part.as_str(), found_path.to_string().as_str()), (part, path));
    let text = error.to_string();
    assert!(text.starts_with(&format!("`{path}` of the part `{part}` is f32[")), "{text}");
    assert!(text.ends_with("], not made yet: `materialize` the model before it is saved"), "{text}");
}

#[test]
fn a_described_model_is_not_saved() {
    let (place, model) = (Place::new(), described());
    refused(Checkpoint::new().module("model", &model), "model", "layers.0.bias");
    let taken = state(&model).unwrap();
    refused(Checkpoint::new().state("state", &taken.filter(Filter::path("mean"))), "state", "mean");
    refused(Checkpoint::new().variables("v", &taken.to_variables()), "v", "batch_stats.mean");
    assert!(save(place.path(), &model).is_err());
    assert!(!place.path().exists());
    materialize(&model).unwrap();
    save(place.path(), &model).unwrap();
    let back: Model = load(place.path(), &Device::Cpu).unwrap();
    assert!(state(&back).unwrap().identical(&state(&construct(&Rngs::new(0)).unwrap()).unwrap()).unwrap());
}

#[test]
fn a_described_model_is_neither_averaged_nor_optimised() {
    let (model, only) = (described(), || Filter::path("layers.0.kernel"));
    let error = Ema::for_module(0.9, &model, only()).unwrap_err();
    let Some(EmaError::NotFloat(misfit)) = error.downcast_ref() else { panic!("{error}") };
    assert_eq!(misfit.mismatched[0].path.to_string(), "layers.0.kernel");
    let error = Optimizer::for_module(AdamW::new(1e-3), &model, only()).unwrap_err();
    assert!(
        error.downcast_ref::<OptimizerError>().is_some() && error.to_string().contains("layers.0.kernel"),
        "{error}"
    );
    materialize(&model).unwrap();
    Ema::for_module(0.9, &model, only()).unwrap();
    Optimizer::for_module(AdamW::new(1e-3), &model, only()).unwrap();
}

#[test]
fn an_average_is_not_moved_towards_what_is_not_made() {
    let mut ema = Ema::for_module(0.9, &trained(), Filter::path_starts_with("layers")).unwrap();
    let before = ema.state();
    let error = ema.update(&described()).unwrap_err();
    let Some(EmaError::Parameters(misfit)) = error.downcast_ref() else { panic!("{error}") };
    assert_eq!(misfit.mismatched.len(), 4);
    assert!(ema.state().identical(&before).unwrap());
}

#[test]
fn what_is_said_about_values_survives_files() {
    let (place, model) = (Place::new(), trained());
    model.mean.set_metadata(Metadata::default().with("note", "of the second layer"));
    save(place.path(), &model).unwrap();
    let back: Model = load(place.path(), &Device::Cpu).unwrap();
    let into = described();
    load_into(place.path(), &into).unwrap();
    for model in [&back, &into] {
        let specs = state(model).unwrap().partition_specs().unwrap();
        assert_eq!(specs.get(&"layers.1.kernel".into()).unwrap().to_string(), "P(None, model)");
        assert_eq!(model.mean.metadata().get("note").unwrap(), "of the second layer");
        assert!(model.layers[0].bias.metadata().is_empty());
    }
}

#[test]
fn averages_keep_what_is_said_about_their_parameters() {
    let model = trained();
    let only = Filter::path_matches("**.kernel");
    let mut ema = Ema::for_module(0.9, &model, only).unwrap();
    ema.update(&model).unwrap();
    let specs = ema.state().partition_specs().unwrap();
    assert_eq!(specs.get(&"layers.0.kernel".into()).unwrap().to_string(), "P(None, model)");
    assert!(ema.state().iter().all(|(_, leaf)| leaf.kind == Param::variable_type()));
    ema.apply_to(&model).unwrap();
    assert_eq!(
        model.layers[0].kernel.leaf().unwrap().partition_spec().unwrap().to_string(),
        "P(None, model)"
    );
}

#[test]
fn an_error_of_a_file_leaves_a_described_model_described() {
    let (place, model) = (Place::new(), described());
    std::fs::write(place.path(), b"no checkpoint").unwrap();
    assert!(load_into(place.path(), &model).is_err());
    assert_eq!(unmade(&model), UNMADE);
    save(place.path(), &vec![trained().layers.remove(0)]).unwrap();
    let error = load_into(place.path(), &model).unwrap_err().to_string();
    assert!(error.contains("missing `layers.0.bias`") && error.contains("unexpected `0.bias`"), "{error}");
    assert_eq!(unmade(&model), UNMADE);
}
