//! Whatever a module can hold comes back.

use std::collections::BTreeMap;

use bridge_graph::{GraphError, MapKey, StatefulModule, state};
use bridge_vars::{Name, Param, PathKey, Tree, Variable};
use candle_core::Tensor;
use indexmap::IndexMap;

use crate::support::{Scale, param, read, round_trip, scalar, scale};

#[test]
fn a_variable_alone() {
    let merged = round_trip(&param(2.), &[""]);
    assert_eq!(read(&merged), 2.);
    let merged: Variable = round_trip(&(*param(3.)).clone(), &[""]);
    assert_eq!(read(&merged), 3.);
}

#[test]
fn nothing() {
    round_trip(&(), &[]);
    round_trip(&Vec::<Param>::new(), &[]);
    round_trip(&None::<Scale>, &[]);
    round_trip(&BTreeMap::<String, Param>::new(), &[]);
    round_trip(&(vec![None::<Param>, None], ((), 1u8)), &[]);
}

#[test]
fn options() {
    #[derive(StatefulModule)]
    struct Options {
        deep: Option<Option<Option<Param>>>,
        none: Option<Param>,
        some: Option<Scale>,
    }
    let module = Options { deep: Some(Some(None)), none: None, some: Some(scale(1.)) };
    let merged = round_trip(&module, &["some.factor"]);
    assert!(matches!(merged.deep, Some(Some(None))) && merged.none.is_none());
    let module = Options { deep: Some(Some(Some(param(2.)))), none: Some(param(3.)), some: None };
    let merged = round_trip(&module, &["deep", "none"]);
    assert_eq!(merged.deep.flatten().flatten().map(|param| read(&param)), Some(2.));
}

#[test]
fn boxes_arrays_and_tuples() {
    let module = (Box::new(scale(1.)), [param(2.), param(3.)], (scale(4.), 5u64), param(6.));
    let merged = round_trip(&module, &["0.factor", "1.0", "1.1", "2.0.factor", "3"]);
    assert_eq!([read(&merged.0.factor), read(&merged.1[1]), read(&merged.2.0.factor)], [1., 3., 4.]);
    assert_eq!(merged.2.1, 5);
    let six = ([param(0.)], (param(1.),), param(2.), param(3.), param(4.), param(5.));
    round_trip(&six, &["0.0", "1.0", "2", "3", "4", "5"]);
    round_trip(&[(); 3], &[]);
}

#[test]
fn long_lists_are_in_order_of_their_numbers() {
    let module: Vec<Param> = (0..12).map(|i| param(i as f32)).collect();
    let expected: Vec<String> = (0..12).map(|i| i.to_string()).collect();
    let merged = round_trip(&module, &expected.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(merged.iter().map(|param| read(param)).eq((0..12).map(|i| i as f32)));
}

#[test]
fn maps() {
    // Names sort as text and numbers by number, whatever order they were put in.
    let names = || ["9", "10", "b", "a.c", ""].map(|name| (name.to_owned(), param(name.len() as f32)));
    let expected = ["\\_", "\\10", "\\9", "a\\.c", "b"];
    let merged = round_trip(&BTreeMap::from(names()), &expected);
    assert_eq!(read(&merged["10"]), 2.);
    let merged = round_trip(&IndexMap::<String, Param>::from(names()), &expected);
    assert!(merged.keys().eq(["9", "10", "b", "a.c", ""]));
    assert_eq!(read(&merged["a.c"]), 3.);

    let numbers = || [10usize, 9, 2].map(|number| (number, scale(number as f32)));
    let expected = ["2.factor", "9.factor", "10.factor"];
    assert_eq!(read(&round_trip(&BTreeMap::from(numbers()), &expected)[&10].factor), 10.);
    let merged = round_trip(&IndexMap::<usize, Scale>::from(numbers()), &expected);
    assert!(merged.keys().eq(&[10, 9, 2]));

    let by_name = BTreeMap::from([(Name::from("x"), param(1.))]);
    assert_eq!(read(&round_trip(&by_name, &["x"])[&Name::from("x")]), 1.);
}

#[test]
fn the_order_of_insertion_is_part_of_a_map() {
    let map = |names: [&str; 2]| -> IndexMap<String, u32> {
        names.into_iter().map(|name| (name.to_owned(), name.len() as u32)).collect()
    };
    let graphdef = |names| bridge_graph::graphdef(&map(names)).unwrap();
    assert_eq!(graphdef(["a", "bb"]), graphdef(["a", "bb"]));
    assert_ne!(graphdef(["a", "bb"]), graphdef(["bb", "a"]));
    let copy = bridge_graph::clone(&map(["bb", "a"])).unwrap();
    assert!(copy.into_iter().eq([("bb".to_owned(), 2), ("a".to_owned(), 1)]));
}

#[test]
fn bare_tensors() {
    #[derive(StatefulModule)]
    struct Table {
        factor: Param,
        rows: Vec<Tensor>,
    }
    let row = scalar(2.);
    let module = Table { factor: param(1.), rows: vec![row.clone(), row] };
    // They have no identity: each place has its own.
    let merged = round_trip(&module, &["factor", "rows.0", "rows.1"]);
    assert_eq!(merged.rows[1].to_scalar::<f32>().unwrap(), 2.);
}

#[test]
fn trees_of_variables() {
    let mut tree = Tree::<Variable>::default();
    for path in ["a.b.10", "a.b.9", "a.c", "d"] {
        tree.insert(&path.into(), (*param(path.len() as f32)).clone()).unwrap();
    }
    let merged = round_trip(&tree, &["a.b.9", "a.b.10", "a.c", "d"]);
    assert_eq!(read(merged.get(&"a.b.10".into()).unwrap()), 6.);
    round_trip(&Tree::Leaf((*param(1.)).clone()), &[""]);
}

#[test]
fn deep_nesting() {
    #[derive(StatefulModule)]
    struct Chain {
        next: Option<Box<Chain>>,
        value: Param,
    }
    let chain = (0..200).fold(None, |next, i| Some(Box::new(Chain { next, value: param(i as f32) })));
    let (graphdef, state) = bridge_graph::split(&chain.unwrap()).unwrap();
    assert_eq!(state.len(), 200);
    let mut merged = bridge_graph::merge(&graphdef, &state).unwrap();
    for expected in (0..200).rev() {
        assert_eq!(read(&merged.value), expected as f32);
        match merged.next {
            Some(next) => merged = next,
            None => assert_eq!(expected, 0),
        }
    }
}

#[test]
fn keys_of_one_step_are_refused() {
    #[derive(PartialEq, Eq, PartialOrd, Ord, Hash)]
    struct Folded(&'static str);
    impl MapKey for Folded {
        fn to_path_key(&self) -> PathKey {
            self.0.to_lowercase().as_str().into()
        }
        fn from_path_key(_: &PathKey) -> Option<Self> {
            None
        }
    }
    let map: BTreeMap<Folded, Param> = [(Folded("a"), param(1.)), (Folded("A"), param(2.))].into();
    let error = state(&map).unwrap_err();
    let Some(GraphError::Structure { path, expected, .. }) = error.downcast_ref() else { panic!("{error}") };
    assert_eq!((path.to_string(), expected.as_str()), ("a".into(), "a step of its own for every key"));
}
