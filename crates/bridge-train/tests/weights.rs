//! Weights that something else saved: renamed, laid out anew, converted, in part, and all that does not fit in one report.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

use std::path::PathBuf;

use bridge_graph::{GraphError, Policy, Shared, StatefulModule, state};
use bridge_train::{CheckpointError, LoadReport, TensorFile, Weights};
use bridge_vars::{BatchStat, Filter, Param, Path, Variables};
use candle_core::{DType, Device, Tensor};

#[derive(StatefulModule)]
struct Dense {
    kernel: Param,
    bias: Param,
}

#[derive(StatefulModule)]
struct Norm {
    scale: Param,
    mean: BatchStat,
}

#[derive(StatefulModule)]
struct Model {
    layers: Vec<Dense>,
    norm: Norm,
}

fn zeros(shape: &[usize]) -> Tensor {
    Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap()
}

fn count(shape: &[usize]) -> Tensor {
    let size = shape.iter().product::<usize>() as f32;
    Tensor::arange(0f32, size, &Device::Cpu).unwrap().reshape(shape).unwrap()
}

fn model() -> Model {
    let dense = || Dense { kernel: Param::new(zeros(&[2, 3])), bias: Param::new(zeros(&[3])) };
    let norm = Norm { scale: Param::new(zeros(&[3])), mean: BatchStat::new(zeros(&[3])) };
    Model { layers: vec![dense(), dense()], norm }
}

fn pytorch() -> Vec<(&'static str, Tensor)> {
    vec![
        ("layers.0.weight", count(&[3, 2])),
        ("layers.0.bias", count(&[3])),
        ("layers.1.weight", count(&[3, 2])),
        ("layers.1.bias", count(&[3])),
        ("norm.weight", count(&[3])),
        ("norm.running_mean", count(&[3])),
        ("norm.num_batches_tracked", Tensor::new(5i64, &Device::Cpu).unwrap()),
    ]
}

struct Place(tempfile::TempDir);

impl Place {
    fn path(&self) -> PathBuf {
        self.0.path().join("model.safetensors")
    }
    fn weights(&self) -> Weights {
        Weights::open(self.path()).unwrap()
    }
}

fn saved(tensors: impl IntoIterator<Item = (impl Into<String>, Tensor)>) -> Place {
    let place = Place(tempfile::tempdir().unwrap());
    let tensors = tensors.into_iter().map(|(name, tensor)| (name.into(), tensor)).collect();
    candle_core::safetensors::save(&tensors, place.path()).unwrap();
    place
}

fn paths(paths: &[Path]) -> Vec<String> {
    paths.iter().map(Path::to_string).collect()
}

/// That loading fails, changes nothing, and says these things.
fn refused(weights: &Weights, model: &Model, expected: &[&str]) {
    let before = state(model).unwrap();
    let error = weights.load_into(model).unwrap_err();
    let Some(CheckpointError::Weights { source, .. }) = error.downcast_ref() else { panic!("{error}") };
    assert!(matches!(source.downcast_ref(), Some(GraphError::Misfit(_))), "{source}");
    for text in expected {
        assert!(error.to_string().contains(text), "{text:?} is not in: {error}");
    }
    assert!(state(model).unwrap().identical(&before).unwrap());
}

#[test]
fn of_pytorch() {
    let (place, model) = (saved(pytorch()), model());
    let report = place.weights().from_pytorch().load_into(&model).unwrap();
    assert_eq!(report.loaded.len(), 6);
    assert_eq!(report.ignored, ["norm.num_batches_tracked"]);
    assert_eq!(report.to_string(), "6 loaded, 1 left out");
    let kernel = model.layers[1].kernel.value().unwrap();
    assert_eq!(kernel.to_vec2::<f32>().unwrap(), [[0., 2., 4.], [1., 3., 5.]]);
    assert_eq!(model.norm.mean.value().unwrap().to_vec1::<f32>().unwrap(), [0., 1., 2.]);
    // The names alone fit nothing.
    refused(
        &place.weights(),
        &model,
        &[
            "missing `layers.0.kernel` (is `layers.0.weight` meant?)",
            "unexpected `norm.running_mean`",
            "missing `norm.scale`",
        ],
    );
}

