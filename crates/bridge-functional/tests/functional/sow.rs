//! Values that modules leave behind.

use bridge_functional::{Call, Dense, FunctionalModule, Keys, Scope, ScopeError, value_and_grad};
use bridge_random::key;
use bridge_vars::{CollectionFilter, Filter, Intermediate, Param, Result, VariableType, Variables};
use candle_core::{DType, Tensor};

use crate::support::{Body, apply, assert_error, device, init, ones, param, paths, scalar, values};

/// Sows `x` and `2x`, and gives `3x`.
fn twice(scope: &Scope, x: &Tensor) -> Result<Tensor> {
    assert!(scope.sow("intermediates", "h", x)?);
    assert!(scope.sow("intermediates", "h", (x * 2.)?)?);
    Ok((x * 3.)?)
}

fn sum(scope: &Scope, collection: &str, name: &'static str, value: &Tensor) -> Result<bool> {
    scope.sow_with(collection, name, value, || Ok(scalar(0.)), |sum, value| Ok((sum + value)?))
}

/// What a call that may change these collections sows over these variables.
fn sown(
    variables: &Variables,
    mutable: impl Into<CollectionFilter>,
    f: impl FnOnce(&Scope) -> Result<()>,
) -> Variables {
    Call::new().keys(key(0)).mutable(mutable).apply(variables, f).unwrap().1
}

#[test]
fn sown_values_are_a_list_in_their_order() {
    let call = Call::new().mutable("intermediates");
    let (y, state) = call.apply(&Variables::default(), |scope| twice(scope, &scalar(1.))).unwrap();
    assert_eq!(y.to_scalar::<f32>().unwrap(), 3.);
    assert_eq!(paths(&state), ["intermediates.h.0", "intermediates.h.1"]);
    assert_eq!(values(&state, "intermediates", "h.0"), [1.]);
    assert_eq!(values(&state, "intermediates", "h.1"), [2.]);
}

#[test]
fn sown_values_can_be_added_up() {
    let state = sown(&Variables::default(), "intermediates", |scope| {
        assert!(sum(scope, "intermediates", "h", &scalar(1.))?);
        assert!(sum(scope, "intermediates", "h", &scalar(2.))?);
        Ok(())
    });
    assert_eq!(paths(&state), ["intermediates.h"]);
    assert_eq!(values(&state, "intermediates", "h"), [3.]);
}

#[test]
fn nothing_is_sown_where_the_collection_can_not_change() {
    let y = apply(&Variables::default(), |scope| {
        assert!(!scope.sow("intermediates", "h", scalar(1.))?);
        // Neither function is asked.
        let never = |_: &Tensor, _: &Tensor| -> Result<Tensor> { panic!("reduced") };
        assert!(!scope.sow_with("losses", "h", &scalar(1.), || panic!("made"), never)?);
        // Nor is the name taken.
        param_of_name(scope, "h")
    });
    assert!(matches!(y.unwrap_err().downcast_ref(), Some(ScopeError::CollectionNotFound { .. })));
    let (y, state) = Call::new()
        .mutable("cache")
        .apply(&Variables::default(), |scope| scope.sow("intermediates", "h", scalar(1.)))
        .unwrap();
    assert!(!y && state.is_empty());
}

fn param_of_name(scope: &Scope, name: &'static str) -> Result<()> {
    param(scope, name).map(|_| ())
}

#[test]
fn init_sows_only_where_it_is_told_to() {
    let f = |scope: &Scope| {
        param(scope, "scale")?;
        scope.sow("intermediates", "h", scalar(1.))?;
        scope.sow("intermediates", "h", scalar(2.))
    };
    let (sown, variables) = Call::new().keys(key(0)).init(f).unwrap();
    assert!(!sown);
    assert_eq!(paths(&variables), ["params.scale"]);
    let (sown, variables) = Call::new().keys(key(0)).mutable(true).init(f).unwrap();
    assert!(sown);
    assert_eq!(paths(&variables), ["intermediates.h.0", "intermediates.h.1", "params.scale"]);
    assert_eq!(values(&variables, "intermediates", "h.1"), [2.]);
}

