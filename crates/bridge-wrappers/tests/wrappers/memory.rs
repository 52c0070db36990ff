//! What a module remembers between two steps of one loss is part of the graph, in both kinds, wrapped or not.

use bridge_functional::{Call, FunctionalModule, Scope};
use bridge_graph::{StatefulModule, value_and_grad};
use bridge_random::key;
use bridge_vars::{Cache, Filter, Param, Result};
use bridge_wrappers::{ToStateful, to_functional};
use candle_core::{Module, Tensor};
use serde::{Deserialize, Serialize};

use crate::modules::device;

fn scalar(value: f32) -> Tensor {
    Tensor::new(value, &device()).unwrap()
}

/// Multiplies what it remembers by a weight at each step.
#[derive(StatefulModule)]
#[module(crate = "bridge_graph")]
struct StatefulCell {
    memory: Cache,
    weight: Param,
}

impl StatefulCell {
    fn new() -> Self {
        Self { memory: Cache::new(scalar(1.)), weight: Param::new(scalar(2.)) }
    }
}

impl Module for StatefulCell {
    fn forward(&self, _x: &Tensor) -> candle_core::Result<Tensor> {
        self.memory.set((self.memory.value()? * self.weight.value()?)?)?;
        Ok(self.memory.value()?)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct FunctionalCell;

impl FunctionalModule for FunctionalCell {
    type Output = Tensor;
    fn call(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
        let memory = scope.variable("cache", "memory", || Ok(x.ones_like()?))?;
        let weight = scope.param_with("weight", None, |_| Ok((x.ones_like()? * 2.)?))?;
        if !scope.is_initializing() {
            memory.set((memory.get()? * weight)?)?;
        }
        memory.get()
    }
}

/// The gradient of three steps, which is that of the weight's cube: 12 at 2, as in Flax.
fn check<M: bridge_graph::Visit>(model: &M, step: impl Fn(&M) -> Result<Tensor>) {
    let (loss, gradients) = value_and_grad(model, Filter::of::<Param>(), |model| {
        step(model)?;
        step(model)?;
        step(model)
    })
    .unwrap();
    let gradient = gradients.get("weight").unwrap().tensor().unwrap();
    assert_eq!((loss.to_scalar::<f32>().unwrap(), gradient.to_scalar::<f32>().unwrap()), (8., 12.));
    let memory = bridge_graph::state(model).unwrap();
    assert!(!memory.get("memory").unwrap().tensor().unwrap().track_op());
}

#[test]
fn gradients_flow_through_what_is_remembered() {
    let x = scalar(0.);
    check(&StatefulCell::new(), |cell| Ok(cell.forward(&x)?));
    let wrapped = ToStateful::new(FunctionalCell, key(0)).unwrap().mutable("cache").lazy_init(&x).unwrap();
    check(&wrapped, |cell| cell.call(&x));
    let both = ToStateful::new(to_functional(|_| Ok(StatefulCell::new())), key(0)).unwrap();
    check(&both.mutable("cache").lazy_init(&x).unwrap(), |cell| cell.call(&x));
}

#[test]
fn gradients_flow_through_what_a_functional_call_remembers() {
    let x = scalar(0.);
    let model = to_functional(|_| Ok(StatefulCell::new()));
    let variables = model.init(key(0), &x).unwrap();
    let (_, gradients) = bridge_functional::value_and_grad(&variables, Filter::of::<Param>(), |variables| {
        let (loss, _) = Call::new().mutable("cache").apply(variables, |scope| {
            model.with(scope, |cell| {
                cell.forward(&x)?;
                cell.forward(&x)?;
                Ok(cell.forward(&x)?)
            })
        })?;
        Ok(loss)
    })
    .unwrap();
    assert_eq!(gradients.get("params", "weight").unwrap().tensor().unwrap().to_scalar::<f32>().unwrap(), 12.);
}
