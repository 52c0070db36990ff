use crate::support::{assert_close, check_gradient, device, gradient_of_sum, message, to_vec, values};
use bridge_ops::{Error, softmax, softmax_cross_entropy, softmax_cross_entropy_per_example};
use candle_core::{DType, Device, Tensor};

fn labels(labels: &[u32]) -> Tensor {
    Tensor::new(labels, &device()).unwrap()
}

/// The loss of each row, in f64.
fn reference(logits: &Tensor, labels: &Tensor) -> Vec<f64> {
    let classes = logits.dims()[logits.rank() - 1];
    let rows = to_vec(logits);
    rows.chunks(classes)
        .zip(to_vec(labels))
        .map(|(row, label)| row.iter().map(|x| x.exp()).sum::<f64>().ln() - row[label as usize])
        .collect()
}

#[track_caller]
fn check(logits: &Tensor, labels: &Tensor) {
    let expected = reference(logits, labels);
    let losses = softmax_cross_entropy_per_example(logits, labels).unwrap();
    assert_eq!(losses.dims(), labels.dims());
    assert_close(&losses, &expected, 1e-14);
    let mean = softmax_cross_entropy(logits, labels).unwrap();
    assert_eq!(mean.rank(), 0);
    assert_close(&mean, &[expected.iter().sum::<f64>() / expected.len() as f64], 1e-14);
}

#[test]
fn values_of_any_layout_and_label_dtype() {
    let four = labels(&[0, 2, 1, 2]);
    check(&values((4, 3), 1), &four);
    for dtype in [DType::U8, DType::I32, DType::I64] {
        check(&values((4, 3), 1), &four.to_dtype(dtype).unwrap());
    }
    check(&values((2, 2, 3), 2), &four.reshape((2, 2)).unwrap());
    check(&values(3, 3), &labels(&[2]).reshape(()).unwrap());
    // Views of both; i64 labels need no conversion that would copy them.
    let pairs = four.reshape((2, 2)).unwrap().t().unwrap();
    check(&values((2, 2, 3), 8), &pairs.to_dtype(DType::I64).unwrap().t().unwrap());
    check(&values((3, 4), 4).t().unwrap(), &four);
    check(&values((2, 2, 3), 5).transpose(0, 1).unwrap(), &four.reshape((2, 2)).unwrap().t().unwrap());
    check(&values((4, 9), 6).narrow(1, 3, 3).unwrap(), &labels(&[1]).broadcast_as(4).unwrap());
    check(&values(3, 7).broadcast_as((4, 3)).unwrap(), &four);
}

#[test]
fn values_are_those_of_optax() {
    let logits = [[1f32, 2.0, -1.0], [0.5, -3.0, 4.0], [2.0, 2.0, 2.0], [-1.0, 0.0, 1.0]];
    let logits = Tensor::new(&logits, &device()).unwrap();
    let losses = softmax_cross_entropy_per_example(&logits, &labels(&[0, 2, 1, 2])).unwrap();
    // Two units in the last place of the sums of exponentials, which are between 1 and 2.
    assert_close(&losses, &[1.34901214, 0.03063536, 1.09861231, 0.40760589], 2.4e-7);
}

#[test]
fn gradients_are_right() {
    let four = labels(&[0, 2, 1, 2]);
    check_gradient(|inputs| softmax_cross_entropy(&inputs[0], &four), &[values((4, 3), 1)]);
    check_gradient(|inputs| softmax_cross_entropy_per_example(&inputs[0], &four), &[values((4, 3), 2)]);
    check_gradient(|inputs| softmax_cross_entropy_per_example(&inputs[0].t()?, &four), &[values((3, 4), 3)]);
    check_gradient(|inputs| softmax_cross_entropy(&inputs[0].broadcast_as((4, 3))?, &four), &[values(3, 4)]);
    let pairs = four.reshape((2, 2)).unwrap().t().unwrap();
    check_gradient(|inputs| softmax_cross_entropy_per_example(&inputs[0], &pairs), &[values((2, 2, 3), 5)]);
}

#[test]
fn large_and_masked_logits_stay_finite() {
    let logits =
        Tensor::new(&[[1e30f32, 0.0, f32::NEG_INFINITY], [0.0, f32::NEG_INFINITY, 0.0]], &device()).unwrap();
    let targets = labels(&[0, 2]);
    let losses = softmax_cross_entropy_per_example(&logits, &targets).unwrap();
    assert_close(&losses, &[0.0, 2f64.ln()], 1e-7);
    let gradient = gradient_of_sum(|logits| softmax_cross_entropy_per_example(logits, &targets), &logits);
    assert_close(&gradient, &[0.0, 0.0, 0.0, 0.5, 0.0, -0.5], 1e-7);
}

