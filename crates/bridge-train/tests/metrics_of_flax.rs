//! Metrics on the data of Flax's own tests.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

use bridge_random::{key, normal};
use bridge_train::{Accuracy, Average, Inputs, Metric, MetricError, MultiMetric, Welford};
use candle_core::{DType, Device, NdArray, Tensor};

fn tensor(values: impl NdArray) -> Tensor {
    Tensor::new(values, &Device::Cpu).unwrap()
}

/// Of two classes: three times the second, then twice the first.
fn logits() -> Tensor {
    tensor(&[[-1f32, 1.], [-1., 1.], [-1., 1.], [1., -1.], [1., -1.]])
}

/// One that goes on from the state of another.
fn resumed<M: Metric + Default>(metric: &M) -> M {
    let mut resumed = M::default();
    resumed.restore(&metric.state().unwrap()).unwrap();
    resumed
}

#[test]
fn an_accuracy_goes_on_from_its_state() {
    let mut accuracy = Accuracy::default();
    accuracy.update(&logits(), &tensor(&[1u32, 1, 1, 1, 1])).unwrap();
    let mut accuracy = resumed(&accuracy);
    assert_eq!(accuracy.share(), Some(0.6));
    accuracy.update(&logits(), &tensor(&[1u32, 1, 1, 1, 0])).unwrap();
    assert_eq!(accuracy.share(), Some(0.7));
}

