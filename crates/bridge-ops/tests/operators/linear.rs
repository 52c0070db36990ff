use crate::support::{assert_close, check_gradient, device, gradient_of_sum, message, to_vec, values};
use crate::twin::{
    check_any_number_of_threads, check_fewer_instructions, check_not_finite, check_twin, with_gradients,
};
use bridge_ops::{Activation, Error, composition, linear, linear_with_activation};
use candle_core::{DType, Shape, Tensor};

/// `linear` by three loops.
fn reference(x: &Tensor, kernel: &Tensor, bias: Option<&Tensor>) -> Vec<f64> {
    let (inputs, outputs) = kernel.dims2().unwrap();
    let (x, kernel) = (to_vec(x), to_vec(kernel));
    let bias = bias.map_or(vec![0.0; outputs], to_vec);
    let mut y = Vec::new();
    for row in x.chunks(inputs) {
        for output in 0..outputs {
            y.push(
                bias[output]
                    + (0..inputs).map(|input| row[input] * kernel[input * outputs + output]).sum::<f64>(),
            );
        }
    }
    y
}

#[track_caller]
fn check(x: &Tensor, kernel: &Tensor, bias: Option<&Tensor>) {
    let y = linear(x, kernel, bias).unwrap();
    let leading = &x.dims()[..x.rank() - 1];
    assert_eq!(y.dims(), [leading, &kernel.dims()[1..]].concat());
    assert_close(&y, &reference(x, kernel, bias), 1e-13);
}

#[test]
fn values_at_every_rank() {
    let (kernel, bias) = (values((3, 5), 1), values(5, 2));
    for dims in [vec![3], vec![4, 3], vec![2, 4, 3], vec![2, 2, 4, 3], vec![0, 3], vec![2, 0, 3]] {
        check(&values(dims.clone(), 3), &kernel, Some(&bias));
        check(&values(dims, 4), &kernel, None);
    }
    // No inputs: the bias alone.
    check_empty_inputs();
}

fn check_empty_inputs() {
    let y = linear(&values((2, 0), 1), &values((0, 3), 1), Some(&values(3, 2))).unwrap();
    let bias = to_vec(&values(3, 2));
    assert_close(&y, &[bias.clone(), bias].concat(), 0.0);
}

/// On the CPU, candle multiplies a transposed rank-3 lhs wrongly with a broadcast rhs (huggingface/candle#3744,
/// huggingface/candle#3758).
#[test]
fn values_of_transposed_views() {
    let (kernel, bias) = (values((4, 5), 1), values(5, 2));
    check(&values((2, 4, 3), 3).transpose(1, 2).unwrap(), &kernel, Some(&bias));
    check(&values((4, 3), 4).t().unwrap(), &kernel, Some(&bias));
    check(&values((4, 3, 2), 5).permute((2, 1, 0)).unwrap(), &kernel, None);
    check(&values((3, 2, 4), 6).transpose(0, 1).unwrap(), &kernel, None);
    check(&values((3, 4), 7), &values((5, 4), 8).t().unwrap(), Some(&bias));
    check(&values((2, 4, 3), 9).transpose(1, 2).unwrap(), &values((5, 4), 8).t().unwrap(), Some(&bias));
}

#[test]
fn values_of_broadcast_and_narrowed_views() {
    let (kernel, bias) = (values((4, 5), 1), values(5, 2));
    check(&values(4, 3).broadcast_as((3, 4)).unwrap(), &kernel, Some(&bias));
    check(&values((3, 1), 4).broadcast_as((3, 4)).unwrap(), &kernel, Some(&bias));
    check(&values((1, 3, 4), 5).broadcast_as((2, 3, 4)).unwrap(), &kernel, Some(&bias));
    check(&values((3, 9), 6).narrow(1, 2, 4).unwrap(), &kernel, Some(&bias));
    check(&values((3, 4), 7), &values((4, 9), 8).narrow(1, 3, 5).unwrap(), Some(&bias));
    check(
        &values((3, 4), 9),
        &values((4, 1), 8).broadcast_as((4, 5)).unwrap(),
        Some(&values(1, 3).broadcast_as(5).unwrap()),
    );
}

#[test]
fn gradients_are_right() {
    let parameters = [values((3, 2), 1), values(2, 2)];
    for dims in [vec![3], vec![4, 3], vec![2, 4, 3]] {
        let inputs = [&[values(dims, 3)], &parameters[..]].concat();
        check_gradient(|inputs| linear(&inputs[0], &inputs[1], Some(&inputs[2])), &inputs);
        check_gradient(|inputs| linear(&inputs[0], &inputs[1], None), &inputs[..2]);
    }
    // Through views, candle#3744 and candle#3758.
    check_gradient(
        |inputs| linear(&inputs[0].transpose(1, 2)?, &inputs[1].t()?, Some(&inputs[2])),
        &[values((2, 3, 4), 4), values((2, 3), 5), values(2, 6)],
    );
    check_gradient(
        |inputs| linear(&inputs[0].broadcast_as((4, 3))?, &inputs[1].narrow(1, 1, 2)?, Some(&inputs[2])),
        &[values(3, 7), values((3, 4), 8), values(2, 9)],
    );
    check_gradient(
        |inputs| linear(&inputs[0].t()?, &inputs[1], None),
        &[values((3, 4), 7), values((3, 2), 8)],
    );
}

