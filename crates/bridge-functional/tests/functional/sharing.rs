//! Scopes and children that several modules use.

use bridge_functional::{Call, Child, Dense, FunctionalModule, Scope, ScopeError};
use bridge_random::{Initializer, key};
use bridge_vars::{Result, Variables};
use candle_core::{DType, Tensor};

use crate::support::{Body, assert_error, init, ones, param, paths, to_vec};

/// A dense layer with a low-rank update beside its own parameters.
#[derive(Clone, Debug, PartialEq)]
struct DenseLora {
    dense: Dense,
    rank: usize,
}

impl DenseLora {
    fn new() -> Self {
        Self { dense: Dense::new(3), rank: 2 }
    }

    fn update(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
        let inputs = x.dim(1)?;
        let factor = |name: &'static str, shape: (usize, usize)| {
            scope.param(name, &Initializer::Ones, shape, DType::F32, x.device())
        };
        Ok(x.matmul(&factor("A", (inputs, self.rank))?)?
            .matmul(&factor("B", (self.rank, self.dense.features))?)?)
    }
}

impl FunctionalModule for DenseLora {
    type Output = Tensor;
    fn call(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
        let y = scope.share_scope(&self.dense, x)?;
        Ok((y + self.update(scope, x)?)?)
    }
}

const FOUR: [&str; 4] = ["A", "B", "bias", "kernel"];

fn below(place: &str) -> Vec<String> {
    FOUR.iter().map(|name| format!("params.{place}{name}")).collect()
}

#[test]
fn a_wrapper_that_shares_its_scope_is_not_seen_in_the_paths() {
    let x = ones(&[1, 4]);
    let (y, variables) = DenseLora::new().init_with_output(key(0), &x).unwrap();
    assert_eq!(paths(&variables), below(""));
    // The wrapped module's variables can be used without the wrapper.
    let plain = Dense::new(3).apply(&variables, &x).unwrap();
    assert_eq!(to_vec(&y), to_vec(&(plain + 8.).unwrap()));
    assert_eq!(to_vec(&DenseLora::new().apply(&variables, &x).unwrap()), to_vec(&y));
    // And they begin as they do without it.
    let alone = Dense::new(3).init(key(0), &x).unwrap();
    let kernel = |variables: &Variables| variables.get("params", "kernel").unwrap().clone();
    assert!(kernel(&variables).identical(&kernel(&alone)).unwrap());
    for (f, place) in [
        (init(|scope| scope.call(&DenseLora::new(), &x).map(|_| ())), "DenseLora_0."),
        (init(|scope| scope.call_named("dense_lora", &DenseLora::new(), &x).map(|_| ())), "dense_lora."),
    ] {
        assert_eq!(paths(&f.unwrap()), below(place));
    }
}

#[test]
fn a_wrapper_can_use_the_scope_of_a_child_that_is_there() {
    let x = ones(&[1, 4]);
    let variables = init(|scope| {
        let dense = scope.child(Dense::new(3))?;
        let lora = DenseLora::new();
        // No scope of the wrapper's own.
        let y = dense.with(|dense, scope| Ok((dense.call(scope, &x)? + lora.update(scope, &x)?)?))?;
        assert_eq!(to_vec(&y), to_vec(&(dense.call(&x)? + 8.)?));
        Ok(())
    });
    assert_eq!(paths(&variables.unwrap()), below("Dense_0."));
}

#[test]
fn children_of_a_module_with_a_shared_scope_are_the_wrappers() {
    let child = Body(|scope, x| scope.call_named("child", &Dense::new(2), x));
    let variables = init(|scope| {
        scope.call_named("main", &Body(|scope, x| scope.share_scope(&child_of(), x)), &ones(&[1, 2]))?;
        scope.share_scope(&child, &ones(&[1, 2])).map(|_| ())
    })
    .unwrap();
    let expected = ["child.bias", "child.kernel", "main.child.bias", "main.child.kernel"]
        .map(|path| format!("params.{path}"));
    assert_eq!(paths(&variables), expected);
}

fn child_of() -> Body {
    Body(|scope, x| scope.call_named("child", &Dense::new(2), x))
}

