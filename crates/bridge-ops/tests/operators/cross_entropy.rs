use crate::support::{assert_close, check_gradient, device, gradient_of_sum, message, to_vec, values};
use crate::twin::{
    check_any_number_of_threads, check_fewer_instructions, check_not_finite, check_twin, with_gradients,
};
use bridge_ops::{
    CrossEntropy, Error, composition, softmax, softmax_cross_entropy, softmax_cross_entropy_per_example,
};
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

/// `torch.nn.functional.cross_entropy(label_smoothing=0.1, ignore_index=-100)` of PyTorch 2.15, and
/// `optax.softmax_cross_entropy` of `optax.smooth_labels(.., 0.1)` of Optax 0.2.8.
#[test]
fn options_are_those_of_pytorch_and_optax() {
    let logits = [[1f32, 2.0, -1.0], [0.5, -3.0, 4.0], [2.0, 2.0, 2.0], [-1.0, 0.0, 1.0]];
    let logits = Tensor::new(&logits, &device()).unwrap();
    let smooth = CrossEntropy::new().label_smoothing(0.1);
    let losses = smooth.per_example(&logits, &labels(&[0, 2, 1, 2])).unwrap();
    assert_close(&losses, &[1.3823456, 0.38063517, 1.0986123, 0.50760597], 2.4e-7);

    let some = Tensor::new(&[0i64, -100, 1, 2], &device()).unwrap();
    let options = smooth.ignore_index(-100);
    let losses = options.per_example(&logits, &some).unwrap();
    assert_close(&losses, &[1.3823454, 0.0, 1.0986123, 0.5076059], 2.4e-7);
    assert_close(&options.mean(&logits, &some).unwrap(), &[0.99618787], 1.2e-7);
    let gradient = gradient_of_sum(|logits| options.mean(logits, &some), &logits);
    let expected = [
        -0.22461227,
        0.22401705,
        0.0005952315,
        0.0,
        0.0,
        0.0,
        0.09999999,
        -0.19999999,
        0.09999999,
        0.018899081,
        0.07046505,
        -0.089364104,
    ];
    assert_close(&gradient, &expected, 6e-8);
}

/// Smoothed losses by their definition, the cross entropy with a distribution, in f64.
#[test]
fn smoothing_is_cross_entropy_with_smoothed_labels() {
    let (logits, targets) = (values((6, 5), 1), [0usize, 4, 2, 2, 1, 3]);
    let probabilities = to_vec(&softmax(&logits).unwrap());
    for smoothing in [0.0, 0.25, 1.0] {
        let expected: Vec<f64> = probabilities
            .chunks(5)
            .zip(targets)
            .map(|(row, label)| {
                let target =
                    |class| f64::from(u8::from(class == label)) * (1.0 - smoothing) + smoothing / 5.0;
                row.iter().enumerate().map(|(class, p)| -target(class) * p.ln()).sum()
            })
            .collect();
        let options = CrossEntropy::new().label_smoothing(smoothing);
        let four = labels(&targets.map(|label| label as u32));
        assert_close(&options.per_example(&logits, &four).unwrap(), &expected, 1e-14);
        let mean = expected.iter().sum::<f64>() / 6.0;
        assert_close(&options.mean(&logits, &four).unwrap(), &[mean], 1e-14);
        check_gradient(|inputs| options.per_example(&inputs[0], &four), std::slice::from_ref(&logits));
    }
}

/// A class can be ignored as well as a number that is none, in any dtype of labels.
#[test]
fn ignored_examples_have_no_part_in_the_mean() {
    let logits = values((4, 3), 1);
    let all = to_vec(&softmax_cross_entropy_per_example(&logits, &labels(&[0, 2, 1, 2])).unwrap());
    for dtype in [DType::U8, DType::U32, DType::I64] {
        for ignored in [2u32, 255] {
            let some = labels(&[0, ignored, 1, ignored]).to_dtype(dtype).unwrap();
            let options = CrossEntropy::new().ignore_index(ignored.into());
            assert_close(&options.per_example(&logits, &some).unwrap(), &[all[0], 0.0, all[2], 0.0], 1e-14);
            assert_close(&options.mean(&logits, &some).unwrap(), &[(all[0] + all[2]) / 2.0], 1e-14);
            check_gradient(|inputs| options.mean(&inputs[0], &some), std::slice::from_ref(&logits));
        }
    }
    // What stands in an ignored row does not matter.
    let logits = Tensor::new(&[[f32::NAN, 1.0], [0.0, 0.0]], &device()).unwrap();
    let options = CrossEntropy::new().ignore_index(7);
    let gradient = gradient_of_sum(|logits| options.mean(logits, &labels(&[7, 0])), &logits);
    assert_close(&gradient, &[0.0, 0.0, -0.5, 0.5], 1e-7);
}

