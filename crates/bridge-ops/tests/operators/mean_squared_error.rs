use crate::support::{assert_close, check_gradient, device, message, to_vec, values};
use crate::twin::{
    check_any_number_of_threads, check_fewer_instructions, check_not_finite, check_twin, with_gradients,
};
use bridge_ops::{Error, Result, composition, mean_squared_error};
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

fn operator(inputs: &[Tensor]) -> Result<Tensor> {
    mean_squared_error(&inputs[0], &inputs[1])
}

fn twin(inputs: &[Tensor]) -> Result<Tensor> {
    let wide = |tensor: &Tensor| match tensor.dtype() {
        DType::F64 => Ok(tensor.clone()),
        _ => tensor.to_dtype(DType::F32),
    };
    composition::mean_squared_error(&wide(&inputs[0])?, &wide(&inputs[1])?)
}

#[test]
fn the_kernel_agrees_with_the_composition() {
    for shape in [&[1][..], &[3, 5], &[2, 3, 17], &[511], &[513], &[5, 4099], &[300, 100]] {
        check_twin(operator, twin, &[shape.into(), shape.into()], 4.0);
    }
}

#[test]
fn not_finite_as_in_the_composition() {
    let inputs = |first: f64, second: f64| {
        [Tensor::new(&[first, 1.0], &device()).unwrap(), Tensor::new(&[second, 2.0], &device()).unwrap()]
    };
    for (first, second) in [(f64::NAN, 1.0), (1.0, f64::INFINITY), (f64::INFINITY, f64::INFINITY)] {
        check_not_finite(operator, twin, &inputs(first, second));
    }
}

#[test]
fn only_what_is_tracked_has_a_gradient_and_dtypes_may_be_as_wide_in_arithmetic() {
    let predictions = Var::from_tensor(&values((3, 4), 1).to_dtype(DType::BF16).unwrap()).unwrap();
    let targets = values((3, 4), 2).to_dtype(DType::F32).unwrap();
    let loss = mean_squared_error(&predictions, &targets).unwrap();
    let gradients = loss.backward().unwrap();
    assert_eq!(gradients.get(&predictions).map(Tensor::dtype), Some(DType::BF16));
    assert!(gradients.get(&targets).is_none());
    let doubles = targets.to_dtype(DType::F64).unwrap();
    let result = mean_squared_error(&predictions, &doubles);
    assert!(matches!(result, Err(Error::DType { argument: "targets", .. })));
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    check_any_number_of_threads("mean_squared_error::any_number_of_threads_gives_the_same_bits", || {
        let inputs = [1, 2].map(|seed| values((300, 100), seed).to_dtype(DType::F32).unwrap());
        let (loss, mut results) = with_gradients(operator, &inputs);
        results.push(loss);
        results
    });
}

#[test]
fn fewer_instructions_give_the_same() {
    the_kernel_agrees_with_the_composition();
    check_fewer_instructions("mean_squared_error::fewer_instructions_give_the_same");
}
