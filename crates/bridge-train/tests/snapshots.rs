//! What was handed out before a step is after it what it was: by the optimizers, and by steps in place.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

use bridge_graph::{StatefulModule, merge, split, state, update, value_and_grad};
use bridge_train::{AdamW, Checkpoint, CheckpointFile, Optimizer, Sgd, UpdateRule};
use bridge_vars::{Filter, Param, Result, State, Variable, Variables};
use candle_core::{CpuStorage, DType, Device, InplaceOp2, InplaceOp3, Layout, Tensor};

#[derive(StatefulModule)]
struct Model {
    kernel: Param,
    bias: Param,
}

const KERNEL: [f32; 3] = [1., -2., 3.];

fn model() -> Model {
    let of = |values: &[f32]| Param::new(Tensor::new(values, &Device::Cpu).unwrap());
    Model { kernel: of(&KERNEL), bias: of(&[0.5]) }
}

fn loss(model: &Model) -> Result<Tensor> {
    Ok(model.kernel.value()?.broadcast_sub(&model.bias.value()?)?.sqr()?.sum_all()?)
}

fn gradients(model: &Model) -> State {
    value_and_grad(model, Filter::of::<Param>(), loss).unwrap().1
}

fn kernel(state: &State) -> Vec<f32> {
    values(state.get("kernel").unwrap().tensor().unwrap())
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.to_vec1().unwrap()
}

/// A way to move a model along its gradients.
trait Step {
    fn step(&mut self, model: &Model, gradients: &State);
}

impl<R: UpdateRule> Step for Optimizer<R> {
    fn step(&mut self, model: &Model, gradients: &State) {
        Optimizer::step(self, model, gradients).unwrap();
    }
}

/// `p -= rate * g`, in the elements of `p`.
struct SgdInPlace(f32);

impl InplaceOp2 for SgdInPlace {
    fn name(&self) -> &'static str {
        "sgd"
    }
    fn cpu_fwd(&self, p: &mut CpuStorage, _: &Layout, g: &CpuStorage, _: &Layout) -> candle_core::Result<()> {
        if let (CpuStorage::F32(p), CpuStorage::F32(g)) = (p, g) {
            p.iter_mut().zip(g).for_each(|(p, g)| *p -= self.0 * g);
        }
        Ok(())
    }
}

/// A moving average, in the elements of the first: of the second, or of its square.
struct Average {
    keep: f32,
    square: bool,
}

impl InplaceOp2 for Average {
    fn name(&self) -> &'static str {
        "average"
    }
    fn cpu_fwd(&self, m: &mut CpuStorage, _: &Layout, g: &CpuStorage, _: &Layout) -> candle_core::Result<()> {
        if let (CpuStorage::F32(m), CpuStorage::F32(g)) = (m, g) {
            m.iter_mut().zip(g).for_each(|(m, g)| {
                *m = self.keep * *m + (1. - self.keep) * if self.square { g * g } else { *g };
            });
        }
        Ok(())
    }
}

/// AdamW's step from both averages, in the elements of the parameter.
struct AdamInPlace {
    rule: AdamW,
    step: i32,
}

impl InplaceOp3 for AdamInPlace {
    fn name(&self) -> &'static str {
        "adamw"
    }
    fn cpu_fwd(
        &self,
        p: &mut CpuStorage,
        _: &Layout,
        mu: &CpuStorage,
        _: &Layout,
        nu: &CpuStorage,
        _: &Layout,
    ) -> candle_core::Result<()> {
        let AdamW { learning_rate, beta1, beta2, epsilon, weight_decay } = self.rule;
        if let (CpuStorage::F32(p), CpuStorage::F32(mu), CpuStorage::F32(nu)) = (p, mu, nu) {
            for ((p, mu), nu) in p.iter_mut().zip(mu).zip(nu) {
                let mu = f64::from(*mu) / (1. - beta1.powi(self.step));
                let nu = f64::from(*nu) / (1. - beta2.powi(self.step));
                let change = mu / (nu.sqrt() + epsilon) + weight_decay * f64::from(*p);
                *p -= (learning_rate * change) as f32;
            }
        }
        Ok(())
    }
}