#[test]
fn wrong_options_are_errors() {
    let (logits, cpu) = (values((2, 3), 1).to_device(&Device::Cpu).unwrap(), Device::Cpu);
    let some = Tensor::new(&[0u32, 1], &cpu).unwrap();
    for smoothing in [-0.1, 1.1, f64::NAN] {
        let result = CrossEntropy::new().label_smoothing(smoothing).mean(&logits, &some);
        assert!(matches!(result, Err(Error::Probability { argument: "label_smoothing", .. })));
    }
    let ignored = Tensor::new(&[-100i64, -100], &cpu).unwrap();
    let options = CrossEntropy::new().ignore_index(-100);
    assert_eq!(
        message(options.mean(&logits, &ignored)),
        "CrossEntropy::mean: `labels` of shape [2] has nothing to take the mean of"
    );
    assert_close(&options.per_example(&logits, &ignored).unwrap(), &[0.0, 0.0], 0.0);
    let result = options.mean(&logits, &Tensor::new(&[-100i64, -1], &cpu).unwrap());
    assert!(matches!(result, Err(Error::LabelOutOfRange { label: -1, position: 1, .. })));
}

/// Labels of `examples`, the last of `classes` among them, some of them ignored if `ignored` is none of the classes.
fn some_labels(examples: usize, classes: usize, ignored: Option<i64>) -> Tensor {
    let label = |example: usize| match ignored {
        Some(ignored) if example % 3 == 1 => ignored,
        _ => (example * 7 + classes - 1) as i64 % classes as i64,
    };
    Tensor::from_iter((0..examples).map(label), &device()).unwrap()
}

#[test]
fn kernels_agree_with_compositions() {
    for (examples, classes) in [(1, 1), (4, 3), (5, 10), (3, 17), (2, 513), (2, 3000), (600, 33)] {
        for (smoothing, ignored) in [(0.0, None), (0.1, None), (0.0, Some(-100)), (0.3, Some(-100))] {
            let targets = some_labels(examples, classes, ignored);
            let mut options = CrossEntropy::new().label_smoothing(smoothing);
            if let Some(ignored) = ignored {
                options = options.ignore_index(ignored);
            }
            let shapes = [(examples, classes).into()];
            check_twin(
                |inputs| options.per_example(&inputs[0], &targets),
                |inputs| composition::cross_entropy_per_example(&inputs[0], &targets, smoothing, ignored),
                &shapes,
                1.0,
            );
            check_twin(
                |inputs| options.mean(&inputs[0], &targets),
                |inputs| composition::cross_entropy(&inputs[0], &targets, smoothing, ignored),
                &shapes,
                1.0,
            );
        }
    }
}

#[test]
fn not_finite_as_in_the_composition() {
    let (inf, nan) = (f64::INFINITY, f64::NAN);
    for row in [[nan, 1.0, 2.0], [-inf, 1.0, 2.0], [1.0, -inf, 2.0], [-inf, -inf, -inf], [inf, 1.0, 2.0]] {
        for smoothing in [0.0, 0.5] {
            let logits = Tensor::new(&[row], &device()).unwrap();
            let targets = labels(&[1]).to_dtype(DType::I64).unwrap();
            check_not_finite(
                |inputs| CrossEntropy::new().label_smoothing(smoothing).per_example(&inputs[0], &targets),
                |inputs| composition::cross_entropy_per_example(&inputs[0], &targets, smoothing, None),
                &[logits],
            );
        }
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    check_any_number_of_threads("cross_entropy::any_number_of_threads_gives_the_same_bits", || {
        let targets = some_labels(5000, 10, None);
        let options = CrossEntropy::new().label_smoothing(0.1);
        let x = values((5000, 10), 1).to_dtype(DType::F32).unwrap();
        let (loss, mut results) = with_gradients(|inputs| options.mean(&inputs[0], &targets), &[x]);
        results.push(loss);
        results
    });
}

#[test]
fn fewer_instructions_give_the_same() {
    kernels_agree_with_compositions();
    check_fewer_instructions("cross_entropy::fewer_instructions_give_the_same");
}
