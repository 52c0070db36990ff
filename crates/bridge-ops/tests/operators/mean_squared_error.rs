use crate::support::{assert_close, check_gradient, device, message, to_vec, values};
use bridge_ops::{Error, mean_squared_error};
use candle_core::{DType, Tensor, Var};

#[track_caller]
fn check(predictions: &Tensor, targets: &Tensor) {
    let pairs: Vec<(f64, f64)> = to_vec(predictions).into_iter().zip(to_vec(targets)).collect();
    let expected = pairs.iter().map(|(p, t)| (p - t).powi(2)).sum::<f64>() / pairs.len() as f64;
    let loss = mean_squared_error(predictions, targets).unwrap();
    assert_eq!(loss.rank(), 0);
    assert_close(&loss, &[expected], 1e-14);
}

#[test]
fn values_of_any_layout() {
    check(&values((3, 4), 1), &values((3, 4), 2));
    check(&values((4, 3), 1).t().unwrap(), &values((3, 4), 2));
    check(&values((3, 9), 1).narrow(1, 2, 4).unwrap(), &values(4, 2).broadcast_as((3, 4)).unwrap());
    check(&values((), 1), &values((), 2));
}

#[test]
fn gradients_are_right() {
    let inputs = [values((3, 4), 1), values((3, 4), 2)];
    check_gradient(|inputs| mean_squared_error(&inputs[0], &inputs[1]), &inputs);
    let inputs = [values((4, 3), 3), values(4, 4)];
    check_gradient(|inputs| mean_squared_error(&inputs[0].t()?, &inputs[1].broadcast_as((3, 4))?), &inputs);
}

#[test]
fn half_precision_accumulates_in_f32() {
    for dtype in [DType::BF16, DType::F16] {
        let predictions = Var::ones(4096, dtype, &device()).unwrap();
        // 300 squared is beyond f16.
        let targets = predictions.affine(300.0, 0.0).unwrap().detach();
        let loss = mean_squared_error(&predictions, &targets).unwrap();
        assert_eq!(loss.dtype(), DType::F32);
        let target = to_vec(&targets)[0];
        assert_close(&loss, &[(target - 1.0).powi(2)], 1e-6);
        let gradient = loss.backward().unwrap().get(&predictions).unwrap().clone();
        assert_eq!(gradient.dtype(), dtype);
        let expected = -2.0 * (target - 1.0) / 4096.0;
        for actual in to_vec(&gradient) {
            assert!((actual / expected - 1.0).abs() <= 1.0 / 256.0, "{actual} instead of {expected}");
        }
    }
}

#[test]
fn wrong_arguments_are_errors() {
    assert_eq!(
        message(mean_squared_error(&values((3, 1), 1), &values(3, 2))),
        "mean_squared_error: `targets` must have the shape of `predictions`, [3, 1], found [3]"
    );
    assert!(matches!(mean_squared_error(&values(0, 1), &values(0, 2)), Err(Error::Empty { .. })));
    let integers = Tensor::new(&[1u32], &device()).unwrap();
    assert!(matches!(
        mean_squared_error(&values(1, 1), &integers),
        Err(Error::DType { argument: "targets", .. })
    ));
}
