//! Metrics: beside Flax's numbers, over any split of the data, and across a restart.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

use std::collections::BTreeMap;

use bridge_train::{
    Accuracy, Average, Checkpoint, CheckpointFile, Inputs, Metric, MetricError, MultiMetric, Welford,
};
use bridge_vars::{Error, MetricState, Path, Result, State};
use candle_core::{DType, Device, NdArray, Tensor};
use proptest::prelude::*;

fn tensor(values: impl NdArray) -> Tensor {
    Tensor::new(values, &Device::Cpu).unwrap()
}

fn close(found: Option<f64>, expected: f64) {
    let found = found.unwrap();
    assert!((found - expected).abs() <= 1e-6 * expected.abs().max(1.), "{found} is not {expected}");
}

fn metric_error(error: &Error) -> &MetricError {
    error.downcast_ref().unwrap_or_else(|| panic!("{error}"))
}

// What Flax 0.12.8 prints for the same batches.

#[test]
fn average_agrees_with_flax() {
    let mut average = Average::default();
    average.update_tensor(&tensor(&[[1f32, 2., 3.], [4., 5., 7.]])).unwrap();
    average.update(2.5);
    close(average.mean(), 3.5);
    let (values, mask) = (tensor(&[[1f32, 20., 3.], [40., 5., 7.]]), tensor(&[[1u32, 0, 1], [0, 1, 1]]));
    average.update_masked(&values, &mask).unwrap();
    close(average.mean(), 3.6818182468414307);
    average.reset();
    average.update_masked(&tensor(&[1f32, 2., 3.]), &tensor(&[0.5f32, 1., 1.5])).unwrap();
    close(average.mean(), 2.3333332538604736);
}

#[test]
fn welford_agrees_with_flax() {
    let mut welford = Welford::default();
    let mut check = |values: Option<Tensor>, expected: [f64; 3]| {
        match values {
            Some(values) => welford.update_tensor(&values).unwrap(),
            None => welford.update(7.),
        }
        let statistics = welford.statistics().unwrap();
        close(Some(statistics.mean), expected[0]);
        close(Some(statistics.standard_deviation), expected[1]);
        close(Some(statistics.standard_error_of_mean), expected[2]);
        close(Some(statistics.variance), expected[1] * expected[1]);
    };
    check(Some(tensor(&[1f32, 2., 3., 4.])), [2.5, 1.1180340051651, 0.55901700258255]);
    check(Some(tensor(&[[3f32, 2.], [1., 0.]])), [2.0, 1.2247449159622192, 0.4330127239227295]);
    check(None, [2.555555582046509, 1.949992060661316, 0.649997353553772]);
    let last = tensor(&[-2.5f32, 0.125, 10.]);
    check(Some(last), [2.5520834922790527, 3.176844358444214, 0.9170759916305542]);
}

#[test]
fn accuracy_agrees_with_flax() {
    let mut accuracy = Accuracy::default();
    let logits = tensor(&[[0f32, 1., 2.], [3., 1., 1.], [1., 1., 0.], [0.5, 0., -1.]]);
    accuracy.update(&logits, &tensor(&[2u32, 0, 1, 0])).unwrap();
    close(accuracy.share(), 0.75);
    let logits = tensor(&[[[0f32, 1.], [2., 1.]], [[0., 3.], [5., 1.]]]);
    let (labels, mask) = (tensor(&[[1i64, 1], [0, 0]]), tensor(&[[1u8, 0], [1, 1]]));
    accuracy.update_masked(&logits, &labels, &mask).unwrap();
    close(accuracy.share(), 0.7142857313156128);

    let mut binary = Accuracy::default().with_threshold(0.7);
    binary.update(&tensor(&[0.7f32, 0.2, 0.9, -1.]), &tensor(&[1u32, 1, 2, 0])).unwrap();
    close(binary.share(), 0.75);
    let (logits, labels) = (tensor(&[[0.69f32, 0.71], [0.7, 0.]]), tensor(&[[0u32, 0], [0, 1]]));
    binary.update_masked(&logits, &labels, &tensor(&[[1u8, 1], [0, 1]])).unwrap();
    close(binary.share(), 0.5714285969734192);
}

