//! Gradients through wrappers are those of the module that is wrapped.

use bridge_functional::FunctionalModule;
use bridge_graph::{Field, Rngs, Visit, variables as graph_variables};
use bridge_random::key;
use bridge_vars::{Filter, Param, Path, Result, State, Variables};
use bridge_wrappers::{ToFunctional, ToStateful, to_functional};
use candle_core::{Module, Tensor};

use crate::modules::{MUTABLE, Recall, Recaller, assert_same, device, input, keys, tensor};

/// A loss to which every parameter contributes differently.
fn loss(y: &Tensor) -> Result<Tensor> {
    let weights: Vec<f32> = (0..y.elem_count()).map(|i| (i % 7) as f32 - 2.5).collect();
    let weights = Tensor::from_vec(weights, y.dims(), &device())?;
    Ok((y.tanh()? * weights)?.sum_all()?)
}

fn stateful_gradients<M: Field + Module>(model: &M) -> State {
    let forward = |model: &M| loss(&model.forward(&input())?);
    bridge_graph::value_and_grad(model, Filter::of::<Param>(), forward).unwrap().1
}

fn functional_gradients<F: FunctionalModule<Output = Tensor>>(model: &F, variables: &Variables) -> Variables {
    bridge_functional::value_and_grad_with(variables, Filter::of::<Param>(), |variables| {
        let (y, updates) = model.train().apply_mut(variables, keys(1), MUTABLE, &input())?;
        Ok((loss(&y)?, updates))
    })
    .map(|(_, updates, gradients)| {
        assert!(
            updates
                .iter()
                .all(|(_, leaf)| leaf.tensor().is_ok_and(|t| !t.track_op()) || leaf.tensor().is_err())
        );
        gradients
    })
    .unwrap()
}

/// Nothing that a model remembers is part of a graph.
fn assert_nothing_tracked<M: Visit>(model: &M) {
    for (path, variable) in graph_variables(model).unwrap() {
        assert!(variable.value().is_ok_and(|value| !value.track_op()) || variable.value().is_err(), "{path}");
    }
}

#[test]
fn to_stateful() {
    let rngs = Rngs::from_streams(keys(0));
    let model = ToStateful::new(Recall { rate: 0. }, &rngs).unwrap().mutable(MUTABLE);
    let model = model.lazy_init(&input()).unwrap();
    let expected = functional_gradients(&Recall { rate: 0. }, &model.variables().unwrap());
    let gradients = stateful_gradients(&model);
    assert_eq!(gradients.len(), 3);
    for (path, gradient) in gradients.iter() {
        assert_same(gradient.tensor().unwrap(), tensor(&expected, "params", &path.to_string()));
    }
    // `last` was written inside, from what depends on the parameters.
    assert_eq!(model.variable("calls").unwrap().count().unwrap(), 1);
    assert_nothing_tracked(&model);
}

#[test]
fn to_functional_module() {
    let model = to_functional(|rngs| Recaller::new(0., rngs));
    let variables = model.train().init(keys(0), &input()).unwrap();
    let unwrapped = Recaller::new(0., &Rngs::from_streams(keys(5))).unwrap();
    unwrapped.weight.set(tensor(&variables, "params", "weight")).unwrap();
    let expected = stateful_gradients(&unwrapped);
    let gradients = functional_gradients(&model, &variables);
    assert_eq!(gradients.len(), 3);
    for (path, gradient) in expected.iter() {
        assert_same(tensor(&gradients, "params", &path.to_string()), gradient.tensor().unwrap());
    }
}

#[test]
fn three_deep() {
    let functional: ToFunctional<ToStateful<Recall>> =
        to_functional(|rngs| ToStateful::new(Recall { rate: 0. }, rngs));
    let variables = functional.train().init(keys(0), &input()).unwrap();
    let expected = functional_gradients(&Recall { rate: 0. }, &variables);
    assert!(functional_gradients(&functional, &variables).identical(&expected).unwrap());

    let rngs = Rngs::from_streams(keys(0));
    let inner = to_functional(|rngs| Recaller::new(0., rngs));
    let stateful = ToStateful::new(inner, &rngs).unwrap().mutable(MUTABLE).lazy_init(&input()).unwrap();
    let unwrapped = Recaller::new(0., &rngs).unwrap();
    unwrapped.weight.set(stateful.variable("weight").unwrap().value().unwrap()).unwrap();
    let expected = stateful_gradients(&unwrapped);
    assert!(stateful_gradients(&stateful).identical(&expected).unwrap());
    assert_nothing_tracked(&stateful);
}

#[test]
fn four_deep_agree_with_finite_differences() {
    let rngs = Rngs::from_streams(keys(0));
    let inner = to_functional(|rngs| ToStateful::new(Recall { rate: 0. }, rngs));
    let model = ToStateful::new(inner, &rngs).unwrap().mutable(MUTABLE).lazy_init(&input()).unwrap();
    let gradients = stateful_gradients(&model);
    let weight = model.variable("weight").unwrap();
    let gradient = gradients.get("weight").unwrap().tensor().unwrap().to_vec2::<f32>().unwrap();
    let value = weight.value().unwrap();
    let at = |row: usize, column: usize, step: f32| {
        let mut moved = value.to_vec2::<f32>().unwrap();
        moved[row][column] += step;
        weight.set(Tensor::new(moved, &device()).unwrap()).unwrap();
        loss(&model.forward(&input()).unwrap()).unwrap().to_scalar::<f32>().unwrap()
    };
    for (row, column) in [(0, 0), (1, 2), (2, 3)] {
        let expected = (at(row, column, 1e-2) - at(row, column, -1e-2)) / 2e-2;
        let found = gradient[row][column];
        assert!((found - expected).abs() < 2e-2 * expected.abs().max(1.), "{found} is not {expected}");
    }
}

#[test]
fn frozen_parameters_are_not_tracked() {
    let model = ToStateful::new(Recall { rate: 0. }, key(0)).unwrap().mutable(MUTABLE);
    let model = model.lazy_init(&input()).unwrap();
    let only = Filter::path_in(["weight"]);
    let (_, gradients) = bridge_graph::value_and_grad(&model, only, |model| {
        assert!(model.variable("weight")?.value()?.track_op());
        assert!(!model.variable("norm.scale")?.value()?.track_op());
        loss(&model.call(&input())?)
    })
    .unwrap();
    assert_eq!(gradients.iter().map(|(path, _)| path).collect::<Vec<_>>(), [Path::from("weight")]);
}

#[test]
fn what_a_call_makes_or_overwrites_is_not_left_in_the_graph() {
    let model = ToStateful::new(Recall { rate: 0. }, key(0)).unwrap();
    let model = model.mutable(["cache", "params", "memory", "batch_stats"]).lazy_init(&input()).unwrap();
    let (_, gradients) = bridge_graph::value_and_grad(&model, Filter::path_in(["weight"]), |model| {
        model.with(|module, scope| {
            let y = module.call(scope, &input())?;
            scope.variable("cache", "made", || Ok(y.clone()))?;
            let doubled = (y.mean_all()?.broadcast_as((3, 4))? * 2.)?;
            scope.put(&"weight".into(), Param::leaf(doubled))?;
            loss(&y)
        })
    })
    .unwrap();
    assert_eq!(gradients.len(), 1);
    model.variable("made").unwrap();
    assert_nothing_tracked(&model);
}
