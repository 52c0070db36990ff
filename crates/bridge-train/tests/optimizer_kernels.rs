//! Steps by kernels: equal to those by compositions, and seen by no one who holds what was before.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

use bridge_graph::{StatefulModule, state, value_and_grad};
use bridge_train::{
    AdamW, Optimizer, OptimizerError, Sgd, UpdateRule, check_finite, clip_by_global_norm, global_norm,
};
use bridge_vars::{Filter, Leaf, Param, Path, Result, State};
use candle_core::{DType, Device, Tensor};
use proptest::prelude::*;

/// A rule without its kernel.
#[derive(Clone, Debug)]
struct Composed<R>(R);

impl<R: UpdateRule> UpdateRule for Composed<R> {
    fn memory(&self) -> &'static [&'static str] {
        self.0.memory()
    }
    fn learning_rate(&self) -> f64 {
        self.0.learning_rate()
    }
    fn set_learning_rate(&mut self, learning_rate: f64) {
        self.0.set_learning_rate(learning_rate);
    }
    fn update(&self, step: u32, p: &Tensor, g: &Tensor, memory: &mut [Tensor]) -> Result<Tensor> {
        self.0.update(step, p, g, memory)
    }
}

const DTYPES: [DType; 4] = [DType::BF16, DType::F16, DType::F32, DType::F64];