/// Mean, deviation and error of a population, directly.
#[track_caller]
fn check_welford(values: &Tensor) {
    let mut welford = Welford::default();
    welford.update_tensor(values).unwrap();
    let found = resumed(&welford).statistics().unwrap();
    let values: Vec<f64> = values.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let deviation = (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt();
    let close = |found: f64, expected: f64| (found - expected).abs() <= 1e-7 * expected.abs();
    assert!(close(found.mean, mean), "{} is not {mean}", found.mean);
    assert!(close(found.standard_deviation, deviation), "{} is not {deviation}", found.standard_deviation);
    assert!(
        close(found.standard_error_of_mean, deviation / count.sqrt()),
        "{}",
        found.standard_error_of_mean
    );
}

#[test]
fn statistics_are_those_of_a_population() {
    let values = normal(key(0), (5, 2), DType::F32, &Device::Cpu).unwrap();
    check_welford(&values);
    check_welford(&tensor(&[2f64, 4., 4., 4., 5., 5., 7., 9.]));
}

#[test]
fn statistics_of_values_far_from_zero() {
    let values = normal(key(0), (5, 2), DType::F64, &Device::Cpu).unwrap();
    for offset in [1e8, 1e16] {
        check_welford(&values.affine(1., offset).unwrap());
    }
}

#[test]
fn statistics_of_many_values() {
    let mut welford = Welford::default();
    welford.update_tensor(&normal(key(0), 50_000, DType::F32, &Device::Cpu).unwrap()).unwrap();
    let found = welford.statistics().unwrap();
    assert!(found.mean.abs() < 3. * found.standard_error_of_mean, "{found:?}");
    assert!((found.standard_deviation - 1.).abs() < 0.005, "{found:?}");
}

#[test]
fn several_metrics_of_two_batches() {
    for masked in [false, true] {
        let (mut accuracy, mut loss) = (Accuracy::default(), Average::default());
        if masked {
            (accuracy, loss) = (accuracy.with_mask("accuracy_mask"), loss.with_mask("loss_mask"));
        }
        let mut metrics = MultiMetric::new().with("accuracy", accuracy).with("loss", loss);
        // What Flax calls NaN is not there.
        assert!(metrics.compute().is_empty());
        let mut update = |labels: [u32; 5], losses: [u32; 4], loss_mask: [u8; 4]| {
            let labels_mask = tensor(&labels.map(|label| u8::from(label > 0)));
            let (labels, losses, loss_mask) = (tensor(&labels), tensor(&losses), tensor(&loss_mask));
            let logits = logits();
            let mut inputs = vec![("logits", &logits), ("labels", &labels), ("values", &losses)];
            if masked {
                inputs.extend([("accuracy_mask", &labels_mask), ("loss_mask", &loss_mask)]);
            }
            metrics.update(inputs.into_iter().collect::<Inputs>()).unwrap();
            let numbers = metrics.compute();
            assert_eq!(numbers.keys().collect::<Vec<_>>(), ["accuracy", "loss"]);
            (numbers["accuracy"], numbers["loss"])
        };
        let first = update([1, 1, 0, 1, 0], [1, 2, 3, 4], [1; 4]);
        let second = update([0, 1, 1, 1, 1], [3, 2, 1, 0], [1, 1, 0, 0]);
        let expected = match masked {
            false => [(0.6, 2.5), (0.5, 2.)],
            true => [(2. / 3., 2.5), (4. / 7., 15. / 6.)],
        };
        assert_eq!([first, second], expected);
        metrics.reset();
        assert!(metrics.compute().is_empty());
    }
}

#[test]
fn a_metric_without_a_mask_takes_none() {
    let accuracy = Accuracy::new("predictions", "truth");
    let mut metrics =
        MultiMetric::new().with("accuracy", accuracy).with("loss", Average::default().with_mask("mask"));
    let (logits, truth, losses) = (logits(), tensor(&[1u32, 1, 0, 1, 0]), tensor(&[1f32, 2., 3., 4.]));
    let mask = tensor(&[0u8, 1, 1, 1]);
    metrics
        .update([("predictions", &logits), ("truth", &truth), ("values", &losses), ("mask", &mask)])
        .unwrap();
    let numbers = metrics.compute();
    assert_eq!((numbers["accuracy"], numbers["loss"]), (0.6, 3.));
}

#[test]
fn an_accuracy_of_two_classes_by_one_number() {
    let mut accuracy = Accuracy::default().with_threshold(0.5);
    accuracy.update(&tensor(&[0.4f32, 0.7, 0.2, 0.6]), &tensor(&[0u32, 1, 1, 1])).unwrap();
    assert_eq!(accuracy.share(), Some(0.75));
    accuracy.update(&tensor(&[0.1f32, 0.9, 0.8, 0.3]), &tensor(&[0u32, 1, 1, 0])).unwrap();
    assert_eq!(accuracy.share(), Some(0.875));
}

#[test]
fn logits_and_labels_of_other_ranks_are_refused() {
    let check = |threshold: Option<f64>, logits: Tensor, labels: Tensor, text: &str| {
        let accuracy = Accuracy::default();
        let mut accuracy = threshold.map_or(accuracy.clone(), |threshold| accuracy.with_threshold(threshold));
        let error = accuracy.update(&logits, &labels).unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(MetricError::Shape { .. })));
        assert_eq!(error.to_string(), text);
        assert_eq!(accuracy.share(), None);
    };
    check(
        None,
        tensor(&[[[0f32, 0.], [0., 0.]], [[0., 0.], [0., 0.]]]),
        tensor(&[0u32, 0, 0, 0]),
        "accuracy: `labels` must have shape [2, 2], that of `logits` without its last axis, found [4]",
    );
    check(
        Some(0.5),
        tensor(&[0f32, 0., 0., 0.]),
        tensor(&[[0u32, 0], [0, 0]]),
        "accuracy: `labels` must have shape [4], that of `logits`, as there is a threshold, found [2, 2]",
    );
}

#[test]
fn an_average_counts_scalars_once_and_elements_each() {
    let mut average = Average::default();
    average.update(2u32);
    average.update(3u32);
    assert_eq!(average.mean(), Some(2.5));
    average.reset();
    let whole = Tensor::arange(0i64, 15, &Device::Cpu).unwrap().reshape((5, 3)).unwrap();
    let float = Tensor::arange(0f32, 60., &Device::Cpu).unwrap().reshape((5, 3, 4)).unwrap();
    average.update_tensor(&whole).unwrap();
    average.update_tensor(&float).unwrap();
    assert_eq!(average.mean(), Some((105. + 1770.) / 75.));
    average.reset();
    average.update_masked(&whole, &whole.gt(4i64).unwrap()).unwrap();
    average.update_masked(&float, &float.gt(10f32).unwrap()).unwrap();
    assert_eq!(average.mean(), Some((95. + 1715.) / 59.));
}