fn metrics() -> MultiMetric {
    MultiMetric::new()
        .with("accuracy", Accuracy::default().with_mask("mask"))
        .with("loss", Average::new("loss"))
        .with("spread", Welford::new("loss"))
}

fn batches() -> [[Tensor; 4]; 2] {
    let logits = tensor(&[[0f32, 1.], [2., 1.]]);
    let ones = tensor(&[1u8, 1]);
    [
        [logits.clone(), tensor(&[1u32, 1]), tensor(&[0.25f32, 1.5]), ones.clone()],
        [logits, tensor(&[1u32, 0]), tensor(&[0.75f32, 0.5]), ones],
    ]
}

fn inputs([logits, labels, loss, mask]: &[Tensor; 4]) -> Inputs<'_> {
    [("logits", logits), ("labels", labels), ("loss", loss), ("mask", mask)].into()
}

#[test]
fn several_agree_with_flax() {
    let mut metrics = metrics();
    assert!(metrics.compute().is_empty());
    for batch in &batches() {
        metrics.update(inputs(batch)).unwrap();
    }
    let numbers = metrics.compute();
    let names: Vec<_> = numbers.keys().map(String::as_str).collect();
    let of_spread = ["spread.mean", "spread.standard_deviation", "spread.standard_error_of_mean"];
    assert_eq!(names, [&["accuracy", "loss"], &of_spread[..]].concat());
    for (name, expected) in numbers.keys().zip([0.75, 0.75, 0.75, 0.4677072, 0.2338536]) {
        close(numbers.get(name).copied(), expected);
    }
    metrics.reset();
    assert!(metrics.compute().is_empty());
}

#[test]
fn an_epoch_goes_on_from_a_checkpoint_to_the_bit() {
    let [first, second] = batches();
    let mut through = metrics();
    through.update(inputs(&first)).unwrap();
    let saved = through.state().unwrap();
    let text = serde_json::to_string(&saved).unwrap();
    assert!(saved.iter().all(|(_, leaf)| leaf.kind == MetricState::variable_type()));
    let paths: Vec<_> = saved.iter().map(|(path, _)| path.to_string()).collect();
    let expected = [
        "accuracy.count",
        "accuracy.total",
        "loss.count",
        "loss.total",
        "spread.count",
        "spread.m2",
        "spread.mean",
    ];
    assert_eq!(paths, expected);

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("training.safetensors");
    Checkpoint::new().state("metrics", &saved).unwrap().save(&path).unwrap();
    let mut resumed = metrics();
    let read = CheckpointFile::open(&path, &Device::Cpu).unwrap().state("metrics").unwrap();
    resumed.restore(&read).unwrap();
    through.update(inputs(&second)).unwrap();
    resumed.update(inputs(&second)).unwrap();
    assert_eq!(resumed.compute(), through.compute());
    assert!(resumed.state().unwrap().identical(&through.state().unwrap()).unwrap());
    assert_eq!(serde_json::to_string(&saved).unwrap(), text);
}

#[test]
fn a_state_that_does_not_fit_is_reported_whole_and_changes_nothing() {
    let mut metrics = metrics();
    metrics.update(inputs(&batches()[0])).unwrap();
    let before = metrics.state().unwrap();
    let mut other = before.clone();
    other.remove("accuracy.count").unwrap();
    other.insert(&Path::from("loss.total"), MetricState::leaf(tensor(1f32))).unwrap();
    other.insert(&Path::from("f1.total"), MetricState::leaf(tensor(1f64))).unwrap();
    let error = metrics.restore(&other).unwrap_err();
    let MetricError::State(misfit) = metric_error(&error) else { panic!("{error}") };
    let text = |paths: &[Path]| paths.iter().map(Path::to_string).collect::<Vec<_>>();
    assert_eq!(
        (text(&misfit.missing), text(&misfit.unexpected)),
        (vec!["accuracy.count".into()], vec!["f1.total".into()])
    );
    assert_eq!(misfit.mismatched[0].path, Path::from("loss.total"));
    assert!(error.to_string().contains("missing `accuracy.count`"), "{error}");
    assert!(metrics.state().unwrap().identical(&before).unwrap());
}