fn tensor(shape: &[usize], seed: usize, dtype: DType) -> Tensor {
    let value = |index: usize| ((index * 7 + seed * 13) as f64 * 0.618).sin() * 2.;
    let values: Vec<f64> = (0..shape.iter().product()).map(value).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

/// Parameters of all dtypes and many shapes.
fn parameters(seed: usize) -> State {
    let mut state = State::default();
    for dtype in DTYPES {
        for (at, shape) in [&[][..], &[0], &[3], &[17, 40]].into_iter().enumerate() {
            let path = Path::from(format!("{}.{at}", dtype.as_str()).as_str());
            state.insert(&path, Param::leaf(tensor(shape, seed + at, dtype))).unwrap();
        }
    }
    state
}

fn values(leaf: &Leaf) -> Vec<f64> {
    leaf.tensor().unwrap().to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn assert_same(a: &State, b: &State) {
    assert_eq!(a.len(), b.len());
    for (path, leaf) in a.iter() {
        let other = b.get(&path).unwrap();
        assert!(leaf.value.has_form_of(&other.value), "{path}");
        if leaf.value.tensor_form().is_some() {
            assert_eq!(values(leaf), values(other), "{path}");
        } else {
            assert!(leaf.value.is_same(&other.value), "{path}");
        }
    }
}

fn check<R: UpdateRule + Clone>(rule: &R, max_norm: Option<f64>, steps: usize) {
    let start = parameters(0);
    let with = |optimizer: Result<Optimizer<R>>| match max_norm {
        Some(max_norm) => optimizer.unwrap().with_global_norm_clipping(max_norm).unwrap(),
        None => optimizer.unwrap(),
    };
    let mut kernels = with(Optimizer::new(rule.clone(), &start));
    let mut composed = Optimizer::new(Composed(rule.clone()), &start).unwrap();
    if let Some(max_norm) = max_norm {
        composed = composed.with_global_norm_clipping(max_norm).unwrap();
    }
    let (mut a, mut b) = (start.clone(), start);
    for step in 0..steps {
        let gradients = parameters(step + 1);
        a = kernels.update(&a, &gradients).unwrap();
        b = composed.update(&b, &gradients).unwrap();
    }
    assert_same(&a, &b);
    assert_same(&kernels.state(), &composed.state());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn kernels_equal_compositions(
        momentum in proptest::option::of(0f64..0.99),
        nesterov: bool,
        weight_decay in prop_oneof![Just(0.), 0f64..0.1],
        beta1 in 0f64..0.99,
        beta2 in 0.5f64..0.9999,
        max_norm in proptest::option::of(1f64..500.),
        steps in 1usize..6,
    ) {
        check(&Sgd { learning_rate: 0.05, momentum, nesterov, weight_decay }, max_norm, steps);
        let adamw = AdamW { beta1, beta2, ..AdamW::new(0.05).with_weight_decay(weight_decay) };
        check(&adamw, max_norm, steps);
    }
}

#[derive(StatefulModule)]
struct Model {
    kernel: Param,
    bias: Param,
}

fn model() -> Model {
    Model {
        kernel: Param::new(tensor(&[3, 2], 0, DType::F32)),
        bias: Param::new(tensor(&[2], 1, DType::F32)),
    }
}

fn gradients(model: &Model) -> State {
    let loss = |model: &Model| {
        Ok((model.kernel.value()?.sqr()?.sum_all()? + model.bias.value()?.exp()?.sum_all()?)?)
    };
    value_and_grad(model, Filter::of::<Param>(), loss).unwrap().1
}

/// Everything that can be held: leaves, tensors, states of the optimizer, a clone of it.
#[test]
fn whatever_is_held_over_many_steps_stays_what_it_was() {
    let copied = |state: &State| {
        state
            .map(|_, leaf| match leaf.value.tensor_form() {
                Some(_) => Ok(leaf.with_value(leaf.tensor()?.copy()?)),
                None => Ok(leaf.clone()),
            })
            .unwrap()
    };
    let (held_model, plain_model) = (model(), model());
    let rule = AdamW::new(0.1);
    let mut optimizer = Optimizer::for_module(rule.clone(), &held_model, true).unwrap();
    let mut plain = Optimizer::for_module(rule, &plain_model, true).unwrap();
    let (mut held, mut tensors, mut clones) = (vec![], vec![], vec![]);
    for step in 0..12 {
        // In some steps nothing is held, so that memory is used again.
        if step % 4 == 1 {
            let (model, remembered) = (state(&held_model).unwrap(), optimizer.state());
            // Copied from the other run, so that looking hands nothing out.
            held.push((model, copied(&state(&plain_model).unwrap())));
            held.push((remembered, copied(&plain.state())));
        }
        if step % 4 == 2 {
            let value = held_model.kernel.value().unwrap();
            tensors.push((value.to_vec2::<f32>().unwrap(), value));
            clones.push((optimizer.clone(), copied(&plain.state())));
        }
        let gradients = gradients(&held_model);
        optimizer.step(&held_model, &gradients).unwrap();
        plain.step(&plain_model, &self::gradients(&plain_model)).unwrap();
    }
    for (held, copy) in &held {
        assert!(held.identical(copy).unwrap());
    }
    for (values, tensor) in tensors {
        assert_eq!(tensor.to_vec2::<f32>().unwrap(), values);
    }
    for (clone, copy) in clones {
        assert!(clone.state().identical(&copy).unwrap());
    }
    assert!(state(&held_model).unwrap().identical(&state(&plain_model).unwrap()).unwrap());
}

#[test]
fn a_clone_goes_on_by_itself() {
    let start = parameters(0);
    let mut one = Optimizer::new(AdamW::new(0.1), &start).unwrap();
    let mut parameters_of_one = start.clone();
    for step in 1..4 {
        parameters_of_one = one.update(&parameters_of_one, &parameters(step)).unwrap();
    }
    let mut other = one.clone();
    let mut parameters_of_other = parameters_of_one.clone();
    for step in 4..8 {
        parameters_of_one = one.update(&parameters_of_one, &parameters(step)).unwrap();
    }
    for step in 4..8 {
        parameters_of_other = other.update(&parameters_of_other, &parameters(step)).unwrap();
    }
    assert_same(&parameters_of_one, &parameters_of_other);
    assert_same(&one.state(), &other.state());
}

#[test]
fn the_first_group_wins_and_the_rule_takes_the_rest() {
    let start = parameters(0);
    let sgd = |rate: f64| Sgd::new(rate);
    let mut optimizer = Optimizer::new(sgd(1.), &start)
        .unwrap()
        .with_group(Filter::path_contains("f32"), sgd(2.).with_momentum(0.5))
        .unwrap()
        .with_group(Filter::path_contains(2) | Filter::path_contains("f32"), sgd(4.))
        .unwrap();
    let names: Vec<_> = optimizer.state().iter().map(|(path, _)| path.to_string()).collect();
    assert_eq!(names, ["step", "trace.f32.0", "trace.f32.1", "trace.f32.2", "trace.f32.3"]);
    optimizer.set_learning_rate(0.5);
    optimizer.set_group_learning_rate(1, 8.).unwrap();
    let rates = [optimizer.rule(), optimizer.group_rule(0).unwrap(), optimizer.group_rule(1).unwrap()];
    assert_eq!(rates.map(|rule| rule.learning_rate), [0.5, 2., 8.]);
    assert!(optimizer.group_rule(2).is_none() && optimizer.group_rule(usize::MAX).is_none());
    let error = optimizer.set_group_learning_rate(2, 1.).unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(OptimizerError::NoGroup { groups: 2, found: 2 })), "{error}");

    let gradients = start.map(|_, leaf| Ok(leaf.with_value(leaf.tensor()?.ones_like()?))).unwrap();
    let updated = optimizer.update(&start, &gradients).unwrap();
    for (path, rate) in [("f64.3", 0.5), ("f64.2", 8.), ("f32.2", 2.), ("f32.3", 2.)] {
        let (before, after) = (values(start.get(path).unwrap()), values(updated.get(path).unwrap()));
        assert!(
            before.iter().zip(after).all(|(before, after)| (before - rate - after).abs() < 1e-6),
            "{path}"
        );
    }
    let mut restored = optimizer.clone();
    restored.restore(&optimizer.state()).unwrap();
    assert!(restored.state().identical(&optimizer.state()).unwrap());
}