#[test]
fn a_sown_value_is_at_its_modules_path() {
    let inner = Body(|scope, x| {
        scope.sow("intermediates", "loss", x.sum_all()?)?;
        Ok(x.clone())
    });
    let state = sown(&Variables::default(), "intermediates", |scope| {
        scope.child_named("outer", ())?.with(|(), scope| scope.call_named("inner", &inner, &ones(&[4])))?;
        Ok(())
    });
    assert_eq!(paths(&state), ["intermediates.outer.inner.loss.0"]);
    assert_eq!(values(&state, "intermediates", "outer.inner.loss.0"), [4.]);
}

#[test]
fn a_module_that_sows_nothing_has_no_entry() {
    let f = |sows: [bool; 3]| {
        move |scope: &Scope| {
            for (index, sows) in sows.into_iter().enumerate() {
                scope.child_named(format!("layers_{index}"), ())?.with(|(), scope| {
                    if sows { scope.sow("intermediates", "h", scalar(1.)) } else { Ok(false) }
                })?;
            }
            Ok(())
        }
    };
    let state = sown(&Variables::default(), "intermediates", f([true, false, true]));
    assert_eq!(paths(&state), ["intermediates.layers_0.h.0", "intermediates.layers_2.h.0"]);
    let state = sown(&Variables::default(), true, f([false; 3]));
    assert_eq!(state.collections().count(), 0);
}

#[test]
fn a_sown_value_is_kept_as_it_is() {
    let weights = Tensor::zeros((4, 8, 6, 6), DType::BF16, &device()).unwrap();
    let state = sown(&Variables::default(), ["intermediates", "notes"], |scope| {
        scope.sow("intermediates", "weights", &weights)?;
        scope.sow("notes", "count", 7)?;
        scope.sow("notes", "key", key(3))?;
        Ok(())
    });
    let leaf = state.get("intermediates", "weights.0").unwrap();
    assert_eq!(leaf.kind, Intermediate::variable_type());
    let found = leaf.tensor().unwrap();
    assert_eq!((found.dims(), found.dtype()), (&[4, 8, 6, 6][..], DType::BF16));
    let count = state.get("notes", "count.0").unwrap();
    assert_eq!((count.kind, count.value.count().unwrap()), (VariableType::from_collection("notes"), 7));
    assert_eq!(state.get("notes", "key.0").unwrap().value.key().unwrap(), key(3));
}

#[test]
fn what_is_sown_outside_of_init_alone_counts_once() {
    let model = Body(|scope, x| {
        if !scope.is_initializing() {
            sum(scope, "counts", "calls", &scalar(1.))?;
        }
        Ok(x.clone())
    });
    let variables = Call::new().keys(key(0)).mutable(true).init(|scope| model.call(scope, &ones(&[1])));
    let (_, variables) = variables.unwrap();
    assert!(variables.is_empty());
    let (_, state) = model.apply_mut(&variables, Keys::none(), true, &ones(&[1])).unwrap();
    assert_eq!(values(&state, "counts", "calls"), [1.]);
}

#[test]
fn sown_values_go_on_from_those_that_are_passed_in() {
    let first = sown(&Variables::default(), true, |scope| {
        twice(scope, &scalar(1.))?;
        sum(scope, "losses", "l", &scalar(5.))?;
        Ok(())
    });
    let second = sown(&first, true, |scope| {
        twice(scope, &scalar(10.))?;
        let add = |sum: &Tensor, value: &Tensor| Ok((sum + value)?);
        scope.sow_with("losses", "l", &scalar(2.), || panic!("made again"), add)?;
        Ok(())
    });
    let list = (0..4).map(|index| values(&second, "intermediates", &format!("h.{index}"))[0]);
    assert!(list.eq([1., 2., 10., 20.]));
    assert_eq!(values(&second, "losses", "l"), [7.]);
    // What was passed in stays as it was.
    assert_eq!(values(&first, "losses", "l"), [5.]);
    assert_eq!(first.len(), 3);
}

#[test]
fn a_sown_name_is_there_afterwards() {
    sown(&Variables::default(), true, |scope| {
        assert!(!scope.has_variable("intermediates", "h"));
        twice(scope, &scalar(1.))?;
        sum(scope, "losses", "l", &scalar(5.))?;
        assert!(scope.has_variable("intermediates", "h") && scope.has_variable("losses", "l"));
        assert!(!scope.has_variable("losses", "h"));
        assert_eq!(scope.subtree(&"intermediates".into()).unwrap().len(), 2);
        Ok(())
    });
}