#[test]
fn a_convolution_of_pytorch() {
    let place = saved([("weight", count(&[4, 3, 1, 2])), ("bias", zeros(&[4]))]);
    let conv = Dense { kernel: Param::new(zeros(&[1, 2, 3, 4])), bias: Param::new(zeros(&[4])) };
    place.weights().from_pytorch().load_into(&conv).unwrap();
    let expected = count(&[4, 3, 1, 2]).permute((2, 3, 1, 0)).unwrap();
    let values = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(values(&conv.kernel.value().unwrap()), values(&expected));
}

#[test]
fn rules_apply_in_order() {
    let named = pytorch().into_iter().map(|(name, tensor)| (format!("net.model.{name}"), tensor));
    let other = ("decoder.weight".to_owned(), zeros(&[1]));
    let (place, model) = (saved(named.chain([other])), model());
    let weights = place.weights().prefix("net").rename("model", "").rename("weight", "kernel");
    let weights = weights.rename("norm.kernel", "norm.scale").rename("running_mean", "mean");
    let weights = weights.rename_with(|name| (!name.ends_with("tracked")).then(|| name.to_owned()));
    refused(
        &weights,
        &model,
        &["`layers.0.kernel`: expected Param", "(transposed? see `Weights::transpose`"],
    );
    let report = weights.clone().transpose("**.kernel").load_into(&model).unwrap();
    assert_eq!(report.ignored, ["decoder.weight", "net.model.norm.num_batches_tracked"]);
    assert_eq!(report.loaded.len(), 6);
    let permuted = weights.permute("layers.*.kernel", [1, 0]);
    assert_eq!(permuted.load_into(&model).unwrap().loaded.len(), 6);
}

#[test]
fn a_part_of_a_model() {
    let (place, model) = (saved(pytorch()), model());
    let weights = place.weights().from_pytorch().filter(Filter::path_starts_with("layers.0"));
    let report = weights.load_into(&model).unwrap();
    assert_eq!(paths(&report.loaded), ["layers.0.bias", "layers.0.kernel"]);
    assert_eq!(report.ignored.len(), 5);
    assert_eq!(model.layers[1].bias.value().unwrap().to_vec1::<f32>().unwrap(), [0.; 3]);
}

#[test]
fn policies() {
    let tensors =
        [("layers.0.bias", zeros(&[3])), ("layers.7.bias", zeros(&[3])), ("norm.scale", zeros(&[4]))];
    let (place, model) = (saved(tensors), model());
    let all = ["missing `norm.mean`", "unexpected `layers.7.bias`", "`norm.scale`: expected Param"];
    refused(&place.weights(), &model, &all);
    refused(&place.weights().policy(Policy::Subset), &model, &all[1..]);
    let LoadReport { loaded, misfit, .. } =
        place.weights().policy(Policy::Partial).load_into(&model).unwrap();
    assert_eq!(paths(&loaded), ["layers.0.bias"]);
    assert_eq!((misfit.missing.len(), misfit.unexpected.len(), misfit.mismatched.len()), (4, 1, 1));
}

#[test]
fn dtypes_are_converted_on_request() {
    let half = count(&[3]).to_dtype(DType::BF16).unwrap();
    let (place, model) = (saved([("norm.scale", half)]), model());
    let weights = place.weights().filter(Filter::path("norm.scale"));
    refused(&weights, &model, &["bf16[3]", "(`Weights::cast` would convert it)"]);
    weights.cast().load_into(&model).unwrap();
    assert_eq!(model.norm.scale.value().unwrap().to_vec1::<f32>().unwrap(), [0., 1., 2.]);
}

#[test]
fn two_tensors_for_one_variable_are_refused() {
    let (place, model) = (saved([("a.scale", zeros(&[3])), ("b.scale", count(&[3]))]), model());
    let weights = place.weights().rename("a", "norm").rename("b", "norm");
    refused(
        &weights,
        &model,
        &["`norm.scale`: expected one tensor, found `a.scale` and `b.scale`", "missing"],
    );
}