#[test]
fn a_group_made_later_keeps_what_is_remembered() {
    let start = parameters(0);
    let mut optimizer = Optimizer::new(AdamW::new(0.1), &start).unwrap();
    optimizer.update(&start, &parameters(1)).unwrap();
    let before = optimizer.state();
    let optimizer = optimizer.with_group(Filter::path_contains("f64"), AdamW::new(0.2)).unwrap();
    assert!(optimizer.state().identical(&before).unwrap());
}

#[test]
fn refuses_empty_groups_and_norms_that_are_none() {
    let optimizer = || Optimizer::new(Sgd::new(0.1), &parameters(0)).unwrap();
    let error = optimizer().with_group(Filter::path_contains("head"), Sgd::new(1.)).unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(OptimizerError::EmptyGroup { .. })), "{error}");
    let all = optimizer().with_group(true, Sgd::new(1.)).unwrap();
    let error = all.with_group(Filter::path_contains("f32"), Sgd::new(1.)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the group `path contains f32` is empty: its filter matches no parameter, or only those of groups before it"
    );
    for bad in [0., -1., f64::NAN] {
        let error = optimizer().with_global_norm_clipping(bad).unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(OptimizerError::MaxNorm(_))), "{error}");
        let error = clip_by_global_norm(&parameters(0), bad).unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(OptimizerError::MaxNorm(_))), "{error}");
    }
}

#[test]
fn norms_clips_and_checks_of_states_and_variables() {
    let gradients = parameters(3);
    let expected: f64 = gradients.iter().flat_map(|(_, leaf)| values(leaf)).map(|value| value * value).sum();
    let norm = global_norm(&gradients).unwrap();
    assert!((norm - expected.sqrt()).abs() < 1e-9 * norm);
    assert_eq!(global_norm(&gradients.to_variables()).unwrap(), norm);
    assert!(clip_by_global_norm(&gradients, norm * 1.01).unwrap().identical(&gradients).unwrap());
    let clipped = clip_by_global_norm(&gradients.to_variables(), norm / 4.).unwrap();
    assert!((global_norm(&clipped).unwrap() - norm / 4.).abs() < 1e-3 * norm);
    check_finite(&gradients).unwrap();

    let mut bad = gradients.clone();
    for (path, value) in [("f32.2", f64::NAN), ("bf16.3", f64::INFINITY)] {
        let leaf = bad.get(path).unwrap();
        let of = leaf.tensor().unwrap();
        let leaf = leaf.with_value(of.affine(0., value).unwrap());
        bad.insert(&Path::from(path), leaf).unwrap();
    }
    let error = check_finite(&bad).unwrap_err();
    assert_eq!(error.to_string(), "gradients are not finite:\n  `bf16.3`\n  `f32.2`");
    let Some(OptimizerError::NotFinite(paths)) = error.downcast_ref() else { panic!("{error}") };
    assert_eq!(paths.len(), 2);
    assert!(check_finite(&bad.to_variables()).is_err());
}
