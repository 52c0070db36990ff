//! What modules leave behind to be looked at, in a wrapper and through several.

use bridge_functional::{Call, Dense, FunctionalModule, Scope, value_and_grad};
use bridge_graph::{Capture, Rngs, Sow, StatefulModule, observe, state};
use bridge_random::{Initializer, key};
use bridge_vars::{
    CollectionFilter, Filter, Intermediate, Param, Perturbation, Result, State, Variables, kinds,
};
use bridge_wrappers::{ToFunctional, ToStateful, lazy_init, to_functional};
use candle_core::{Module, Tensor};
use serde::{Deserialize, Serialize};

use crate::modules::{Around, Outer, device, paths, to_vec, variable_paths};

/// A functional module that doubles, sows what it gets under two names, and lets its output be perturbed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct FunctionalSower;

impl FunctionalModule for FunctionalSower {
    type Output = Tensor;
    fn call(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
        let factor = scope.param_with("factor", None, |_| scalar(2.))?;
        scope.sow("intermediates", "seen", x)?;
        scope.sow("intermediates", "seen", &(x + 1.)?)?;
        scope.sow_with("losses", "sum", x, || scalar(0.), |sum, x| Ok((sum + x)?))?;
        scope.perturb("product", &(x * factor)?)
    }
}

kinds! {
    /// What a [`StatefulSower`] adds up.
    Losses(LossesKind) in "losses";
}

/// [`FunctionalSower`] as a stateful module.
#[derive(Debug, StatefulModule)]
#[module(crate = "bridge_graph")]
struct StatefulSower {
    factor: Param,
}

impl StatefulSower {
    fn new() -> Result<Self> {
        Ok(Self { factor: Param::new(scalar(2.)?) })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        observe(self, x, || {
            self.sow::<Intermediate>("seen", x)?;
            self.sow::<Intermediate>("seen", &(x + 1.)?)?;
            self.sow_with::<Losses>("sum", x, || scalar(0.), |sum, x| Ok((sum + x)?))?;
            self.perturb("product", &(x * self.factor.value()?)?)
        })
    }
}

impl Module for StatefulSower {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        Ok(Self::forward(self, x)?)
    }
}

fn scalar(value: f32) -> Result<Tensor> {
    Ok(Tensor::new(value, &device())?)
}

fn x() -> Tensor {
    scalar(3.).unwrap()
}

fn of_state(state: &State, path: &str) -> f32 {
    to_vec(state.get(path).unwrap().tensor().unwrap())[0]
}

fn of_variables(variables: &Variables, collection: &str, path: &str) -> f32 {
    to_vec(variables.get(collection, path).unwrap().tensor().unwrap())[0]
}

fn stateful(mutable: impl Into<CollectionFilter>) -> ToStateful<FunctionalSower> {
    let model = ToStateful::new(FunctionalSower, key(0)).unwrap().mutable(mutable);
    model.lazy_init(&x()).unwrap()
}

#[test]
fn initialisation_keeps_what_is_sown_but_intermediates() {
    let expected = ["factor", "product", "sum"];
    let own = |model: &ToStateful<FunctionalSower>| paths(&model.variables().unwrap().to_state().unwrap());
    assert_eq!(own(&stateful(CollectionFilter::none())), expected);
    // Calls alone may change what the wrapper says.
    assert_eq!(own(&stateful(CollectionFilter::all())), expected);
    let model = stateful(CollectionFilter::none());
    assert_eq!(to_vec(&model.variable("sum").unwrap().value().unwrap()), [3.]);
    assert!(model.variable("product").unwrap().kind().is(Perturbation::variable_type()));
}