/// Steps in place, with a memory that is in place too.
struct InPlace {
    adamw: Option<AdamW>,
    step: i32,
    memory: Vec<(Param, Param)>,
}

impl InPlace {
    fn new(adamw: Option<AdamW>, model: &Model) -> Self {
        let zeros = |param: &Param| Param::new(param.value().unwrap().zeros_like().unwrap());
        let memory = [&model.kernel, &model.bias].map(|param| (zeros(param), zeros(param)));
        Self { adamw, step: 0, memory: memory.into() }
    }
}

fn in_place<O: InplaceOp2 + 'static>(variable: &Variable, gradient: &Tensor, op: &O) {
    variable.change_in_place(|tensor| Ok(tensor.inplace_op2(gradient, op)?)).unwrap();
}

impl Step for InPlace {
    fn step(&mut self, model: &Model, gradients: &State) {
        self.step += 1;
        let params = [(&model.kernel, "kernel"), (&model.bias, "bias")];
        for ((param, path), (mu, nu)) in params.into_iter().zip(&self.memory) {
            let gradient = gradients.get(path).unwrap().tensor().unwrap();
            let Some(rule) = self.adamw.clone() else {
                in_place(param, gradient, &SgdInPlace(0.1));
                continue;
            };
            in_place(mu, gradient, &Average { keep: rule.beta1 as f32, square: false });
            in_place(nu, gradient, &Average { keep: rule.beta2 as f32, square: true });
            let (mu, nu) = (mu.value().unwrap(), nu.value().unwrap());
            let op = AdamInPlace { rule, step: self.step };
            param.change_in_place(|tensor| Ok(tensor.inplace_op3(&mu, &nu, &op)?)).unwrap();
        }
    }
}

/// Everything that can be handed out is taken before training, and read after it.
fn check(make: impl Fn(&Model) -> Box<dyn Step>) -> Vec<f32> {
    let model = model();
    let mut stepper = make(&model);
    let given = Tensor::new(&KERNEL, &Device::Cpu).unwrap();
    model.kernel.set(given.clone()).unwrap();

    let (graphdef, split_state) = split(&model).unwrap();
    let taken = state(&model).unwrap();
    let variables: Variables = taken.to_variables();
    let part = taken.filter(Filter::path("kernel"));
    let raw = model.kernel.value().unwrap();
    let view = raw.narrow(0, 1, 2).unwrap();
    let leaf = model.kernel.leaf().unwrap();
    let from_leaf = leaf.tensor().unwrap().clone();
    drop(leaf);
    let merged = merge(&graphdef, &taken).unwrap();
    let clone = bridge_graph::clone(&model).unwrap();
    let updated = self::model();
    update(&updated, &taken).unwrap();
    let checkpoint = Checkpoint::new().module("model", &model).unwrap();
    // A graph that is not gone back through yet.
    let (tracked, graph) = {
        let tracking = model.kernel.track().unwrap();
        (tracking.leaf().clone(), model.kernel.value().unwrap().sqr().unwrap())
    };
    let constant = {
        let other = Param::new(Tensor::ones(3, DType::F32, &Device::Cpu).unwrap());
        let tracking = other.track().unwrap();
        let product = (other.value().unwrap() * model.kernel.value().unwrap()).unwrap();
        (tracking.leaf().clone(), product)
    };

    let mut between = Vec::new();
    for _ in 0..5 {
        let gradients = gradients(&model);
        between.push((state(&model).unwrap(), values(&model.kernel.raw_value().unwrap())));
        stepper.step(&model, &gradients);
        // A step that no one looks at, and one after a look.
        let gradients = self::gradients(&model);
        stepper.step(&model, &gradients);
    }

    let trained = values(&model.kernel.value().unwrap());
    assert_ne!(trained, KERNEL);
    for state in [&split_state, &taken, &part, &variables.to_state().unwrap()] {
        assert_eq!(kernel(state), KERNEL);
    }
    assert_eq!([values(&raw), values(&from_leaf), values(&given)], [KERNEL; 3]);
    assert_eq!(values(&view), KERNEL[1..]);
    for module in [&merged, &clone, &updated] {
        assert_eq!(values(&module.kernel.value().unwrap()), KERNEL);
    }
    for (state, values) in &between {
        assert_eq!(kernel(state), *values);
    }
    let gradient = graph.backward().unwrap().get(&tracked).unwrap().clone();
    assert_eq!(values(&gradient), KERNEL.map(|value| 2. * value));
    let gradient = constant.1.backward().unwrap().get(&constant.0).unwrap().clone();
    assert_eq!(values(&gradient), KERNEL);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.safetensors");
    checkpoint.save(&path).unwrap();
    let saved: Model = CheckpointFile::open(&path, &Device::Cpu).unwrap().module("model").unwrap();
    assert_eq!(values(&saved.kernel.value().unwrap()), KERNEL);
    // What was merged trains on its own.
    stepper.step(&merged, &self::gradients(&merged));
    assert_eq!(values(&model.kernel.value().unwrap()), trained);
    trained
}

