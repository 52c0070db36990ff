use crate::support::{assert_close, check_gradient, device, gradient_of_sum, message, to_vec, values};
use crate::twin::{
    check_any_number_of_threads, check_fewer_instructions, check_not_finite, check_twin, with_gradients,
};
use bridge_ops::{Error, composition, log_softmax, softmax};
use candle_core::{DType, Tensor, Var};

/// `softmax` over rows of `classes` elements, in f64.
fn reference(x: &Tensor) -> Vec<f64> {
    let classes = x.dims()[x.rank() - 1];
    let mut y = Vec::new();
    for row in to_vec(x).chunks(classes) {
        let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = row.iter().map(|x| (x - largest).exp()).sum();
        y.extend(row.iter().map(|x| (x - largest).exp() / total));
    }
    y
}

#[track_caller]
fn check(x: &Tensor) {
    let expected = reference(x);
    let logarithms: Vec<f64> = expected.iter().map(|p| p.ln()).collect();
    let (y, log_y) = (softmax(x).unwrap(), log_softmax(x).unwrap());
    assert_eq!((y.dims(), log_y.dims()), (x.dims(), x.dims()));
    assert_close(&y, &expected, 1e-14);
    assert_close(&log_y, &logarithms, 1e-13);
}

#[test]
fn values_of_any_layout() {
    for dims in [vec![5], vec![3, 5], vec![2, 3, 5], vec![3, 1], vec![0, 4]] {
        check(&values(dims, 1));
    }
    check(&values((5, 3), 2).t().unwrap());
    check(&values((2, 5, 3), 3).transpose(1, 2).unwrap());
    check(&values((3, 9), 4).narrow(1, 2, 5).unwrap());
    check(&values((3, 1), 5).broadcast_as((3, 4)).unwrap());
    check(&values(4, 6).broadcast_as((3, 4)).unwrap());
}

#[test]
fn values_are_those_of_jax() {
    let x = Tensor::new(&[[1f32, 2.0, -1.0], [0.5, -3.0, 4.0]], &device()).unwrap();
    let jax = [0.25949648, 0.70538455, 0.03511903, 0.02928631, 0.00088437, 0.96982938];
    assert_close(&softmax(&x).unwrap(), &jax, 1e-7);
}

/// candle-nn's fused softmax silently has none (huggingface/candle#2168).
#[test]
fn gradients_are_right() {
    for function in [softmax, log_softmax] {
        check_gradient(|inputs| function(&inputs[0]), &[values((3, 4), 1)]);
        check_gradient(|inputs| function(&inputs[0]), &[values((2, 2, 3), 2)]);
        check_gradient(|inputs| function(&inputs[0].t()?), &[values((3, 4), 3)]);
        check_gradient(|inputs| function(&inputs[0].broadcast_as((2, 3))?), &[values(3, 4)]);
        // The largest value twice.
        check_gradient(
            |inputs| function(&inputs[0]),
            &[Tensor::new(&[[1f64, 3.0, 3.0]], &device()).unwrap()],
        );
    }
}

#[test]
fn masked_and_large_logits_stay_finite() {
    let x =
        Tensor::new(&[[f32::NEG_INFINITY, 1e30, 1e30], [-1e30, f32::NEG_INFINITY, 3.0]], &device()).unwrap();
    assert_eq!(to_vec(&softmax(&x).unwrap()), [0.0, 0.5, 0.5, 0.0, 0.0, 1.0]);
    assert_close(&gradient_of_sum(softmax, &x), &[0.0; 6], 0.0);

    let first = |x: &Tensor| Ok(log_softmax(x)?.narrow(1, 1, 1)?);
    let x = Tensor::new(&[[f32::NEG_INFINITY, 2.0, 2.0]], &device()).unwrap();
    assert_close(&gradient_of_sum(first, &x), &[0.0, 0.5, -0.5], 1e-7);
}