#[test]
fn a_call_sows_anew() {
    let model = stateful("intermediates");
    let length = |model: &ToStateful<FunctionalSower>| {
        let variables = model.variables().unwrap();
        variable_paths(&variables).iter().filter(|path| path.starts_with("intermediates.seen.")).count()
    };
    for call in 1..4 {
        model.call(&scalar(call as f32).unwrap()).unwrap();
        assert_eq!(length(&model), 2);
        assert_eq!(to_vec(&model.variable("seen.0").unwrap().value().unwrap()), [call as f32]);
        assert_eq!(to_vec(&model.variable("seen.1").unwrap().value().unwrap()), [call as f32 + 1.]);
    }
    let seen = model.variable("seen.0").unwrap();
    model.call(&scalar(9.).unwrap()).unwrap();
    assert!(seen.is_same(&model.variable("seen.0").unwrap()));
    // A call that may not sow leaves what is there; one that sows nothing takes it away.
    model.options().mutable("losses").call(&x()).unwrap();
    assert_eq!(to_vec(&seen.value().unwrap()), [9.]);
    model.with(|_, _| Ok(())).unwrap();
    assert_eq!(length(&model), 0);
}

#[test]
fn what_is_put_together_goes_on_from_call_to_call() {
    let model = stateful("losses");
    for call in 1..4 {
        model.call(&x()).unwrap();
        assert_eq!(to_vec(&model.variable("sum").unwrap().value().unwrap()), [3. + 3. * call as f32]);
    }
}

#[test]
fn a_capture_sees_into_a_wrapped_functional_module() {
    let model = Outer { inner: stateful(CollectionFilter::none()) };
    let before = state(&model).unwrap();
    let capture = Capture::of::<Intermediate>().and::<Losses>();
    let (y, captured) = capture.run(&model, |model| Ok(model.forward(&x())?)).unwrap();
    assert_eq!(to_vec(&y), [6.]);
    assert_eq!(paths(&captured), ["inner.seen.0", "inner.seen.1", "inner.sum"]);
    assert_eq!((of_state(&captured, "inner.seen.0"), of_state(&captured, "inner.seen.1")), (3., 4.));
    // It goes on from what the wrapper has.
    assert_eq!(of_state(&captured, "inner.sum"), 6.);
    assert!(
        state(&model)
            .unwrap()
            .filter(!Filter::of::<bridge_vars::RngCount>())
            .identical(&before.filter(!Filter::of::<bridge_vars::RngCount>()))
            .unwrap()
    );
}

#[test]
fn a_functional_call_sees_into_a_wrapped_stateful_module() {
    let model = Around(to_functional(|_: &Rngs| StatefulSower::new()));
    let variables = model.init(key(0), &x()).unwrap();
    let sown = variables.filter_collections(|name| name != "nnx");
    // A collection of one's own may change at `init`, as in Linen.
    let made = ["losses.inner.sum", "params.inner.factor", "perturbations.inner.product"];
    assert_eq!(variable_paths(&sown), made);
    let once = of_variables(&variables, "losses", "inner.sum");
    let given = variables.filter_collections(|name| name != "perturbations");
    let (y, updates) = model.apply_mut(&given, key(0), ["intermediates", "losses"], &x()).unwrap();
    assert_eq!(to_vec(&y), [6.]);
    let paths = ["intermediates.inner.seen.0", "intermediates.inner.seen.1", "losses.inner.sum"];
    assert_eq!(variable_paths(&updates), paths);
    assert_eq!(of_variables(&updates, "intermediates", "inner.seen.1"), 4.);
    // It goes on from what is passed in, and begins where nothing is.
    assert_eq!(of_variables(&updates, "losses", "inner.sum"), 2. * once);
    let without = given.filter_collections(|name| name != "losses");
    let (_, losses) = model.apply_mut(&without, key(0), "losses", &x()).unwrap();
    assert_eq!(of_variables(&losses, "losses", "inner.sum"), once);
    // A call that may not change it has nothing of it.
    assert!(model.apply(&without, &x()).is_ok());
}

#[test]
fn what_was_sown_can_be_fed_back() {
    let model = Around(to_functional(|_: &Rngs| StatefulSower::new()));
    let variables = model.init(key(0), &x()).unwrap();
    let (_, updates) = model.apply_mut(&variables, key(0), "intermediates", &x()).unwrap();
    let fed = variables.updated(&updates).unwrap();
    let (y, again) = model.apply_mut(&fed, key(0), "intermediates", &x()).unwrap();
    assert_eq!(to_vec(&y), [6.]);
    assert_eq!(variable_paths(&again)[..2], ["intermediates.inner.seen.0", "intermediates.inner.seen.1"]);
    assert_eq!(to_vec(&model.apply(&fed, &x()).unwrap()), [6.]);
}