fn close(a: &[f32], b: &[f32]) {
    assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5), "{a:?} is not {b:?}");
}

#[test]
fn sgd() {
    let replaced =
        check(|model| Box::new(Optimizer::for_module(Sgd::new(0.1), model, Filter::of::<Param>()).unwrap()));
    let in_place = check(|model| Box::new(InPlace::new(None, model)));
    close(&replaced, &in_place);
}

#[test]
fn adamw() {
    let rule = || AdamW::new(0.1);
    let replaced =
        check(|model| Box::new(Optimizer::for_module(rule(), model, Filter::of::<Param>()).unwrap()));
    let in_place = check(|model| Box::new(InPlace::new(Some(rule()), model)));
    close(&replaced, &in_place);
}

#[test]
fn what_an_optimizer_remembers_is_a_snapshot_too() {
    let model = model();
    let mut optimizer = Optimizer::for_module(AdamW::new(0.1), &model, Filter::of::<Param>()).unwrap();
    optimizer.step(&model, &gradients(&model)).unwrap();
    let before = optimizer.state();
    let text = serde_json::to_string(&before).unwrap();
    optimizer.step(&model, &gradients(&model)).unwrap();
    assert_eq!(serde_json::to_string(&before).unwrap(), text);
    assert!(!optimizer.state().identical(&before).unwrap());
}

/// Only the first step after a look copies: the storage stays the same afterwards.
#[test]
fn steps_that_no_one_looks_at_are_in_place() {
    fn address(variable: &Variable) -> usize {
        let mut address = 0;
        variable
            .change_in_place(|tensor| {
                let (storage, _) = tensor.storage_and_layout();
                if let candle_core::Storage::Cpu(CpuStorage::F32(elements)) = &*storage {
                    address = elements.as_ptr().addr();
                }
                Ok(())
            })
            .unwrap();
        address
    }
    let param = Param::new(Tensor::new(&KERNEL, &Device::Cpu).unwrap());
    let first = address(&param);
    assert_eq!(address(&param), first);
    let snapshot = param.leaf().unwrap();
    let second = address(&param);
    assert_ne!(second, first);
    drop(snapshot);
    assert_eq!(address(&param), second);
    // A snapshot that is gone again holds nothing; a raw tensor may be anywhere.
    drop(param.leaf().unwrap());
    assert_eq!(address(&param), second);
    drop(param.value().unwrap());
    assert_ne!(address(&param), second);
    // Gradients are taken with respect to a copy.
    let third = address(&param);
    drop(param.track().unwrap());
    assert_eq!(address(&param), third);
}
