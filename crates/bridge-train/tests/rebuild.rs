//! Modules of any shape, rebuilt from files: by a program that knows the types, and from files of earlier releases.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

use std::path::{Path, PathBuf};

use bridge_graph::{GraphDef, Registry, Rngs, Shared, StatefulModule, WeakShared, split, split_dyn, state};
use bridge_train::{Checkpoint, CheckpointFile, TensorFile, save};
use bridge_vars::{BatchStat, Leaf, Metadata, Param, State, Value, Variable};
use candle_core::{DType, Device, Tensor};
use proptest::prelude::*;

/// A module of any shape.
#[derive(StatefulModule)]
struct Node<const WIDTH: usize> {
    choice: Choice,
    children: Vec<Node<WIDTH>>,
    part: Option<Shared<Leaves>>,
    parent: WeakShared<Leaves>,
    boxed: Option<Box<dyn StatefulModule>>,
    #[module(static)]
    sizes: Vec<usize>,
    rate: f32,
}

impl<const WIDTH: usize> std::fmt::Debug for Node<WIDTH> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(&split_dyn(self).map_err(|_| std::fmt::Error)?.0, f)
    }
}

#[derive(Debug, StatefulModule)]
struct Leaves {
    values: Vec<Variable>,
    bare: Tensor,
}

#[derive(Debug, StatefulModule)]
enum Choice {
    Nothing,
    One(Param),
    Both { left: Param, right: Param },
}

#[derive(Debug, StatefulModule)]
struct Model {
    root: Node<3>,
    parts: Vec<Shared<Leaves>>,
}

fn registry() -> Registry {
    Registry::new().with::<Leaves>().with::<Node<3>>().with::<Model>()
}

fn tensor() -> impl Strategy<Value = Tensor> {
    let dtypes = [DType::F32, DType::F64, DType::BF16, DType::F16, DType::U8, DType::U32, DType::I64];
    let dims = proptest::collection::vec(0usize..4, 0..3);
    (prop::sample::select(dtypes.to_vec()), dims, 0u8..100).prop_map(|(dtype, dims, start)| {
        let count = dims.iter().product::<usize>() as f64;
        let values = Tensor::arange(f64::from(start), f64::from(start) + count, &Device::Cpu).unwrap();
        values.reshape(dims).unwrap().to_dtype(dtype).unwrap()
    })
}

fn param() -> impl Strategy<Value = Param> {
    (tensor(), any::<bool>()).prop_map(|(tensor, named)| {
        let param = Param::new(tensor);
        if named {
            param.set_metadata(Metadata::default().with("sharding", vec!["data", "model"]));
        }
        param
    })
}

fn variable() -> impl Strategy<Value = Variable> {
    prop_oneof![
        param().prop_map(|param| (*param).clone()),
        tensor().prop_map(|tensor| (*BatchStat::new(tensor)).clone()),
        any::<u32>().prop_map(|count| Variable::from(Leaf::new(Param::variable_type(), Value::from(count)))),
    ]
}

fn leaves() -> impl Strategy<Value = Leaves> {
    (proptest::collection::vec(variable(), 0..3), tensor(), any::<bool>()).prop_map(
        |(mut values, bare, tied)| {
            if tied {
                values.extend(values.first().cloned());
            }
            Leaves { values, bare }
        },
    )
}

fn node(parts: Vec<Shared<Leaves>>) -> impl Strategy<Value = Node<3>> {
    let choice = prop_oneof![
        Just(()).prop_map(|()| Choice::Nothing),
        param().prop_map(Choice::One),
        (param(), param()).prop_map(|(left, right)| Choice::Both { left, right }),
    ];
    let part = prop::option::of(prop::sample::select(parts.clone()));
    let parent = prop::option::of(prop::sample::select(parts));
    let boxed = prop::option::of(leaves());
    let fields = (choice, part, parent, boxed, proptest::collection::vec(any::<usize>(), 0..3), any::<f32>());
    let one = fields.prop_map(|(choice, part, parent, boxed, sizes, rate)| Node {
        choice,
        children: vec![],
        part,
        parent: parent.map(|parent| parent.downgrade()).unwrap_or_default(),
        boxed: boxed.map(|boxed| Box::new(boxed) as Box<dyn StatefulModule>),
        sizes,
        rate,
    });
    proptest::collection::vec(one, 1..5).prop_map(|nodes| {
        // The first contains the others, in turns side by side and inside of each other.
        let mut nodes = nodes.into_iter().rev().enumerate();
        let (_, mut inner) = nodes.next().unwrap();
        for (number, mut outer) in nodes {
            match number % 2 {
                0 => outer.children.push(inner),
                _ => outer.children.insert(0, inner),
            }
            inner = outer;
        }
        inner
    })
}

fn model() -> impl Strategy<Value = Model> {
    proptest::collection::vec(leaves().prop_map(Shared::new), 1..4)
        .prop_flat_map(|parts| node(parts.clone()).prop_map(move |root| Model { root, parts: parts.clone() }))
}

