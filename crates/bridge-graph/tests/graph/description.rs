//! What makes two descriptions equal, and what they print.

use bridge_graph::{Flag, GraphDef, StatefulModule, graphdef, split_by};
use bridge_vars::{BatchStat, Filter, LoraParam, Metadata, Param, Variable};

use crate::support::{hash, param, scalar, scale, zeros};

#[derive(StatefulModule)]
struct Unit {
    on: Flag,
    size: u32,
    value: Variable,
}

fn unit(on: bool, size: u32, value: impl Into<Unchecked>) -> GraphDef<Unit> {
    graphdef(&Unit { on: Flag::new(on), size, value: value.into().0 }).unwrap()
}

/// A variable of any type.
struct Unchecked(Variable);
impl<K> From<bridge_vars::VariableOf<K>> for Unchecked {
    fn from(variable: bridge_vars::VariableOf<K>) -> Self {
        Self((*variable).clone())
    }
}

#[test]
fn values_shapes_and_dtypes_do_not_count() {
    let base = unit(true, 1, param(1.));
    let f64 = zeros(&[2, 3]).to_dtype(candle_core::DType::F64).unwrap();
    for other in [Param::new(scalar(2.)), Param::new(zeros(&[4])), Param::new(f64), Param::new(7)] {
        let other = unit(true, 1, other);
        assert_eq!(other, base);
        assert_eq!(hash(&other), hash(&base));
    }
}

#[test]
fn everything_else_counts() {
    let base = unit(true, 1, param(1.));
    let tagged = |name: &str, tag: &str| {
        let param = param(1.);
        param.set_metadata(Metadata::from_iter([(name, tag)]));
        unit(true, 1, param)
    };
    assert_eq!(unit(true, 1, param(1.)), base);
    assert_ne!(unit(false, 1, param(1.)), base);
    assert_ne!(unit(true, 2, param(1.)), base);
    assert_ne!(unit(true, 1, BatchStat::new(scalar(1.))), base);
    assert_ne!(unit(true, 1, LoraParam::new(scalar(1.))), base);
    assert_ne!(tagged("tag", "a"), base);
    assert_eq!(tagged("tag", "a"), tagged("tag", "a"));
    assert_ne!(tagged("tag", "a"), tagged("tag", "b"));
    assert_ne!(tagged("tag", "a"), tagged("name", "a"));
    // Structure.
    let list = |length| graphdef(&vec![1u8; length]).unwrap();
    assert_ne!(list(1), list(2));
    assert_ne!(graphdef(&Some(1u8)).unwrap(), graphdef(&None).unwrap());
    let program = |graphdef: &std::sync::Arc<bridge_graph::Program>| graphdef.clone();
    let (list, tuple) = (graphdef(&[1u8, 2]).unwrap(), graphdef(&(1u8, 2u8)).unwrap());
    assert_ne!(program(list.program()), program(tuple.program()));
}

#[test]
fn two_types_of_one_structure_differ_by_name() {
    #[derive(StatefulModule)]
    struct A(u8);
    #[derive(StatefulModule)]
    struct B(u8);
    assert_ne!(graphdef(&A(1)).unwrap().program(), graphdef(&B(1)).unwrap().program());
    assert_eq!(graphdef(&A(1)).unwrap().program().module_name(), Some("A"));
    assert_eq!(graphdef(&vec![A(1)]).unwrap().program().module_name(), None);
}

#[test]
fn prints_as_a_tree() {
    let (shared, tensor) = (bridge_graph::Shared::new(scale(1.)), zeros(&[2]));
    let module = (shared.clone(), Some(shared), tensor, None::<Param>, unit_module());
    let expected = "\
tuple
  0: shared Scale
    factor: Param f32[]
    power: 2
  1: the same as `0`
  2: tensor f32[2]
  3: none
  4: Unit
    on: on
    size: 3
    value: Param f32[]";
    assert_eq!(graphdef(&module).unwrap().to_string(), expected);
}

#[test]
fn long_lists_print_short() {
    let expected = "\
list
  0: list
    0: Param f32[]
  1: list
    0: Param f32[]
  2: list
    0: Param f32[]
  3: list
    0: Param f32[]
  .. 14 more
  18: list
    0: Param f32[]
  19: list
    0: Param f32[]";
    let graphdef = graphdef(&Vec::from_iter((0..20).map(|_| vec![param(1.)]))).unwrap();
    assert_eq!(graphdef.to_string(), expected);
    assert_eq!(format!("{graphdef:#}").lines().count(), 41);
}

fn unit_module() -> Unit {
    Unit { on: Flag::new(true), size: 3, value: (*param(1.)).clone() }
}

#[test]
fn splits_by_filters() {
    let module = (param(1.), BatchStat::new(scalar(2.)), LoraParam::new(scalar(3.)));
    let filters = [Filter::of::<LoraParam>(), Filter::of::<Param>(), Filter::Everything];
    let (graphdef, [lora, params, rest]) = split_by(&module, filters).unwrap();
    assert_eq!([lora.len(), params.len(), rest.len()], [1, 1, 1]);
    let state = bridge_vars::State::merge([rest, lora, params]).unwrap();
    bridge_graph::merge(&graphdef, &state).unwrap();
    let error = split_by(&module, [Filter::of::<Param>()]).map(|_| ()).unwrap_err().to_string();
    assert!(error.starts_with("no filter matches `1`: add"), "{error}");
}

#[test]
fn modes_are_part_of_it() {
    let module = unit_module();
    let before = graphdef(&module).unwrap();
    bridge_graph::set_flags(&module, &["on"], false).unwrap();
    assert_ne!(graphdef(&module).unwrap(), before);
    bridge_graph::set_flags(&module, &["off"], true).unwrap();
    assert!(!module.on.get());
    bridge_graph::set_flags(&module, &["on"], true).unwrap();
    assert_eq!(graphdef(&module).unwrap(), before);
}

#[test]
fn a_description_is_a_key() {
    let mut known = indexmap::IndexMap::new();
    known.insert(graphdef(&scale(1.)).unwrap(), 1);
    assert_eq!(known.get(&graphdef(&scale(2.)).unwrap()), Some(&1));
}

#[test]
fn a_split_by_no_filter_loses_nothing_unnoticed() {
    let error = split_by(&scale(1.), []).unwrap_err().to_string();
    assert!(error.contains("factor"), "{error}");
}