#[test]
fn a_child_called_twice_sows_into_one_list() {
    let state = sown(&Variables::default(), "intermediates", |scope| {
        let child = scope.child_named("a", Body(twice))?;
        child.call(&child.call(&scalar(1.))?)?;
        Ok(())
    });
    let list = (0..4).map(|index| values(&state, "intermediates", &format!("a.h.{index}"))[0]);
    assert!(list.eq([1., 2., 3., 6.]));
}

#[test]
fn lists_and_sums_of_one_name_are_apart_by_collection_and_module() {
    let state = sown(&Variables::default(), true, |scope| {
        scope.sow("intermediates", "x", scalar(1.))?;
        sum(scope, "losses", "x", &scalar(2.))?;
        scope.child_named("a", ())?.with(|(), scope| scope.sow("intermediates", "x", scalar(3.)))?;
        param(scope, "x")?;
        Ok(())
    });
    let expected = ["intermediates.a.x.0", "intermediates.x.0", "losses.x", "params.x"];
    assert_eq!(paths(&state), expected);
}

#[test]
fn a_sown_name_is_taken() {
    let dense = Dense::new(2);
    let x = ones(&[1, 2]);
    let check = |path: &str, f: &dyn Fn(&Scope) -> Result<()>| {
        let text = "is there twice: give one another name, or keep the first in a handle and use it again";
        let call = Call::new().keys(key(0)).mutable(true);
        assert_error::<_, ScopeError>(call.init(f), &format!("`{path}` {text}"));
    };
    check("x", &|scope| {
        scope.call_named("x", &dense, &x)?;
        scope.sow("intermediates", "x", &x).map(|_| ())
    });
    check("x", &|scope| {
        scope.sow("intermediates", "x", &x)?;
        scope.call_named("x", &dense, &x).map(|_| ())
    });
    check("a.x", &|scope| {
        scope.child_named("a", ())?.with(|(), scope| {
            sum(scope, "losses", "x", &scalar(1.))?;
            scope.child_named("x", ()).map(|_| ())
        })
    });
    check("x", &|scope| {
        scope.variable("losses", "x", || Ok(1))?;
        scope.sow("losses", "x", &x).map(|_| ())
    });
    check("x", &|scope| {
        scope.sow("losses", "x", &x)?;
        scope.variable("losses", "x", || Ok(1)).map(|_| ())
    });
    // A sum is no list.
    check("x", &|scope| {
        sum(scope, "losses", "x", &scalar(1.))?;
        scope.sow("losses", "x", &x).map(|_| ())
    });
    let error = init(|scope| scope.sow("cache", "<x>", 1).map(|_| ()));
    assert_error::<_, ScopeError>(error, "`<x>`: names in angle brackets belong to wrappers; use another");
}

#[test]
fn a_sum_that_fails_says_where() {
    let f = |scope: &Scope| {
        scope.child_named("a", ())?.with(|(), scope| {
            scope.sow("losses", "count", 1)?;
            sum(scope, "losses", "l", &scalar(1.))?;
            sum(scope, "losses", "l", &ones(&[2])).map(|_| ())
        })
    };
    let error = Call::new().mutable("losses").apply(&Variables::default(), f).unwrap_err().to_string();
    assert!(error.starts_with("at `a`: ") && error.contains("[2]"), "{error}");
    let counted =
        sown(&Variables::default(), "losses", |scope| scope.variable("losses", "l", || Ok(1)).map(|_| ()));
    let f = |scope: &Scope| sum(scope, "losses", "l", &scalar(1.));
    let error = Call::new().mutable("losses").apply(&counted, f).unwrap_err().to_string();
    assert_eq!(error, "at `l`: expected a tensor, found a count");
}

#[test]
fn a_sown_loss_has_gradients() {
    let model = Body(|scope, x| {
        let y = x.broadcast_mul(&param(scope, "scale")?)?;
        sum(scope, "losses", "square", &y.sqr()?.sum_all()?)?;
        Ok(y)
    });
    let x = ones(&[3]);
    let variables = model.init(key(0), &x).unwrap().filter_collections(|name| name == "params");
    let (loss, gradients) = value_and_grad(&variables, Filter::of::<Param>(), |variables| {
        let (_, losses) = model.apply_mut(variables, Keys::none(), "losses", &x)?;
        Ok(losses.get("losses", "square")?.tensor()?.clone())
    })
    .unwrap();
    assert_eq!(loss.to_scalar::<f32>().unwrap(), 3.);
    assert_eq!(values(&gradients, "params", "scale"), [6.]);
}
