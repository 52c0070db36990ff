//! Properties that hold for every module.

use std::collections::BTreeMap;

use bridge_graph::{Field, GraphDef, Program, Registry, Shared, Source, StatefulModule, Visit, Visitor};
use bridge_graph::{
    WeakShared, clone, find_duplicates, merge, split, split_by, state, update, variable_at, variables,
};
use bridge_vars::{BatchStat, Filter, Param, Result, State, Variable};
use indexmap::IndexMap;
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
    back: WeakShared<Node>,
    choice: Choice,
    by_name: BTreeMap<String, Variable>,
    by_number: IndexMap<i32, Node>,
    boxed: Vec<Anything>,
}

#[derive(Debug, StatefulModule)]
enum Choice {
    Nothing,
    One(Variable),
    Two { first: Variable, number: u8 },
}

/// A boxed module, printable.
struct Anything(Box<dyn StatefulModule>);

impl std::fmt::Debug for Anything {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.type_name())
    }
}
impl Visit for Anything {
    fn visit(&self, visitor: &mut dyn Visitor) -> Result<()> {
        self.0.visit(visitor)
    }
}
impl Field for Anything {
    fn rebuild(source: &mut Source<'_>) -> Result<Self> {
        source.dynamic().map(Self)
    }
}

/// A module with shared parts, to which weak references lead from before and from inside.
#[derive(Debug, StatefulModule)]
struct Model {
    root: Node,
    #[module(rename = "shared")]
    parts: Vec<Shared<Node>>,
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
    back: Option<usize>,
    choice: (u8, usize),
    by_name: BTreeMap<String, usize>,
    by_number: Vec<(i32, Plan)>,
    boxed: Option<Box<Plan>>,
}

fn plan() -> impl Strategy<Value = Plan> {
    let picks = (
        proptest::option::of(0..6usize),
        proptest::option::of(0..3usize),
        proptest::option::of(0..2usize),
        (0..3u8, 0..6usize),
    );
    let texts = (
        proptest::collection::vec("[a-z.]{0,3}", 0..3),
        proptest::collection::btree_map("[a-z0-9.]{0,2}", 0..6usize, 0..3),
    );
    let alone = (picks, texts, any::<f64>()).prop_map(|(picks, (names, by_name), number)| {
        let (leaf, part, back, choice) = picks;
        Plan {
            children: Vec::new(),
            leaf,
            names,
            other: None,
            number,
            part,
            back,
            choice,
            by_name,
            by_number: Vec::new(),
            boxed: None,
        }
    });
    alone.prop_recursive(4, 24, 4, |plan| {
        (
            plan.clone(),
            proptest::collection::vec(plan.clone(), 0..4),
            proptest::option::of(plan.clone()),
            proptest::collection::vec((-3..12i32, plan.clone()), 0..2),
            proptest::option::of(plan),
        )
            .prop_map(|(node, children, other, by_number, boxed)| {
                let (other, boxed) = (other.map(Box::new), boxed.map(Box::new));
                Plan { children, other, by_number, boxed, ..node }
            })
    })
}

/// What a plan picks from.
#[derive(Default)]
struct Pool {
    variables: Vec<Variable>,
    parts: Vec<Shared<Node>>,
    weak: Vec<WeakShared<Node>>,
}

fn build(plan: &Plan, pool: &Pool) -> Node {
    let node = |plan: &Plan| build(plan, pool);
    let variable = |index: usize| pool.variables[index].clone();
    Node {
        children: plan.children.iter().map(node).collect(),
        leaf: plan.leaf.map(variable),
        names: plan.names.clone(),
        pair: (plan.other.as_deref().map(|other| Box::new(node(other))), plan.number),
        part: plan.part.and_then(|index| pool.parts.get(index).cloned()),
        back: plan.back.and_then(|index| pool.weak.get(index).cloned()).unwrap_or_default(),
        choice: match plan.choice {
            (0, _) => Choice::Nothing,
            (1, index) => Choice::One(variable(index)),
            (number, index) => Choice::Two { first: variable(index), number },
        },
        by_name: plan.by_name.iter().map(|(name, index)| (name.clone(), variable(*index))).collect(),
        by_number: plan.by_number.iter().map(|(number, plan)| (*number, node(plan))).collect(),
        boxed: plan.boxed.iter().map(|plan| Anything(Box::new(node(plan)))).collect(),
    }
}

fn model(root: &Plan, first: &Plan, second: &Plan) -> Model {
    let variables = (0..6).map(|i| match i % 2 {
        0 => (*Param::new(scalar(i as f32))).clone(),
        _ => (*BatchStat::new(scalar(i as f32))).clone(),
    });
    let mut pool = Pool { variables: variables.collect(), ..Pool::default() };
    for plan in [first, second] {
        // A part may refer to itself and to those before.
        let part = Shared::new_cyclic(|own| {
            pool.weak.push(own.clone());
            build(plan, &pool)
        });
        pool.parts.push(part);
    }
    Model { root: build(root, &pool), parts: pool.parts }
}

/// A module with sharing: of variables, of parts, and of parts inside parts; and with references back.
fn module() -> impl Strategy<Value = Model> {
    (plan(), plan(), plan()).prop_map(|(root, first, second)| model(&root, &first, &second))
}