/// A functional module two wrappers deep.
fn deep_functional() -> Around<ToFunctional<Outer<ToStateful<FunctionalSower>>>> {
    Around(to_functional(|rngs| Ok(Outer { inner: ToStateful::new(FunctionalSower, rngs)? })))
}

/// A stateful module two wrappers deep.
fn deep_stateful() -> Outer<ToStateful<Around<ToFunctional<StatefulSower>>>> {
    let inner = Around(to_functional(|_: &Rngs| StatefulSower::new()));
    let model = Outer { inner: ToStateful::new(inner, key(0)).unwrap() };
    lazy_init(&model, |model| Ok(model.forward(&x())?)).unwrap();
    model
}

#[test]
fn sown_values_come_up_through_two_wrappers() {
    let model = deep_functional();
    let variables = model.init(key(0), &x()).unwrap();
    let (y, updates) = model.apply_mut(&variables, key(0), "intermediates", &x()).unwrap();
    assert_eq!(to_vec(&y), [6.]);
    assert_eq!(
        variable_paths(&updates),
        ["intermediates.inner.inner.seen.0", "intermediates.inner.inner.seen.1"]
    );
    assert_eq!(of_variables(&updates, "intermediates", "inner.inner.seen.1"), 4.);

    let model = deep_stateful();
    let (_, captured) = Capture::of::<Intermediate>().run(&model, |model| Ok(model.forward(&x())?)).unwrap();
    assert_eq!(paths(&captured), ["inner.inner.seen.0", "inner.inner.seen.1"]);
    assert_eq!(of_state(&captured, "inner.inner.seen.1"), 4.);
}

#[test]
fn a_wrapper_that_says_what_may_change_keeps_what_is_sown_two_wrappers_down() {
    let inner = Around(to_functional(|_: &Rngs| StatefulSower::new()));
    let model = ToStateful::new(inner, key(0)).unwrap().mutable("intermediates").lazy_init(&x()).unwrap();
    for _ in 0..3 {
        model.call(&x()).unwrap();
        let variables = model.variables().unwrap();
        let sown = variables.filter_collections(|name| name == "intermediates");
        assert_eq!(variable_paths(&sown), ["intermediates.inner.seen.0", "intermediates.inner.seen.1"]);
    }
}

/// The gradient of the square of an output that is 6, with respect to a perturbation of it.
fn check_gradient_of_functional<F: FunctionalModule<Output = Tensor>>(model: &F, path: &str) {
    let variables = model.init(key(0), &x()).unwrap();
    assert_eq!(of_variables(&variables, "perturbations", path), 0.);
    let (_, gradients) = value_and_grad(&variables, Perturbation::variable_type(), |variables| {
        Ok(model.apply(variables, &x())?.sqr()?)
    })
    .unwrap();
    assert_eq!(of_variables(&gradients, "perturbations", path), 12.);
}

fn check_gradient_of_stateful<M: bridge_graph::Visit + Module>(model: &M, path: &str) {
    let capture = Capture::of::<Perturbation>();
    let (_, zeros) = capture.clone().run(model, |model| Ok(model.forward(&x())?)).unwrap();
    assert_eq!(paths(&zeros), [path]);
    assert_eq!(of_state(&zeros, path), 0.);
    let variables = zeros.to_variable_tree();
    let (_, gradients) =
        bridge_graph::value_and_grad(&variables, Perturbation::variable_type(), |variables| {
            let given = state(variables)?;
            let (y, _) = capture.init(&given).run(model, |model| Ok(model.forward(&x())?))?;
            Ok(y.sqr()?)
        })
        .unwrap();
    assert_eq!(of_state(&gradients, path), 12.);
}

