//! Files that PyTorch wrote, and files that are nearly such.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use bridge_graph::StatefulModule;
use bridge_train::{CheckpointError, TensorFile, Weights};
use bridge_vars::{BatchStat, Param};
use candle_core::{DType, Device, Tensor};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn floats(file: &TensorFile, name: &str) -> Vec<f32> {
    let tensor = file.tensor(name, &Device::Cpu).unwrap();
    tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

#[derive(StatefulModule)]
struct Linear {
    kernel: Param,
    bias: Param,
}

#[derive(StatefulModule)]
struct Norm {
    scale: Param,
    bias: Param,
    mean: BatchStat,
    var: BatchStat,
}

#[test]
fn a_state_dict() {
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
    let linear = Linear { kernel: Param::new(zeros(&[3, 2])), bias: Param::new(zeros(&[2])) };
    let norm = Norm {
        scale: Param::new(zeros(&[2])),
        bias: Param::new(zeros(&[2])),
        mean: BatchStat::new(zeros(&[2])),
        var: BatchStat::new(zeros(&[2])),
    };
    let model = (linear, norm);
    let weights = Weights::open(fixture("pytorch.pth")).unwrap().from_pytorch();
    let report = weights.load_into(&model).unwrap();
    assert_eq!((report.loaded.len(), report.ignored), (6, vec!["1.num_batches_tracked".to_owned()]));
    assert_eq!(model.0.kernel.value().unwrap().to_vec2::<f32>().unwrap(), [[0., 3.], [1., 4.], [2., 5.]]);
    assert_eq!(model.0.bias.value().unwrap().to_vec1::<f32>().unwrap(), [10., 11.]);
    assert_eq!(model.1.var.value().unwrap().to_vec1::<f32>().unwrap(), [1., 1.]);
    // Inside of something larger.
    let weights = Weights::open(fixture("pytorch_training.bin")).unwrap().prefix("state_dict").from_pytorch();
    assert_eq!(weights.load_into(&model).unwrap().loaded.len(), 6);
}

#[test]
fn views_dtypes_and_what_is_no_tensor() {
    let file = TensorFile::open(fixture("pytorch_training.bin")).unwrap();
    let base = Tensor::arange(0f32, 24., &Device::Cpu).unwrap().reshape((4, 6)).unwrap();
    let values = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(floats(&file, "views.transposed"), values(&base.t().unwrap().contiguous().unwrap()));
    assert_eq!(file.shape("views.transposed").unwrap(), [6, 4]);
    assert_eq!(floats(&file, "views.columns"), [2., 3., 8., 9., 14., 15., 20., 21.]);
    assert_eq!(floats(&file, "views.later"), [12., 13., 14., 15., 16., 17.]);
    assert_eq!(floats(&file, "views.every_second"), [0., 3., 12., 15.]);
    assert_eq!(file.tensor("views.scalar", &Device::Cpu).unwrap().to_scalar::<i64>().unwrap(), 7);
    assert_eq!(file.tensor("views.empty", &Device::Cpu).unwrap().dims(), [0, 3]);
    assert_eq!(floats(&file, "parameter"), [1., 1.]);
    let dtypes: [DType; 8] = std::array::from_fn(|number| file.dtype(&format!("dtypes.{number}")).unwrap());
    use DType::*;
    assert_eq!(dtypes, [U8, I16, I32, I64, F16, BF16, F32, F64]);
    for number in 0..8 {
        assert_eq!(floats(&file, &format!("dtypes.{number}")), [0., 1., 2.]);
    }
    let said = |name: &str| file.metadata()[name].as_str();
    assert_eq!([said("epoch"), said("rate"), said("name"), said("best")], ["3", "0.5", "a run", "None"]);
}

#[test]
fn what_python_writes_as_safetensors() {
    let file = TensorFile::open(fixture("safetensors_of_python.safetensors")).unwrap();
    assert_eq!(file.names().collect::<Vec<_>>(), ["a.weight", "b", "c"]);
    assert_eq!(floats(&file, "b")[23], 23.);
    assert_eq!((file.dtype("b"), file.metadata()["format"].as_str()), (Some(DType::BF16), "pt"));
}

/// Reads everything in a file of these bytes: no panic, and typed errors.
fn read(directory: &tempfile::TempDir, bytes: &[u8]) -> bool {
    let path = directory.path().join("file.pth");
    fs::write(&path, bytes).unwrap();
    let check = |error: bridge_vars::Error| {
        assert!(error.downcast_ref::<CheckpointError>().is_some(), "{error}");
        false
    };
    match TensorFile::open(&path) {
        Ok(file) => {
            let names: Vec<_> = file.names().map(str::to_owned).collect();
            names.iter().all(|name| file.tensor(name, &Device::Cpu).map_or_else(check, |_| true))
        }
        Err(error) => check(error),
    }
}

#[test]
fn damaged_files_are_errors_or_files() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["pytorch.pth", "pytorch_training.bin"] {
        let bytes = fs::read(fixture(name)).unwrap();
        assert!(read(&directory, &bytes));
        for length in (0..bytes.len()).step_by(7) {
            assert!(!read(&directory, &bytes[..length]), "{length} of {}", bytes.len());
        }
        for at in 0..bytes.len() {
            for mask in [0x01, 0x80, 0xff] {
                let mut damaged = bytes.clone();
                damaged[at] ^= mask;
                read(&directory, &damaged);
            }
        }
    }
}