#[test]
fn names_that_do_not_fit_are_reported_whole_and_change_nothing() {
    let mut metrics = metrics();
    let batch = &batches()[0];
    let [logits, labels, loss, _] = batch;
    let given = [("logits", logits), ("labels", labels), ("lss", loss), ("logits", logits)];
    let error = metrics.update(given).unwrap_err();
    let MetricError::Inputs { missing, unexpected, repeated } = metric_error(&error) else {
        panic!("{error}")
    };
    assert_eq!(
        (missing.join(" "), unexpected.join(" "), repeated.join(" ")),
        ("loss mask".into(), "lss".into(), "logits".into())
    );
    assert!(error.to_string().contains("read by no metric: `lss`"), "{error}");
    assert!(metrics.compute().is_empty());

    let error = metrics.get::<Average>("spread").unwrap_err();
    assert!(matches!(metric_error(&error), MetricError::OtherMetric { .. }), "{error}");
    let error = metrics.get::<Average>("los").unwrap_err();
    assert!(
        error.to_string().contains("no metric `los`; there are: `accuracy`, `loss`, `spread`"),
        "{error}"
    );
}

#[test]
fn a_metric_that_fails_leaves_the_others_as_they_were() {
    // In order of the names, the accuracy comes first and is right.
    let mut metrics = MultiMetric::new()
        .with("accuracy", Accuracy::default())
        .with("loss", Average::new("loss").with_mask("mask"));
    let [logits, labels, loss, _] = &batches()[0];
    let given = |mask| [("logits", logits), ("labels", labels), ("loss", loss), ("mask", mask)];
    let [fitting, longer] = [tensor(&[1u8, 1]), tensor(&[1u8, 1, 0])];
    metrics.update(given(&fitting)).unwrap();
    let before = metrics.state().unwrap();
    let error = metrics.update(given(&longer)).unwrap_err();
    assert!(matches!(metric_error(&error), MetricError::Shape { metric: "average", .. }), "{error}");
    assert!(
        error.to_string().starts_with("at `loss`: average: `mask` must have a shape that broadcasts"),
        "{error}"
    );
    assert!(metrics.state().unwrap().identical(&before).unwrap());
}

#[test]
fn metrics_of_metrics_share_their_inputs() {
    let mut metrics = MultiMetric::new()
        .with("all", metrics())
        .with("a.b", Average::new("loss"))
        .with("7", Average::new("loss"));
    metrics.update(inputs(&batches()[0])).unwrap();
    let numbers = metrics.compute();
    let mean = 0.875;
    assert_eq!([numbers["all.loss"], numbers["a\\.b"], numbers["\\7"]], [mean; 3], "{numbers:?}");
    let saved = metrics.state().unwrap();
    metrics.reset();
    metrics.restore(&saved).unwrap();
    assert_eq!(metrics.compute(), numbers);
    assert_eq!(metrics.get::<MultiMetric>("all").unwrap().names().count(), 3);
}

/// Takes any state, and keeps nothing.
#[derive(Debug)]
struct Stateless;

impl Metric for Stateless {
    fn inputs(&self) -> Vec<&str> {
        Vec::new()
    }
    fn update_from(&mut self, _: &Inputs) -> Result<()> {
        Ok(())
    }
    fn compute(&self) -> BTreeMap<String, f64> {
        BTreeMap::from([(String::new(), 1.)])
    }
    fn reset(&mut self) {}
    fn state(&self) -> Result<State> {
        Ok(State::default())
    }
    fn restore(&mut self, _: &State) -> Result<()> {
        Ok(())
    }
}

#[test]
fn a_metric_without_a_state_is_restored_from_none() {
    let mut metrics = MultiMetric::new().with("one", Stateless);
    let state = metrics.state().unwrap();
    assert!(state.is_empty());
    metrics.restore(&state).unwrap();
    metrics.update([]).unwrap();
    assert_eq!(metrics.compute()["one"], 1.);
}

