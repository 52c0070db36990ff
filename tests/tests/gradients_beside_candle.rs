//! Gradients that operators put aside under `value_and_grad`, where candle would make zeros and add to them.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails panics")]

use bridge_tests::device;
use candle_bridge::graph::{StatefulModule, value_and_grad, variables};
use candle_bridge::ops::{embedding, linear, softmax_cross_entropy};
use candle_bridge::random::{key, normal};
use candle_bridge::train::{AdamW, Optimizer, UpdateRule};
use candle_bridge::vars::{Filter, Param, Path, Result, State};
use candle_core::{DType, Storage, Tensor, Var};

#[derive(StatefulModule)]
struct Weights {
    first: Param,
    second: Param,
}

fn numbers(shape: (usize, usize), seed: i64) -> Tensor {
    normal(key(seed), shape, DType::F32, &device()).unwrap()
}

fn weights(dtype: DType) -> Weights {
    let param = |shape, seed| Param::new(numbers(shape, seed).to_dtype(dtype).unwrap());
    Weights { first: param((5, 4), 1), second: param((4, 5), 2) }
}

fn gradients(module: &Weights, loss: impl Fn(&Tensor, &Tensor) -> Result<Tensor>) -> State {
    let loss = |module: &Weights| loss(&module.first.value()?, &module.second.value()?);
    value_and_grad(module, Filter::of::<Param>(), loss).unwrap().1
}

fn gradient(state: &State, name: &str) -> Vec<f32> {
    let tensor = state.get(name).unwrap().tensor().unwrap().clone();
    assert!(!tensor.track_op(), "the gradient of {name} carries a graph");
    tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// The gradients are those of a plain backward pass of candle's, which sees all of them.
#[track_caller]
fn check(loss: impl Fn(&Tensor, &Tensor) -> Result<Tensor>) {
    for (dtype, tolerance) in [(DType::F64, 1e-6), (DType::F32, 1e-5), (DType::BF16, 0.1)] {
        let module = weights(dtype);
        let found = gradients(&module, &loss);
        let variable = |param: &Param| Var::from_tensor(&param.value().unwrap()).unwrap();
        let (first, second) = (variable(&module.first), variable(&module.second));
        let store = loss(&first, &second).unwrap().backward().unwrap();
        for (name, variable) in [("first", &first), ("second", &second)] {
            assert_eq!(found.get(name).unwrap().tensor().unwrap().dtype(), dtype);
            let expected = store.get(variable).unwrap().to_dtype(DType::F32).unwrap();
            let expected: Vec<f32> = expected.flatten_all().unwrap().to_vec1().unwrap();
            for (found, expected) in gradient(&found, name).into_iter().zip(expected) {
                let error = (found - expected).abs() / expected.abs().max(1.);
                assert!(error <= tolerance, "{name}, {dtype:?}: {found} instead of {expected}");
            }
        }
    }
}

fn x(rows: usize, columns: usize, dtype: DType) -> Tensor {
    numbers((rows, columns), 7).to_dtype(dtype).unwrap()
}

#[test]
fn a_module_that_is_used_twice_has_the_sum() {
    check(|first, second| {
        let once = linear(&linear(&x(3, 5, first.dtype()), first, None)?, second, None)?;
        Ok(linear(&linear(&once, first, None)?, second, None)?.sqr()?.mean_all()?)
    });
}

#[test]
fn tied_weights_have_the_sum() {
    check(|first, second| {
        let there = linear(&x(3, 5, first.dtype()), first, None)?;
        let back = linear(&there, &first.t()?, None)?;
        Ok(linear(&linear(&back, &second.t()?, None)?, second, None)?.sqr()?.mean_all()?)
    });
    let words = Tensor::new(&[1u32, 3, 3], &device()).unwrap();
    check(|first, second| {
        let looked_up = embedding(first, &words)?;
        Ok((linear(&looked_up, second, None)?.sqr()?.mean_all()?
            + linear(&looked_up, &first.t()?, None)?.mean_all()?)?)
    });
}

/// candle's gradient of `w * w` is a product with the variable: part of a graph, which would live as long as the gradient.
#[test]
fn what_candles_operators_add_is_added_and_carries_no_graph() {
    check(|first, second| {
        let y = linear(&linear(&x(3, 5, first.dtype()), first, None)?, second, None)?;
        let penalty = (first.sqr()?.sum_all()? + (second * second)?.sum_all()?)?;
        Ok((y.sqr()?.mean_all()? + penalty)?)
    });
}

fn address(state: &State, name: &str) -> usize {
    let address = |tensor: &Tensor| match &*tensor.storage_and_layout().0 {
        Storage::Cpu(storage) => storage.as_slice::<f32>().unwrap().as_ptr() as usize,
        _ => 0,
    };
    match &state.get(name).unwrap().value {
        candle_bridge::vars::Value::Tensor(tensor) => tensor.read(address),
        _ => 0,
    }
}

#[test]
fn memory_comes_back_only_from_gradients_that_nobody_has() {
    if !device().is_cpu() {
        return;
    }
    let module = weights(DType::F32);
    let loss = |factor: f64| {
        move |first: &Tensor, second: &Tensor| {
            let y = linear(&linear(&x(3, 5, DType::F32), first, None)?, second, None)?;
            Ok((y.sqr()?.mean_all()? * factor)?)
        }
    };
    let step = gradients(&module, loss(1.));
    let places = |state: &State| ["first", "second"].map(|name| address(state, name));
    let before = places(&step);
    drop(step);
    let held = gradients(&module, loss(1.));
    assert!(places(&held).iter().all(|place| before.contains(place)), "the memory is used again");
    let (copy, before) = (held.clone(), gradient(&held, "first"));
    // Taken out, and held by a state: neither is changed by later passes.
    let taken = held.get("second").unwrap().tensor().unwrap().clone();
    let taken_before: Vec<f32> = taken.flatten_all().unwrap().to_vec1().unwrap();
    drop(held);
    for factor in [2., 3., 4.] {
        drop(gradients(&module, loss(factor)));
    }
    assert_eq!(gradient(&copy, "first"), before);
    assert_eq!(taken.flatten_all().unwrap().to_vec1::<f32>().unwrap(), taken_before);
    // Where a gradient is dropped does not matter.
    let other = gradients(&module, loss(1.));
    std::thread::spawn(move || drop(other)).join().unwrap();
    assert_eq!(gradient(&gradients(&module, loss(1.)), "first"), before);
}

/// Moves by the gradient before.
#[derive(Debug)]
struct Late(f64);

impl UpdateRule for Late {
    fn memory(&self) -> &'static [&'static str] {
        &["last"]
    }
    fn learning_rate(&self) -> f64 {
        self.0
    }
    fn set_learning_rate(&mut self, learning_rate: f64) {
        self.0 = learning_rate;
    }
    fn update(&self, _: u32, parameter: &Tensor, gradient: &Tensor, memory: &mut [Tensor]) -> Result<Tensor> {
        let last = std::mem::replace(&mut memory[0], gradient.clone());
        Ok((parameter - (last * self.0)?)?)
    }
}

