//! Descriptions as text, and modules rebuilt from them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bridge_graph::{
    Field, Flag, GraphDef, GraphError, Program, Registry, RngStream, Rngs, Shared, StatefulModule, merge,
    split, split_dyn,
};
use bridge_random::key;
use bridge_vars::{BatchStat, Metadata, Param, Variable, VariableType};
use candle_core::{DType, Device, Tensor};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::support::{
    Scale, assert_error, assert_misfit, device, hash, param, paths, read, scalar, scale, zeros,
};

fn round_trip(program: &Program) -> Program {
    let text = serde_json::to_string(&program.encode().unwrap()).unwrap();
    Program::decode(&serde_json::from_str(&text).unwrap(), &device()).unwrap()
}

/// The description survives text, equals what it was, and builds the same module.
#[track_caller]
fn check<M: Field>(module: &M) -> M {
    let (graphdef, state) = split(module).unwrap();
    let read = GraphDef::<M>::from_program(Arc::new(round_trip(graphdef.program())));
    assert_eq!(read, graphdef);
    assert_eq!(graphdef, read);
    assert_eq!(hash(&read), hash(&graphdef));
    assert_eq!(round_trip(read.program()), **graphdef.program());
    let merged = merge(&read, &state).unwrap();
    let (graphdef_again, state_again) = split(&merged).unwrap();
    assert_eq!(graphdef_again, graphdef);
    assert!(state_again.identical(&state).unwrap());
    merged
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Choice {
    Unit,
    Number(f64),
    Fields { name: String, sizes: Vec<usize> },
}

bridge_vars::kinds! {
    /// A type of this test's own.
    Slow(SlowKind) in "slow_weights": Param;
}

/// Everything that a description can consist of.
#[derive(StatefulModule)]
struct Everything {
    again: (Param, Shared<Scale>),
    choices: (Wrapped, Wrapped, Wrapped),
    device: Device,
    dtype: DType,
    flags: [Flag; 2],
    floats: [f64; 7],
    integers: (i64, u64, i8, usize),
    map: BTreeMap<String, Option<Param>>,
    mean: BatchStat,
    numbers: BTreeMap<usize, Box<Scale>>,
    ordered: IndexMap<String, Param>,
    rngs: Rngs,
    shared: [Shared<Scale>; 2],
    slow: Slow,
    stream: RngStream,
    table: Tensor,
    text: String,
    truth: (bool, bool),
    unit: (),
}

#[derive(StatefulModule)]
struct Wrapped {
    #[module(static)]
    choice: Choice,
}

fn everything() -> Everything {
    let shared = Shared::new(scale(1.));
    let mean = BatchStat::new(zeros(&[2, 0]));
    let metadata = [("axis", serde_json::json!([1, -2.5, null, {"a": "b"}])), ("n", u64::MAX.into())];
    mean.set_metadata(Metadata::from_iter(metadata));
    let wrapped = |choice| Wrapped { choice };
    Everything {
        again: (shared.factor.clone(), shared.clone()),
        choices: (
            wrapped(Choice::Unit),
            wrapped(Choice::Number(0.1)),
            wrapped(Choice::Fields { name: "\"é".into(), sizes: vec![0, usize::MAX] }),
        ),
        device: device(),
        dtype: DType::F8E4M3,
        flags: [Flag::new(true), Flag::new(false)],
        floats: [0.1, -0., f64::INFINITY, f64::NEG_INFINITY, f64::NAN, f64::MAX, 5e-324],
        integers: (i64::MIN, u64::MAX, -1, 0),
        map: [("a.b".into(), Some(param(2.))), ("7".into(), Some(param(3.)))].into(),
        mean,
        numbers: [(10, Box::new(scale(4.))), (9, Box::new(scale(5.)))].into(),
        ordered: ["b", "", "<order>", "7", "a.b"].map(|name| (name.to_owned(), param(8.))).into(),
        rngs: Rngs::new(0).with_stream("dropout", 1).with_dtype(DType::BF16).with_device(&device()),
        shared: [shared.clone(), shared],
        slow: Slow::new(scalar(6.)),
        stream: RngStream::new("noise", key(7)),
        table: Tensor::new(&[1u8, 2], &device()).unwrap(),
        text: "\u{1}text".into(),
        truth: (true, false),
        unit: (),
    }
}

#[test]
fn everything_comes_back() {
    let module = everything();
    let merged = check(&module);
    assert!(merged.again.0.is_same(&merged.shared[1].factor));
    let bits = |floats: &[f64]| floats.iter().map(|float| float.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&merged.floats), bits(&module.floats));
    assert_eq!((merged.rngs.dtype(), merged.dtype), (DType::BF16, DType::F8E4M3));
    assert!(merged.rngs.iter().map(|(name, _)| name).eq(["dropout", "default"]));
    assert!(merged.device.same_device(&module.device));
    assert!(merged.ordered.keys().eq(["b", "", "<order>", "7", "a.b"]));
    assert_eq!(merged.choices.1.choice, Choice::Number(0.1));
    assert_eq!(merged.mean.metadata(), module.mean.metadata());
    assert_eq!((read(&merged.slow), merged.slow.kind()), (6., Slow::variable_type()));
}

