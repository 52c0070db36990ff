//! What was wrong once.

use bridge_functional::{Call, FunctionalModule, Mode, Scope};
use bridge_graph::{Capture, ModuleFilter, Rngs, Shared, StatefulModule, eval, state};
use bridge_random::key;
use bridge_vars::{Cache, Intermediate, Metadata, Result};
use bridge_wrappers::{ToStateful, WrapperError, functional, lazy_init, lazy_init_missing, to_functional};
use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::modules::{MUTABLE, Recall, Recaller, input, keys};

#[test]
fn a_state_of_another_shape_fits_the_next_call() {
    #[derive(StatefulModule)]
    #[module(crate = "bridge_graph")]
    struct Longer {
        cache: Cache,
    }
    let model = functional(|_| Ok(Longer { cache: Cache::new(input()) }));
    let state = model.init(&Rngs::empty()).unwrap();
    let grow = |model: &Longer| model.cache.set(Tensor::cat(&[&model.cache.value()?, &input()], 0)?);
    let (_, next) = model.apply(&state, grow).unwrap();
    let (_, last) = model.apply(&next, grow).unwrap();
    assert_eq!(last.get("cache").unwrap().tensor().unwrap().dim(0).unwrap(), 15);
}

#[test]
fn a_metadata_function_leaves_random_streams_alone() {
    let model = to_functional(|rngs| Recaller::new(0.5, rngs)).metadata(|_, _| Metadata::default());
    let variables = model.train().init(keys(0), &input()).unwrap();
    model.train().apply_mut(&variables, keys(1), MUTABLE, &input()).unwrap();
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Sows;

impl FunctionalModule for Sows {
    type Output = Tensor;

    fn call(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
        scope.sow("activations", "h", x)?;
        Ok(x.clone())
    }
}

#[test]
fn lists_in_collections_of_ones_own_do_not_grow_either() {
    let model = ToStateful::new(Sows, key(0)).unwrap().mutable("activations").lazy_init(&input()).unwrap();
    for _ in 0..3 {
        model.call(&input()).unwrap();
    }
    assert_eq!(model.variables().unwrap().len(), 1);
}

#[test]
fn outputs_inside_of_a_wrapped_root_come_up() {
    let model = to_functional(|rngs| ToStateful::new(Recall { rate: 0. }, rngs));
    let variables = model.train().init(keys(0), &input()).unwrap();
    let call = Call::new().keys(keys(1)).mutable(MUTABLE).mode(Mode::Train).capture_intermediates();
    let (_, captured) = call.apply(&variables, |scope| scope.run(&model, &input())).unwrap();
    for path in ["__call__.0", "norm.__call__.0", "dropout.__call__.0"] {
        assert!(captured.get("intermediates", path).is_ok(), "{path}: {captured}");
    }
}

/// Fails in a second part, after a first one was initialised.
#[derive(StatefulModule)]
#[module(crate = "bridge_graph")]
struct Parts {
    first: ToStateful<Recall>,
    second: ToStateful<Recall>,
}

#[test]
fn trained_weights_survive_an_initialisation_that_failed() {
    let new = || ToStateful::new(Recall { rate: 0. }, key(0)).unwrap();
    let parts = Parts { first: new().lazy_init(&input()).unwrap(), second: new() };
    let weight = parts.first.variable("weight").unwrap();
    let fail = |parts: &Parts| -> Result<()> {
        parts.first.call(&input())?;
        parts.second.call(&Tensor::zeros(0, candle_core::DType::F32, &crate::modules::device())?).map(|_| ())
    };
    lazy_init_missing(&parts, fail).unwrap_err();
    let error = lazy_init(&parts, |parts| parts.first.call(&input())).unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(WrapperError::AlreadyInitialized { .. })), "{error}");
    assert!(weight.is_same(&parts.first.variable("weight").unwrap()));
}