#[test]
fn half_precision_accumulates_in_f32() {
    for dtype in [DType::BF16, DType::F16] {
        let ones = |shape: &[usize]| Tensor::ones(shape, dtype, &device()).unwrap();
        let y =
            linear(&ones(&[2, 4096]), &ones(&[4096, 3]), Some(&ones(&[3]).zeros_like().unwrap())).unwrap();
        assert_eq!(y.dtype(), dtype);
        assert_close(&y, &[4096.0; 6], 0.0);

        // The gradients of kernel and bias are sums over rows.
        let (rows, kernel, bias) = (ones(&[2, 2048, 1]), ones(&[1, 2]), ones(&[2]));
        assert_close(
            &gradient_of_sum_in_f32(|kernel| linear(&rows, kernel, Some(&bias)), &kernel),
            &[4096.0; 2],
            0.0,
        );
        assert_close(
            &gradient_of_sum_in_f32(|bias| linear(&rows, &kernel, Some(bias)), &bias),
            &[4096.0; 2],
            0.0,
        );
    }
}

/// Sums in f32, so that the sum itself is not what is tested.
fn gradient_of_sum_in_f32(function: impl Fn(&Tensor) -> bridge_ops::Result<Tensor>, x: &Tensor) -> Tensor {
    gradient_of_sum(|x| Ok(function(x)?.to_dtype(DType::F32)?), x)
}

/// candle's product in f16 accumulates in f16, and a bias would be added to what is rounded already.
#[test]
fn half_precision_is_rounded_once() {
    for dtype in [DType::BF16, DType::F16] {
        let [x, kernel, bias] = [values((50, 400), 1), values((400, 3), 2), values(3, 3)]
            .map(|tensor| tensor.to_dtype(dtype).unwrap());
        let wide = |tensor: &Tensor| tensor.to_dtype(DType::F32).unwrap();
        let expected =
            linear(&wide(&x), &wide(&kernel), Some(&wide(&bias))).unwrap().to_dtype(dtype).unwrap();
        let found = linear(&x, &kernel, Some(&bias)).unwrap();
        match device().is_cpu() {
            true => assert_eq!(to_vec(&found), to_vec(&expected)),
            false => assert_close(&found, &to_vec(&expected), 1.0 / 128.0),
        }
    }
}

const ACTIVATIONS: [Activation; 10] = [
    Activation::Relu,
    Activation::Sigmoid,
    Activation::Tanh,
    Activation::Elu { alpha: 0.7 },
    Activation::LeakyRelu { negative_slope: 0.1 },
    // These can not be computed from the output.
    Activation::Elu { alpha: -0.7 },
    Activation::LeakyRelu { negative_slope: -0.1 },
    Activation::Gelu,
    Activation::Softplus,
    Activation::Abs,
];

#[test]
fn kernels_compute_what_compositions_do() {
    let shapes = |rows: &[usize], inputs: usize, outputs: usize| {
        let x: Shape = [rows, &[inputs]].concat().into();
        [x, (inputs, outputs).into(), outputs.into()]
    };
    let sizes: [(&[usize], usize, usize); 6] =
        [(&[], 3, 2), (&[5], 4, 3), (&[2, 3], 1, 1), (&[4], 70, 5), (&[3, 2, 11], 17, 33), (&[200], 150, 70)];
    for (rows, inputs, outputs) in sizes {
        let shapes = shapes(rows, inputs, outputs);
        let scale = (inputs.max(rows.iter().product::<usize>()) as f64).max(2.0) * 2.0;
        check_twin(
            |inputs| linear(&inputs[0], &inputs[1], Some(&inputs[2])),
            |inputs| composition::linear(&inputs[0], &inputs[1], Some(&inputs[2])),
            &shapes,
            scale,
        );
        check_twin(
            |inputs| linear(&inputs[0], &inputs[1], None),
            |inputs| composition::linear(&inputs[0], &inputs[1], None),
            &shapes[..2],
            scale,
        );
    }
    for activation in ACTIVATIONS {
        check_twin(
            |inputs| linear_with_activation(&inputs[0], &inputs[1], Some(&inputs[2]), activation),
            |inputs| activation.apply(&composition::linear(&inputs[0], &inputs[1], Some(&inputs[2]))?),
            &shapes(&[9], 6, 20),
            24.0,
        );
    }
    check_fewer_instructions("linear::kernels_compute_what_compositions_do");
}

/// candle gives no gradient to a bias that it added to no row.
#[test]
fn no_rows_give_gradients_of_zero() {
    let inputs = [values((0, 3), 1), values((3, 2), 2), values(2, 3)];
    let (y, gradients) = with_gradients(|inputs| linear(&inputs[0], &inputs[1], Some(&inputs[2])), &inputs);
    assert_eq!(y.dims(), [0, 2]);
    assert_eq!(gradients[0].dims(), [0, 3]);
    assert_eq!(to_vec(&gradients[1]), [0.0; 6]);
    assert_eq!(to_vec(&gradients[2]), [0.0; 2]);
}

