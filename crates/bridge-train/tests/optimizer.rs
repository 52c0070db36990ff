//! Optimizers: their arithmetic, and what they touch.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

use bridge_graph::{StatefulModule, Structure, Visit, Visitor, state, value_and_grad};
use bridge_train::{AdamW, Optimizer, OptimizerError, Sgd, UpdateRule};
use bridge_vars::{BatchStat, Filter, Leaf, Param, Path, State, Variables};
use candle_core::{DType, Device, Tensor};
use proptest::prelude::*;

#[derive(StatefulModule)]
struct Model {
    bias: Param,
    kernel: Param,
    mean: BatchStat,
}

fn tensor(values: &[f64], dtype: DType) -> Tensor {
    Tensor::new(values, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

fn values(leaf: &Leaf) -> Vec<f64> {
    leaf.tensor().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

fn one(path: &str, leaf: Leaf) -> State {
    let mut state = State::default();
    state.insert(&Path::from(path), leaf).unwrap();
    state
}

fn param(values: &[f64], dtype: DType) -> State {
    one("w", Param::leaf(tensor(values, dtype)))
}

fn model() -> Model {
    let of = |values: &[f64]| tensor(values, DType::F32);
    Model {
        bias: Param::new(of(&[0.5])),
        kernel: Param::new(of(&[1., -2., 3.])),
        mean: BatchStat::new(of(&[7.])),
    }
}

fn loss(model: &Model) -> bridge_vars::Result<Tensor> {
    let kernel = model.kernel.value()?.broadcast_sub(&model.bias.value()?)?;
    Ok((kernel.sqr()?.sum_all()? + model.bias.value()?.exp()?.sum_all()?)?)
}

/// One parameter by the formulas of the rules' documentation.
fn reference(sgd: Option<&Sgd>, adamw: Option<&AdamW>, mut p: f64, gradients: &[f64]) -> f64 {
    let (mut trace, mut mu, mut nu) = (0., 0., 0.);
    for (step, g) in gradients.iter().enumerate() {
        if let Some(rule) = sgd {
            let d = g + rule.weight_decay * p;
            trace = d + rule.momentum.unwrap_or(0.) * trace;
            let direction = match rule.momentum {
                Some(momentum) if rule.nesterov => d + momentum * trace,
                _ => trace,
            };
            p -= rule.learning_rate * direction;
        }
        if let Some(rule) = adamw {
            let t = step as i32 + 1;
            mu = rule.beta1 * mu + (1. - rule.beta1) * g;
            nu = rule.beta2 * nu + (1. - rule.beta2) * g * g;
            let (mu_hat, nu_hat) = (mu / (1. - rule.beta1.powi(t)), nu / (1. - rule.beta2.powi(t)));
            p -= rule.learning_rate * (mu_hat / (nu_hat.sqrt() + rule.epsilon) + rule.weight_decay * p);
        }
    }
    p
}

fn check(rule: impl UpdateRule, dtype: DType, start: f64, gradients: &[f64], expected: f64, tolerance: f64) {
    let mut parameters = param(&[start], dtype);
    let mut optimizer = Optimizer::new(rule, &parameters).unwrap();
    for gradient in gradients {
        parameters = optimizer.update(&parameters, &param(&[*gradient], dtype)).unwrap();
    }
    let leaf = parameters.get("w").unwrap();
    assert_eq!(leaf.tensor().unwrap().dtype(), dtype);
    let found = values(leaf)[0];
    let scale = expected.abs().max(1.);
    assert!((found - expected).abs() <= tolerance * scale, "{found} is not {expected} ({dtype:?})");
}

proptest! {
    #[test]
    fn agrees_with_the_formulas(
        start in -2f64..2.,
        gradients in proptest::collection::vec(-3f64..3., 1..12),
        momentum in proptest::option::of(0f64..0.99),
        nesterov: bool,
        decay in prop_oneof![Just(0.), 0f64..0.1],
        beta1 in 0f64..0.99,
        beta2 in 0.5f64..0.9999,
    ) {
        let sgd = Sgd { learning_rate: 0.05, momentum, nesterov, weight_decay: decay };
        let expected = reference(Some(&sgd), None, start, &gradients);
        check(sgd.clone(), DType::F64, start, &gradients, expected, 1e-12);
        let adamw = AdamW { beta1, beta2, ..AdamW::new(0.05).with_weight_decay(decay) };
        let expected = reference(None, Some(&adamw), start, &gradients);
        check(adamw.clone(), DType::F64, start, &gradients, expected, 1e-12);
        let (single, singles) = (f64::from(start as f32), gradients.iter().map(|g| f64::from(*g as f32)));
        let singles: Vec<f64> = singles.collect();
        let expected = reference(Some(&sgd), None, single, &singles);
        check(sgd, DType::F32, single, &singles, expected, 1e-5);
        let expected = reference(None, Some(&adamw), single, &singles);
        check(adamw, DType::F32, single, &singles, expected, 1e-5);
    }
}

#[test]
fn half_precision_rounds_once_a_step() {
    // In bf16 alone 1 - 1e-3 would be 1, and the mean of squares would lose all but two digits.
    for dtype in [DType::BF16, DType::F16] {
        let start = 0.75;
        let gradient = 0.3125;
        let rule = AdamW::new(0.1).with_weight_decay(0.);
        let expected = reference(None, Some(&rule), start, &[gradient]);
        let expected = values(&Param::leaf(tensor(&[expected], dtype)))[0];
        check(rule.clone(), dtype, start, &[gradient], expected, 0.);
        let mut optimizer = Optimizer::new(rule, &param(&[start], dtype)).unwrap();
        optimizer.update(&param(&[start], dtype), &param(&[gradient], dtype)).unwrap();
        let nu = optimizer.state().get("nu.w").unwrap().clone();
        assert_eq!(nu.tensor().unwrap().dtype(), DType::F32);
        assert!((values(&nu)[0] - 1e-3 * gradient * gradient).abs() < 1e-9);
    }
}

#[test]
fn a_quadratic_converges() {
    fn run(rule: impl UpdateRule) {
        let model = model();
        let mut optimizer = Optimizer::for_module(rule, &model, Filter::path_contains("kernel")).unwrap();
        for _ in 0..400 {
            let wrt = Filter::path_contains("kernel");
            let (_, gradients) = value_and_grad(&model, wrt, loss).unwrap();
            optimizer.step(&model, &gradients).unwrap();
        }
        let kernel = model.kernel.value().unwrap().to_vec1::<f32>().unwrap();
        assert!(kernel.iter().all(|value| (value - 0.5).abs() < 1e-2), "{kernel:?}");
    }
    run(Sgd::new(0.05));
    run(Sgd::new(0.02).with_momentum(0.9).with_nesterov(true));
    run(AdamW::new(0.05));
}

#[test]
fn a_step_changes_only_what_has_gradients_and_no_snapshot() {
    let model = model();
    let before = state(&model).unwrap();
    let copy = before.map(|_, leaf| Ok(leaf.with_value(leaf.tensor()?.copy()?))).unwrap();
    let wrt = Filter::path_contains("kernel");
    let mut optimizer = Optimizer::for_module(Sgd::new(0.1).with_momentum(0.9), &model, wrt.clone()).unwrap();
    let remembered = optimizer.state();
    let (_, gradients) = value_and_grad(&model, wrt, loss).unwrap();
    optimizer.step(&model, &gradients).unwrap();
    assert!(before.identical(&copy).unwrap());
    assert_eq!(values(remembered.get("trace.kernel").unwrap()), [0.; 3]);
    assert_eq!(remembered.get("step").unwrap().value.count().unwrap(), 0);
    let after = state(&model).unwrap();
    for (path, leaf) in after.iter() {
        let same = leaf.identical(before.get(&path).unwrap()).unwrap();
        assert_eq!(same, path != Path::from("kernel"), "{path}");
    }
    assert!(!model.kernel.value().unwrap().track_op());
    assert_eq!(optimizer.state().len(), 2);
}

#[test]
fn modules_variables_and_states_stay_equal_to_the_bit() {
    fn run<R: UpdateRule + Clone>(rule: R) {
        let model = model();
        let wrt = || Filter::of::<Param>();
        let mut parameters = state(&model).unwrap();
        let mut variables = parameters.to_variables();
        let mut stateful = Optimizer::for_module(rule.clone(), &model, wrt()).unwrap();
        let mut functional = Optimizer::for_variables(rule.clone(), &variables, wrt()).unwrap();
        let mut plain = Optimizer::new(rule, &parameters.filter(wrt())).unwrap();
        for _ in 0..5 {
            let (_, gradients) = value_and_grad(&model, wrt(), loss).unwrap();
            stateful.step(&model, &gradients).unwrap();
            parameters = plain.update(&parameters, &gradients).unwrap();
            variables = functional.step_variables(&variables, &gradients.to_variables()).unwrap();
        }
        let stepped = state(&model).unwrap();
        assert!(stepped.identical(&parameters).unwrap());
        assert!(stepped.to_variables().identical(&variables).unwrap());
        assert!(stateful.state().identical(&plain.state()).unwrap());
        let names: Vec<_> = functional.state().iter().map(|(path, _)| path.to_string()).collect();
        assert!(names.iter().all(|name| name == "step" || name.contains(".params.")), "{names:?}");
    }
    run(AdamW::new(0.1));
    run(Sgd::new(0.1).with_momentum(0.9).with_weight_decay(0.01));
    run(Sgd::new(0.1));
}

#[test]
fn goes_on_from_its_state_to_the_bit() {
    let gradient = |step: usize| param(&[(step as f64).sin(), 0.25, -1.], DType::F32);
    let start = param(&[1., 2., 3.], DType::F32);
    let mut through = Optimizer::new(AdamW::new(0.1), &start).unwrap();
    let mut parameters = start.clone();
    for step in 0..3 {
        parameters = through.update(&parameters, &gradient(step)).unwrap();
    }
    let mut resumed = Optimizer::new(AdamW::new(0.1), &start).unwrap();
    resumed.restore(&through.state()).unwrap();
    let (mut a, mut b) = (parameters.clone(), parameters);
    for step in 3..6 {
        a = through.update(&a, &gradient(step)).unwrap();
        b = resumed.update(&b, &gradient(step)).unwrap();
    }
    assert!(a.identical(&b).unwrap());
    assert!(through.state().identical(&resumed.state()).unwrap());
}

#[test]
fn lists_everything_that_does_not_fit_and_changes_nothing() {
    let mut optimizer = Optimizer::for_module(AdamW::new(0.1), &model(), Filter::of::<Param>()).unwrap();
    let before = optimizer.state();
    let model = model();
    let mut gradients = one("kernel", Param::leaf(tensor(&[1., 2.], DType::F32)));
    gradients.insert(&Path::from("mean"), BatchStat::leaf(tensor(&[1.], DType::F32))).unwrap();
    gradients.insert(&Path::from("scale"), Param::leaf(tensor(&[1.], DType::F32))).unwrap();
    let error = optimizer.step(&model, &gradients).unwrap_err();
    let Some(OptimizerError::Gradients(misfit)) = error.downcast_ref() else { panic!("{error}") };
    let text = |paths: &[Path]| paths.iter().map(Path::to_string).collect::<Vec<_>>();
    assert_eq!(text(&misfit.missing), ["bias"]);
    assert_eq!(text(&misfit.unexpected), ["mean", "scale"]);
    assert_eq!(misfit.mismatched[0].path.to_string(), "kernel");
    let shown = error.to_string();
    assert!(shown.contains("`kernel`: expected f32[3], found Param f32[2]"), "{shown}");
    assert!(shown.contains("missing `bias`") && shown.contains("unexpected `scale`"), "{shown}");

    let whole = state(&model).unwrap();
    let fitting = whole.filter(Filter::of::<Param>());
    let error = optimizer.update(&fitting.filter(Filter::path_contains("bias")), &fitting).unwrap_err();
    let Some(OptimizerError::Parameters(misfit)) = error.downcast_ref() else { panic!("{error}") };
    assert_eq!(text(&misfit.missing), ["kernel"]);
    assert!(optimizer.state().identical(&before).unwrap());
    assert!(state(&model).unwrap().identical(&whole).unwrap());

    let other = Optimizer::for_module(Sgd::new(0.1).with_momentum(0.9), &model, Filter::of::<Param>());
    let error = optimizer.restore(&other.unwrap().state()).unwrap_err();
    let Some(OptimizerError::State(misfit)) = error.downcast_ref() else { panic!("{error}") };
    assert_eq!(text(&misfit.missing), ["mu.bias", "mu.kernel", "nu.bias", "nu.kernel"]);
    assert_eq!(text(&misfit.unexpected), ["trace.bias", "trace.kernel"]);
    assert!(optimizer.state().identical(&before).unwrap());
}

#[test]
fn refuses_what_can_not_be_optimised() {
    let error =
        Optimizer::new(Sgd::new(0.1), &one("ids", Param::leaf(tensor(&[1.], DType::U32)))).unwrap_err();
    let Some(OptimizerError::NotFloat(misfit)) = error.downcast_ref() else { panic!("{error}") };
    assert_eq!(misfit.mismatched[0].found, "Param u32[1]");
    let error = Optimizer::for_module(Sgd::new(0.1), &model(), Filter::Nothing).unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(OptimizerError::NoParameters)), "{error}");
    let error =
        Optimizer::for_variables(Sgd::new(0.1), &Variables::default(), Filter::Everything).unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(OptimizerError::NoParameters)), "{error}");
    let scalar = tensor(&[1.], DType::F32);
    let error = AdamW::new(0.1).update(1, &scalar, &scalar, &mut []).unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(OptimizerError::Memory { found: 0, .. })), "{error}");
}