fn same<M>(graphdef: &GraphDef<M>, state: &State, module: &Model) -> bool {
    let (other, values) = split(module).unwrap();
    *graphdef.program() == *other.program() && values.identical(state).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_is_saved_is_rebuilt(model in model()) {
        let directory = tempfile::tempdir().unwrap();
        let (graphdef, before) = split(&model).unwrap();
        let whole = directory.path().join("model.safetensors");
        save(&whole, &model).unwrap();
        let index = directory.path().join("model.safetensors.index.json");
        Checkpoint::new().module("", &model).unwrap().save_sharded(&index, 64).unwrap();
        for path in [&whole, &index] {
            let file = CheckpointFile::open(path, &Device::Cpu).unwrap();
            let back: Model = file.module_with("", &registry()).unwrap();
            prop_assert!(same(&graphdef, &before, &back));
            // Without a word about its type.
            let back = file.rebuild("", &registry()).unwrap();
            let (program, after) = split_dyn(&*back).unwrap();
            prop_assert!(program == *graphdef.program() && after.identical(&before).unwrap());
        }
        candle_core::safetensors::load(&whole, &Device::Cpu).unwrap();
    }
}

#[test]
fn floating_point_numbers_are_converted_on_request() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.safetensors");
    let tensor = |dtype| Tensor::ones(2, DType::F32, &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
    let values = vec![
        (*Param::new(tensor(DType::F64))).clone(),
        (*Param::new(tensor(DType::U32))).clone(),
        (*Param::new(3u32)).clone(),
    ];
    save(&path, &(Leaves { values, bare: tensor(DType::F16) }, Rngs::new(0))).unwrap();
    let file = CheckpointFile::open(&path, &Device::Cpu).unwrap().with_float_dtype(DType::F32);
    let (back, _): (Leaves, Rngs) = file.module("").unwrap();
    let dtype = |at: usize| back.values[at].value().unwrap().dtype();
    assert_eq!((dtype(0), dtype(1), back.bare.dtype()), (DType::F32, DType::U32, DType::F32));
}

/// What the files in `fixtures` hold.
fn fixture() -> Model {
    let values =
        |start: f32| Tensor::arange(start, start + 4., &Device::Cpu).unwrap().reshape((2, 2)).unwrap();
    let kernel = Param::new(values(0.));
    kernel.set_metadata(Metadata::default().with("sharding", vec!["data", "model"]));
    let half = BatchStat::new(values(4.).to_dtype(DType::BF16).unwrap());
    let part = Shared::new(Leaves {
        values: vec![(*kernel).clone(), (*half).clone(), (*Param::new(7u32)).clone(), (*kernel).clone()],
        bare: Tensor::new(&[1i64, -1], &Device::Cpu).unwrap(),
    });
    let boxed = Leaves { values: vec![], bare: Tensor::new(2.5f64, &Device::Cpu).unwrap() };
    let node = |choice, children, boxed| Node {
        choice,
        children,
        part: Some(part.clone()),
        parent: part.downgrade(),
        boxed,
        sizes: vec![3, 1],
        rate: 0.1,
    };
    let both = Choice::Both { left: Param::new(values(8.)), right: Param::new(values(12.)) };
    let child = node(Choice::One(Param::new(values(16.))), vec![], Some(Box::new(boxed) as _));
    Model {
        root: node(both, vec![child, node(Choice::Nothing, vec![], None)], None),
        parts: vec![part.clone()],
    }
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn fixture_names() -> [PathBuf; 2] {
    ["version_1.safetensors", "version_1.safetensors.index.json"].map(|name| fixtures().join(name))
}

#[test]
fn files_of_version_1_are_read_for_ever() {
    let model = fixture();
    let (graphdef, values) = split(&model).unwrap();
    for path in fixture_names() {
        let file = CheckpointFile::open(&path, &Device::Cpu).unwrap();
        let back: Model = file.module_with("", &registry()).unwrap();
        assert!(same(&graphdef, &values, &back), "{}", path.display());
        let part = &back.parts[0];
        assert!(part.is_same(back.root.part.as_ref().unwrap()));
        assert!(part.is_same(&back.root.children[1].parent.upgrade().unwrap()));
        file.load_into("", &model).unwrap();
    }
    assert!(state(&model).unwrap().identical(&values).unwrap());
}

/// `cargo xtask golden` asks Python's package.
#[test]
fn the_package_of_python_reads_the_same_tensors() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/safetensors/version_1.json");
    let golden: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    for (path, key) in fixture_names().iter().zip(["whole", "index"]) {
        let file = TensorFile::open(path).unwrap();
        let entries = golden[key].as_object().unwrap();
        assert_eq!(file.names().collect::<Vec<_>>(), entries.keys().collect::<Vec<_>>());
        for (name, entry) in entries {
            let tensor = file.tensor(name, &Device::Cpu).unwrap();
            assert_eq!(serde_json::json!(tensor.dims()), entry["shape"], "{name}");
            let mut bytes = Vec::new();
            tensor.write_bytes(&mut bytes).unwrap();
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, entry["hex"].as_str().unwrap(), "{name}");
        }
    }
}

/// Writes the fixtures of the version that is current: for a new version, under its own name.
#[test]
#[ignore = "the files of a version do not change"]
fn write_the_fixtures() {
    std::fs::create_dir_all(fixtures()).unwrap();
    let [whole, index] = fixture_names();
    let checkpoint = Checkpoint::new().module("", &fixture()).unwrap();
    checkpoint.save(whole).unwrap();
    checkpoint.save_sharded(index, 60).unwrap();
}