#[test]
fn gradients_through_activations_are_right() {
    for activation in ACTIVATIONS {
        check_gradient(
            |inputs| linear_with_activation(&inputs[0], &inputs[1], Some(&inputs[2]), activation),
            &[values((3, 2), 1), values((2, 5), 2), values(5, 3)],
        );
        check_gradient(
            |inputs| linear_with_activation(&inputs[0], &inputs[1].t()?, None, activation),
            &[values((2, 3, 2), 4), values((5, 2), 5)],
        );
    }
}

#[test]
fn what_is_not_finite_comes_out() {
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let mut numbers = to_vec(&values((3, 4), 1));
        numbers[5] = value;
        let x = Tensor::from_vec(numbers, (3, 4), &device()).unwrap();
        for activation in [Activation::Relu, Activation::Tanh, Activation::LeakyRelu { negative_slope: 0.1 }]
        {
            check_not_finite(
                |inputs| linear_with_activation(&inputs[0], &inputs[1], Some(&inputs[2]), activation),
                |inputs| activation.apply(&composition::linear(&inputs[0], &inputs[1], Some(&inputs[2]))?),
                &[x.clone(), values((4, 20), 2), values(20, 3)],
            );
        }
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    check_any_number_of_threads("linear::any_number_of_threads_gives_the_same_bits", || {
        let mut results = Vec::new();
        for (rows, inputs, outputs) in [(128, 784, 512), (1000, 300, 10), (3, 1500, 700)] {
            let inputs = [values((rows, inputs), 1), values((inputs, outputs), 2), values(outputs, 3)]
                .map(|tensor| tensor.to_dtype(DType::F32).unwrap());
            let (y, gradients) = with_gradients(
                |inputs| linear_with_activation(&inputs[0], &inputs[1], Some(&inputs[2]), Activation::Relu),
                &inputs,
            );
            results.push(y);
            results.extend(gradients);
        }
        results
    });
}

#[test]
fn wrong_arguments_are_errors_that_say_what_fits() {
    let (x, kernel, bias) = (values((2, 3), 1), values((4, 5), 2), values(4, 3));
    assert_eq!(
        message(linear(&x, &kernel, None)),
        "linear: `x` must have shape [..., 4], because `kernel` has shape [4, 5], found [2, 3]"
    );
    assert_eq!(
        message(linear(&values((2, 4), 1), &kernel, Some(&bias))),
        "linear: `bias` must have shape [5], because `kernel` has shape [4, 5], found [4]"
    );
    assert_eq!(message(linear(&x, &bias, None)), "linear: `kernel` must have shape [in, out], found [4]");
    assert_eq!(
        message(linear(&values((), 1), &kernel, None)),
        "linear: `x` must have shape [..., 4], found []"
    );
    let half = kernel.to_dtype(DType::F32).unwrap();
    let error = linear(&values((2, 4), 1), &half, None).unwrap_err().to_string();
    assert!(error.starts_with("linear: `x` must have the dtype of `kernel`, found F"), "{error}");
    let half_bias = values(5, 1).to_dtype(DType::BF16).unwrap();
    let error = linear(&values((2, 4), 1), &kernel, Some(&half_bias)).unwrap_err();
    assert!(matches!(error, Error::DType { argument: "bias", found: DType::BF16, .. }), "{error}");
    let integers = kernel.to_dtype(DType::U32).unwrap();
    let error = linear(&integers, &integers, None).unwrap_err();
    assert!(matches!(error, Error::DType { argument: "kernel", found: DType::U32, .. }), "{error}");
}

#[test]
fn errors_keep_their_text_as_candle_errors() {
    let error = linear(&values((2, 3), 1), &values((4, 5), 2), None).unwrap_err();
    let text = error.to_string();
    assert!(candle_core::Error::from(error).to_string().starts_with(&text));
}

/// A tanh that is rounded to 1 has no derivative left to read from it.
#[test]
fn half_precision_keeps_small_derivatives() {
    let x = Tensor::new(&[[3.2f32], [3.5], [6.5], [8.0]], &device()).unwrap().to_dtype(DType::BF16).unwrap();
    let one = Tensor::ones((1, 1), DType::BF16, &device()).unwrap();
    for activation in [Activation::Tanh, Activation::Sigmoid, Activation::Elu { alpha: 1.0 }] {
        for x in [&x, &x.neg().unwrap()] {
            let fused = gradient_of_sum(|x| linear_with_activation(x, &one, None, activation), x);
            let apart = gradient_of_sum(|x| activation.apply(x), x);
            assert_eq!(to_vec(&fused), to_vec(&apart), "{activation:?}");
            assert!(to_vec(&fused).into_iter().all(|gradient| gradient > 0.0), "{activation:?}");
        }
    }
}
