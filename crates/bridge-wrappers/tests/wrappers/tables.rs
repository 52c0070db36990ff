//! Tables and descriptions of models with wrappers in them.

use bridge_functional::{Call, Dense, FunctionalModule, Keys, Scope};
use bridge_graph::{
    Rngs, StatefulModule, Summary, describe, is_described, materialize, observe, state, tabulate,
    tabulate_structure,
};
use bridge_ops::stand_in;
use bridge_random::key;
use bridge_stateful::Linear;
use bridge_vars::{Result, Variables};
use bridge_wrappers::{ToFunctional, ToStateful, lazy_init, to_functional};
use candle_core::{DType, Module, Tensor};
use serde::{Deserialize, Serialize};

use crate::modules::{assert_same, device, input, tensor, variable_paths};

/// 40 GB.
const LARGE: usize = 100_000;

fn large() -> Tensor {
    stand_in((1, LARGE), DType::F32, &device()).unwrap()
}

/// A stateful module with a layer of the other kind.
#[derive(Debug, StatefulModule)]
#[module(crate = "bridge_graph")]
struct Outer<M> {
    inner: M,
    head: Linear,
}

impl<M: Module + bridge_graph::Field> Module for Outer<M> {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        observe(self, x, || x.apply(&self.inner)?.apply(&self.head))
    }
}

/// A functional module with a layer of the other kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Around<F>(F);

impl<F: FunctionalModule<Output = Tensor>> FunctionalModule for Around<F> {
    type Output = Tensor;
    fn call(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
        let y = scope.call_named("inner", &self.0, x)?;
        scope.call_named("head", &Dense::new(2), &y)
    }
}

fn stateful(rngs: &Rngs) -> Result<Outer<ToStateful<Around<Dense>>>> {
    Ok(Outer { inner: ToStateful::new(Around(Dense::new(4)), rngs)?, head: Linear::new(2, 2, rngs)? })
}

fn functional(inputs: usize) -> Around<ToFunctional<Linear>> {
    Around(to_functional(move |rngs| Linear::new(inputs, 4, rngs)))
}

/// Path, type, input, output and number of elements of each row.
fn rows(summary: &Summary) -> Vec<(String, String, String, String, usize)> {
    let row = |row: &bridge_graph::SummaryRow| {
        let form = |form: &Option<String>| form.clone().unwrap_or_default();
        let elements = row.counts.values().map(|count| count.elements).sum();
        (row.path.to_string(), row.module.clone(), form(&row.inputs), form(&row.outputs), elements)
    };
    summary.rows().iter().map(row).collect()
}

fn expected(rows: &[(&str, &str, &str, &str, usize)]) -> Vec<(String, String, String, String, usize)> {
    let owned = |(a, b, c, d, e): &(&str, &str, &str, &str, usize)| {
        (a.to_string(), b.to_string(), c.to_string(), d.to_string(), *e)
    };
    rows.iter().map(owned).collect()
}

#[test]
fn a_table_of_a_stateful_model_sees_into_a_wrapped_functional_module() {
    let model = stateful(&Rngs::new(0)).unwrap();
    lazy_init(&model, |model| Ok(model.forward(&input())?)).unwrap();
    let summary = tabulate(&model, |model| Ok(model.forward(&input())?)).unwrap();
    assert_eq!(
        rows(&summary),
        expected(&[
            ("", "Outer", "f32[5, 3]", "f32[5, 2]", 0),
            ("head", "Linear", "f32[5, 2]", "f32[5, 2]", 6),
            ("inner", "ToStateful(Around)", "f32[5, 3]", "f32[5, 2]", 0),
            ("inner.inner", "Dense", "f32[5, 3]", "f32[5, 4]", 16),
            ("inner.head", "Dense", "f32[5, 4]", "f32[5, 2]", 10),
        ])
    );
    assert_eq!(summary.total().elements, 32);
}

#[test]
fn a_table_of_a_model_that_was_not_initialised_has_what_it_would_make() {
    let model = stateful(&Rngs::new(0)).unwrap();
    let init = |model: &Outer<ToStateful<Around<Dense>>>| {
        lazy_init(model, |model| Ok(model.forward(&input())?)).map(|made| made.output)
    };
    let summary = tabulate(&model, init).unwrap();
    assert_eq!(summary.total().elements, 32);
    assert!(model.inner.variables().unwrap().is_empty());
}

#[test]
fn a_table_of_a_functional_model_sees_into_a_wrapped_stateful_module() {
    let summary = functional(3).tabulate(&input()).unwrap();
    assert_eq!(
        rows(&summary),
        expected(&[
            ("", "Around", "f32[5, 3]", "f32[5, 2]", 0),
            ("inner", "ToFunctional(Linear)", "f32[5, 3]", "f32[5, 4]", 16),
            ("head", "Dense", "f32[5, 4]", "f32[5, 2]", 10),
        ])
    );
    assert_eq!(summary.total().elements, 26);
}

/// A functional model two wrappers deep.
fn deep() -> Around<ToFunctional<Outer<ToStateful<Around<Dense>>>>> {
    Around(to_functional(stateful))
}