#[test]
fn modules_without_a_name() {
    check(&param(1.));
    check(&());
    check(&f64::INFINITY);
    check(&Some(vec![(scale(1.), None::<Param>)]));
    check(&Shared::new(scale(1.)));
}

#[test]
fn a_static_value_that_its_serde_form_loses_is_an_error() {
    #[derive(StatefulModule)]
    struct Deep {
        parts: Vec<Wrapped>,
    }
    let choices = [Choice::Number(1.), Choice::Number(f64::INFINITY)];
    let deep = Deep { parts: choices.into_iter().map(|choice| Wrapped { choice }).collect() };
    // In memory it is a value like any other.
    let (graphdef, state) = split(&deep).unwrap();
    assert_eq!(merge(&graphdef, &state).unwrap().parts[1].choice, Choice::Number(f64::INFINITY));
    let error = graphdef.program().encode().unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(GraphError::Static { .. })), "{error}");
    let text = error.to_string();
    let start = "at `parts.1.choice`: the static value Number(inf) can not be stored in a file: it would not read back: ";
    assert!(text.starts_with(start), "{text}");

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Forgetful {
        #[serde(skip)]
        size: u32,
    }
    #[derive(StatefulModule)]
    struct Holder {
        #[module(static)]
        value: Forgetful,
    }
    let encode = |size| split(&Holder { value: Forgetful { size } }).unwrap().0.program().encode();
    encode(0).unwrap();
    assert_error::<_, GraphError>(
        encode(3),
        "at `value`: the static value Forgetful { size: 3 } can not be stored in a file: it would read back as \
         Forgetful { size: 0 }; give it a type whose serde form keeps it",
    );
}

#[test]
fn a_static_value_of_another_form_is_an_error() {
    #[derive(StatefulModule)]
    #[module(rename = "Wrapped")]
    struct Other {
        #[module(static)]
        choice: u8,
    }
    let (graphdef, state) = split(&Wrapped { choice: Choice::Unit }).unwrap();
    let other = |program| merge(&GraphDef::<Other>::from_program(program), &state).map(|other| other.choice);
    let error = other(graphdef.program().clone()).unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(GraphError::Structure { .. })), "{error}");
    let error = other(Arc::new(round_trip(graphdef.program()))).unwrap_err();
    assert!(
        error.to_string().starts_with("at `choice`: the `GraphDef` has the static value \"Unit\""),
        "{error}"
    );
}

#[test]
fn what_was_not_written_is_refused() {
    let (graphdef, _) = split(&everything()).unwrap();
    let json = graphdef.program().encode().unwrap();
    let decode = |json: &serde_json::Value| Program::decode(json, &device());
    decode(&serde_json::json!({})).unwrap_err();
    decode(&serde_json::json!([{ "key": "a", "is": "nothing" }])).unwrap_err();
    decode(&serde_json::json!([{ "key": "a.b", "is": "end" }])).unwrap_err();
    let variable =
        serde_json::json!({ "key": "0", "is": "variable", "type": "Param", "collection": "params" });
    decode(&serde_json::json!([variable])).unwrap_err();
    let mut variable = variable;
    variable["shape"] = serde_json::json!([1]);
    variable["dtype"] = "f31".into();
    let error = decode(&serde_json::json!([variable])).unwrap_err().to_string();
    assert_eq!(error, "at `0`: the `GraphDef` has f31, the type expects a dtype");
    // Whatever is left out or put in is noticed at the latest when the module is built.
    let entries = json.as_array().unwrap();
    let (_, state) = split(&everything()).unwrap();
    let build = |entries: Vec<serde_json::Value>| {
        let program = decode(&entries.into())?;
        merge(&GraphDef::<Everything>::from_program(Arc::new(program)), &state)
    };
    build(entries.clone()).unwrap();
    for left_out in 0..entries.len() {
        let mut fewer = entries.clone();
        let gone = fewer.remove(left_out);
        assert!(build(fewer).is_err(), "without {gone}");
        let mut more = entries.clone();
        more.insert(left_out, entries[left_out].clone());
        assert!(build(more).is_err(), "with another {gone}");
    }
    build(Vec::new()).map(|_| ()).unwrap_err();
}

#[test]
fn a_key_that_is_repeated_is_refused() {
    let (program, _) = split_dyn(&vec![
        BTreeMap::from([("a".to_owned(), Some(Shared::new(1u8))), ("b".to_owned(), None)]),
        BTreeMap::from([("a".to_owned(), None)]),
    ])
    .unwrap();
    let mut entries = program.encode().unwrap();
    assert_eq!(Program::decode(&entries, &device()).unwrap(), *program);
    let b = entries.as_array_mut().unwrap().iter_mut().find(|entry| entry["key"] == "b").unwrap();
    b["key"] = "a".into();
    assert_error::<_, GraphError>(
        Program::decode(&entries, &device()),
        "at `0`: the `GraphDef` has two under `a`, the type expects one child under a key",
    );
}

