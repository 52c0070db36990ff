//! Every misuse, with the message that it gives and the whole path in it.

use bridge_functional::{BatchNorm, Call, Dense, Dropout, FunctionalModule, Keys, Scope, ScopeError};
use bridge_random::key;
use bridge_vars::{Param, Result, Variables, VarsError};
use candle_core::Tensor;

use crate::support::{Counter, apply, assert_error, ones, param};

/// A module two levels down.
#[derive(Clone, Debug, PartialEq)]
struct Deep<F>(F);

impl<F: FunctionalModule<Output = Tensor>> FunctionalModule for Deep<F> {
    type Output = Tensor;
    fn call(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
        scope.child_named("encoder", Counter)?.with(|_, scope| scope.call(&self.0, x))
    }
}

fn variables() -> Variables {
    Deep(Dense::new(2)).init(key(0), &ones(&[1, 3])).unwrap()
}

fn without(paths: &[&str]) -> Variables {
    let mut tree = variables().tree().clone();
    for path in paths {
        tree.remove(&(*path).into()).unwrap();
    }
    tree.into()
}

#[test]
fn parameter_not_found() {
    let x = ones(&[1, 3]);
    assert_error::<_, ScopeError>(
        Deep(Dense::new(2)).apply(&without(&["params.encoder.Dense_0.bias"]), &x),
        "parameter `encoder.Dense_0.bias` is not in the collection `params`, did you mean \
         `encoder.Dense_0.kernel`?: give `apply` the variables that `init` of the same module returned",
    );
    assert_error::<_, ScopeError>(
        apply(&variables(), |scope| param(scope, "other")),
        "parameter `other` is not in the collection `params`: give `apply` the variables that `init` of the same module \
         returned",
    );
}

#[test]
fn variable_not_found() {
    let mut variables = variables();
    variables.insert(&"encoder.Counter_0.calls".into(), bridge_vars::Cache::leaf(1)).unwrap();
    let f = |scope: &Scope| {
        scope
            .child_named("encoder", Counter)?
            .with(|_, scope| scope.variable("cache", "calls", || Ok(0)).map(|_| ()))
    };
    assert_error::<_, ScopeError>(
        apply(&variables, f),
        "variable `encoder.calls` is not in the collection `cache`, did you mean `encoder.Counter_0.calls`?: it is \
         made by `init`, or where `cache` is mutable",
    );
}

#[test]
fn collection_not_found() {
    let x = ones(&[1, 3]);
    assert_error::<_, ScopeError>(
        Deep(Counter).apply(&variables(), &x),
        "`encoder.Counter_0.calls` was looked for in the collection `memory`, which is not there; the variables have \
         `params`: was it dropped, or was `init` never called?",
    );
    assert_error::<_, ScopeError>(
        Dense::new(2).apply(&Variables::default(), &x),
        "`kernel` was looked for in the collection `params`, which is not there; the variables have none: was it \
         dropped, or was `init` never called?",
    );
}

#[test]
fn parameter_of_another_shape() {
    assert_error::<_, ScopeError>(
        Deep(Dense::new(2)).apply(&variables(), &ones(&[1, 4])),
        "parameter `encoder.Dense_0.kernel`: the module makes it [4, 2], the variables hold [3, 2]: they belong to \
         another configuration or input",
    );
    // What `make` itself gives is checked too.
    let shape = candle_core::Shape::from(2);
    let made = Call::new().keys(key(0)).init(|scope| scope.param_with("x", Some(&shape), |_| Ok(ones(&[3]))));
    assert_error::<_, ScopeError>(
        made,
        "parameter `x`: the module makes it [2], the variables hold [3]: they belong to another configuration or input",
    );
}

#[test]
fn parameter_of_another_kind() {
    let mut variables = variables();
    variables.insert(&"encoder.Dense_0.kernel".into(), Param::leaf(7)).unwrap();
    assert_error::<_, VarsError>(
        Deep(Dense::new(2)).apply(&variables, &ones(&[1, 3])),
        "at `encoder.Dense_0.kernel`: expected a tensor, found a count",
    );
}

#[test]
fn not_mutable() {
    let x = ones(&[4, 3]);
    let model = Deep(BatchNorm::new());
    let variables = model.eval().init(key(0), &x).unwrap();
    assert_error::<_, ScopeError>(
        model.train().apply(&variables, &x),
        "`encoder.BatchNorm_0.mean` can not change: the collection `batch_stats` is not mutable in this call, mutable: \
         none; use `apply_mut` with \"batch_stats\", or `.mutable(\"batch_stats\")` where it is wrapped",
    );
    assert_error::<_, ScopeError>(
        model.train().apply_mut(&variables, Keys::none(), ["cache", "memory"], &x),
        "`encoder.BatchNorm_0.mean` can not change: the collection `batch_stats` is not mutable in this call, mutable: \
         cache, memory; use `apply_mut` with \"batch_stats\", or `.mutable(\"batch_stats\")` where it is wrapped",
    );
}

#[test]
fn stream_not_found() {
    let x = ones(&[1, 3]);
    let model = Deep(Dropout::new(0.5));
    assert_error::<_, ScopeError>(
        model.train().apply(&Variables::default(), &x),
        "at `encoder.Dropout_0`: no key for the random stream `dropout`, found none: pass `[(\"dropout\", key)]`",
    );
    assert_error::<_, ScopeError>(
        Dense::new(2).init([("noise", key(0)), ("dropout", key(1))], &x),
        "no key for the random stream `params`, found `noise`, `dropout`: pass `[(\"params\", key)]`",
    );
}

#[test]
fn mode_unknown() {
    let x = ones(&[1, 3]);
    assert_error::<_, ScopeError>(
        Deep(Dropout::new(0.5)).apply(&Variables::default(), &x),
        "at `encoder.Dropout_0`: Dropout needs to know whether this is training: call `model.train()` or `model.eval()` \
         first, as in `model.eval().apply(..)`, or set `deterministic`",
    );
    assert_error::<_, ScopeError>(
        BatchNorm::new().init(key(0), &x),
        "BatchNorm needs to know whether this is training: call `model.train()` or `model.eval()` first, as in \
         `model.eval().apply(..)`, or set `use_running_average`",
    );
    // What the module was told needs no mode, and wins over one.
    let told = Dropout::new(0.5).deterministic(true);
    told.apply(&Variables::default(), &x).unwrap();
    told.train().apply(&Variables::default(), &x).unwrap();
}

#[test]
fn other_errors_say_where() {
    let error = Deep(Dense::new(2)).init(key(0), &Tensor::new(1f32, &crate::support::device()).unwrap());
    let text = error.unwrap_err().to_string();
    assert!(text.starts_with("at `encoder.Dense_0`: "), "{text}");
}

#[test]
fn a_value_where_a_module_should_be() {
    let mut variables = Variables::default();
    variables.insert(&"encoder".into(), Param::leaf(ones(&[1]))).unwrap();
    let error = Deep(Dense::new(2)).apply(&variables, &ones(&[1, 3])).unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(ScopeError::ParamNotFound { .. })), "{error}");
    let init = Call::new()
        .keys(key(0))
        .init_from(&variables, |scope| Deep(Dense::new(2)).call(scope, &ones(&[1, 3])));
    let error = init.unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(VarsError::PathConflict { .. })), "{error}");
}