#[test]
fn a_table_sees_through_two_wrappers() {
    let summary = deep().tabulate(&input()).unwrap();
    let paths: Vec<String> = summary.rows().iter().map(|row| row.path.to_string()).collect();
    for path in ["", "inner", "inner.head", "inner.inner", "inner.inner.head", "inner.inner.inner", "head"] {
        assert!(paths.iter().any(|found| found == path), "{path} is not in {paths:?}");
    }
    let inner = summary.row("inner.inner.inner").unwrap();
    assert_eq!((inner.module.as_str(), inner.outputs.as_deref()), ("Dense", Some("f32[5, 4]")));
    assert_eq!(summary.total().elements, 16 + 10 + 6 + 6);

    let model = ToStateful::new(deep(), key(0)).unwrap().lazy_init(&input()).unwrap();
    let summary = tabulate(&model, |model| model.call(&input())).unwrap();
    let inner = summary.row("inner.inner.inner").unwrap();
    assert_eq!((inner.module.as_str(), inner.outputs.as_deref()), ("Dense", Some("f32[5, 4]")));
    assert_eq!(summary.total().elements, 16 + 10 + 6 + 6);
    assert_eq!(tabulate_structure(&model).unwrap().total(), summary.total());
}

#[test]
fn a_table_leaves_the_model_and_its_streams_as_they_are() {
    let model = ToStateful::new(deep(), key(0)).unwrap().lazy_init(&input()).unwrap();
    let before = state(&model).unwrap();
    tabulate(&model, |model| model.call(&input())).unwrap();
    assert!(state(&model).unwrap().identical(&before).unwrap());
}

#[test]
fn a_functional_model_with_a_stateful_part_of_any_size_is_described() {
    let model = Around(to_functional(|rngs| Linear::new(LARGE, LARGE, rngs)));
    let variables = model.describe(key(0), &large()).unwrap();
    let kernel = &variables.get("params", "inner.kernel").unwrap().value;
    assert_eq!(kernel.tensor_form().unwrap().dims(), [LARGE, LARGE]);
    assert_eq!(model.tabulate(&large()).unwrap().total().elements, LARGE * (LARGE + 1) + 2 * (LARGE + 1));
    // Without keys it can be loaded.
    let loadable = model.describe(Keys::none(), &large()).unwrap();
    assert_eq!(variable_paths(&loadable), variable_paths(&variables));
}

/// What is described and made later is what is made at once.
fn check_described<F: FunctionalModule<Output = Tensor>>(model: &F) {
    let described = model.describe(key(0), &input()).unwrap();
    let made = model.init(key(0), &input()).unwrap();
    let params = |variables: &Variables| variables.filter_collections(|name| name == "params");
    assert_eq!(variable_paths(&described), variable_paths(&made));
    assert!(params(&described.materialize().unwrap()).identical(&params(&made)).unwrap());
    let all = described.materialize().unwrap();
    assert_same(&model.apply(&all, &input()).unwrap(), &model.apply(&made, &input()).unwrap());
}

#[test]
fn what_is_described_over_the_border_is_what_would_have_been_made() {
    check_described(&functional(3));
    check_described(&Around(to_functional(|rngs| {
        Ok(Outer { inner: Linear::new(3, 2, rngs)?, head: Linear::new(2, 2, rngs)? })
    })));
}

#[test]
fn a_stateful_model_with_a_functional_part_of_any_size_is_described() {
    let make = |rngs: &Rngs| {
        let inner = ToStateful::new(Around(Dense::new(LARGE)), rngs)?.lazy_init(&large())?;
        Ok(Outer { inner, head: Linear::new(2, 2, rngs)? })
    };
    let model = describe(&Rngs::new(0), make).unwrap();
    assert!(is_described(&model).unwrap());
    let kernel = state(&model).unwrap().get("inner.inner.kernel").unwrap().value.clone();
    assert_eq!(kernel.tensor_form().unwrap().dims(), [LARGE, LARGE]);
    let summary = tabulate(&model, |model| Ok(model.forward(&large())?)).unwrap();
    assert_eq!(summary.row("inner.inner").unwrap().outputs.as_deref(), Some("f32[1, 100000]"));
    assert_eq!(summary.total().elements, LARGE * (LARGE + 1) + 2 * (LARGE + 1) + 6);
}

#[test]
fn a_described_stateful_model_is_made_later() {
    let make = |rngs: &Rngs| {
        let inner = ToStateful::new(Around(Dense::new(4)), rngs)?.lazy_init(&input())?;
        Ok(Outer { inner, head: Linear::new(2, 2, rngs)? })
    };
    let made = make(&Rngs::new(0)).unwrap();
    let described = describe(&Rngs::new(0), make).unwrap();
    materialize(&described).unwrap();
    assert!(state(&described).unwrap().identical(&state(&made).unwrap()).unwrap());
    assert_same(&described.forward(&input()).unwrap(), &made.forward(&input()).unwrap());
}

#[test]
fn a_described_model_takes_the_values_of_another() {
    let model = functional(3);
    let described = model.describe(Keys::none(), &input()).unwrap();
    let made = model.init(key(5), &input()).unwrap();
    let params = made.filter_collections(|name| name == "params");
    let filled = described.updated(&params).unwrap();
    assert_same(&model.apply(&filled, &input()).unwrap(), &model.apply(&made, &input()).unwrap());
    assert_same(tensor(&filled, "params", "inner.kernel"), tensor(&made, "params", "inner.kernel"));
    let (_, updates) =
        Call::new().mutable("params").apply(&filled, |scope| scope.run(&model, &input())).unwrap();
    assert!(updates.identical(&params).unwrap());
}
