//! Gradients with respect to values inside of a model.

use bridge_functional::{Call, FunctionalModule, Keys, Scope, ScopeError, value_and_grad};
use bridge_random::key;
use bridge_vars::{Leaf, Node, Path, PathKey, Perturbation, Result, Tree, VariableType, Variables};
use candle_core::Tensor;

use crate::support::{Body, assert_error, init, ones, param, paths, scalar, to_vec, values};

/// `4x`, perturbed before and after.
fn times_four(scope: &Scope, x: &Tensor) -> Result<Tensor> {
    let x = (scope.perturb("before", x)? * 4.)?;
    scope.perturb("after", &x)
}

fn model() -> Body {
    Body(|scope, x| scope.call_named("inner", &Body(times_four), x))
}

fn perturbation(path: &str, value: &Tensor) -> Variables {
    let mut variables = Variables::default();
    variables.insert(&path.into(), Perturbation::leaf(value)).unwrap();
    variables
}

/// A collection that is there and holds nothing.
fn empty_collection() -> Variables {
    let empty = (PathKey::from("perturbations"), Tree::Node(Node::from_sorted([])));
    Tree::<Leaf>::Node(Node::from_sorted([empty])).into()
}

#[test]
fn init_makes_zeros_and_leaves_the_output_alone() {
    let x = ones(&[2, 3]);
    let (y, variables) = model().init_with_output(key(0), &x).unwrap();
    assert_eq!(to_vec(&y), [4.; 6]);
    assert_eq!(paths(&variables), ["perturbations.inner.after", "perturbations.inner.before"]);
    let leaf = variables.get("perturbations", "inner.before").unwrap();
    assert_eq!((leaf.kind, leaf.tensor().unwrap().dims()), (Perturbation::variable_type(), &[2, 3][..]));
    assert_eq!(values(&variables, "perturbations", "inner.before"), [0.; 6]);
}

#[test]
fn gradients_of_perturbations_are_those_of_the_values() {
    let x = ones(&[2, 3]);
    let variables = model().init(key(0), &x).unwrap();
    let (loss, gradients) = value_and_grad(&variables, Perturbation::variable_type(), |variables| {
        Ok(model().apply(variables, &x)?.sqr()?.sum_all()?)
    })
    .unwrap();
    assert_eq!(loss.to_scalar::<f32>().unwrap(), 96.);
    assert_eq!(values(&gradients, "perturbations", "inner.after"), [8.; 6]);
    assert_eq!(values(&gradients, "perturbations", "inner.before"), [32.; 6]);
}

#[test]
fn a_perturbation_is_added() {
    let variables = perturbation("inner.before", &scalar(0.5));
    let variables = variables.updated(&perturbation("inner.after", &scalar(-1.))).unwrap();
    assert_eq!(to_vec(&model().apply(&variables, &scalar(2.)).unwrap()), [9.]);
}

#[test]
fn without_the_collection_nothing_is_perturbed() {
    let x = scalar(2.);
    assert_eq!(to_vec(&model().apply(&Variables::default(), &x).unwrap()), [8.]);
    let others = init(|scope| param(scope, "x").map(|_| ())).unwrap();
    let (y, state) = model().apply_mut(&others, Keys::none(), "cache", &x).unwrap();
    assert!(to_vec(&y) == [8.] && state.is_empty());
}

#[test]
fn a_collection_without_the_perturbation_is_an_error() {
    let x = scalar(2.);
    assert_error::<_, ScopeError>(
        model().apply(&perturbation("inner.before", &x), &x),
        "variable `inner.after` is not in the collection `perturbations`, did you mean `inner.before`?: it is made by \
         `init`, or where `perturbations` is mutable",
    );
    // It is looked for from the root: another module's will do.
    let error = model().apply(&perturbation("other.name", &x), &x).unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(ScopeError::VariableNotFound { .. })), "{error}");
    let error = model().apply(&empty_collection(), &x).unwrap_err();
    assert!(error.to_string().contains("`inner.before`"), "{error}");
    match error.downcast_ref() {
        Some(ScopeError::CollectionNotFound { collection, path, .. }) => {
            assert_eq!((collection.as_str(), path), ("perturbations", &Path::from("inner.before")));
        }
        _ => panic!("{error}"),
    }
}

