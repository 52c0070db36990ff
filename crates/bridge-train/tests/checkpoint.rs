//! Checkpoints: what goes in comes out, to the bit, and misuse says what is wrong.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

use std::fs;
use std::sync::Arc;

use bridge_graph::{
    GraphError, Program, Registry, Rngs, Shared, StatefulModule, split, split_dyn, state, update,
};
use bridge_random::{CountArray, KeyArray, Scheme, key};
use bridge_train::{
    AdamW, Checkpoint, CheckpointError, CheckpointFile, Optimizer, load, load_into, rebuild, save,
};
use bridge_vars::{
    BatchStat, Filter, Leaf, Metadata, Opaque, Param, Path, PathKey, RngKey, State, Tree, Value, Variables,
    kinds,
};
use candle_core::{DType, Device, Tensor};
use proptest::prelude::*;

kinds! {
    /// A memory.
    Memory(MemoryKind) in "memories";
}

#[derive(StatefulModule)]
struct Layer {
    kernel: Param,
    bias: Option<Param>,
}

#[derive(StatefulModule)]
struct Model {
    embed: Shared<Layer>,
    layers: Vec<Layer>,
    memory: Memory,
    mean: BatchStat,
    rate: f64,
    rngs: Rngs,
    tied: Shared<Layer>,
}

fn tensor(values: &[f32]) -> Tensor {
    Tensor::new(values, &Device::Cpu).unwrap()
}

fn layer(start: f32) -> Layer {
    let kernel = Param::new(tensor(&[start, start + 1., start + 2., f32::NAN]).reshape((2, 2)).unwrap());
    kernel.set_metadata([("sharding", vec!["data", "model"])].into_iter().collect());
    Layer { kernel, bias: (start > 0.).then(|| Param::new(tensor(&[-0., start]))) }
}

fn model(start: f32) -> Model {
    let embed = Shared::new(layer(start));
    let rngs = Rngs::new(7);
    rngs.draw("dropout").unwrap();
    Model {
        tied: embed.clone(),
        embed,
        layers: vec![layer(start + 10.), layer(start - 10.)],
        memory: Memory::new(tensor(&[start])),
        mean: BatchStat::new(Tensor::new(f64::from(start) / 3., &Device::Cpu).unwrap()),
        rate: 0.1,
        rngs,
    }
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
    fn path(&self) -> std::path::PathBuf {
        self.0.path().join("checkpoint.safetensors")
    }
    fn open(&self) -> CheckpointFile {
        CheckpointFile::open(self.path(), &Device::Cpu).unwrap()
    }
}

/// Saves one state, and says that it comes back as it was.
fn check(state: &State) {
    let place = Place::new();
    let variables = state.to_variables();
    let checkpoint = Checkpoint::new().state("a.b", state).unwrap().variables("2", &variables).unwrap();
    checkpoint.save(place.path()).unwrap();
    let file = place.open();
    assert_eq!(file.parts().collect::<Vec<_>>(), ["2", "a.b"]);
    assert!(file.state("a.b").unwrap().identical(state).unwrap());
    assert!(file.variables("2").unwrap().identical(&variables).unwrap());
    candle_core::safetensors::load(place.path(), &Device::Cpu).unwrap();
}