#[test]
fn an_initialisation_can_fail_again_and_again() {
    let new = || ToStateful::new(Recall { rate: 0. }, key(0)).unwrap();
    let parts = Parts { first: new(), second: new() };
    let bad = Tensor::zeros(0, candle_core::DType::F32, &crate::modules::device()).unwrap();
    lazy_init(&parts, |parts| parts.first.call(&input()).and_then(|_| parts.second.call(&bad))).unwrap_err();
    lazy_init(&parts, |parts| parts.second.call(&bad)).unwrap_err();
    let made =
        lazy_init(&parts, |parts| parts.first.call(&input()).and_then(|_| parts.second.call(&input())));
    assert!(made.unwrap().created.iter().any(|path| path.to_string() == "second.weight"));
}

#[test]
fn every_call_of_a_wrapped_module_is_captured() {
    let model = ToStateful::new(Recall { rate: 0. }, key(0)).unwrap().lazy_init(&input()).unwrap();
    eval(&model).unwrap();
    let capture = Capture::of::<Intermediate>().outputs_of::<Intermediate>(ModuleFilter::at("norm"));
    let twice = |model: &ToStateful<Recall>| model.call(&input()).and_then(|_| model.call(&input()));
    let (_, captured) = capture.run(&model, twice).unwrap();
    let paths: Vec<String> = captured.iter().map(|(path, _)| path.to_string()).collect();
    assert_eq!(paths, ["norm.__call__.0", "norm.__call__.1"]);
}

#[test]
fn lists_that_become_shorter_have_no_old_items() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Rows;
    impl FunctionalModule for Rows {
        type Output = Tensor;
        fn call(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
            for row in 0..x.dim(0)? {
                scope.sow("losses", "x", x.get(row)?)?;
            }
            Ok(x.clone())
        }
    }
    let model = ToStateful::new(Rows, key(0)).unwrap().mutable("losses").lazy_init(&input()).unwrap();
    model.call(&input()).unwrap();
    assert_eq!(model.variables().unwrap().len(), 5);
    model.call(&input().narrow(0, 0, 2).unwrap()).unwrap();
    assert_eq!(model.variables().unwrap().len(), 2);
}

#[test]
fn states_of_every_form_fit_a_functional() {
    #[derive(StatefulModule)]
    #[module(crate = "bridge_graph")]
    struct Lazy {
        inner: ToStateful<Recall>,
    }
    let model = functional(|rngs| Ok(Lazy { inner: ToStateful::new(Recall { rate: 0. }, rngs)? }));
    let before = model.init(&Rngs::new(0)).unwrap();
    let init = |lazy: &Lazy| lazy_init(lazy, |lazy| lazy.inner.call(&input())).map(|_| ());
    let (_, after) = model.apply(&before, init).unwrap();
    let (_, again) = model.apply(&before, init).unwrap();
    assert!(after.len() > before.len() && after.identical(&again).unwrap());
    model.apply(&after, |lazy| lazy.inner.variable("weight").map(|_| ())).unwrap();
}

#[test]
fn a_live_part_that_a_constructor_hands_out_is_left_alone() {
    let live = Shared::new(Recaller::new(0., &Rngs::new(0)).unwrap());
    let before = state(&live).unwrap();
    let handed = live.clone();
    let model = to_functional(move |_| Ok(Holder { inner: handed.clone() }));
    model.eval().init(keys(0), &input()).unwrap();
    model.train().init(keys(0), &input()).unwrap();
    assert!(state(&live).unwrap().identical(&before).unwrap());
    assert!(!live.norm.use_running_average.get());
}

#[derive(StatefulModule)]
#[module(crate = "bridge_graph")]
struct Holder {
    inner: Shared<Recaller>,
}

impl candle_core::Module for Holder {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        Ok(self.inner.forward(x)?)
    }
}

#[test]
fn a_description_that_is_not_stored_is_an_error() {
    let model = to_functional(|rngs| Recaller::new(0., rngs));
    let call = Call::new().keys(keys(0)).mode(Mode::Eval).mutable(["params", "recollections", "batch_stats"]);
    let error = call.init(|scope| scope.run(&model, &input())).unwrap_err();
    let stored = matches!(error.downcast_ref(), Some(WrapperError::NotStored { collections, .. }) if collections.contains(&"nnx".into()));
    assert!(stored, "{error}");
}