/// Summed in bf16, 4096 equal probabilities add up to 16.
#[test]
fn half_precision_accumulates_in_f32() {
    for dtype in [DType::BF16, DType::F16] {
        let x = Tensor::ones((2, 4096), dtype, &device()).unwrap();
        let y = softmax(&x).unwrap();
        assert_eq!(y.dtype(), dtype);
        assert_close(&y, &vec![1.0 / 4096.0; 8192], 0.0);
        assert_eq!(to_vec(&y).iter().sum::<f64>(), 2.0);

        let rounded = to_vec(&Tensor::new(-(4096f64.ln()), &device()).unwrap().to_dtype(dtype).unwrap());
        assert_close(&log_softmax(&x).unwrap(), &vec![rounded[0]; 8192], 0.0);

        // d log_softmax(x)[0] / dx[i] = [i = 0] - 1/4096
        let gradient = gradient_of_sum(|x| Ok(log_softmax(x)?.narrow(1, 0, 1)?), &x);
        let ulp = if dtype == DType::BF16 { 1.0 / 256.0 } else { 1.0 / 2048.0 };
        let gradient = to_vec(&gradient);
        assert!((gradient[0] - (1.0 - 1.0 / 4096.0)).abs() <= ulp / 2.0, "{}", gradient[0]);
        assert_eq!(gradient[1..4096], vec![-1.0 / 4096.0; 4095]);
    }
}

#[test]
fn wrong_arguments_are_errors() {
    for function in [softmax, log_softmax] {
        for dims in [vec![], vec![3, 0]] {
            assert!(matches!(function(&values(dims, 1)), Err(Error::Shape { argument: "x", .. })));
        }
        assert!(matches!(function(&Tensor::new(&[1u32], &device()).unwrap()), Err(Error::DType { .. })));
    }
    assert_eq!(
        message(softmax(&values((3, 0), 1))),
        "softmax: `x` must have shape [..., classes] with at least one class, found [3, 0]"
    );
}

fn one(
    function: fn(&Tensor) -> bridge_ops::Result<Tensor>,
) -> impl Fn(&[Tensor]) -> bridge_ops::Result<Tensor> {
    move |inputs| function(&inputs[0])
}

/// Rows shorter and longer than a vector and a block, and more of them than a thread's share.
const SHAPES: [&[usize]; 8] =
    [&[1], &[5], &[3, 10], &[2, 3, 17], &[7, 64], &[2, 513], &[1, 5000], &[700, 33]];

#[test]
fn kernels_agree_with_compositions() {
    for shape in SHAPES {
        // Where one row is broadcast to all, candle sums the gradient over them, in half precision too.
        let scale = (shape[0] as f64).sqrt();
        check_twin(one(softmax), one(composition::softmax), &[shape.into()], scale);
        check_twin(one(log_softmax), one(composition::log_softmax), &[shape.into()], scale);
    }
}

#[test]
fn not_finite_as_in_the_composition() {
    let (inf, nan) = (f64::INFINITY, f64::NAN);
    for row in [[nan, 1.0, 2.0], [-inf, 1.0, 2.0], [-inf, -inf, -inf], [inf, 1.0, 2.0], [inf, -inf, nan]] {
        let mut long = vec![0.5; 40];
        long.extend(row);
        for x in [row.to_vec(), long] {
            let x = Tensor::new(x, &device()).unwrap();
            check_not_finite(one(softmax), one(composition::softmax), std::slice::from_ref(&x));
            check_not_finite(one(log_softmax), one(composition::log_softmax), &[x]);
        }
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    check_any_number_of_threads("softmax::any_number_of_threads_gives_the_same_bits", || {
        let mut results = Vec::new();
        for function in [softmax, log_softmax] {
            for dtype in [DType::F32, DType::BF16] {
                let x = values((500, 100), 1).to_dtype(dtype).unwrap();
                let (y, gradients) = with_gradients(one(function), &[x]);
                results.push(y);
                results.extend(gradients);
            }
        }
        results
    });
}

#[test]
fn fewer_instructions_give_the_same() {
    kernels_agree_with_compositions();
    check_fewer_instructions("softmax::fewer_instructions_give_the_same");
}

/// The graph holds what the gradient needs as often as it is asked for.
#[test]
fn a_second_backward_pass_gives_the_same() {
    let x = Var::from_tensor(&values((3, 4), 1)).unwrap();
    for function in [softmax, log_softmax] {
        let loss = function(&x).unwrap().sqr().unwrap().sum_all().unwrap();
        let gradient = || to_vec(loss.backward().unwrap().get(&x).unwrap());
        assert_eq!(gradient(), gradient());
    }
}
