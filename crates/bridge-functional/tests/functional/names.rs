//! How variables and children are named.

use bridge_functional::{BatchNorm, Dense, FunctionalModule, Scope, ScopeError};
use bridge_random::key;
use bridge_vars::Result;
use candle_core::Tensor;

use crate::support::{Counter, assert_error, init, ones, param, paths};

/// The names of what a closure makes, without what is inside.
#[track_caller]
fn check(f: impl FnOnce(&Scope) -> Result<()>, expected: &[&str]) {
    let variables = init(f).unwrap();
    let mut names: Vec<String> = variables.iter().map(|(path, _)| path.keys()[1].to_string()).collect();
    names.sort();
    names.dedup();
    assert_eq!(names, expected);
}

#[test]
fn children_are_numbered_by_class() {
    let x = ones(&[1, 2]);
    let f = |scope: &Scope| {
        scope.call(&Dense::new(2), &x)?;
        scope.call(&Counter, &x)?;
        scope.call(&Dense::new(3), &x)?;
        scope.child(Counter)?.call(&x)?;
        scope.call(&BatchNorm::new().use_running_average(true), &x)?;
        Ok(())
    };
    check(f, &["BatchNorm_0", "Counter_0", "Counter_1", "Dense_0", "Dense_1"]);
}

#[test]
fn names_of_ones_own_are_not_counted() {
    let x = ones(&[1, 2]);
    let f = |scope: &Scope| {
        scope.call_named("first", &Dense::new(2), &x)?;
        scope.child_named("second", Dense::new(2))?.call(&x)?;
        scope.call(&Dense::new(2), &x)?;
        Ok(())
    };
    check(f, &["Dense_0", "first", "second"]);
}

#[test]
fn a_generic_class_has_the_name_without_its_parameters() {
    #[derive(Clone, Debug, PartialEq)]
    struct Residual<F>(F);
    impl<F: FunctionalModule<Output = Tensor>> FunctionalModule for Residual<F> {
        type Output = Tensor;
        fn call(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
            Ok((x + scope.call(&self.0, x)?)?)
        }
    }
    let x = ones(&[1, 2]);
    let model = Residual(Residual(Dense::new(2)));
    let variables = model.init(key(0), &x).unwrap();
    assert_eq!(paths(&variables), ["params.Residual_0.Dense_0.bias", "params.Residual_0.Dense_0.kernel"]);
}

#[test]
fn a_class_declared_in_a_method_of_a_trait_has_its_own_name() {
    trait Make {
        fn make(&self, scope: &Scope, x: &Tensor) -> Result<()>;
    }
    impl<T> Make for Option<T> {
        fn make(&self, scope: &Scope, x: &Tensor) -> Result<()> {
            #[derive(Clone, Debug, PartialEq)]
            struct Local;
            impl FunctionalModule for Local {
                type Output = Tensor;
                fn call(&self, scope: &Scope, _: &Tensor) -> Result<Tensor> {
                    param(scope, "x")
                }
            }
            scope.call(&Local, x)?;
            Ok(())
        }
    }
    check(|scope| Some(vec![1u8]).make(scope, &ones(&[1])), &["Local_0"]);
}

#[test]
fn a_handle_called_twice_is_one_child() {
    let x = ones(&[1, 2]);
    let f = |scope: &Scope| {
        let child = scope.child(Dense::new(2))?;
        child.call(&child.call(&x)?)?;
        child.clone().with(|dense, scope| dense.call(scope, &x))?;
        Ok(())
    };
    check(f, &["Dense_0"]);
    // Its own children are named from the start in every call.
    #[derive(Clone, Debug, PartialEq)]
    struct Pair;
    impl FunctionalModule for Pair {
        type Output = Tensor;
        fn call(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
            scope.call(&Dense::new(2), &scope.call(&Dense::new(2), x)?)
        }
    }
    let variables = init(|scope| {
        let pair = scope.child(Pair)?;
        pair.call(&pair.call(&x)?)?;
        Ok(())
    })
    .unwrap();
    let kernels: Vec<_> = paths(&variables).into_iter().filter(|path| path.ends_with("kernel")).collect();
    assert_eq!(kernels, ["params.Pair_0.Dense_0.kernel", "params.Pair_0.Dense_1.kernel"]);
}

#[test]
fn one_name_in_two_collections() {
    let f = |scope: &Scope| {
        param(scope, "x")?;
        scope.variable("cache", "x", || Ok(1))?;
        scope.variable("memory", "x", || Ok(2))?;
        Ok(())
    };
    assert_eq!(paths(&init(f).unwrap()), ["cache.x", "memory.x", "params.x"]);
}

#[test]
fn a_name_is_used_once() {
    let x = ones(&[1, 2]);
    let text = |path: &str| {
        format!(
            "`{path}` is there twice: give one another name, or keep the first in a handle and use it again"
        )
    };
    let dense = Dense::new(2);
    let refused: [&dyn Fn(&Scope) -> Result<()>; 6] = [
        &|scope| {
            param(scope, "x")?;
            param(scope, "x").map(|_| ())
        },
        &|scope| {
            scope.variable("cache", "x", || Ok(1))?;
            scope.variable("cache", "x", || Ok(1)).map(|_| ())
        },
        &|scope| {
            param(scope, "x")?;
            scope.call_named("x", &dense, &x).map(|_| ())
        },
        &|scope| {
            scope.call_named("x", &dense, &x)?;
            scope.variable("cache", "x", || Ok(1)).map(|_| ())
        },
        &|scope| {
            scope.child_named("x", dense.clone())?;
            scope.child_named("x", Counter).map(|_| ())
        },
        &|scope| {
            scope.child_named("x", dense.clone())?;
            param(scope, "x").map(|_| ())
        },
    ];
    for refused in refused {
        assert_error::<_, ScopeError>(init(refused), &text("x"));
    }
    let f = |scope: &Scope| {
        scope.call_named("Dense_0", &Counter, &x)?;
        scope.call(&dense, &x).map(|_| ())
    };
    assert_error::<_, ScopeError>(init(f), &text("Dense_0"));
    let f = |scope: &Scope| {
        scope.child_named("outer", Counter)?.with(|_, scope| {
            param(scope, "y")?;
            param(scope, "y").map(|_| ())
        })
    };
    assert_error::<_, ScopeError>(init(f), &text("outer.y"));
    assert_error::<_, ScopeError>(
        init(|scope| param(scope, "<x>").map(|_| ())),
        "`<x>`: names in angle brackets belong to wrappers; use another",
    );
}
