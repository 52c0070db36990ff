//! Files of tensors: every dtype, mapped into memory, and spread over several files under an index.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]
#![allow(unsafe_code, reason = "the tests own the files that they map")]

use std::fs;
use std::path::PathBuf;

use bridge_graph::{StatefulModule, state};
use bridge_train::{Checkpoint, CheckpointError, CheckpointFile, TensorFile};
use bridge_vars::{Param, Path, State};
use candle_core::{DType, Device, Tensor};
use serde_json::{Value, json};

const DTYPES: [DType; 10] = [
    DType::U8,
    DType::U32,
    DType::I16,
    DType::I32,
    DType::I64,
    DType::BF16,
    DType::F16,
    DType::F32,
    DType::F64,
    DType::F8E4M3,
];

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
    fn path(&self) -> PathBuf {
        self.0.path().join("model.safetensors")
    }
    fn index(&self) -> PathBuf {
        self.0.path().join("model.safetensors.index.json")
    }
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
    fn edit_index(&self, edit: impl FnOnce(&mut Value)) -> String {
        let mut index: Value = serde_json::from_slice(&fs::read(self.index()).unwrap()).unwrap();
        edit(&mut index);
        fs::write(self.index(), index.to_string()).unwrap();
        let error = CheckpointFile::open(self.index(), &Device::Cpu).unwrap_err();
        assert!(error.downcast_ref::<CheckpointError>().is_some(), "{error}");
        error.to_string()
    }
}

/// A tensor of every dtype, transposed and part of a larger one too.
fn every_dtype() -> State {
    let mut state = State::default();
    for dtype in DTYPES {
        let values = Tensor::arange(0f32, 24., &Device::Cpu).unwrap().reshape((4, 6)).unwrap();
        let values = values.to_dtype(dtype).unwrap();
        for (name, tensor) in [
            ("whole", values.clone()),
            ("transposed", values.t().unwrap()),
            ("part", values.narrow(0, 1, 2).unwrap()),
            ("scalar", values.flatten_all().unwrap().get(5).unwrap()),
            ("empty", values.narrow(0, 0, 0).unwrap()),
        ] {
            state
                .insert(&Path::from(format!("{}.{name}", dtype.as_str()).as_str()), Param::leaf(tensor))
                .unwrap();
        }
    }
    state
}

#[test]
fn every_dtype_comes_back_read_and_mapped() {
    let (place, state) = (Place::new(), every_dtype());
    Checkpoint::new().state("", &state).unwrap().save(place.path()).unwrap();
    let read = CheckpointFile::open(place.path(), &Device::Cpu).unwrap();
    assert!(read.state("").unwrap().identical(&state).unwrap());
    // SAFETY: nothing else knows the file.
    let mapped = unsafe { CheckpointFile::open_mapped(place.path(), &Device::Cpu) }.unwrap();
    assert!(mapped.state("").unwrap().identical(&state).unwrap());
    let peer = candle_core::safetensors::load(place.path(), &Device::Cpu).unwrap();
    assert_eq!(peer.len(), DTYPES.len() * 5);
}

#[derive(StatefulModule)]
struct Stack {
    layers: Vec<Param>,
}

fn stack(layers: usize, start: f32) -> Stack {
    let layer = |number| Param::new(Tensor::full(start + number as f32, 100, &Device::Cpu).unwrap());
    Stack { layers: (0..layers).map(layer).collect() }
}

