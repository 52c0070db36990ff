//! Every misuse, with the message that it gives.

use bridge_functional::{Call, FunctionalModule, Scope, ScopeError};
use bridge_graph::{GraphError, Rngs, StatefulModule};
use bridge_random::key;
use bridge_vars::{Result, State, VarsError};
use bridge_wrappers::{ToFunctional, ToStateful, WrapperError, functional, to_functional};
use candle_core::{Module, Tensor};
use serde::{Deserialize, Serialize};

use crate::modules::{MUTABLE, Recall, Recaller, assert_error, input, keys};

fn wrapped() -> ToFunctional<Recaller> {
    to_functional(|rngs| Recaller::new(0.5, rngs))
}

/// Puts a wrapped module one level down.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Below(ToFunctional<Recaller>);
impl FunctionalModule for Below {
    type Output = Tensor;
    fn call(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
        scope.call_named("below", &self.0, x)
    }
}

#[test]
fn description_missing() {
    let (model, x) = (Below(wrapped()), input());
    let variables = model.train().init(keys(0), &x).unwrap();
    let dropped = variables.filter_collections(|name| name != "nnx");
    assert_error::<_, WrapperError>(
        model.eval().apply(&dropped, &x),
        "at `below`: the collection `nnx`, which holds the `GraphDef` of the wrapped module, is not there; it was \
         dropped on the way from `init`, perhaps by passing `params` alone: pass it along with the others",
    );
}

#[test]
fn variables_missing_and_of_another_shape() {
    let (model, x) = (Below(wrapped()), input());
    let variables = model.train().init(keys(0), &x).unwrap();
    let mut broken = variables.filter_collections(|name| name != "batch_stats");
    let other = Tensor::zeros((2, 2), candle_core::DType::F32, &crate::modules::device()).unwrap();
    broken.insert(&"below.weight".into(), bridge_vars::Param::leaf(other)).unwrap();
    assert_error::<_, GraphError>(
        model.eval().apply(&broken, &x),
        "at `below`: the state does not fit the module\n  missing `norm.mean`\n  missing `norm.var`\n  \
         `weight`: expected Param f32[3, 4], found Param f32[2, 2]\nbuild the module as it was for this state, or rename, \
         replace or drop the state's entries",
    );
}

#[test]
fn immutable_write() {
    let (model, x) = (Below(wrapped()), input());
    let variables = model.train().init(keys(0), &x).unwrap();
    assert_error::<_, ScopeError>(
        model.train().apply_mut(&variables, keys(1), "recollections", &x),
        "`below.norm.mean` can not change: the collection `batch_stats` is not mutable in this call, mutable: \
         recollections; use `apply_mut` with \"batch_stats\", or `.mutable(\"batch_stats\")` where it is wrapped",
    );
    assert_error::<_, ScopeError>(
        model.train().apply_mut(&variables, keys(1), "batch_stats", &x),
        "`below.calls` can not change: the collection `recollections` is not mutable in this call, mutable: \
         batch_stats; use `apply_mut` with \"recollections\", or `.mutable(\"recollections\")` where it is wrapped",
    );
    let stateful = ToStateful::new(Recall { rate: 0. }, key(0)).unwrap().lazy_init(&x).unwrap();
    assert_error::<_, ScopeError>(
        stateful.call(&x),
        "`norm.mean` can not change: the collection `batch_stats` is not mutable in this call, mutable: none; use \
         `apply_mut` with \"batch_stats\", or `.mutable(\"batch_stats\")` where it is wrapped",
    );
}

#[test]
fn a_failed_call_of_a_stateful_module_changes_no_variable() {
    let x = input();
    let model =
        ToStateful::new(Recall { rate: 0. }, key(0)).unwrap().mutable(["memory"]).lazy_init(&x).unwrap();
    let before = model.variables().unwrap();
    model.call(&x).unwrap_err();
    assert!(model.variables().unwrap().identical(&before).unwrap());
}

#[test]
fn stream_without_a_key() {
    let (model, x) = (Below(wrapped()), input());
    let variables = model.train().init(keys(0), &x).unwrap();
    let none = bridge_functional::Keys::none();
    assert_error::<_, GraphError>(
        model.train().apply_mut(&variables, none.clone(), MUTABLE, &x),
        "at `below`: the call gave no key for the random stream `dropout`: pass one, `[(\"dropout\", key)]`, or switch \
         to evaluation",
    );
    // Deeper down it is the functional module that wants a key.
    let deeper = to_functional(|rngs| ToStateful::new(Recall { rate: 0.5 }, rngs));
    let variables = deeper.train().init(keys(0), &x).unwrap();
    assert_error::<_, ScopeError>(
        deeper.train().apply_mut(&variables, none, MUTABLE, &x),
        "at `dropout`: no key for the random stream `dropout`, found none: pass `[(\"dropout\", key)]`",
    );
}

#[test]
fn no_stream_at_construction() {
    assert_error::<_, GraphError>(
        Below(wrapped()).train().init(key(0), &input()),
        "at `below`: no random stream `dropout`, found `params`: add it, `Rngs::new(0).with_stream(\"dropout\", 1)`, or a \
         `default`; inside a functional call, pass a key for it, `[(\"dropout\", key)]`",
    );
}

