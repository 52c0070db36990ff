//! How values are to be spread over a mesh: names of axes, rules, and what changes them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails panics")]

use bridge_random::{Initializer, key};
use bridge_vars::{
    Described, Hooks, Initialize, Leaf, Metadata, Param, PartitionSpec, Path, Result, Sharding, State,
    Variable, VarsError, with_logical_partitioning, with_metadata, with_partitioning,
};
use candle_core::{DType, Device, Tensor};

fn ones(shape: &[usize]) -> Tensor {
    Tensor::ones(shape, DType::F32, &Device::Cpu).unwrap()
}

fn described(names: &[&str], rank: usize) -> Leaf {
    let metadata = Metadata::default().with_sharding(&Sharding::new(names.iter().copied()));
    Leaf { metadata, ..Param::leaf(Described::new(vec![2; rank], DType::F32, &Device::Cpu)) }
}

/// The axes of a mesh that names come to by rules, by the sharding's own and by rules that come later.
#[track_caller]
fn check(rules: &[(&str, &str)], cases: &[(&[&str], &[&str])]) {
    for (names, expected) in cases {
        let expected: Vec<Option<String>> =
            expected.iter().map(|axis| (!axis.is_empty()).then(|| (*axis).to_owned())).collect();
        let later = described(names, names.len()).partition_spec().unwrap().by_rules(rules.iter().copied());
        assert_eq!(later.unwrap(), PartitionSpec(expected.clone()), "{names:?} by {rules:?}");
        let init = with_logical_partitioning(Initializer::Ones, names.iter().copied(), rules.iter().copied());
        let own = init.leaf(Param::variable_type(), ones(&vec![2; names.len()]));
        if !rules.is_empty() {
            assert_eq!(own.partition_spec().unwrap(), PartitionSpec(expected), "{names:?} by {rules:?}");
        }
    }
}

// The cases are those of Flax's `logical_to_mesh_axes`.

#[test]
fn names_lead_to_axes_of_the_mesh() {
    check(
        &[("foo", "data"), ("bar", "model"), ("baz", "")],
        &[
            (&["foo", "bar"], &["data", "model"]),
            (&["baz", "bar", "foo"], &["", "model", "data"]),
            (&[], &[]),
        ],
    );
}

#[test]
fn of_rules_for_one_axis_of_the_mesh_the_first_has_it() {
    check(
        &[("foo", "model"), ("bar", "model"), ("baz", "data")],
        &[
            (&["foo", "bar", "baz"], &["model", "", "data"]),
            (&["bar", "foo", "baz"], &["", "model", "data"]),
            (&["baz", "bar", "foo", "unassigned"], &["data", "", "model", ""]),
        ],
    );
}

#[test]
fn the_first_rule_that_can_be_followed_is_final() {
    check(&[("a", ""), ("a", "model")], &[(&["a", "b"], &["", ""])]);
    let rules = [("baz", "data"), ("bar", ""), ("foo", "model"), ("foo", "data")];
    check(&rules, &[(&["baz", "bar", "foo"], &["data", "", "model"])]);
    check(&[("b", "x"), ("a", "x"), ("a", "y")], &[(&["a", "b"], &["y", "x"])]);
}

#[test]
fn without_rules_nothing_is_spread() {
    check(&[], &[(&["a", "b", ""], &["", "", ""])]);
}

#[test]
fn without_rules_of_its_own_a_name_is_an_axis_of_the_mesh() {
    assert_eq!(
        described(&["data", "", "model"], 3).partition_spec().unwrap().to_string(),
        "P(data, None, model)"
    );
}

#[test]
fn a_name_twice_is_an_error_and_unnamed_axes_are_not() {
    let text = "the name `foo` is there twice in the sharding [\"foo\", \"foo\", \"baz\"]: each axis takes \
                a name of its own";
    let error = Sharding::new(["foo", "foo", "baz"]).mesh_axes().unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(VarsError::ShardingNameTwice { .. })));
    assert_eq!(error.to_string(), text);
    check(&[("foo", "data")], &[(&["", "foo", "", ""], &["", "data", "", ""])]);
}

#[test]
fn specs_of_a_state_say_where_they_can_not_be_had() {
    let state = |leaf: Leaf| {
        State::unflatten([(Path::from("a.b"), Param::leaf(1u32)), (Path::from("a.kernel"), leaf)]).unwrap()
    };
    let specs = state(described(&["x", ""], 2)).partition_specs().unwrap();
    let found: Vec<_> = specs.iter().map(|(path, spec)| format!("{path}: {spec}")).collect();
    assert_eq!(found, ["a.b: P()", "a.kernel: P(x, None)"]);
    let text = state(described(&["x", "y"], 1)).partition_specs().unwrap_err().to_string();
    assert_eq!(text, "at `a.kernel`: the sharding [\"x\", \"y\"] has 2 names, the value has 1 axes");
    let mut other = described(&[], 1);
    other.metadata.set(Metadata::SHARDING, "x");
    let text = state(other).to_variables().partition_specs().unwrap_err().to_string();
    assert!(
        text.starts_with("at `params.a.kernel`: expected a sharding in the metadata, found \"x\""),
        "{text}"
    );
}

#[test]
fn fewer_names_than_axes_leave_the_last_ones_whole() {
    assert_eq!(described(&["x"], 3).partition_spec().unwrap().to_string(), "P(x)");
}