#[test]
fn modules_of_one_scope_count_their_children_together() {
    let own = Body(|scope, x| {
        let x = scope.call(&Dense::new(2), x)?;
        scope.share_scope(&Body(|scope, x| scope.call(&Dense::new(2), x)), &x)
    });
    let variables = own.init(key(0), &ones(&[1, 2])).unwrap();
    let expected = ["Dense_0.bias", "Dense_0.kernel", "Dense_1.bias", "Dense_1.kernel"];
    assert_eq!(paths(&variables), expected.map(|path| format!("params.{path}")));
}

#[test]
fn modules_of_one_scope_can_not_use_one_name() {
    let x = ones(&[1, 4]);
    let text = |path: &str| {
        format!(
            "`{path}` is there twice: give one another name, or keep the first in a handle and use it again"
        )
    };
    let check = |path: &str, f: &dyn Fn(&Scope) -> Result<()>| {
        assert_error::<_, ScopeError>(init(f), &text(path));
    };
    check("kernel", &|scope| {
        scope.share_scope(&Dense::new(3), &x)?;
        scope.share_scope(&Dense::new(3), &x).map(|_| ())
    });
    check("a.kernel", &|scope| {
        scope.child_named("a", ())?.with(|(), scope| {
            param(scope, "kernel")?;
            scope.share_scope(&DenseLora::new(), &x).map(|_| ())
        })
    });
    check("child", &|scope| {
        scope.call_named("child", &Dense::new(2), &x)?;
        scope.share_scope(&child_of(), &x).map(|_| ())
    });
}

#[test]
fn a_child_that_others_use_stays_where_it_was_named() {
    /// Calls a child of whoever made it, then one of its own.
    fn outer(scope: &Scope, shared: &Child<Dense>, x: &Tensor) -> Result<Tensor> {
        scope.call(&Dense::new(2), &shared.call(x)?)
    }
    let x = ones(&[1, 2]);
    let f = |scope: &Scope| {
        let shared = scope.child_named("a", Dense::new(2))?;
        let b = scope.child_named("b", ())?.with(|(), scope| outer(scope, &shared, &x))?;
        scope
            .child_named("c", ())?
            .with(|(), scope| scope.child_named("deep", ())?.with(|(), scope| outer(scope, &shared, &b)))
    };
    let (y, variables) = Call::new().keys(key(0)).init(f).unwrap();
    let kernels: Vec<_> = paths(&variables).into_iter().filter(|path| path.ends_with("kernel")).collect();
    assert_eq!(kernels, ["params.a.kernel", "params.b.Dense_0.kernel", "params.c.deep.Dense_0.kernel"]);
    let (again, _) = Call::new().apply(&variables, f).unwrap();
    assert_eq!(to_vec(&y), to_vec(&again));
}

#[test]
fn either_user_of_a_shared_child_finds_its_parameters() {
    let x = ones(&[1, 2]);
    let run = |with: &'static [&'static str]| {
        let x = &x;
        move |scope: &Scope| {
            let shared = scope.child_named("shared", Dense::new(2))?;
            with.iter()
                .try_fold(x.clone(), |x, name| scope.child_named(*name, ())?.with(|(), _| shared.call(&x)))
        }
    };
    let (_, variables) = Call::new().keys(key(0)).init(run(&["a", "b"])).unwrap();
    assert_eq!(paths(&variables), ["params.shared.bias", "params.shared.kernel"]);
    let (a, _) = Call::new().apply(&variables, run(&["a"])).unwrap();
    let (b, _) = Call::new().apply(&variables, run(&["b"])).unwrap();
    assert_eq!(to_vec(&a), to_vec(&b));
}

#[test]
fn a_module_called_twice_is_two_children_and_a_handle_one() {
    let x = ones(&[1, 2]);
    let template = Dense::new(2);
    let f = |scope: &Scope| {
        // The module is its configuration: what is called is a new child each time.
        scope.call(&template, &x)?;
        scope.call(&template, &x)?;
        scope.call_named("third", &template, &x)?;
        let handle = scope.child(template.clone())?;
        handle.call(&x)?;
        handle.clone().call(&x).map(|_| ())
    };
    let variables = init(f).unwrap();
    let kernels: Vec<_> = paths(&variables).into_iter().filter(|path| path.ends_with("kernel")).collect();
    let expected = ["Dense_0", "Dense_1", "Dense_2", "third"].map(|name| format!("params.{name}.kernel"));
    assert_eq!(kernels, expected);
}
