//! Models with wrappers in them, written and read back as text.

use std::sync::Arc;

use bridge_functional::FunctionalModule;
use bridge_graph::{Field, GraphDef, Program, Registry, Rngs, StatefulModule, merge, split};
use bridge_vars::State;
use bridge_wrappers::{ToStateful, to_functional};
use candle_core::{Module, Tensor};

use crate::modules::{MUTABLE, Recall, Recaller, assert_same, device, input, keys};
use crate::nesting::Around;

fn round_trip(program: &Program) -> Program {
    let text = serde_json::to_string(&program.encode().unwrap()).unwrap();
    Program::decode(&serde_json::from_str(&text).unwrap(), &device()).unwrap()
}

/// The description survives a file, and the model that it gives computes the same.
fn check<M: Field + Module + StatefulModule>(model: &M) {
    let (graphdef, state) = split(model).unwrap();
    let program = Arc::new(round_trip(graphdef.program()));
    let read = GraphDef::<M>::from_program(program.clone());
    assert_eq!(read, graphdef);
    assert_eq!(*graphdef.program(), program);
    let state = with_descriptions_from_a_file(&state);
    let merged = merge(&read, &state).unwrap();
    let by_name = Registry::new().with::<M>().rebuild(&program, &state).unwrap();
    assert_eq!(by_name.type_name(), M::static_type_name());
    assert!(bridge_graph::state(&*by_name).unwrap().identical(&state).unwrap());
    let x: Tensor = input();
    assert_same(&merged.forward(&x).unwrap(), &model.forward(&x).unwrap());
}

/// What a wrapped stateful module keeps in `nnx` goes through the file as well.
fn with_descriptions_from_a_file(state: &State) -> State {
    state
        .map(|_, leaf| match leaf.value.opaque::<Program>() {
            Ok(program) => {
                let read: Arc<dyn bridge_vars::Opaque> = Arc::new(round_trip(program));
                Ok(leaf.with_value(read))
            }
            Err(_) => Ok(leaf.clone()),
        })
        .unwrap()
}

#[test]
fn stateful() {
    let rngs = Rngs::from_streams(keys(0));
    let x = input();
    let wrap = |model: ToStateful<Recall>| model.mutable(MUTABLE).lazy_init(&x).unwrap();
    check(&wrap(ToStateful::new(Recall { rate: 0.5 }, &rngs).unwrap()));
    let around = ToStateful::new(Around::new(0.5), &rngs).unwrap();
    check(&around.mutable(MUTABLE).lazy_init(&x).unwrap());
    let direct = ToStateful::new(to_functional(|rngs| Recaller::new(0.5, rngs)), &rngs).unwrap();
    check(&direct.mutable(MUTABLE).lazy_init(&x).unwrap());
    let deeper = to_functional(|rngs| ToStateful::new(Recall { rate: 0.5 }, rngs));
    let deeper = ToStateful::new(deeper, &rngs).unwrap();
    check(&deeper.mutable(MUTABLE).lazy_init(&x).unwrap());
}

#[test]
fn functional() {
    let x = input();
    let model = to_functional(|rngs| ToStateful::new(Recall { rate: 0.5 }, rngs));
    let variables = model.train().init(keys(0), &x).unwrap();
    let read = with_descriptions_from_a_file(&State::from(variables.tree().clone()));
    let read = bridge_vars::Variables::from(bridge_vars::Tree::from(read));
    assert!(read.identical(&variables).unwrap());
    let run = |variables| model.train().apply_mut(variables, keys(1), MUTABLE, &x).unwrap();
    let ((y, updates), (expected, expected_updates)) = (run(&read), run(&variables));
    assert_same(&y, &expected);
    assert!(updates.identical(&expected_updates).unwrap());
}
