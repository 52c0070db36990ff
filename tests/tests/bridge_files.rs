//! A checkpoint that one kind of module wrote, read by the other.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails panics")]

use std::path::PathBuf;

use bridge_tests::device;
use candle_bridge::functional::{BatchNorm, Dense, Dropout, FunctionalModule, Scope};
use candle_bridge::graph::{Rngs, StatefulModule, eval, state};
use candle_bridge::random::{Initializer, key};
use candle_bridge::stateful::Linear;
use candle_bridge::train::{Checkpoint, CheckpointFile, load, load_into, save};
use candle_bridge::vars::{Filter, Param, Result, RngState, State, Variables, with_partitioning};
use candle_bridge::wrappers::{ToFunctional, ToStateful, to_functional};
use candle_core::{DType, Module, Tensor};
use serde::{Deserialize, Serialize};

const MUTABLE: [&str; 2] = ["batch_stats", "curiosities"];

/// A file of this test, gone when it ends.
struct File(PathBuf);

impl File {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("bridge-{name}-{}.safetensors", std::process::id())))
    }
    fn open(&self) -> CheckpointFile {
        CheckpointFile::open(&self.0, &device()).unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn input() -> Tensor {
    Tensor::arange(0f32, 12., &device()).unwrap().reshape((4, 3)).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// A functional model with statistics, randomness, metadata and a collection that no one declared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Model;

impl FunctionalModule for Model {
    type Output = Tensor;
    fn call(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
        let init = with_partitioning(Initializer::lecun_normal(), ["", "model"]);
        let y = scope.call_named("hidden", &Dense::new(8).kernel_init(init), x)?;
        let y = scope.call_named("norm", &BatchNorm::new(), &y)?;
        let y = scope.call_named("dropout", &Dropout::new(0.5), &y)?;
        let calls = scope.variable("curiosities", "calls", || Ok(0))?;
        if calls.is_mutable() && !scope.is_initializing() {
            calls.set(calls.count()? + 1)?;
        }
        scope.call_named("output", &Dense::new(2), &y)
    }
}

fn keys(seed: i64) -> [(&'static str, candle_bridge::random::Key); 2] {
    [("params", key(seed)), ("dropout", key(seed + 1))]
}

/// The functional model after two steps.
fn trained() -> Variables {
    let mut variables = Model.train().init(keys(0), &input()).unwrap();
    for step in 1..3 {
        let (_, updates) = Model.train().apply_mut(&variables, keys(step), MUTABLE, &input()).unwrap();
        variables = variables.updated(&updates).unwrap();
    }
    variables
}

fn wrapped(seed: i64) -> ToStateful<Model> {
    let rngs = Rngs::from_streams(keys(seed));
    ToStateful::new(Model, &rngs).unwrap().mutable(MUTABLE).lazy_init(&input()).unwrap()
}

fn of_module(state: &State) -> State {
    state.filter(!Filter::of::<RngState>())
}

#[test]
fn what_the_functional_side_wrote_the_stateful_side_loads() {
    let (variables, file) = (trained(), File::new("functional"));
    Checkpoint::new().variables("model", &variables).unwrap().save(&file.0).unwrap();
    let read = file.open().variables("model").unwrap();
    assert!(read.identical(&variables).unwrap());
    let model = wrapped(9);
    let kernel = model.variable("hidden.kernel").unwrap();
    let streams = state(&model).unwrap().filter(Filter::of::<RngState>());
    let whole = State::merge([read.to_state().unwrap(), streams]).unwrap();
    candle_bridge::graph::update(&model, &whole).unwrap();
    assert!(kernel.is_same(&model.variable("hidden.kernel").unwrap()));
    assert!(model.variables().unwrap().identical(&variables).unwrap());
    eval(&model).unwrap();
    let expected = Model.eval().apply(&variables, &input()).unwrap();
    assert_eq!(values(&model.call(&input()).unwrap()), values(&expected));
}

#[test]
fn what_the_stateful_side_wrote_the_functional_side_loads() {
    let (model, file) = (wrapped(0), File::new("stateful"));
    model.call(&input()).unwrap();
    save(&file.0, &model).unwrap();
    let read = of_module(&file.open().state("").unwrap()).to_variables();
    assert!(read.identical(&model.variables().unwrap()).unwrap());
    assert_eq!(read.collections().collect::<Vec<_>>(), ["batch_stats", "curiosities", "params"]);
    assert_eq!(read.get("curiosities", "calls").unwrap().value.count().unwrap(), 1);
    let spec = read.get("params", "hidden.kernel").unwrap().partition_spec().unwrap();
    assert_eq!(spec.to_string(), "P(None, model)");
    eval(&model).unwrap();
    let y = Model.eval().apply(&read, &input()).unwrap();
    assert_eq!(values(&y), values(&model.call(&input()).unwrap()));
}

#[test]
fn a_wrapped_model_comes_back_from_its_file_and_goes_on_as_it_would_have() {
    let (model, file) = (wrapped(0), File::new("wrapped"));
    model.call(&input()).unwrap();
    save(&file.0, &model).unwrap();
    let read: ToStateful<Model> = load(&file.0, &device()).unwrap();
    let other = wrapped(5);
    load_into(&file.0, &other).unwrap();
    for _ in 0..2 {
        let expected = values(&model.call(&input()).unwrap());
        assert_eq!(values(&read.call(&input()).unwrap()), expected);
        assert_eq!(values(&other.call(&input()).unwrap()), expected);
    }
    assert!(state(&read).unwrap().identical(&state(&model).unwrap()).unwrap());
}

/// A stateful module with numbers in its paths, a tensor that is no variable, and a stream.
#[derive(StatefulModule)]
struct Stack {
    layers: Vec<Linear>,
    table: Tensor,
    dropout: candle_bridge::stateful::Dropout,
}

impl Stack {
    fn new(rngs: &Rngs) -> Result<Self> {
        Ok(Self {
            layers: (0..12).map(|_| Linear::new(3, 3, rngs)).collect::<Result<_>>()?,
            table: Tensor::ones(3, DType::F32, rngs.device())?,
            dropout: candle_bridge::stateful::Dropout::new(0.5, rngs)?,
        })
    }
}

impl Module for Stack {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let y = self.layers.iter().try_fold(x.clone(), |x, layer| x.apply(layer))?;
        y.broadcast_mul(&self.table)?.apply(&self.dropout)
    }
}

fn stack() -> ToFunctional<Stack> {
    to_functional(Stack::new)
}

#[test]
fn variables_of_a_wrapped_stateful_model_go_through_a_file_with_description_and_streams() {
    let (model, file) = (stack(), File::new("stack"));
    let variables = model.train().init(keys(0), &input()).unwrap();
    Checkpoint::new().variables("model", &variables).unwrap().save(&file.0).unwrap();
    let read = file.open().variables("model").unwrap();
    assert!(read.identical(&variables).unwrap());
    let run = |variables: &Variables| {
        model.train().apply_mut(variables, [("dropout", key(4))], true, &input()).unwrap()
    };
    let ((y, updates), (expected, expected_updates)) = (run(&read), run(&variables));
    assert_eq!(values(&y), values(&expected));
    assert!(updates.identical(&expected_updates).unwrap());
    // A stream that is stored goes on from there.
    let next = |variables: &Variables| {
        let none = candle_bridge::functional::Keys::none();
        values(&model.train().apply_mut(variables, none, "RngCount", &input()).unwrap().0)
    };
    assert_eq!(next(&read), next(&variables));
}

#[test]
fn a_stateful_module_loads_what_its_functional_form_wrote_and_the_other_way_round() {
    let (model, file) = (stack(), File::new("both"));
    let variables = model.train().init(keys(0), &input()).unwrap();
    Checkpoint::new().variables("model", &variables).unwrap().save(&file.0).unwrap();
    let read = file.open().variables("model").unwrap();
    let whole = read.filter_collections(|name| name != "nnx").to_state().unwrap();
    let stateful = Stack::new(&Rngs::from_streams(keys(7))).unwrap();
    let bare = Filter::path("table");
    candle_bridge::graph::update(&stateful, &whole.filter(!bare)).unwrap();
    assert!(state(&stateful).unwrap().identical(&whole).unwrap());
    eval(&stateful).unwrap();
    let expected = values(&model.eval().apply(&variables, &input()).unwrap());
    assert_eq!(values(&stateful.forward(&input()).unwrap()), expected);

    stateful.layers[11].bias.as_ref().unwrap().set(Tensor::ones(3, DType::F32, &device()).unwrap()).unwrap();
    save(&file.0, &stateful).unwrap();
    let nnx = variables.filter_collections(|name| name == "nnx");
    let written = file.open().state("").unwrap().to_variables().updated(&nnx).unwrap();
    let moved: Vec<f32> = expected.iter().map(|y| y + 1.).collect();
    assert_eq!(values(&model.eval().apply(&written, &input()).unwrap()), moved);
    assert_eq!(written.filter(Filter::of::<Param>()).len(), 24);
}