#[test]
fn the_learning_rate_changes_from_the_next_step_on() {
    let mut optimizer = Optimizer::new(Sgd::new(0.5), &param(&[1.], DType::F64)).unwrap();
    optimizer.set_learning_rate(0.25);
    assert_eq!(optimizer.learning_rate(), 0.25);
    let updated = optimizer.update(&param(&[1.], DType::F64), &param(&[1.], DType::F64)).unwrap();
    assert_eq!(values(updated.get("w").unwrap()), [0.75]);
}

#[test]
fn rules_are_plain_configuration() {
    let rule = AdamW::new(1e-3).with_beta1(0.8).with_beta2(0.95).with_epsilon(1e-6);
    let json = serde_json::to_string(&rule).unwrap();
    assert_eq!(serde_json::from_str::<AdamW>(&json).unwrap(), rule);
    let rule = Sgd::new(0.1).with_momentum(0.9);
    let json = serde_json::to_string(&rule).unwrap();
    assert_eq!(serde_json::from_str::<Sgd>(&json).unwrap(), rule);
}

/// Its children do not come in order of their keys.
struct Backwards {
    kernel: Param,
    bias: Param,
}

impl Visit for Backwards {
    fn visit(&self, visitor: &mut dyn Visitor) -> bridge_vars::Result<()> {
        visitor.enter(Structure::Map, None)?;
        visitor.child(&"kernel".into(), &self.kernel)?;
        visitor.child(&"bias".into(), &self.bias)?;
        visitor.exit()
    }
}

#[test]
fn a_step_goes_by_paths_whatever_the_order_of_a_visit() {
    let of = |values: &[f64]| tensor(values, DType::F32);
    let model = Backwards { kernel: Param::new(of(&[0.])), bias: Param::new(of(&[0.])) };
    let mut gradients = one("bias", Param::leaf(of(&[1.])));
    gradients.insert(&Path::from("kernel"), Param::leaf(of(&[2.]))).unwrap();
    let mut optimizer = Optimizer::for_module(Sgd::new(1.), &model, Filter::of::<Param>()).unwrap();
    optimizer.step(&model, &gradients).unwrap();
    let after = |variable: &Param| variable.value().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!((after(&model.kernel), after(&model.bias)), (vec![-2.], vec![-1.]));
}