fn filter() -> impl Strategy<Value = Filter> {
    let simple = prop_oneof![
        Just(Filter::Everything),
        Just(Filter::Nothing),
        Just(Filter::of::<Param>()),
        Just(Filter::of::<BatchStat>()),
        (0..4usize).prop_map(Filter::path_contains),
        Just(Filter::path_contains("part")),
        Just(Filter::path_contains_text("a")),
        Just(Filter::path_matches("**.children.?.*")),
        Just(Filter::path_starts_with("root.children.0")),
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
    // Over ten thousand modules in all.
    #![proptest_config(ProptestConfig { cases: 1300, ..ProptestConfig::default() })]

    #[test]
    fn split_and_merge_are_inverse(module in module()) {
        let halves = split(&module).unwrap();
        let merged = merge(&halves.0, &halves.1).unwrap();
        prop_assert!(same(&split(&merged).unwrap(), &halves));
        let own = variables(&module).unwrap();
        let new = variables(&merged).unwrap();
        prop_assert!(own.iter().zip(&new).all(|((path, a), (other, b))| path == other && !a.is_same(b)));
        prop_assert_eq!(own.len(), halves.1.len());
        // The parts of a split are what each half alone is, and a copy is a split and a merge.
        prop_assert!(state(&module).unwrap().identical(&halves.1).unwrap());
        prop_assert_eq!(&bridge_graph::graphdef(&module).unwrap(), &halves.0);
        prop_assert!(same(&split(&clone(&module).unwrap()).unwrap(), &halves));
    }

    #[test]
    fn weak_references_lead_to_the_merged_parts(module in module()) {
        let (graphdef, state) = split(&module).unwrap();
        let merged = merge(&graphdef, &state).unwrap();
        let numbers = |model: &Model| {
            let number = |node: &Node| {
                let target = node.back.upgrade()?;
                model.parts.iter().position(|part| part.is_same(&target))
            };
            let nodes = model.parts.iter().map(|part| &**part).chain([&model.root]);
            nodes.map(number).collect::<Vec<_>>()
        };
        prop_assert_eq!(numbers(&merged), numbers(&module));
    }

    #[test]
    fn a_description_survives_text(module in module()) {
        let (graphdef, state) = split(&module).unwrap();
        let text = graphdef.program().encode().unwrap().to_string();
        let program = Program::decode(&serde_json::from_str(&text).unwrap(), &device()).unwrap();
        let read = GraphDef::from_program(std::sync::Arc::new(program));
        // What is boxed has a name in a text, and no type.
        let merged = Registry::new().with::<Node>().merge(&read, &state).unwrap();
        prop_assert!(same(&split(&merged).unwrap(), &(graphdef.clone(), state)));
        prop_assert_eq!(hash(&read), hash(&graphdef));
        prop_assert!(graphdef.diff(&read).is_empty());
        prop_assert_eq!(read, graphdef);
    }

    #[test]
    fn filters_divide(module in module(), a in filter(), b in filter()) {
        let (graphdef, state) = split(&module).unwrap();
        let filters = [a, b, Filter::Everything];
        let parts = state.split(filters.clone()).unwrap();
        let (same_graphdef, same_parts) = split_by(&module, filters).unwrap();
        prop_assert_eq!(&same_graphdef, &graphdef);
        for (part, same) in parts.iter().zip(&same_parts) {
            prop_assert!(part.identical(same).unwrap());
        }
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
    fn updating_with_its_own_state_changes_nothing(module in module()) {
        let before = split(&module).unwrap();
        let handles = variables(&module).unwrap();
        update(&module, &before.1).unwrap();
        prop_assert!(same(&split(&module).unwrap(), &before));
        let after = variables(&module).unwrap();
        prop_assert!(handles.iter().zip(&after).all(|((_, a), (_, b))| a.is_same(b)));
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

    #[test]
    fn aliases_agree(module in module()) {
        let graphdef = bridge_graph::graphdef(&module).unwrap();
        let stored = variables(&module).unwrap();
        for paths in find_duplicates(&module).unwrap() {
            for path in &paths[1..] {
                prop_assert_eq!(&graphdef.resolve(path), &paths[0]);
            }
        }
        for (alias, path) in graphdef.aliases() {
            for (below, variable) in stored.iter().filter(|(below, _)| below.starts_with(&path)) {
                let rest = below.keys()[path.len()..].iter().cloned().collect();
                let other = alias.concat(&rest);
                prop_assert_eq!(&graphdef.resolve(&other), below);
                prop_assert!(variable_at(&module, &other).unwrap().is_same(variable));
            }
        }
    }

    #[test]
    fn equality_hash_and_diff_agree(plans in (plan(), plan(), plan()), other in plan(), which in 0..6usize) {
        let of = |plans: &(Plan, Plan, Plan)| bridge_graph::graphdef(&model(&plans.0, &plans.1, &plans.2)).unwrap();
        let mut changed = plans.clone();
        match which {
            0 => changed.0 = other,
            1 => changed.1 = other,
            2 => changed.0.leaf = other.leaf,
            3 => changed.0.part = other.part,
            4 => changed.2.back = other.back,
            _ => changed.0.number = other.number,
        }
        let (a, b) = (of(&plans), of(&changed));
        prop_assert_eq!(&a, &of(&plans));
        prop_assert_eq!(hash(&a), hash(&of(&plans)));
        prop_assert_eq!(a == b, a.diff(&b).is_empty(), "{}", a.diff(&b));
        prop_assert_eq!(a == b, b.diff(&a).is_empty());
        if a == b {
            prop_assert_eq!(hash(&a), hash(&b));
        }
    }
}