#[test]
fn constructor_missing() {
    let (model, x) = (wrapped(), input());
    let variables = model.train().init(keys(0), &x).unwrap();
    let text = serde_json::to_string(&model).unwrap();
    assert_eq!(text, r#"{"arguments":null}"#);
    let read: ToFunctional<Recaller> = serde_json::from_str(&text).unwrap();
    assert_eq!(read, model);
    let y = read.eval().apply(&variables, &x).unwrap();
    crate::modules::assert_same(&y, &model.eval().apply(&variables, &x).unwrap());
    assert_error::<_, WrapperError>(
        read.init(keys(0), &x),
        "the constructor of this `ToFunctional` is not here, because it came from a file: it can `apply`, but not \
         `init`; make it with `to_functional`",
    );
}

#[test]
fn structure_changed() {
    #[derive(StatefulModule)]
    struct Outer {
        inner: ToStateful<Recall>,
    }
    let model = to_functional(|rngs| Ok(Outer { inner: ToStateful::new(Recall { rate: 0. }, rngs)? }));
    let x = input();
    let grow = |scope: &Scope| {
        model.with(scope, |outer| {
            outer.inner.with(|_, scope| scope.variable("memory", "made", || Ok(x.clone()))?.get())
        })
    };
    let call = |scope: &Scope| model.call(scope, &x);
    let (_, variables) = Call::new().keys(keys(0)).init(call).unwrap();
    let apply = |mutable: &[&str]| Call::new().keys(keys(1)).mutable(mutable).apply(&variables, grow);
    assert_error::<_, WrapperError>(
        apply(&["memory"]),
        "the call changed the structure of the wrapped module (`inner.made`), and `nnx` is not mutable: use \
         `apply_mut` with \"nnx\" among the mutable collections",
    );
    let (_, updates) = apply(&["memory", "nnx"]).unwrap();
    let next = variables.updated(&updates).unwrap();
    next.get("memory", "inner.made").unwrap();
    Call::new().mode(bridge_functional::Mode::Eval).apply(&next, call).unwrap();

    impl Module for Outer {
        fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
            self.inner.forward(x)
        }
    }
}

#[test]
fn not_initialised() {
    let x = input();
    assert_error::<_, WrapperError>(
        functional(|rngs| Recaller::new(0.5, rngs)).apply(&State::default(), |model| model.forward(&x)),
        "this `Functional` has no `GraphDef` yet: call `init` before `apply`",
    );
    let model = ToStateful::new(Recall { rate: 0. }, key(0)).unwrap();
    assert_error::<_, WrapperError>(
        model.variable("weight"),
        "`weight` is not among the wrapped module's variables, which has none: call `lazy_init` with a sample first",
    );
    assert_error::<_, WrapperError>(
        model.call(&x),
        "this `ToStateful` has no variables yet (`weight` was looked for): call `lazy_init` with a sample input first",
    );
    let model = model.lazy_init(&x).unwrap();
    assert_error::<_, WrapperError>(
        model.variable("wait"),
        "`wait` is not among the wrapped module's variables",
    );
    let no_keys = ToStateful::new(Recall { rate: 0. }, &Rngs::empty()).unwrap();
    assert_error::<_, ScopeError>(
        no_keys.lazy_init(&x),
        "no key for the random stream `params`, found none: pass `[(\"params\", key)]`",
    );
}

#[test]
fn one_path_in_two_collections() {
    #[derive(Clone, Debug, PartialEq)]
    struct Same;
    impl FunctionalModule for Same {
        type Output = Tensor;
        fn call(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
            scope.param_with("x", None, |_| Ok(x.clone()))?;
            scope.variable("cache", "x", || Ok(x.clone()))?.get()
        }
    }
    assert_error::<_, VarsError>(
        ToStateful::new(Same, key(0)).unwrap().lazy_init(&input()),
        "`x` is there twice, as `Cache` and as `Param`: rename one, or keep them apart by a filter",
    );
}

#[test]
fn an_error_goes_through_all_wrappers() {
    let model = to_functional(|rngs| ToStateful::new(Below(wrapped()), rngs));
    let short = Tensor::zeros((5, 2), candle_core::DType::F32, &crate::modules::device()).unwrap();
    let error = model.train().init(keys(0), &short).unwrap_err();
    assert!(error.downcast_ref::<candle_core::Error>().is_some(), "{error}");
    assert!(error.to_string().starts_with("at `below`: shape mismatch in matmul"), "{error}");
}

#[derive(StatefulModule)]
#[module(crate = "bridge_graph")]
struct Leaves {
    seen: bridge_vars::Intermediate,
}

#[test]
fn variables_that_init_does_not_return() {
    let model = to_functional(|_: &Rngs| Ok(Leaves { seen: bridge_vars::Intermediate::new(input()) }));
    let run = |call: Call| call.keys(key(0)).init(|scope| model.with(scope, |_| Ok(())));
    assert_error::<_, WrapperError>(
        run(Call::new()),
        "the wrapped module has variables in `intermediates`, which this `init` does not return, so that `apply` would \
         lack them: run it with `Call::new().keys(..).mutable(CollectionFilter::all()).init(..)`",
    );
    let ((), variables) = run(Call::new().mutable(bridge_vars::CollectionFilter::all())).unwrap();
    Call::new().apply(&variables, |scope| model.with(scope, |_| Ok(()))).unwrap();
}