#[test]
fn an_order_of_other_keys_is_refused() {
    let map = IndexMap::from([("b".to_owned(), 1u8), ("a".to_owned(), 2)]);
    let (graphdef, state) = split(&map).unwrap();
    let build = |keys: &[&str]| {
        let mut entries = graphdef.program().encode().unwrap();
        entries[0]["keys"] = keys.into();
        let program = Program::decode(&entries, &device()).unwrap();
        merge(&GraphDef::<IndexMap<String, u8>>::from_program(Arc::new(program)), &state)
    };
    assert!(build(&["b", "a"]).unwrap().keys().eq(map.keys()));
    assert!(build(&["a", "b"]).unwrap().keys().eq(["a", "b"]));
    for wrong in [&["a"][..], &["a", "b", "a"], &["a", "c"], &["a", "b", "c"], &["7", "a", "b"]] {
        let error = build(wrong).unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(GraphError::Structure { .. })), "{error}");
    }
}

#[test]
fn a_static_value_is_read_once() {
    static READ: AtomicUsize = AtomicUsize::new(0);
    fn counted<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
        READ.fetch_add(1, Ordering::Relaxed);
        u8::deserialize(deserializer)
    }
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Counted(#[serde(deserialize_with = "counted")] u8);
    #[derive(StatefulModule)]
    struct Holder {
        #[module(static)]
        value: Counted,
    }
    let (graphdef, state) = split(&Holder { value: Counted(3) }).unwrap();
    let graphdef = GraphDef::<Holder>::from_program(Arc::new(round_trip(graphdef.program())));
    let before = READ.load(Ordering::Relaxed);
    for _ in 0..3 {
        assert_eq!(merge(&graphdef, &state).unwrap().value, Counted(3));
    }
    assert_eq!(READ.load(Ordering::Relaxed), before + 1);
}

#[test]
fn a_declaration_changes_no_hash() {
    let kind = VariableType::from_collection("test_hash");
    let leaf = bridge_vars::Leaf::new(kind, scalar(1.));
    let (graphdef, _) = split(&Variable::from(leaf)).unwrap();
    let before = hash(&graphdef);
    VariableType::declare("TestHash", "test_hash", None);
    assert_eq!((hash(&graphdef), kind.name()), (before, "TestHash"));
}

#[test]
fn references_to_nothing_are_refused() {
    for reference in ["shared_variable", "shared_again"] {
        let json = serde_json::json!([{ "key": "0", "is": reference, "number": 7 }]);
        let program = Arc::new(Program::decode(&json, &device()).unwrap());
        let state = bridge_vars::State::default();
        let error = match reference {
            "shared_variable" => merge(&GraphDef::<Param>::from_program(program), &state).map(|_| ()),
            _ => merge(&GraphDef::<Shared<Param>>::from_program(program), &state).map(|_| ()),
        };
        let error = error.unwrap_err();
        assert!(error.to_string().contains("that came before"), "{error}");
    }
}

#[test]
fn the_registry_builds_by_name() {
    let registry = Registry::new().with::<Scale>().with::<Everything>();
    assert_eq!(format!("{registry:?}"), "{\"Everything\", \"Scale\"}");
    let module = everything();
    let (program, state) = split_dyn(&module).unwrap();
    let rebuilt = registry.rebuild(&round_trip(&program), &state).unwrap();
    assert_eq!(rebuilt.type_name(), "Everything");
    let (program_again, state_again) = split_dyn(&*rebuilt).unwrap();
    assert_eq!(program_again, program);
    assert!(state_again.identical(&state).unwrap());
    assert_eq!(paths(&state_again), paths(&state));

    let (program, state) = split_dyn(&Wrapped { choice: Choice::Unit }).unwrap();
    assert_error::<_, GraphError>(
        registry.rebuild(&program, &state).map(|_| ()),
        "no module type `Wrapped` is registered, found `Everything`, `Scale`: add `.with::<Wrapped>()`",
    );
    let (program, _) = split_dyn(&scale(1.)).unwrap();
    let rebuilt = registry.rebuild(&program, &bridge_vars::State::default());
    assert_misfit(rebuilt.map(|_| ()), "missing `factor`");
}

#[test]
fn of_types_of_one_name_the_one_that_fits_is_built() {
    mod older {
        #[derive(bridge_graph::StatefulModule)]
        #[module(rename = "Scale")]
        pub(super) struct Other(pub(super) bridge_vars::Param);
    }
    let (new, old) = (split_dyn(&scale(1.)).unwrap(), split_dyn(&older::Other(param(2.))).unwrap());
    for registry in [
        Registry::new().with::<older::Other>().with::<Scale>(),
        Registry::new().with::<Scale>().with::<older::Other>(),
    ] {
        let is_new = |(program, state): &(Arc<Program>, bridge_vars::State)| {
            let module: Box<dyn std::any::Any> = registry.rebuild(program, state).unwrap();
            module.is::<Scale>()
        };
        assert!(is_new(&new) && !is_new(&old));
    }
    Registry::new().with::<Scale>().rebuild(&old.0, &old.1).map(|_| ()).unwrap_err();
}