#[test]
fn what_is_masked_does_not_count_whatever_it_is() {
    let (values, mask) = (tensor(&[f32::NAN, 2., f32::INFINITY, 4.]), tensor(&[0u8, 1, 0, 1]));
    let mut average = Average::default();
    average.update_masked(&values, &mask).unwrap();
    average.update_weighted(f64::NAN, 0.);
    assert_eq!(average.mean(), Some(3.));
    let mut welford = Welford::default();
    welford.update_masked(&values, &tensor(&[0u8, 0, 0, 0])).unwrap();
    assert_eq!(welford.statistics(), None);
    welford.update_masked(&values, &mask).unwrap();
    let statistics = welford.statistics().unwrap();
    assert_eq!((statistics.mean, statistics.variance), (3., 1.));

    // Labels that pad, too.
    let mut accuracy = Accuracy::default();
    let logits = tensor(&[[f32::NAN, f32::NAN], [0., 1.], [1., 0.], [1., 0.]]);
    let labels = tensor(&[-100i64, 1, 2, 1]);
    accuracy.update_masked(&logits, &labels, &mask).unwrap();
    assert_eq!(accuracy.share(), Some(0.5));
    let error = accuracy.update(&logits, &labels).unwrap_err();
    let MetricError::LabelOutOfRange { label, position, classes } = metric_error(&error) else {
        panic!("{error}")
    };
    assert_eq!((*label, *position, *classes), (-100, 0, 2));
    assert_eq!(accuracy.share(), Some(0.5));
}

#[test]
fn a_mask_is_broadcast_to_the_values_and_each_element_counts() {
    let values = tensor(&[[1f32, 2., 3.], [4., 5., 6.]]);
    let mut average = Average::default();
    average.update_masked(&values, &tensor(&[[1u8], [0]])).unwrap();
    assert_eq!(average.mean(), Some(2.));
    average.reset();
    average.update_masked(&values, &tensor(&[0u8, 0, 1])).unwrap();
    assert_eq!(average.mean(), Some(4.5));
    for mask in [tensor(&[1u8, 0]), tensor(&[[[1u8]]])] {
        let error = average.update_masked(&values, &mask).unwrap_err();
        assert!(matches!(metric_error(&error), MetricError::Shape { input: "mask", .. }), "{error}");
    }
    for weight in [-1f32, f32::NAN, f32::INFINITY] {
        let error = average.update_masked(&values, &tensor(&[1f32, weight, 1.])).unwrap_err();
        assert!(matches!(metric_error(&error), MetricError::Weight { position: 1, .. }), "{error}");
    }
    assert_eq!(average.mean(), Some(4.5));
}

#[test]
fn any_dtype_and_layout_is_averaged() {
    use DType::{BF16, F16, F32, F64, I64, U8, U32};
    for dtype in [BF16, F16, F32, F64, I64, U8, U32] {
        let values = tensor(&[[1f32, 2., 30.], [3., 4., 50.]]).to_dtype(dtype).unwrap();
        let mut average = Average::default();
        average.update_tensor(&values.narrow(1, 0, 2).unwrap().t().unwrap()).unwrap();
        assert_eq!(average.mean(), Some(2.5), "{dtype:?}");
    }
    let mut average = Average::default();
    average.update_tensor(&tensor(3f32)).unwrap();
    average.update_tensor(&Tensor::zeros((0, 2), F32, &Device::Cpu).unwrap()).unwrap();
    assert_eq!(average.mean(), Some(3.));
}

#[test]
fn f32_sums_of_many_batches_lose_nothing() {
    let mut average = Average::default();
    average.update(16_777_216f32);
    for _ in 0..1000 {
        average.update_tensor(&tensor(1f32)).unwrap();
    }
    assert_eq!(average.mean(), Some((16_777_216. + 1000.) / 1001.));
    let mut welford = Welford::default();
    welford.update_tensor(&tensor(&[1e9f64 + 4., 1e9 + 7.])).unwrap();
    welford.update_tensor(&tensor(&[1e9f64 + 13., 1e9 + 16.])).unwrap();
    assert_eq!(welford.statistics().unwrap().variance, 22.5);
}

