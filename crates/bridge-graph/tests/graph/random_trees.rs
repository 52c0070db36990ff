//! Properties that hold for every module.

use bridge_graph::{Field, GraphDef, Program, Shared, StatefulModule, merge, split, update, variables};
use bridge_vars::{BatchStat, Filter, Param, State, Variable};
use proptest::prelude::*;

use crate::support::{device, hash, scalar};

/// A module of any shape.
#[derive(Debug, StatefulModule)]
struct Node {
    children: Vec<Node>,
    leaf: Option<Variable>,
    #[module(static)]
    names: Vec<String>,
    pair: (Option<Box<Node>>, f64),
    part: Option<Shared<Node>>,
}

/// How a [`Node`] is built: its variables and shared parts are picked from a pool.
#[derive(Clone, Debug)]
struct Plan {
    children: Vec<Plan>,
    leaf: Option<usize>,
    names: Vec<String>,
    other: Option<Box<Plan>>,
    number: f64,
    part: Option<usize>,
}

fn plan() -> impl Strategy<Value = Plan> {
    let alone = (
        proptest::option::of(0..6usize),
        proptest::collection::vec("[a-z.]{0,3}", 0..3),
        any::<f64>(),
        proptest::option::of(0..3usize),
    )
        .prop_map(|(leaf, names, number, part)| Plan {
            children: Vec::new(),
            leaf,
            names,
            other: None,
            number,
            part,
        });
    alone.prop_recursive(4, 24, 4, |plan| {
        (plan.clone(), proptest::collection::vec(plan.clone(), 0..4), proptest::option::of(plan))
            .prop_map(|(node, children, other)| Plan { children, other: other.map(Box::new), ..node })
    })
}

fn build(plan: &Plan, variables: &[Variable], parts: &[Shared<Node>]) -> Node {
    let node = |plan: &Plan| build(plan, variables, parts);
    Node {
        children: plan.children.iter().map(node).collect(),
        leaf: plan.leaf.and_then(|index| variables.get(index).cloned()),
        names: plan.names.clone(),
        pair: (plan.other.as_deref().map(|other| Box::new(node(other))), plan.number),
        part: plan.part.and_then(|index| parts.get(index).cloned()),
    }
}

/// A module with sharing: of variables, of parts, and of parts inside parts.
fn module() -> impl Strategy<Value = Node> {
    (plan(), plan(), plan()).prop_map(|(root, first, second)| {
        let variables: Vec<Variable> = (0..6)
            .map(|i| match i % 2 {
                0 => (*Param::new(scalar(i as f32))).clone(),
                _ => (*BatchStat::new(scalar(i as f32))).clone(),
            })
            .collect();
        let first = Shared::new(build(&first, &variables, &[]));
        let second = Shared::new(build(&second, &variables, std::slice::from_ref(&first)));
        build(&root, &variables, &[first, second])
    })
}

fn filter() -> impl Strategy<Value = Filter> {
    let simple = prop_oneof![
        Just(Filter::Everything),
        Just(Filter::Nothing),
        Just(Filter::of::<Param>()),
        Just(Filter::of::<BatchStat>()),
        (0..4usize).prop_map(Filter::path_contains),
        Just(Filter::path_contains("part")),
        Just(Filter::path_starts_with("children.0")),
    ];
    simple.prop_recursive(2, 6, 2, |filter| {
        prop_oneof![
            filter.clone().prop_map(|filter| !filter),
            (filter.clone(), filter.clone()).prop_map(|(a, b)| a & b),
            (filter.clone(), filter).prop_map(|(a, b)| a | b),
        ]
    })
}

fn same<M: Field>(a: &(GraphDef<M>, State), b: &(GraphDef<M>, State)) -> bool {
    a.0 == b.0 && hash(&a.0) == hash(&b.0) && a.1.identical(&b.1).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn split_and_merge_are_inverse(module in module()) {
        let halves = split(&module).unwrap();
        let merged = merge(&halves.0, &halves.1).unwrap();
        prop_assert!(same(&split(&merged).unwrap(), &halves));
        let own = variables(&module).unwrap();
        let new = variables(&merged).unwrap();
        prop_assert!(own.iter().zip(&new).all(|((path, a), (other, b))| path == other && !a.is_same(b)));
        prop_assert_eq!(own.len(), halves.1.len());
    }

    #[test]
    fn a_description_survives_text(module in module()) {
        let (graphdef, state) = split(&module).unwrap();
        let text = graphdef.program().encode().unwrap().to_string();
        let program = Program::decode(&serde_json::from_str(&text).unwrap(), &device()).unwrap();
        let read = GraphDef::from_program(std::sync::Arc::new(program));
        prop_assert!(same(&split(&merge(&read, &state).unwrap()).unwrap(), &(graphdef.clone(), state)));
        prop_assert_eq!(read, graphdef);
    }

    #[test]
    fn parts_of_a_state_make_the_whole(module in module(), a in filter(), b in filter()) {
        let (graphdef, state) = split(&module).unwrap();
        let parts = state.split([a, b, Filter::Everything]).unwrap();
        prop_assert_eq!(parts.iter().map(State::len).sum::<usize>(), state.len());
        let [first, second, rest] = parts;
        let whole = State::merge([rest, first.clone(), second]).unwrap();
        prop_assert!(whole.identical(&state).unwrap());
        merge(&graphdef, &whole).unwrap();
        // A part alone is enough to update with, and not to merge with.
        update(&module, &first).unwrap();
        prop_assert_eq!(merge(&graphdef, &first).is_ok(), first.len() == state.len());
    }

    #[test]
    fn what_is_shared_changes_together(module in module()) {
        let (graphdef, state) = split(&module).unwrap();
        let merged = merge(&graphdef, &state).unwrap();
        for (number, (_, variable)) in variables(&merged).unwrap().iter().enumerate() {
            variable.set(scalar(100. + number as f32)).unwrap();
        }
        let after = split(&merged).unwrap();
        prop_assert_eq!(&after.0, &graphdef);
        update(&module, &after.1).unwrap();
        prop_assert!(same(&split(&module).unwrap(), &after));
    }
}
