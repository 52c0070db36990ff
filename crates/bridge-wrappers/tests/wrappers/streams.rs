//! Random streams across the border.

use bridge_functional::{Dropout, FunctionalModule, Scope};
use bridge_graph::{Registry, Rngs, StatefulModule, split_dyn};
use bridge_random::key;
use bridge_vars::{Result, Variables};
use bridge_wrappers::{ToStateful, to_functional};
use candle_core::{DType, Module, Tensor};
use serde::{Deserialize, Serialize};

use crate::modules::{device, to_vec};

fn ones() -> Tensor {
    Tensor::ones(64, DType::F32, &device()).unwrap()
}

#[test]
fn a_stream_that_comes_with_the_call_reaches_a_wrapped_module_made_without_it() {
    let model = to_functional(|rngs: &Rngs| {
        Ok([ToStateful::new(Dropout::new(0.5), rngs)?, ToStateful::new(Dropout::new(0.5), rngs)?])
    });
    let call = |call: bridge_functional::Call, variables: &Variables| {
        call.mode(bridge_functional::Mode::Train).apply(variables, |scope| {
            model.with(scope, |pair| {
                Ok([pair[0].call(&ones())?, pair[1].call(&ones())?, pair[0].call(&ones())?])
            })
        })
    };
    let init = bridge_functional::Call::new().keys(key(0)).mode(bridge_functional::Mode::Eval);
    let ((), variables) = init.init(|scope| model.with(scope, |_| Ok(()))).unwrap();
    let with_key = || bridge_functional::Call::new().keys([("dropout", key(1))]);
    let (masks, _) = call(with_key(), &variables).unwrap();
    let (again, _) = call(with_key(), &variables).unwrap();
    let masks = masks.map(|mask| to_vec(&mask));
    assert_eq!(masks, again.map(|mask| to_vec(&mask)));
    // Each module and each call drops others.
    assert!(masks[0] != masks[1] && masks[0] != masks[2] && masks[1] != masks[2]);
    assert!(call(bridge_functional::Call::new(), &variables).is_err());
}

/// A stateful module that draws.
#[derive(StatefulModule)]
#[module(crate = "bridge_graph")]
struct Drops(bridge_stateful::Dropout);

impl Module for Drops {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        self.0.forward(x).map_err(Into::into)
    }
}

#[test]
fn a_call_with_a_key_does_not_make_later_calls_without_one_repeat() {
    let model = to_functional(|rngs: &Rngs| Ok(Drops(bridge_stateful::Dropout::new(0.5, rngs)?)));
    let x = ones();
    let mut variables = model.init([("params", key(0)), ("dropout", key(1))], &x).unwrap();
    let mut masks: Vec<Vec<f32>> = Vec::new();
    for with_key in [false, false, true, false, false] {
        let keys = if with_key { vec![("dropout", key(5))] } else { vec![] };
        let keys: bridge_functional::Keys = keys.into_iter().collect();
        let (y, updates) = model.train().apply_mut(&variables, keys, "RngCount", &x).unwrap();
        variables = variables.updated(&updates).unwrap();
        masks.push(to_vec(&y));
    }
    for (index, mask) in masks.iter().enumerate() {
        assert!(masks.iter().skip(index + 1).all(|other| other != mask), "mask {index} comes again");
    }
}

/// Two modules whose configurations look the same in a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Doubled;
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Halved;

macro_rules! scaled {
    ($module:ty, $factor:literal) => {
        impl FunctionalModule for $module {
            type Output = Tensor;
            fn call(&self, _scope: &Scope, x: &Tensor) -> Result<Tensor> {
                Ok((x * $factor)?)
            }
        }
    };
}
scaled!(Doubled, 2.);
scaled!(Halved, 0.5);

#[test]
fn wrapped_modules_that_look_the_same_in_a_file_are_told_apart() {
    let registry = Registry::new().with::<ToStateful<Halved>>().with::<ToStateful<Doubled>>();
    let (program, state) = split_dyn(&ToStateful::new(Doubled, &Rngs::new(0)).unwrap()).unwrap();
    let read = bridge_graph::Program::decode(&program.encode().unwrap(), &device()).unwrap();
    let rebuilt = registry.rebuild(&read, &state).unwrap();
    let rebuilt: &dyn std::any::Any = &*rebuilt;
    let doubled = rebuilt.downcast_ref::<ToStateful<Doubled>>().unwrap();
    assert_eq!(to_vec(&doubled.call(&ones()).unwrap()), [2.; 64]);
    let error = Registry::new().with::<ToStateful<Halved>>().rebuild(&read, &state).map(|_| ()).unwrap_err();
    assert!(
        error.to_string().contains("has a wrapped `Doubled`, the type expects a wrapped `Halved`"),
        "{error}"
    );
}