#[test]
fn a_rule_may_remember_gradients() {
    let module = weights(DType::F32);
    let state = candle_bridge::graph::state(&module).unwrap();
    let mut optimizer = Optimizer::new(Late(0.1), &state).unwrap();
    let mut last = Vec::new();
    for _ in 0..4 {
        let step = gradients(&module, |first, second| {
            Ok(linear(&linear(&x(3, 5, DType::F32), first, None)?, second, None)?.sqr()?.mean_all()?)
        });
        last = gradient(&step, "first");
        optimizer.step(&module, &step).unwrap();
    }
    let remembered = optimizer.state().get("last.first").unwrap().tensor().unwrap().flatten_all().unwrap();
    assert_eq!(remembered.to_vec1::<f32>().unwrap(), last);
}

/// candle's own optimizers write over the elements that a graph has saved for its backward pass.
#[test]
fn a_step_leaves_the_numbers_of_a_graph_alone() {
    let module = weights(DType::F32);
    let state = candle_bridge::graph::state(&module).unwrap();
    let mut optimizer = Optimizer::new(AdamW::new(0.5), &state).unwrap();
    let loss = |first: &Tensor, second: &Tensor| -> Result<Tensor> {
        Ok(linear(&linear(&x(3, 5, DType::F32), first, None)?, second, None)?.sqr()?.mean_all()?)
    };
    for _ in 0..3 {
        let expected = gradients(&module, loss);
        let tracked: Vec<_> = variables(&module)
            .unwrap()
            .into_iter()
            .map(|(path, variable): (Path, _)| (path, variable.track().unwrap()))
            .collect();
        let graph = loss(&module.first.value().unwrap(), &module.second.value().unwrap()).unwrap();
        optimizer.step(&module, &expected).unwrap();
        let store = graph.backward().unwrap();
        for (path, tracking) in &tracked {
            let found = store.get(tracking.leaf()).unwrap().flatten_all().unwrap();
            assert_eq!(found.to_vec1::<f32>().unwrap(), gradient(&expected, &path.to_string()), "{path}");
        }
    }
}

#[test]
fn what_is_frozen_is_not_part_of_the_graph() {
    let module = weights(DType::F32);
    let (_, found) = value_and_grad(&module, Filter::path("second"), |module| {
        let features = linear(&x(3, 5, DType::F32), &module.first.value()?, None)?;
        assert!(!features.track_op());
        let logits = linear(&features, &module.second.value()?, None)?;
        Ok(softmax_cross_entropy(&logits, &Tensor::new(&[0u32, 1, 4], &device())?)?)
    })
    .unwrap();
    assert!(found.get("first").is_err());
    assert_eq!(gradient(&found, "second").len(), 20);
}