#[test]
fn accuracy_refuses_what_does_not_fit() {
    let mut accuracy = Accuracy::default();
    let shape = |error: Error| matches!(metric_error(&error), MetricError::Shape { .. });
    let dtype = |error: Error| matches!(metric_error(&error), MetricError::DType { .. });
    let logits = tensor(&[[0f32, 1.], [2., 1.]]);
    assert!(shape(accuracy.update(&logits, &tensor(&[1u32])).unwrap_err()));
    assert!(shape(accuracy.update(&logits, &tensor(&[[1u32, 0], [0, 1]])).unwrap_err()));
    assert!(shape(accuracy.update(&tensor(1f32), &tensor(1u32)).unwrap_err()));
    assert!(dtype(accuracy.update(&logits, &tensor(&[1f32, 0.])).unwrap_err()));
    assert!(dtype(accuracy.update(&tensor(&[[1u32, 0]]), &tensor(&[1u32])).unwrap_err()));
    let mut binary = Accuracy::default().with_threshold(0.5);
    let error = binary.update(&logits, &tensor(&[1u32, 1])).unwrap_err();
    assert!(error.to_string().contains("[2, 2], that of `logits`, as there is a threshold"), "{error}");
    // Nothing to tell apart, and no examples.
    let none = Tensor::zeros((2, 0), DType::F32, &Device::Cpu).unwrap();
    assert!(accuracy.update(&none, &tensor(&[0u32, 0])).is_err());
    accuracy.update_masked(&none, &tensor(&[0u32, 0]), &tensor(0u8)).unwrap();
    let none = Tensor::zeros((0, 3), DType::F32, &Device::Cpu).unwrap();
    accuracy.update(&none, &Tensor::zeros(0, DType::U32, &Device::Cpu).unwrap()).unwrap();
    assert_eq!((accuracy.share(), binary.share()), (None, None));
}

/// Batches of values, each with a weight that may be 0.
fn weighted() -> impl Strategy<Value = Vec<Vec<(f64, f64)>>> {
    let weight = prop_oneof![Just(0.), Just(1.), 0.1f64..3.];
    let value = prop_oneof![4 => -1e3f64..1e3, 1 => 1e6f64..1e6 + 1.];
    proptest::collection::vec(proptest::collection::vec((value, weight), 0..6), 1..8)
}

proptest! {
    #[test]
    fn any_split_gives_the_statistics_of_the_whole(batches in weighted(), masked: bool) {
        let weight = |weight: f64| if masked { weight } else { 1. };
        let all: Vec<(f64, f64)> = batches.concat().into_iter().map(|(value, by)| (value, weight(by))).collect();
        let (mut welford, mut average) = (Welford::default(), Average::default());
        for batch in &batches {
            let (values, weights): (Vec<f64>, Vec<f64>) = batch.iter().copied().unzip();
            // Reading what does not count would show.
            let spoilt = values.iter().zip(&weights).map(|(value, by)| if weight(*by) == 0. { f64::NAN } else { *value });
            let values = Tensor::from_vec(spoilt.collect(), values.len(), &Device::Cpu).unwrap();
            if masked {
                let mask = Tensor::from_vec(weights.clone(), weights.len(), &Device::Cpu).unwrap();
                welford.update_masked(&values, &mask).unwrap();
                average.update_masked(&values, &mask).unwrap();
            } else {
                welford.update_tensor(&values).unwrap();
                average.update_tensor(&values).unwrap();
            }
        }
        let sum = |of: &dyn Fn(f64) -> f64| all.iter().map(|(value, by)| by * of(*value)).sum::<f64>();
        let count = sum(&|_| 1.);
        if count == 0. {
            prop_assert_eq!((welford.statistics(), average.mean()), (None, None));
            return Ok(());
        }
        let mean = sum(&|value| value) / count;
        let variance = sum(&|value| (value - mean).powi(2)) / count;
        let statistics = welford.statistics().unwrap();
        let close = |found: f64, expected: f64, scale: f64| (found - expected).abs() <= 1e-12 * scale;
        let scale = sum(&f64::abs) / count + 1.;
        prop_assert!(close(statistics.mean, mean, scale), "{} is not {}", statistics.mean, mean);
        prop_assert!(close(average.mean().unwrap(), mean, scale));
        let spread = sum(&|value| value * value) / count + 1.;
        prop_assert!(close(statistics.variance, variance, spread), "{} is not {}", statistics.variance, variance);
        prop_assert_eq!(statistics.standard_deviation, statistics.variance.sqrt());
        let error = (statistics.variance / count).sqrt();
        prop_assert!(close(statistics.standard_error_of_mean, error, error + 1.));
    }
}