#[test]
fn half_precision_accumulates_in_f32() {
    for dtype in [DType::BF16, DType::F16] {
        // Over classes, and over examples.
        for shape in [(1, 4096), (4096, 2)] {
            let logits = Tensor::ones(shape, dtype, &device()).unwrap();
            let targets = Tensor::zeros(shape.0, DType::U32, &device()).unwrap();
            let loss = softmax_cross_entropy(&logits, &targets).unwrap();
            assert_eq!(loss.dtype(), DType::F32);
            assert_close(&loss, &[(shape.1 as f64).ln()], 1e-6);
        }
        let logits = values((6, 5), 1).to_dtype(dtype).unwrap();
        let targets = labels(&[0, 1, 2, 3, 4, 0]);
        let gradient = gradient_of_sum(|logits| softmax_cross_entropy_per_example(logits, &targets), &logits);
        assert_eq!(gradient.dtype(), dtype);
        let mut expected = to_vec(&softmax(&logits.to_dtype(DType::F64).unwrap()).unwrap());
        for (row, label) in [0, 1, 2, 3, 4, 0].into_iter().enumerate() {
            expected[row * 5 + label] -= 1.0;
        }
        assert_close(&gradient, &expected, if dtype == DType::BF16 { 1.0 / 512.0 } else { 1.0 / 4096.0 });
    }
}

/// candle's gather takes the largest index of a dtype for "none", and gives 0.
#[test]
fn labels_out_of_range_are_errors() {
    let on_cpu = |labels: &Tensor| labels.to_device(&Device::Cpu).unwrap();
    let logits = on_cpu(&values((2, 3), 1));
    let out_of_range = |labels: Tensor| match softmax_cross_entropy(&logits, &on_cpu(&labels)) {
        Err(Error::LabelOutOfRange { label, position, classes, .. }) => (label, position, classes),
        other => panic!("expected a label out of range, found {other:?}"),
    };
    assert_eq!(out_of_range(labels(&[0, 3])), (3, 1, 3));
    assert_eq!(out_of_range(labels(&[u32::MAX, 0])), (i64::from(u32::MAX), 0, 3));
    assert_eq!(out_of_range(Tensor::new(&[0i64, -1], &device()).unwrap()), (-1, 1, 3));
    assert_eq!(out_of_range(Tensor::new(&[i64::MAX, 0], &device()).unwrap()), (i64::MAX, 0, 3));
    assert_eq!(
        message(softmax_cross_entropy_per_example(&logits, &on_cpu(&labels(&[3, 0])))),
        "softmax_cross_entropy_per_example: label 3 at flat position 0 is out of range: the logits have 3 classes, \
         so labels go from 0 to 2"
    );
    // The largest u8 is a label like any other.
    let logits = values((1, 300), 2);
    check(&logits, &Tensor::new(&[255u8], &device()).unwrap());
}

#[test]
fn wrong_arguments_are_errors() {
    let logits = values((2, 3), 1);
    assert_eq!(
        message(softmax_cross_entropy(&logits, &labels(&[0, 1, 2]))),
        "softmax_cross_entropy: `labels` must have shape [2], that of `logits` without its last axis, found [3]"
    );
    let float_labels = values(2, 1);
    assert!(matches!(
        softmax_cross_entropy(&logits, &float_labels),
        Err(Error::DType { argument: "labels", .. })
    ));
    let integer_logits = logits.to_dtype(DType::I64).unwrap();
    let result = softmax_cross_entropy(&integer_logits, &labels(&[0, 1]));
    assert!(matches!(result, Err(Error::DType { argument: "logits", .. })));
    assert!(matches!(
        softmax_cross_entropy(&values((), 1), &labels(&[0])),
        Err(Error::Shape { argument: "logits", .. })
    ));
    let none = labels(&[]);
    assert!(matches!(softmax_cross_entropy(&values((0, 3), 1), &none), Err(Error::Empty { .. })));
    assert_eq!(softmax_cross_entropy_per_example(&values((0, 3), 1), &none).unwrap().dims(), [0]);
    assert!(matches!(softmax_cross_entropy(&values((0, 0), 1), &none), Err(Error::Shape { .. })));
}