#[test]
fn perturbations_have_the_gradients_of_values_inside_of_wrappers() {
    check_gradient_of_functional(&Around(to_functional(|_: &Rngs| StatefulSower::new())), "inner.product");
    check_gradient_of_stateful(&Outer { inner: stateful(CollectionFilter::none()) }, "inner.product");
    check_gradient_of_functional(&deep_functional(), "inner.inner.product");
    check_gradient_of_stateful(&deep_stateful(), "inner.inner.product");
}

#[test]
fn a_perturbation_that_a_wrapper_owns_is_added() {
    let model = stateful(CollectionFilter::none());
    model.variable("product").unwrap().set(scalar(10.).unwrap()).unwrap();
    assert_eq!(to_vec(&model.call(&x()).unwrap()), [16.]);
    let (_, gradients) = bridge_graph::value_and_grad(&model, Perturbation::variable_type(), |model| {
        Ok(model.call(&x())?.sqr()?)
    })
    .unwrap();
    assert_eq!(of_state(&gradients, "product"), 32.);
}

/// Two layers of each kind, the outer ones wrapped.
fn dense() -> Dense {
    Dense::new(1).kernel_init(Initializer::Constant(2.))
}

fn row() -> Tensor {
    Tensor::new(&[[3f32]], &device()).unwrap()
}

#[test]
fn outputs_inside_of_wrappers_are_captured() {
    // Stateful outside.
    let wrapped = ToStateful::new(Around(dense()), key(0)).unwrap().lazy_init(&row()).unwrap();
    let model = Outer { inner: wrapped };
    let capture = Capture::of::<Intermediate>().outputs::<Intermediate>();
    let (_, captured) = capture.run(&model, |model| Ok(model.forward(&row())?)).unwrap();
    assert_eq!(paths(&captured), ["inner.__call__.0", "inner.inner.__call__.0"]);
    assert_eq!(of_state(&captured, "inner.inner.__call__.0"), 6.);

    // Functional outside.
    let model = Around(to_functional(|_: &Rngs| Ok(Outer { inner: StatefulSower::new()? })));
    let variables = model.init(key(0), &x()).unwrap();
    let given = variables.filter_collections(|name| name != "perturbations");
    let call = Call::new().capture_intermediates();
    let (_, captured) = call.apply(&given, |scope| scope.run(&model, &x())).unwrap();
    let expected = ["__call__.0", "inner.__call__.0", "inner.inner.__call__.0"];
    let found = variable_paths(&captured);
    let outputs = found.iter().filter(|path| path.contains("__call__"));
    assert!(outputs.eq(&expected.map(|path| format!("intermediates.{path}"))), "{found:?}");
    assert_eq!(of_variables(&captured, "intermediates", "inner.inner.__call__.0"), 6.);
}

#[test]
fn outputs_are_captured_two_wrappers_down() {
    let model = deep_functional();
    let variables = model.init(key(0), &x()).unwrap();
    let only = |path: &bridge_vars::Path, class: &str, _: &str| {
        path.to_string() == "inner.inner" && class == "FunctionalSower"
    };
    let call = Call::new().capture_intermediates_where(only);
    let (_, captured) = call.apply(&variables, |scope| scope.run(&model, &x())).unwrap();
    let found = variable_paths(&captured);
    let outputs: Vec<_> = found.iter().filter(|path| path.contains("__call__")).collect();
    assert_eq!(outputs, ["intermediates.inner.inner.__call__.0"]);
    assert_eq!(of_variables(&captured, "intermediates", "inner.inner.__call__.0"), 6.);

    let model = deep_stateful();
    let capture = Capture::of::<Intermediate>().outputs::<Intermediate>();
    let (_, captured) = capture.run(&model, |model| Ok(model.forward(&x())?)).unwrap();
    let outputs: Vec<_> = paths(&captured).into_iter().filter(|path| path.contains("__call__")).collect();
    assert_eq!(outputs, ["inner.__call__.0", "inner.inner.__call__.0"]);
    assert_eq!(of_state(&captured, "inner.inner.__call__.0"), 6.);
}
