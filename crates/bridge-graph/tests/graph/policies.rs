//! How strictly a state must fit, and what is said about the rest.

use bridge_graph::{
    GraphError, Misfit, Policy, Rngs, StatefulModule, merge_with, reseed, split, state, update, update_with,
};
use bridge_vars::{BatchStat, Hooks, Metadata, Param, Result, State, Value};
use candle_core::Tensor;

use crate::support::{param, read, scalar, zeros};

#[derive(StatefulModule)]
struct Layer {
    kernel: Param,
    bias: Param,
    mean: BatchStat,
}

fn layer() -> Layer {
    Layer { kernel: Param::new(zeros(&[2])), bias: param(1.), mean: BatchStat::new(scalar(2.)) }
}

/// A bias that fits, a kernel that does not, no mean, and something else.
fn other() -> State {
    State::unflatten([
        ("bias".into(), Param::leaf(scalar(5.))),
        ("kernel".into(), Param::leaf(zeros(&[3]))),
        ("means".into(), BatchStat::leaf(scalar(6.))),
    ])
    .unwrap()
}

fn lists(report: &Misfit) -> [Vec<String>; 3] {
    let paths = |paths: &[bridge_vars::Path]| paths.iter().map(ToString::to_string).collect();
    let mismatched = report.mismatched.iter().map(|mismatch| mismatch.path.to_string()).collect();
    [paths(&report.missing), paths(&report.unexpected), mismatched]
}

fn refused<T>(result: Result<T>) -> [Vec<String>; 3] {
    let error = result.map(|_| ()).unwrap_err();
    match error.downcast_ref() {
        Some(GraphError::Misfit(report)) => lists(report),
        _ => panic!("{error}"),
    }
}

const EVERYTHING: [&[&str]; 3] = [&["mean"], &["means"], &["kernel"]];

#[test]
fn every_policy_reports_everything_at_once() {
    let layer = layer();
    let (graphdef, before) = split(&layer).unwrap();
    for policy in [Policy::Strict, Policy::Subset] {
        assert_eq!(refused(update_with(&layer, &other(), policy)), EVERYTHING);
        assert_eq!(refused(merge_with(&graphdef, &other(), policy)), EVERYTHING);
        assert!(state(&layer).unwrap().identical(&before).unwrap());
    }
    for policy in [Policy::Partial, Policy::Warn] {
        let layer = bridge_graph::clone(&layer).unwrap();
        assert_eq!(lists(&update_with(&layer, &other(), policy).unwrap()), EVERYTHING);
        assert_eq!((read(&layer.bias), read(&layer.mean)), (5., 2.));
        assert_eq!(layer.kernel.value().unwrap().dims(), [2]);
        let (merged, report) = merge_with(&graphdef, &other(), policy).unwrap();
        assert_eq!(lists(&report), EVERYTHING);
        assert_eq!(read(&merged.bias), 5.);
    }
}

#[test]
fn a_state_may_lack_what_a_policy_allows() {
    let layer = layer();
    let part = State::unflatten([("bias".into(), Param::leaf(scalar(5.)))]).unwrap();
    let missing = [&["kernel", "mean"][..], &[], &[]];
    assert_eq!(refused(update_with(&layer, &part, Policy::Strict)), missing);
    assert_eq!(read(&layer.bias), 1.);
    assert_eq!(lists(&update_with(&layer, &part, Policy::Subset).unwrap()), missing);
    assert_eq!(read(&layer.bias), 5.);
    assert!(update_with(&layer, &state(&layer).unwrap(), Policy::Strict).unwrap().is_empty());
}

#[test]
fn what_is_missing_is_absent_and_says_so() {
    let (graphdef, whole) = split(&layer()).unwrap();
    let (merged, _) = merge_with(&graphdef, &other(), Policy::Partial).unwrap();
    assert_eq!(
        merged.mean.value().unwrap_err().to_string(),
        "expected a tensor, found no value: `update` it, or merge with a state that has it"
    );
    // It can be split, and merged again, as it is.
    let (again, absent) = split(&merged).unwrap();
    assert!(again == graphdef && matches!(absent.get("mean").unwrap().value, Value::Absent));
    let twice = bridge_graph::merge(&again, &absent).unwrap();
    assert!(twice.mean.value().is_err());
    // A full description refuses it.
    let text = bridge_graph::merge(&graphdef, &absent).map(|_| ()).unwrap_err().to_string();
    assert!(text.contains("`mean`: expected BatchStat f32[], found BatchStat without a value"), "{text}");
    // A value of any shape can be given later.
    update(&merged, &whole).unwrap();
    assert_eq!(read(&merged.mean), 2.);
    assert_eq!(merged.kernel.value().unwrap().dims(), [2]);
}

#[test]
fn a_bare_tensor_must_have_a_value() {
    let (graphdef, whole) = split(&(param(1.), scalar(2.))).unwrap();
    let part = whole.filter(bridge_vars::Filter::of::<Param>());
    let missing = [&["1"][..], &[], &[]];
    assert_eq!(refused(merge_with::<(Param, Tensor)>(&graphdef, &part, Policy::Partial)), missing);
}

#[test]
fn names_that_look_alike_are_suggested() {
    let (graphdef, _) = split(&layer()).unwrap();
    let text = merge_with(&graphdef, &other(), Policy::Strict).map(|_| ()).unwrap_err().to_string();
    assert!(text.contains("missing `mean` (is `means` meant?)"), "{text}");
}

#[test]
fn what_the_state_lacks_keeps_its_metadata() {
    let module = (layer(), Rngs::new(0).with_stream("dropout", 1));
    let doubled =
        Hooks::new("policies.doubled").on_set(|_, value| Ok(value.tensor()?.affine(2., 0.)?.into()));
    module.0.bias.set_metadata(Metadata::default().with("sharding", "data"));
    let mut metadata = module.0.bias.metadata();
    metadata.set_hooks(Some(doubled));
    module.0.bias.set_metadata(metadata);
    let (graphdef, _) = split(&module).unwrap();
    let (merged, report) = merge_with(&graphdef, &State::default(), Policy::Partial).unwrap();
    assert_eq!(report.missing.len(), 7);
    assert!(bridge_graph::graphdef(&merged).unwrap() == graphdef);
    merged.0.bias.set(scalar(2.)).unwrap();
    assert_eq!(read(&merged.0.bias), 4.);
    // Streams have their names, so they can be started.
    reseed(&merged, [("dropout", 1), ("default", 0)]).unwrap();
    assert!(merged.1.draw("dropout").is_ok());
}