fn of(leaves: impl IntoIterator<Item = (&'static str, Leaf)>) -> State {
    let mut state = State::default();
    for (path, leaf) in leaves {
        state.insert(&Path::from(path), leaf).unwrap();
    }
    state
}

fn error<T>(result: bridge_vars::Result<T>) -> (bridge_vars::Error, String) {
    let error = result.err().unwrap();
    let text = error.to_string();
    (error, text)
}

#[test]
fn a_module_comes_back_from_the_file_alone() {
    let (place, model) = (Place::new(), model(1.));
    save(place.path(), &model).unwrap();
    let back: Model = load(place.path(), &Device::Cpu).unwrap();
    let (graphdef, before) = split(&model).unwrap();
    let (graphdef_back, after) = split(&back).unwrap();
    assert!(graphdef == graphdef_back);
    assert!(before.identical(&after).unwrap());
    assert!(back.tied.is_same(&back.embed) && back.layers[1].bias.is_none());
    assert_eq!(back.rngs.draw("dropout").unwrap(), model.rngs.draw("dropout").unwrap());

    let registry = Registry::new().with::<Model>();
    let unknown = rebuild(place.path(), &registry, &Device::Cpu).unwrap();
    assert_eq!(unknown.type_name(), "Model");
    assert!(state(&*unknown).unwrap().identical(&before).unwrap());

    let (error, text) = error(rebuild(place.path(), &Registry::new(), &Device::Cpu));
    let Some(CheckpointError::Part { source, .. }) = error.downcast_ref() else { panic!("{text}") };
    assert!(matches!(source.downcast_ref(), Some(GraphError::UnknownModule { .. })), "{text}");
}

#[test]
fn any_reader_finds_the_tensors_under_their_paths() {
    let place = Place::new();
    save(place.path(), &model(1.)).unwrap();
    let tensors = candle_core::safetensors::load(place.path(), &Device::Cpu).unwrap();
    assert_eq!(tensors["layers.0.kernel"].dims(), [2, 2]);
    assert_eq!(tensors["layers.0.bias"].to_vec1::<f32>().unwrap(), [-0., 11.]);
    assert_eq!(tensors["mean"].to_scalar::<f64>().unwrap(), 1. / 3.);
    assert!(!tensors.contains_key("tied.kernel"));

    let mut variables = Variables::default();
    variables.insert(&Path::from("Dense_0.kernel"), Param::leaf(tensor(&[1.]))).unwrap();
    let checkpoint = Checkpoint::new().variables("variables", &variables).unwrap();
    checkpoint.state("v1.0", &of([("w", Param::leaf(tensor(&[2.])))])).unwrap().save(place.path()).unwrap();
    let tensors = candle_core::safetensors::load(place.path(), &Device::Cpu).unwrap();
    assert_eq!(tensors["variables.params.Dense_0.kernel"].to_vec1::<f32>().unwrap(), [1.]);
    assert_eq!(tensors["v1\\.0.w"].to_vec1::<f32>().unwrap(), [2.]);
}

#[test]
fn loads_into_a_module_in_place() {
    let (place, saved, other) = (Place::new(), model(1.), model(2.));
    save(place.path(), &saved).unwrap();
    let handle = other.layers[0].kernel.clone();
    handle.set_metadata(Metadata::default());
    load_into(place.path(), &other).unwrap();
    assert!(state(&other).unwrap().identical(&state(&saved).unwrap()).unwrap());
    assert!(handle.leaf().unwrap().identical(&saved.layers[0].kernel.leaf().unwrap()).unwrap());
    assert!(other.tied.is_same(&other.embed));
}

#[test]
fn training_goes_on_to_the_bit() {
    let (place, model) = (Place::new(), model(1.));
    let wrt = || Filter::path_contains("bias");
    let mut optimizer = Optimizer::for_module(AdamW::new(0.1), &model, wrt()).unwrap();
    let step = |optimizer: &mut Optimizer<AdamW>, model: &Model| {
        let gradients = state(model).unwrap().filter(wrt());
        optimizer.step(model, &gradients).unwrap();
    };
    step(&mut optimizer, &model);
    let checkpoint = Checkpoint::new().module("model", &model).unwrap();
    checkpoint.state("optimizer", &optimizer.state()).unwrap().save(place.path()).unwrap();

    let file = place.open();
    let resumed: Model = file.module("model").unwrap();
    let mut restored = Optimizer::for_module(AdamW::new(0.1), &resumed, wrt()).unwrap();
    restored.restore(&file.state("optimizer").unwrap()).unwrap();
    for _ in 0..3 {
        step(&mut optimizer, &model);
        step(&mut restored, &resumed);
    }
    assert!(state(&model).unwrap().identical(&state(&resumed).unwrap()).unwrap());
    assert!(optimizer.state().identical(&restored.state()).unwrap());
}

#[test]
fn every_dtype_and_layout_comes_back_to_the_bit() {
    let numbers = Tensor::new(&[[0f32, 1., 2.], [3., 4., 5.]], &Device::Cpu).unwrap();
    let cast = |dtype| Param::leaf(numbers.to_dtype(dtype).unwrap());
    let patterns = [0x7fc0_1234u32, 0xff80_0001, 0x8000_0000, 1].map(f32::from_bits);
    check(&of([
        ("u8", cast(DType::U8)),
        ("u32", cast(DType::U32)),
        ("i16", cast(DType::I16)),
        ("i32", cast(DType::I32)),
        ("i64", cast(DType::I64)),
        ("bf16", cast(DType::BF16)),
        ("f16", cast(DType::F16)),
        ("f32", cast(DType::F32)),
        ("f64", cast(DType::F64)),
        ("f8", cast(DType::F8E4M3)),
        ("nan", Param::leaf(tensor(&patterns))),
        ("half_nan", Param::leaf(Tensor::new(&[half::f16::from_bits(0x7e01)], &Device::Cpu).unwrap())),
        ("transposed", Param::leaf(numbers.t().unwrap())),
        ("narrowed", Param::leaf(numbers.narrow(1, 1, 2).unwrap())),
        ("offset", Param::leaf(numbers.narrow(0, 1, 1).unwrap())),
        ("broadcast", Param::leaf(tensor(&[1.]).broadcast_as((3, 2)).unwrap())),
        ("empty", Param::leaf(Tensor::zeros((0, 3), DType::F32, &Device::Cpu).unwrap())),
        ("scalar", Param::leaf(Tensor::new(1.5f64, &Device::Cpu).unwrap())),
        ("key", RngKey::leaf(key(42).fold_in(1))),
        ("count", Leaf::new(Memory::variable_type(), u32::MAX)),
    ]));
}

#[test]
fn dtypes_that_candle_only_stores_come_back() {
    for (dtype, bytes) in [
        (DType::F4, vec![0x12u8, 0x34]),
        (DType::F6E2M3, vec![1, 2, 3]),
        (DType::F6E3M2, vec![4, 5, 6]),
        (DType::F8E8M0, vec![7, 8, 9, 10]),
    ] {
        let place = Place::new();
        let stored = Tensor::from_raw_buffer(&bytes, dtype, &[4], &Device::Cpu).unwrap();
        let checkpoint = Checkpoint::new().state("", &of([("x", Param::leaf(stored))])).unwrap();
        checkpoint.save(place.path()).unwrap();
        let back = place.open().state("").unwrap();
        let back = back.get("x").unwrap().tensor().unwrap();
        assert_eq!((back.dtype(), back.dims()), (dtype, &[4][..]));
        let again = Place::new();
        Checkpoint::new().state("", &place.open().state("").unwrap()).unwrap().save(again.path()).unwrap();
        assert_eq!(fs::read(place.path()).unwrap(), fs::read(again.path()).unwrap());
        assert!(fs::read(place.path()).unwrap().ends_with(&bytes));
    }
}

fn any_state() -> impl Strategy<Value = State> {
    let step = prop_oneof![
        (0..12usize).prop_map(PathKey::Index),
        "[a-c0-9.\\\\é]{0,3}".prop_map(|name| PathKey::from(name.as_str())),
    ];
    let path = proptest::collection::vec(step, 3..4).prop_map(Path::from_iter);
    let leaf = (0..4u8, any::<u32>(), "[a-z]{1,3}").prop_map(|(kind, value, name)| {
        let mut leaf = match kind {
            0 => Param::leaf(Tensor::new(f32::from_bits(value), &Device::Cpu).unwrap()),
            1 => RngKey::leaf(key(i64::from(value))),
            2 => Memory::leaf(value),
            _ => Leaf::new(bridge_vars::VariableType::from_collection(&name), value),
        };
        leaf.metadata.set(name, value);
        leaf
    });
    proptest::collection::vec((path, leaf), 0..8).prop_map(|leaves| {
        let mut state = State::default();
        for (path, leaf) in leaves {
            state.insert(&path, leaf).unwrap();
        }
        state
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_state_comes_back(state in any_state()) {
        check(&state);
    }
}

#[test]
fn the_same_content_gives_the_same_bytes() {
    let save = |reverse: bool| {
        let (place, model) = (Place::new(), model(1.));
        let state = state(&model).unwrap();
        let checkpoint = Checkpoint::new();
        let checkpoint = match reverse {
            false => checkpoint.module("model", &model).and_then(|made| made.state("state", &state)),
            true => checkpoint.state("state", &state).and_then(|made| made.module("model", &model)),
        };
        checkpoint.unwrap().save(place.path()).unwrap();
        fs::read(place.path()).unwrap()
    };
    let first = save(false);
    assert!((0..8).all(|_| save(false) == first));
    assert_eq!(save(true), first);
}

#[test]
fn a_description_among_variables_comes_back() {
    let (program, state) = split_dyn(&model(1.)).unwrap();
    let opaque: Arc<dyn Opaque> = program.clone();
    let mut variables = state.to_variables();
    let nnx = bridge_vars::VariableType::from_collection("nnx");
    variables.insert(&Path::from("graphdef"), Leaf::new(nnx, opaque)).unwrap();
    let place = Place::new();
    Checkpoint::new().variables("", &variables).unwrap().save(place.path()).unwrap();
    let back = place.open().variables("").unwrap();
    assert_eq!(back.get("nnx", "graphdef").unwrap().value.opaque::<Program>().unwrap(), &*program);
    assert!(back.identical(&variables).unwrap());
}

#[test]
fn what_does_not_fit_a_module_is_listed_at_once_and_nothing_changes() {
    #[derive(StatefulModule)]
    struct Other {
        embed: BatchStat,
        layers: Vec<Layer>,
        memory: Memory,
        mean: Memory,
        more: Param,
    }
    let place = Place::new();
    save(place.path(), &model(1.)).unwrap();
    let other = Other {
        embed: BatchStat::new(tensor(&[1.])),
        layers: vec![layer(3.)],
        memory: Memory::new(tensor(&[1., 2.])),
        mean: Memory::new(Tensor::new(1f64, &Device::Cpu).unwrap()),
        more: Param::new(tensor(&[1.])),
    };
    let before = state(&other).unwrap();
    let (error, text) = error(load_into(place.path(), &other));
    let Some(CheckpointError::Part { source, .. }) = error.downcast_ref() else { panic!("{text}") };
    let Some(GraphError::Misfit(misfit)) = source.downcast_ref() else { panic!("{text}") };
    let texts = |paths: &[Path]| paths.iter().map(Path::to_string).collect::<Vec<_>>();
    assert_eq!(texts(&misfit.missing), ["embed", "more"]);
    assert!(texts(&misfit.unexpected).contains(&"layers.1.kernel".to_owned()));
    assert!(text.contains("`memory`: expected Memory f32[2], found Memory f32[1]"), "{text}");
    assert!(text.contains("`mean`: expected Memory f64[], found BatchStat f64[]"), "{text}");
    assert!(text.contains(&*place.path().to_string_lossy()), "{text}");
    assert!(state(&other).unwrap().identical(&before).unwrap());

    let (error, text) = self::error(load::<Layer>(place.path(), &Device::Cpu));
    let Some(CheckpointError::Part { source, .. }) = error.downcast_ref() else { panic!("{text}") };
    assert!(matches!(source.downcast_ref(), Some(GraphError::Structure { .. })), "{text}");
}

#[test]
fn a_bare_tensor_must_be_the_one_in_the_file() {
    #[derive(StatefulModule)]
    struct Scaled {
        scale: Tensor,
        weight: Param,
    }
    let scaled = |scale| Scaled { scale: tensor(&[scale]), weight: Param::new(tensor(&[scale])) };
    let place = Place::new();
    save(place.path(), &scaled(1.)).unwrap();
    let same = scaled(1.);
    same.weight.set(tensor(&[9.])).unwrap();
    load_into(place.path(), &same).unwrap();
    assert_eq!(same.weight.value().unwrap().to_vec1::<f32>().unwrap(), [1.]);
    let (_, text) = error(load_into(place.path(), &scaled(2.)));
    assert!(text.contains("`scale`: expected BareTensor f32[1] with the module's own values"), "{text}");
    let back: Scaled = load(place.path(), &Device::Cpu).unwrap();
    assert_eq!(back.scale.to_vec1::<f32>().unwrap(), [1.]);
}

#[test]
fn names_that_clash_are_refused() {
    let leaf = || Param::leaf(tensor(&[1.]));
    let checkpoint = || Checkpoint::new().state("model", &of([("w", leaf())])).unwrap();
    let (error, text) = error(checkpoint().state("", &of([("model.w", leaf())])));
    let Some(CheckpointError::NameTaken { name, .. }) = error.downcast_ref() else { panic!("{text}") };
    assert_eq!(name, "model.w");
    let (error, text) = self::error(checkpoint().state("model", &of([("v", leaf())])));
    assert!(matches!(error.downcast_ref(), Some(CheckpointError::PartTwice { .. })), "{text}");
    let (error, text) = self::error(Checkpoint::new().state("", &of([("__metadata__", leaf())])));
    assert!(matches!(error.downcast_ref(), Some(CheckpointError::NameTaken { .. })), "{text}");
    checkpoint().state("other", &of([("w", leaf())])).unwrap().state("", &of([("w", leaf())])).unwrap();
}

#[test]
fn what_has_no_form_in_a_file_is_refused_before_anything_is_written() {
    #[derive(Debug)]
    struct Handle;
    impl Opaque for Handle {
        fn type_name(&self) -> &'static str {
            "a handle"
        }
        fn encode(&self) -> bridge_vars::Result<serde_json::Value> {
            Ok(serde_json::Value::Null)
        }
        fn decode(_: &serde_json::Value) -> bridge_vars::Result<Self> {
            Ok(Self)
        }
        fn equals(&self, _: &dyn Opaque) -> bool {
            true
        }
    }
    let opaque: Arc<dyn Opaque> = Arc::new(Handle);
    let (error, text) = error(Checkpoint::new().state("s", &of([("h", Param::leaf(opaque))])));
    assert!(
        matches!(error.downcast_ref(), Some(CheckpointError::Opaque { found: "a handle", .. })),
        "{text}"
    );

    let mut deep = Path::root();
    (0..1000).for_each(|_| deep.push("a"));
    let mut state = State::default();
    state.insert(&deep, Param::leaf(tensor(&[1.]))).unwrap();
    let (error, text) = self::error(Checkpoint::new().state("s", &state));
    assert!(matches!(error.downcast_ref(), Some(CheckpointError::TooDeep { .. })), "{text}");

    let nested = (0..500).fold(serde_json::Value::Null, |inner, _| serde_json::Value::from(vec![inner]));
    let mut leaf = Param::leaf(tensor(&[1.]));
    leaf.metadata.set("nested", nested);
    let place = Place::new();
    fs::write(place.path(), "old").unwrap();
    let checkpoint = Checkpoint::new().state("s", &of([("w", leaf)])).unwrap();
    let (error, text) = self::error(checkpoint.save(place.path()));
    assert!(matches!(error.downcast_ref(), Some(CheckpointError::Header { .. })), "{text}");
    assert_eq!(fs::read(place.path()).unwrap(), b"old");
}

#[test]
fn a_part_is_read_as_what_it_is() {
    let place = Place::new();
    let model = model(1.);
    let checkpoint = Checkpoint::new().module("model", &model).unwrap();
    let checkpoint = checkpoint.variables("vars", &state(&model).unwrap().to_variables()).unwrap();
    checkpoint.save(place.path()).unwrap();
    let file = place.open();
    let (error, text) = error(file.module::<Model>("vars"));
    assert!(matches!(error.downcast_ref(), Some(CheckpointError::PartKind { .. })), "{text}");
    assert!(text.contains("part `vars` is variables, not a module"), "{text}");
    let (_, text) = self::error(file.variables("model"));
    assert!(text.contains("part `model` is a module, not variables"), "{text}");
    let (_, text) = self::error(file.state("modle"));
    assert!(text.contains("no part `modle`, found part `model`, part `vars`"), "{text}");
    update(&model, &file.state("model").unwrap()).unwrap();
}

#[test]
fn a_failure_to_write_or_read_names_the_file() {
    let place = Place::new();
    let missing = place.0.path().join("missing").join("file");
    let (error, text) = error(save(&missing, &model(1.)));
    assert!(matches!(error.downcast_ref(), Some(CheckpointError::Io { action: "write", .. })), "{text}");
    assert!(text.contains(&*missing.to_string_lossy()), "{text}");
    let (error, text) = self::error(load_into(&missing, &model(1.)));
    assert!(matches!(error.downcast_ref(), Some(CheckpointError::Io { action: "read", .. })), "{text}");
    let (error, text) = self::error(CheckpointFile::open(place.0.path(), &Device::Cpu));
    assert!(error.downcast_ref::<CheckpointError>().is_some(), "{text}");
    let (_, text) = self::error(save(place.0.path(), &model(1.)));
    assert!(text.contains("can not write"), "{text}");
}

#[test]
fn a_single_variable_or_leaf_is_a_part_too() {
    let (place, weight) = (Place::new(), Param::new(tensor(&[3.])));
    save(place.path(), &weight).unwrap();
    let back: Param = load(place.path(), &Device::Cpu).unwrap();
    assert!(back.leaf().unwrap().identical(&weight.leaf().unwrap()).unwrap());
    check(&State::default());
    let alone = State::from(Tree::Leaf(Param::leaf(Value::Count(3))));
    let place = Place::new();
    Checkpoint::new().state("x", &alone).unwrap().save(place.path()).unwrap();
    assert!(place.open().state("x").unwrap().identical(&alone).unwrap());
}

#[test]
fn random_keys_keep_their_scheme_and_their_batch() {
    let legacy = key(1).with_scheme(Scheme::Legacy);
    let batch = key(2).split_array((2, 3)).unwrap();
    let values = [
        Value::from(legacy),
        batch.clone().into(),
        batch.map(|key| key.with_scheme(Scheme::Legacy)).into(),
        CountArray::new((3, 1), vec![1, 2, 3]).unwrap().into(),
        CountArray::new((0, 2), vec![]).unwrap().into(),
        key(0).split_array((2, 0)).unwrap().into(),
    ];
    for value in values {
        let state = State::from(Tree::Leaf(RngKey::leaf(value)));
        let place = Place::new();
        Checkpoint::new().state("x", &state).unwrap().save(place.path()).unwrap();
        let read = place.open().state("x").unwrap();
        assert!(read.identical(&state).unwrap(), "{read:?} or {state:?}");
    }
    let mixed = KeyArray::from(vec![key(1), legacy]);
    let state = of([("streams", RngKey::leaf(mixed))]);
    let (error, text) = error(Checkpoint::new().state("x", &state));
    assert!(matches!(error.downcast_ref(), Some(CheckpointError::MixedKeys { .. })), "{text}");
    assert!(text.starts_with("streams of part `x` is a batch of keys of several schemes"), "{text}");
}
