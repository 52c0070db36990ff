use crate::support::{assert_close, check_gradient, device, gradient_of_sum, message, to_vec, values};
use crate::twin::{
    check_any_number_of_threads, check_fewer_instructions, check_not_finite, check_twin, with_gradients,
};
use bridge_ops::{
    Error, Result, binary_cross_entropy_with_logits, binary_cross_entropy_with_logits_per_element,
    composition,
};
use candle_core::{DType, Tensor};

fn mean(inputs: &[Tensor]) -> Result<Tensor> {
    binary_cross_entropy_with_logits(&inputs[0], &inputs[1])
}

fn each(inputs: &[Tensor]) -> Result<Tensor> {
    binary_cross_entropy_with_logits_per_element(&inputs[0], &inputs[1])
}

fn wide(tensor: &Tensor) -> Tensor {
    match tensor.dtype() {
        DType::F64 => tensor.clone(),
        _ => tensor.to_dtype(DType::F32).unwrap(),
    }
}

fn mean_twin(inputs: &[Tensor]) -> Result<Tensor> {
    composition::binary_cross_entropy_with_logits(&wide(&inputs[0]), &wide(&inputs[1]))
}

fn each_twin(inputs: &[Tensor]) -> Result<Tensor> {
    composition::binary_cross_entropy_with_logits_per_element(&wide(&inputs[0]), &wide(&inputs[1]))
}

/// `optax.sigmoid_binary_cross_entropy` of Optax 0.2.8.
#[test]
fn values_are_those_of_optax() {
    let logits = Tensor::new(&[-3f32, -0.5, 0.0, 0.5, 3.0, 40.0], &device()).unwrap();
    let targets = Tensor::new(&[0f32, 1.0, 0.25, 0.0, 0.75, 1.0], &device()).unwrap();
    let losses = each(&[logits.clone(), targets.clone()]).unwrap();
    let optax = [0.048587352, 0.974077, std::f64::consts::LN_2, 0.974077, 0.7985873, 4.248354e-18];
    assert_close(&losses, &optax, 1.2e-7);
    let smallest = to_vec(&losses)[5];
    assert!((smallest / optax[5] - 1.0).abs() < 1e-6, "{smallest}");
    assert_close(
        &mean(&[logits.clone(), targets.clone()]).unwrap(),
        &[optax.iter().sum::<f64>() / 6.0],
        1.2e-7,
    );
    let gradient = gradient_of_sum(|logits| each(&[logits.clone(), targets.clone()]), &logits);
    assert_close(&gradient, &[0.047425874, -0.62245935, 0.25, 0.62245935, 0.20257413, 0.0], 1.2e-7);

    let inf = f32::INFINITY;
    let logits = Tensor::new(&[inf, -inf, inf, -inf, f32::NAN, 1e38, -1e38], &device()).unwrap();
    let targets = Tensor::new(&[0f32, 1.0, 1.0, 0.0, 0.0, 1.0, 0.0], &device()).unwrap();
    let losses = to_vec(&each(&[logits, targets]).unwrap());
    assert_eq!(losses[..2], [f64::INFINITY; 2]);
    assert!(losses[2..5].iter().all(|loss| loss.is_nan()), "{losses:?}");
    assert_eq!(losses[5..], [0.0, 0.0]);
}

#[test]
fn values_are_those_of_the_formula() {
    let (logits, targets) = (values((5, 7), 1).affine(4.0, 0.0).unwrap(), values((5, 7), 2).sqr().unwrap());
    let expected: Vec<f64> = to_vec(&logits)
        .into_iter()
        .zip(to_vec(&targets))
        .map(|(x, target)| {
            let probability = 1.0 / (1.0 + (-x).exp());
            -target * probability.ln() - (1.0 - target) * (1.0 - probability).ln()
        })
        .collect();
    // The formula loses what `1 - probability` rounds off.
    assert_close(&each(&[logits, targets]).unwrap(), &expected, 1e-12);
}

#[test]
fn gradients_are_right() {
    let inputs = [values((3, 4), 1), values((3, 4), 2)];
    check_gradient(mean, &inputs);
    check_gradient(each, &inputs);
    let inputs = [values((4, 3), 3), values(4, 4)];
    check_gradient(|inputs| each(&[inputs[0].t()?, inputs[1].broadcast_as((3, 4))?]), &inputs);
    let zero = Tensor::new(&[0f64, 0.0], &device()).unwrap();
    let targets = Tensor::new(&[0f64, 1.0], &device()).unwrap();
    assert_close(&gradient_of_sum(|x| each(&[x.clone(), targets.clone()]), &zero), &[0.5, -0.5], 0.0);
}

#[test]
fn kernels_agree_with_compositions() {
    for shape in [&[1][..], &[3, 5], &[2, 3, 17], &[511], &[513], &[5, 4099], &[300, 100]] {
        check_twin(mean, mean_twin, &[shape.into(), shape.into()], 4.0);
        check_twin(each, each_twin, &[shape.into(), shape.into()], 2.0);
    }
}

#[test]
fn not_finite_as_in_the_composition() {
    let targets = Tensor::new(&[f64::NAN, 1.0], &device()).unwrap();
    let logits = Tensor::new(&[1.0, f64::NAN], &device()).unwrap();
    check_not_finite(each, each_twin, &[logits.clone(), targets.clone()]);
    check_not_finite(mean, mean_twin, &[logits, targets]);
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    check_any_number_of_threads("binary_cross_entropy::any_number_of_threads_gives_the_same_bits", || {
        let inputs = [1, 2].map(|seed| values((300, 100), seed).to_dtype(DType::F32).unwrap());
        let (loss, mut results) = with_gradients(mean, &inputs);
        let (losses, gradients) = with_gradients(each, &inputs);
        results.extend([loss, losses]);
        results.extend(gradients);
        results
    });
}

#[test]
fn fewer_instructions_give_the_same() {
    kernels_agree_with_compositions();
    check_fewer_instructions("binary_cross_entropy::fewer_instructions_give_the_same");
}

#[test]
fn wrong_arguments_are_errors() {
    assert_eq!(
        message(mean(&[values((3, 1), 1), values(3, 2)])),
        "binary_cross_entropy_with_logits: `targets` must have the shape of `logits`, [3, 1], found [3]"
    );
    let none = [values(0, 1), values(0, 2)];
    assert!(matches!(mean(&none), Err(Error::Empty { argument: "logits", .. })));
    assert_eq!(each(&none).unwrap().dims(), [0]);
    let integers = Tensor::new(&[1u32], &device()).unwrap();
    let result = each(&[values(1, 1), integers]);
    assert!(matches!(result, Err(Error::DType { argument: "targets", .. })));
}