#[test]
fn a_value_that_is_set_keeps_what_is_said_about_it() {
    let init = with_partitioning(Initializer::Ones, ["in", "out"]);
    let value = init.value(key(0), &(2, 3).into(), DType::F32, &Device::Cpu).unwrap();
    let param = Param::create(value, init.metadata()).unwrap();
    param.set((param.value().unwrap() + 1.).unwrap()).unwrap();
    param.change_in_place(|tensor| Ok(tensor.const_set(5f32.into())?)).unwrap();
    assert_eq!(param.value().unwrap().to_vec2::<f32>().unwrap(), [[5.; 3]; 2]);
    assert_eq!(param.leaf().unwrap().partition_spec().unwrap().to_string(), "P(in, out)");
}

#[test]
fn an_axis_that_comes_and_goes_is_named_where_it_is() {
    let param = Param::new(ones(&[3, 3]));
    param.set_metadata(Metadata::default().with_sharding(&Sharding::new(["in", "out"])));
    let names = |param: &Param| param.metadata().sharding().unwrap().unwrap().names;
    let named = |names: &[&str]| Sharding::new(names.iter().copied()).names;
    param.add_axis(0, Some("layers")).unwrap();
    assert_eq!(names(&param), named(&["layers", "in", "out"]));
    param.add_axis(1, None).unwrap();
    assert_eq!(names(&param), named(&["layers", "", "in", "out"]));
    param.remove_axis(1, None).unwrap();
    param.remove_axis(0, Some("layers")).unwrap();
    assert_eq!(names(&param), named(&["in", "out"]));
    let text = "expected the axis 0 of the sharding to be `layers`, found the axes [`in`, `out`]";
    assert_eq!(param.remove_axis(0, Some("layers")).unwrap_err().to_string(), text);
    let text = "expected the axis 2 of the sharding to be `unnamed`, found the axes [`in`, `out`]";
    assert_eq!(param.remove_axis(2, None).unwrap_err().to_string(), text);
    // Names are made up to where the axis is put.
    param.add_axis(4, Some("late")).unwrap();
    assert_eq!(names(&param), named(&["in", "out", "", "", "late"]));
}

#[test]
fn what_has_no_sharding_gets_none_but_its_hooks_run_once() {
    let count = |metadata: &mut Metadata, _: usize, _: Option<&str>| -> Result<()> {
        let before = metadata.get("axes").and_then(serde_json::Value::as_i64).unwrap_or(0);
        metadata.set("axes", before + 1);
        Ok(())
    };
    let hooks = Hooks::new("partitioning.count").on_add_axis(count);
    let init = with_metadata(Initializer::Zeros, Metadata::default().with_hooks(hooks));
    let bias = Param::create(ones(&[3]), init.metadata()).unwrap();
    bias.add_axis(0, Some("layers")).unwrap();
    assert_eq!(bias.metadata().get("axes").unwrap(), 1);
    assert_eq!(bias.metadata().sharding().unwrap(), None);
}

#[test]
fn a_hook_that_fails_leaves_the_metadata_as_they_were() {
    let fails = |_: &mut Metadata, _: usize, _: Option<&str>| -> Result<()> {
        Err(VarsError::ValueKind { expected: "a", found: "b" }.into())
    };
    let metadata = Metadata::default().with_sharding(&Sharding::new(["in"]));
    let metadata =
        metadata.with_hooks(Hooks::new("partitioning.fails").on_add_axis(fails).on_remove_axis(fails));
    let param: Variable = Leaf { metadata: metadata.clone(), ..Param::leaf(ones(&[3])) }.into();
    assert!(param.add_axis(0, Some("x")).is_err() && param.remove_axis(0, Some("in")).is_err());
    assert_eq!(param.metadata(), metadata);
}

#[test]
fn logical_names_stay_with_the_rules_and_the_mesh() {
    let init = with_logical_partitioning(Initializer::Ones, ["a", "b"], [("a", "x"), ("b", "y")]);
    let sharding = init.metadata.sharding().unwrap().unwrap().with_mesh_axis("x", 2).with_mesh_axis("y", 4);
    assert_eq!(sharding.names, [Some("a".to_owned()), Some("b".to_owned())]);
    assert_eq!(sharding.mesh, [("x".to_owned(), 2), ("y".to_owned(), 4)]);
    assert_eq!(sharding.mesh_axes().unwrap(), [Some("x"), Some("y")]);
    let kept = Metadata::default().with_sharding(&sharding);
    let text = serde_json::to_string(&kept).unwrap();
    let read: Metadata = serde_json::from_str(&text).unwrap();
    assert_eq!(read.sharding().unwrap(), Some(sharding));
}

#[test]
fn metadata_is_read_changed_and_replaced() {
    let param = Param::new(ones(&[2]));
    assert!(param.metadata().get("a").is_none());
    param.set_metadata(Metadata::default().with("a", 1).with("b", "text"));
    param.set_metadata(param.metadata().with("a", 2));
    let found: Vec<_> = param.metadata().iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(found, ["a=2", "b=\"text\""]);
    // A map takes the place of all.
    param.set_metadata(Metadata::from_iter([("c", true)]));
    assert_eq!(param.metadata(), Metadata::default().with("c", true));
    let mut metadata = param.metadata();
    assert_eq!(metadata.remove("c").unwrap(), true);
    assert!(metadata.is_empty() && !param.metadata().is_empty());
}