#[test]
fn a_perturbation_that_is_missing_is_made_where_it_may_be() {
    let x = scalar(2.);
    let given = perturbation("inner.before", &scalar(1.));
    let (y, state) = model().apply_mut(&given, Keys::none(), "perturbations", &x).unwrap();
    assert_eq!(to_vec(&y), [12.]);
    assert_eq!(values(&state, "perturbations", "inner.after"), [0.]);
    assert_eq!(values(&state, "perturbations", "inner.before"), [1.]);
    assert_eq!(given.len(), 1);
}

#[test]
fn a_perturbation_of_another_form_says_where() {
    let error = model().apply(&perturbation("inner.before", &ones(&[3])), &ones(&[2])).unwrap_err();
    let error = error.to_string();
    assert!(
        error.starts_with("at `inner.before`: ") && error.contains("[2]") && error.contains("[3]"),
        "{error}"
    );
    let mut counted = Variables::default();
    counted.insert(&"inner.before".into(), Perturbation::leaf(1)).unwrap();
    let error = model().apply(&counted, &ones(&[2])).unwrap_err().to_string();
    assert_eq!(error, "at `inner.before`: expected a tensor, found a count");
}

#[test]
fn a_perturbation_has_a_name_of_its_own() {
    let x = scalar(1.);
    let f = |scope: &Scope| {
        scope.child_named("a", ())?.with(|(), scope| {
            scope.child_named("x", ())?;
            scope.perturb("x", &x).map(|_| ())
        })
    };
    assert_error::<_, ScopeError>(
        init(f),
        "`a.x` is there twice: give one another name, or keep the first in a handle and use it again",
    );
    // A variable of another collection may have it.
    let variables = init(|scope| {
        param(scope, "x")?;
        scope.perturb("x", &x).map(|_| ())
    });
    assert_eq!(paths(&variables.unwrap()), ["params.x", "perturbations.x"]);
}

#[test]
fn one_perturbation_can_be_added_in_two_places() {
    let run = |scope: &Scope| {
        let x = (scope.perturb("h", &scalar(1.))? * 2.)?;
        Ok((scope.perturb("h", &x)? * 3.)?)
    };
    let (_, variables) = Call::new().init(run).unwrap();
    assert_eq!(paths(&variables), ["perturbations.h"]);
    let (_, gradients) = value_and_grad(&variables, Perturbation::variable_type(), |variables| {
        Ok(Call::new().apply(variables, run)?.0)
    })
    .unwrap();
    assert_eq!(values(&gradients, "perturbations", "h"), [9.]);
}

#[test]
fn perturbations_can_be_in_a_collection_of_ones_own() {
    let run = |scope: &Scope| Ok((scope.perturb_in("nudges", "h", &scalar(2.))? * 3.)?);
    let (_, variables) = Call::new().init(run).unwrap();
    assert_eq!(paths(&variables), ["nudges.h"]);
    let kind = VariableType::from_collection("nudges");
    assert_eq!(variables.get("nudges", "h").unwrap().kind, kind);
    let (y, gradients) =
        value_and_grad(&variables, kind, |variables| Ok(Call::new().apply(variables, run)?.0)).unwrap();
    assert_eq!((to_vec(&y), values(&gradients, "nudges", "h")), (vec![6.], vec![3.]));
    let (y, _) = Call::new().apply(&perturbation("h", &scalar(5.)), run).unwrap();
    assert_eq!(to_vec(&y), [6.]);
}

#[test]
fn a_child_called_twice_has_one_perturbation() {
    let x = scalar(1.);
    let run = |scope: &Scope| {
        let child = scope.child_named("inner", Body(times_four))?;
        child.call(&child.call(&x)?)
    };
    let (_, variables) = Call::new().init(run).unwrap();
    assert_eq!(variables.len(), 2);
    let (_, gradients) = value_and_grad(&variables, Perturbation::variable_type(), |variables| {
        Ok(Call::new().apply(variables, run)?.0)
    })
    .unwrap();
    // 16 by the first call, 4 by the second.
    assert_eq!(values(&gradients, "perturbations", "inner.before"), [20.]);
    assert_eq!(values(&gradients, "perturbations", "inner.after"), [5.]);
}