#[test]
fn a_checkpoint_in_several_files() {
    let (place, model) = (Place::new(), stack(5, 0.));
    let checkpoint = Checkpoint::new().module("", &model).unwrap();
    checkpoint.save_sharded(place.index(), 800).unwrap();
    let names = place.names();
    assert_eq!(names.len(), 4, "{names:?}");
    let content = &names[0]["model-".len()..][..8];
    assert_eq!(names[2], format!("model-{content}-00003-of-00003.safetensors"));
    let file = CheckpointFile::open(place.index(), &Device::Cpu).unwrap();
    let back: Stack = file.module("").unwrap();
    assert!(state(&back).unwrap().identical(&state(&model).unwrap()).unwrap());
    // SAFETY: nothing else knows the files.
    let mapped = unsafe { CheckpointFile::open_mapped(place.index(), &Device::Cpu) }.unwrap();
    assert_eq!(mapped.module::<Stack>("").unwrap().layers.len(), 5);
    // As other readers see it.
    let index: Value = serde_json::from_slice(&fs::read(place.index()).unwrap()).unwrap();
    assert_eq!(index["metadata"]["total_size"], 2000);
    assert_eq!(index["weight_map"]["layers.4"], names[2].as_str());
    let tensors = candle_core::safetensors::load(place.0.path().join(&names[2]), &Device::Cpu).unwrap();
    assert_eq!(tensors["layers.4"].to_vec1::<f32>().unwrap(), [4.; 100]);
    // The same content has the same names; another takes the place of the old.
    checkpoint.save_sharded(place.index(), 800).unwrap();
    assert_eq!(place.names(), names);
    Checkpoint::new().module("", &stack(5, 1.)).unwrap().save_sharded(place.index(), 400).unwrap();
    assert_eq!(place.names().len(), 6);
    assert!(place.names().iter().all(|name| !names[..3].contains(name)));
    let file = CheckpointFile::open(place.index(), &Device::Cpu).unwrap();
    file.load_into("", &model).unwrap();
    assert_eq!(model.layers[0].value().unwrap().to_vec1::<f32>().unwrap(), [1.; 100]);
}

#[test]
fn an_index_that_does_not_fit_its_files_is_refused() {
    let place = Place::new();
    let save =
        || Checkpoint::new().module("", &stack(2, 0.)).unwrap().save_sharded(place.index(), 400).unwrap();
    save();
    let file = place.names()[0].clone();
    for outside in ["../model.safetensors", "/etc/passwd", "", ".", "a/b", "./a"] {
        let error = place.edit_index(|index| index["weight_map"]["layers.0"] = json!(outside));
        assert!(error.contains("is not the name of a file beside it"), "{error}");
        save();
    }
    let error = place.edit_index(|index| index["weight_map"]["layers.1"] = json!(file));
    assert!(error.contains("lacks the tensor `layers.1`"), "{error}");
    save();
    let error = place.edit_index(|index| {
        index["weight_map"].as_object_mut().unwrap().remove("layers.0");
    });
    assert!(error.contains("does not describe") || error.contains("lacks the tensor"), "{error}");
    save();
    let error = place.edit_index(|index| index["weight_map"]["layers.9"] = json!(file));
    assert!(error.contains("lacks the tensor `layers.9`"), "{error}");
    save();
    let error = place.edit_index(|index| {
        index["metadata"].as_object_mut().unwrap().remove("candle-bridge");
    });
    assert!(error.contains("is a file of 2 tensors"), "{error}");
    assert_eq!(
        TensorFile::open(place.index()).unwrap().names().collect::<Vec<_>>(),
        ["layers.0", "layers.1"]
    );
    save();
    fs::remove_file(place.0.path().join(&file)).unwrap();
    let error = CheckpointFile::open(place.index(), &Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("can not read") && error.contains(&file), "{error}");
}

#[test]
fn saving_under_one_index_leaves_the_files_of_others_alone() {
    let place = Place::new();
    let save = |index: &PathBuf, largest| {
        Checkpoint::new().module("", &stack(5, 0.)).unwrap().save_sharded(index, largest).unwrap();
    };
    // Other groups of the same tensors have other names: the old files stay whole until the new index is there.
    save(&place.index(), 800);
    let before = place.names();
    save(&place.index(), 1200);
    assert!(before[..3].iter().all(|name| !place.names().contains(name)));
    let other = place.0.path().join("model.json");
    save(&other, 800);
    save(&place.index(), 400);
    for index in [&other, &place.index()] {
        assert_eq!(
            CheckpointFile::open(index, &Device::Cpu).unwrap().module::<Stack>("").unwrap().layers.len(),
            5
        );
    }
}

#[test]
fn many_small_parts_of_a_small_model_can_be_saved() {
    let place = Place::new();
    let options: Vec<Option<Param>> = (0..300).map(|_| None).collect();
    bridge_train::save(place.path(), &options).unwrap();
    let back: Vec<Option<Param>> = bridge_train::load(place.path(), &Device::Cpu).unwrap();
    assert_eq!(back.len(), 300);
}
