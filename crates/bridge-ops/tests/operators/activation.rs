use crate::support::{assert_close, check_gradient, device, gradient_of_sum, message, to_vec, values};
use bridge_ops::{Error, Result, gelu, gelu_exact, relu, sigmoid, silu, tanh};
use candle_core::cpu::erf::erf_f64;
use candle_core::{DType, Device, Tensor};

type Activation = fn(&Tensor) -> Result<Tensor>;

/// Each activation, a plain f64 reference, and the values of Flax 0.12.8 at [`POINTS`].
const ACTIVATIONS: [(&str, Activation, fn(f64) -> f64, [f64; 7]); 6] = [
    ("relu", relu, |x| if x > 0.0 { x } else { 0.0 }, [0.0, 0.0, 0.0, 0.0, 0.5, 1.0, 3.0]),
    (
        "gelu",
        gelu,
        |x| 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh()),
        [-0.00363734, -0.15880796, -0.15428600, 0.0, 0.34571400, 0.84119201, 2.99636269],
    ),
    (
        "gelu_exact",
        gelu_exact,
        |x| 0.5 * x * (1.0 + erf_f64(x / 2f64.sqrt())),
        [-0.00404970, -0.15865527, -0.15426877, 0.0, 0.34573123, 0.84134471, 2.99595022],
    ),
    (
        "silu",
        silu,
        |x| x / (1.0 + (-x).exp()),
        [-0.14227763, -0.26894143, -0.18877034, 0.0, 0.31122968, 0.73105860, 2.85772228],
    ),
    (
        "sigmoid",
        sigmoid,
        |x| 1.0 / (1.0 + (-x).exp()),
        [0.04742587, 0.26894143, 0.37754068, 0.5, 0.62245935, 0.73105860, 0.95257413],
    ),
    (
        "tanh",
        tanh,
        f64::tanh,
        [-0.99505472, -0.76159418, -0.46211717, 0.0, 0.46211717, 0.76159418, 0.99505472],
    ),
];

const POINTS: [f32; 7] = [-3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0];

#[test]
fn values_are_those_of_the_formula_and_of_flax() {
    for (name, function, reference, flax) in ACTIVATIONS {
        let x = values((5, 7), 1).affine(3.0, 0.0).unwrap();
        let expected: Vec<f64> = to_vec(&x).into_iter().map(reference).collect();
        assert_close(&function(&x).unwrap(), &expected, 1e-14);
        assert_close(&function(&x.to_dtype(DType::F32).unwrap()).unwrap(), &expected, 1e-6);

        let y = function(&Tensor::new(&POINTS, &device()).unwrap()).unwrap();
        assert_eq!(y.dtype(), DType::F32, "{name}");
        assert_close(&y, &flax, 5e-7);
    }
}

#[test]
fn gradients_are_right() {
    for (_, function, _, _) in ACTIVATIONS {
        check_gradient(|inputs| function(&inputs[0]), &[values((3, 4), 2)]);
        check_gradient(|inputs| function(&inputs[0].t()?), &[values((3, 4), 3)]);
        check_gradient(|inputs| function(&inputs[0].broadcast_as((2, 3))?), &[values(3, 4)]);
    }
}

#[test]
fn any_layout_is_read_right() {
    for (_, function, reference, _) in ACTIVATIONS {
        let x = values((4, 6), 5);
        for view in [
            x.t().unwrap(),
            x.narrow(1, 2, 3).unwrap(),
            x.narrow(0, 1, 1).unwrap().broadcast_as((3, 6)).unwrap(),
        ] {
            let y = function(&view).unwrap();
            assert_eq!(y.dims(), view.dims());
            let expected: Vec<f64> = to_vec(&view).into_iter().map(reference).collect();
            assert_close(&y, &expected, 1e-14);
        }
        assert_eq!(function(&Tensor::zeros((0, 3), DType::F32, &device()).unwrap()).unwrap().dims(), [0, 3]);
        assert_eq!(function(&Tensor::zeros((), DType::F32, &device()).unwrap()).unwrap().rank(), 0);
    }
}

#[test]
fn half_precision_rounds_once() {
    for (name, function, reference, _) in ACTIVATIONS {
        for (dtype, roundoff) in [(DType::BF16, 1.0 / 256.0), (DType::F16, 1.0 / 2048.0)] {
            let x = values(500, 6).affine(2.0, 0.0).unwrap().to_dtype(dtype).unwrap();
            let y = function(&x).unwrap();
            assert_eq!(y.dtype(), dtype, "{name}");
            for (x, y) in to_vec(&x).into_iter().zip(to_vec(&y)) {
                let expected = reference(x);
                // One rounding, and what f32 leaves of the small values that cancel.
                assert!((y - expected).abs() <= roundoff * expected.abs() * 1.01 + 1e-7, "{name}({x}) = {y}");
            }
        }
    }
}

/// candle's own `relu` has derivative 1 at 0, as it compares with `>=` (`Op::Unary(Relu)` in its backward pass).
#[test]
fn relu_has_derivative_zero_at_zero() {
    let x = Tensor::new(&[-1f32, -0.0, 0.0, 1.0], &device()).unwrap();
    assert_eq!(to_vec(&gradient_of_sum(relu, &x)), [0.0, 0.0, 0.0, 1.0]);
}

/// candle's own `relu` turns NaN into 0 on the CPU, which hides a diverged model.
#[test]
fn relu_keeps_nan() {
    let x = Tensor::new(&[f32::NAN, -f32::NAN, f32::INFINITY], &Device::Cpu).unwrap();
    let y = to_vec(&relu(&x).unwrap());
    assert!(y[0].is_nan() && y[1].is_nan() && y[2] == f64::INFINITY, "{y:?}");
}

#[test]
fn gradients_at_extremes_are_finite() {
    let x = Tensor::new(&[-1e4f32, -100.0, -89.0, -50.0, 50.0, 89.0, 100.0, 1e4], &device()).unwrap();
    for (name, function, _, _) in ACTIVATIONS {
        let one_above = if ["relu", "gelu", "gelu_exact", "silu"].contains(&name) { 1.0 } else { 0.0 };
        let expected: Vec<f64> =
            to_vec(&x).into_iter().map(|x| if x > 0.0 { one_above } else { 0.0 }).collect();
        assert_close(&gradient_of_sum(function, &x), &expected, 1e-6);
    }
}

#[test]
fn integers_are_refused() {
    let x = Tensor::new(&[1u32, 2], &device()).unwrap();
    for (name, function, _, _) in ACTIVATIONS {
        assert!(matches!(function(&x), Err(Error::DType { operator, .. }) if operator == name));
    }
    assert_eq!(
        message(silu(&x)),
        "silu: `x` must have a float dtype (bf16, f16, f32 or f64), found U32; convert it with `to_dtype`"
    );
}