#[test]
fn a_layout_that_does_not_apply_is_said() {
    let square = Dense { kernel: Param::new(zeros(&[2, 2])), bias: Param::new(zeros(&[2])) };
    let place = saved([("q.weight", count(&[2, 2])), ("q.bias", zeros(&[2]))]);
    let weights = place.weights().rename("q", "").rename("weight", "kernel");
    for dims in [vec![1, 0, 2], vec![0, 0], vec![]] {
        let error = weights.clone().permute("kernel", dims).load_into(&square).unwrap_err().to_string();
        assert!(error.contains("whose dimensions can not be in the order"), "{error}");
    }
    let error = weights.clone().transpose("**").load_into(&square).unwrap_err().to_string();
    assert!(error.contains("`bias`: expected Param f32[2], found a tensor [2], which can not be"), "{error}");
    // PyTorch's layout, whatever gave the weight its name.
    weights.from_pytorch().load_into(&square).unwrap();
    assert_eq!(square.kernel.value().unwrap().to_vec2::<f32>().unwrap(), [[0., 2.], [1., 3.]]);
}

#[test]
fn what_is_no_variable_or_has_no_value() {
    let module = (Param::new(zeros(&[2])), zeros(&[2]), Param::new(5u32));
    let place = saved([("0", count(&[2]))]);
    assert_eq!(place.weights().load_into(&module).unwrap().loaded.len(), 1);
    let place = saved([("0", count(&[2])), ("1", count(&[2])), ("2", count(&[2]))]);
    let error = place.weights().load_into(&module).unwrap_err().to_string();
    for path in ["`1`: expected", "`2`: expected", "which is no variable that holds a tensor"] {
        assert!(error.contains(path), "{error}");
    }
    let weights = place.weights().rename_with(|name| (name == "0").then(|| name.to_owned()));
    // A variable without a value takes any.
    let (graphdef, state) = bridge_graph::split(&module).unwrap();
    let state = state.filter(!Filter::path("0"));
    let (merged, _) = bridge_graph::merge_with(&graphdef, &state, Policy::Partial).unwrap();
    weights.load_into(&merged).unwrap();
    assert_eq!(merged.0.value().unwrap().to_vec1::<f32>().unwrap(), [0., 1.]);
}

#[test]
fn into_variables() {
    let mut variables = Variables::default();
    variables.insert(&Path::from("layers.kernel"), Param::leaf(zeros(&[2, 3]))).unwrap();
    variables.insert(&Path::from("norm.mean"), BatchStat::leaf(zeros(&[3]))).unwrap();
    let place = saved([("layers.weight", count(&[3, 2])), ("norm.running_mean", count(&[3]))]);
    let (loaded, report) = place.weights().from_pytorch().load_variables(&variables).unwrap();
    assert_eq!(paths(&report.loaded), ["batch_stats.norm.mean", "params.layers.kernel"]);
    let mean = loaded.get("batch_stats", "norm.mean").unwrap().tensor().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(mean, [0., 1., 2.]);
}

#[test]
fn a_name_that_is_not_there_is_said_with_those_that_are_like_it() {
    let place = saved(pytorch());
    let file = TensorFile::open(place.path()).unwrap();
    let error = file.tensor("layer.0.weight", &Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("no tensor `layer.0.weight`, did you mean `layers.0.weight`"), "{error}");
}

#[test]
fn tied_weights_have_any_of_their_names_or_all() {
    let shared = Shared::new(Dense { kernel: Param::new(zeros(&[2, 3])), bias: Param::new(zeros(&[3])) });
    let model = (shared.clone(), vec![shared], Param::new(zeros(&[1])));
    let of = |names: &[&str], other: Tensor| {
        let mut tensors = vec![("2".to_owned(), zeros(&[1])), ("0.bias".to_owned(), zeros(&[3]))];
        tensors.extend(names.iter().map(|name| ((*name).to_owned(), count(&[3, 2]))));
        tensors.push(("1.0.weight".to_owned(), other));
        saved(tensors)
    };
    let load = |place: &Place| place.weights().from_pytorch().load_into(&model);
    assert_eq!(paths(&load(&of(&[], count(&[3, 2]))).unwrap().loaded), ["0.bias", "0.kernel", "2"]);
    assert_eq!(load(&of(&["0.weight"], count(&[3, 2]))).unwrap().loaded.len(), 3);
    let error = load(&of(&["0.weight"], zeros(&[3, 2]))).unwrap_err().to_string();
    assert!(error.contains("`0.kernel`: expected one tensor, found `0.weight` and `1.0.weight`"), "{error}");
}
