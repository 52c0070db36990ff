use crate::support::{assert_close, check_gradient, device, gradient_of_sum, message, to_vec, values};
use crate::twin::{DTYPES, with_gradients};
use crate::twin::{check_any_number_of_threads, check_fewer_instructions, check_not_finite, check_twin};
use bridge_ops::{Error, Result, abs, composition, elu, gelu, gelu_exact, leaky_relu, relu, sigmoid, silu};
use bridge_ops::{softplus, tanh};
use candle_core::cpu::erf::erf_f64;
use candle_core::{DType, Device, Shape, Tensor};

type Activation = fn(&Tensor) -> Result<Tensor>;

/// Each activation, a plain f64 reference, and the values of Flax 0.12.8 (of JAX 0.10.2 from `softplus` on) at [`POINTS`].
const ACTIVATIONS: [(&str, Activation, fn(f64) -> f64, [f64; 7]); 10] = [
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
    (
        "softplus",
        softplus,
        |x| x.max(0.0) + (-x.abs()).exp().ln_1p(),
        [0.04858735, 0.31326169, 0.47407699, std::f64::consts::LN_2, 0.97407699, 1.31326175, 3.04858732],
    ),
    (
        "elu",
        |x| elu(x, 1.0),
        |x| if x > 0.0 { x } else { x.exp_m1() },
        [-0.95021296, -0.63212055, -0.39346933, 0.0, 0.5, 1.0, 3.0],
    ),
    (
        "leaky_relu",
        |x| leaky_relu(x, 0.01),
        |x| if x > 0.0 { x } else { 0.01 * x },
        [-0.03, -0.01, -0.005, 0.0, 0.5, 1.0, 3.0],
    ),
    ("abs", abs, f64::abs, [3.0, 1.0, 0.5, 0.0, 0.5, 1.0, 3.0]),
];

/// The compositions of [`ACTIVATIONS`], in their order.
const COMPOSITIONS: [fn(&Tensor) -> candle_core::Result<Tensor>; 10] = [
    composition::relu,
    composition::gelu,
    composition::gelu_exact,
    composition::silu,
    composition::sigmoid,
    composition::tanh,
    composition::softplus,
    |x| composition::elu(x, 1.0),
    |x| composition::leaky_relu(x, 0.01),
    composition::abs,
];

fn with_compositions(check: impl Fn(&str, Activation, fn(&Tensor) -> candle_core::Result<Tensor>)) {
    for ((name, function, ..), composition) in ACTIVATIONS.into_iter().zip(COMPOSITIONS) {
        check(name, function, composition);
    }
}

#[test]
fn kernels_do_what_the_compositions_do() {
    with_compositions(|_, function, composition| {
        for shape in [vec![3, 5, 7], vec![2, 513], vec![40, 1001], vec![1], vec![], vec![0, 3]] {
            check_twin(|x| function(&x[0]), |x| Ok(composition(&x[0])?), &[shape.into()], 1.0);
        }
    });
    check_fewer_instructions("activation::kernels_do_what_the_compositions_do");
}

#[test]
fn parameters_of_either_sign_give_the_derivatives_of_the_compositions() {
    for parameter in [2.5, 0.3, 0.0, -0.0, -0.3, -2.5] {
        let shape = Shape::from((7, 9));
        let expected = |x: &[Tensor]| Ok(composition::elu(&x[0], parameter)?);
        check_twin(
            |x| elu(&x[0], parameter),
            expected,
            std::slice::from_ref(&shape),
            parameter.abs().max(1.0),
        );
        let expected = |x: &[Tensor]| Ok(composition::leaky_relu(&x[0], parameter)?);
        check_twin(|x| leaky_relu(&x[0], parameter), expected, &[shape], parameter.abs().max(1.0));
    }
}

/// Numbers whose outputs are too small for their dtype keep the derivative of their side.
#[test]
fn derivatives_read_from_the_output_are_right_where_it_is_rounded_to_zero() {
    for (dtype, tiny) in [(DType::F32, 1e-44), (DType::F16, 1e-7), (DType::F64, 5e-324)] {
        let x = Tensor::new(&[-tiny, tiny, -0.0, 0.0], &device()).unwrap().to_dtype(dtype).unwrap();
        let slope = 1.0 / 64.0;
        assert_eq!(to_vec(&gradient_of_sum(|x| leaky_relu(x, slope), &x)), [slope, 1.0, 1.0, 1.0]);
        let alpha = 1.0 / 8.0;
        assert_eq!(to_vec(&gradient_of_sum(|x| elu(x, alpha), &x)), [alpha, 1.0, alpha, alpha]);
    }
}

#[test]
fn numbers_that_are_not_finite_stay_so() {
    let x = Tensor::new(&[f64::NEG_INFINITY, -f64::NAN, -1.0, 0.0, 1.0, f64::NAN, f64::INFINITY], &device());
    let x = x.unwrap();
    with_compositions(|_, function, composition| {
        check_not_finite(|x| function(&x[0]), |x| Ok(composition(&x[0])?), std::slice::from_ref(&x));
    });
}

#[test]
fn the_number_of_threads_does_not_matter() {
    check_any_number_of_threads("activation::the_number_of_threads_does_not_matter", || {
        let mut results = Vec::new();
        for (dtype, _) in DTYPES {
            let x = values((101, 401), 9).to_dtype(dtype).unwrap();
            for (_, function, ..) in ACTIVATIONS {
                let (y, gradients) = with_gradients(|x| function(&x[0]), std::slice::from_ref(&x));
                results.push(y);
                results.extend(gradients);
            }
        }
        results
    });
}

#[test]
fn a_gradient_is_in_no_graph_and_comes_again() {
    for (name, function, ..) in ACTIVATIONS {
        let x = candle_core::Var::from_tensor(&values((3, 4), 1)).unwrap();
        let y = function(&x).unwrap().sum_all().unwrap();
        let [first, second] = [(); 2].map(|()| y.backward().unwrap().get(&x).unwrap().clone());
        assert!(!first.track_op(), "{name}");
        assert_eq!(to_vec(&first), to_vec(&second), "{name}");
    }
}

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

/// Those of JAX.
#[test]
fn derivatives_at_zero() {
    let x = Tensor::new(&[0f32], &device()).unwrap();
    let expected = [0.0, 0.5, 0.5, 0.5, 0.25, 1.0, 0.5, 1.0, 1.0, 1.0];
    for ((name, function, ..), expected) in ACTIVATIONS.into_iter().zip(expected) {
        assert_eq!(to_vec(&gradient_of_sum(function, &x)), [expected], "{name}");
    }
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
        let above = if ["sigmoid", "tanh"].contains(&name) { 0.0 } else { 1.0 };
        let below = match name {
            "leaky_relu" => 0.01,
            "abs" => -1.0,
            _ => 0.0,
        };
        let expected: Vec<f64> =
            to_vec(&x).into_iter().map(|x| if x > 0.0 { above } else { below }).collect();
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

/// Run by hand, with `RAYON_NUM_THREADS=1`, in a release build.
#[test]
#[ignore = "prints times, which depend on what else the machine does"]
fn times_beside_candle() {
    let candle: [Option<fn(&Tensor) -> candle_core::Result<Tensor>>; 10] = [
        Some(Tensor::relu),
        Some(Tensor::gelu),
        Some(Tensor::gelu_erf),
        Some(Tensor::silu),
        // candle-nn's is an operator that calls `exp` for each element.
        Some(|x| x.neg()?.exp()?.affine(1.0, 1.0)?.recip()),
        Some(Tensor::tanh),
        None,
        Some(|x| x.elu(1.0)),
        None,
        Some(Tensor::abs),
    ];
    let count = 1 << 16;
    let nanoseconds = |work: &dyn Fn()| {
        let time = || {
            let start = std::time::Instant::now();
            work();
            start.elapsed().as_secs_f64() * 1e9 / count as f64
        };
        (0..200).map(|_| time()).fold(f64::INFINITY, f64::min)
    };
    for (dtype, _) in DTYPES {
        let x = candle_core::Var::from_tensor(&values(count, 1).to_dtype(dtype).unwrap()).unwrap();
        let constant = x.as_tensor().detach();
        for ((name, function, ..), candle) in ACTIVATIONS.into_iter().zip(candle) {
            let forward = nanoseconds(&|| drop(function(&constant).unwrap()));
            let y = function(&x).unwrap();
            let with_backward = nanoseconds(&|| drop(y.backward().unwrap()));
            let identity = x.neg().unwrap();
            let of_candle = nanoseconds(&|| drop(identity.backward().unwrap()));
            let candle = candle.map(|candle| nanoseconds(&|| drop(candle(&constant).unwrap())));
            println!(
                "{dtype:?} {name}: {forward:.3} ns an element forward, {candle:.3?} candle's; \
                 backward {with_backward:.3}, that of a negation {of_candle:.3}"
            );
        }
    }
}

/// The largest errors in f32 that `docs/performance.md` gives: relative, in units of 2^-24, for inputs from -20 to 20.
const LARGEST_ERRORS: [f64; 10] = [0.0, 220.0, 75.0, 4.0, 4.0, 3.0, 3.0, 1.5, 1.5, 0.0];

#[test]
fn errors_in_single_precision_are_small() {
    let count = 400_000;
    let x: Vec<f32> = (0..=count).map(|index| index as f32 * 40.0 / count as f32 - 20.0).collect();
    let x = Tensor::from_vec(x, count + 1, &device()).unwrap();
    let precise = x.to_dtype(DType::F64).unwrap();
    for ((name, function, ..), bound) in ACTIVATIONS.into_iter().zip(LARGEST_ERRORS) {
        let (found, expected) = (to_vec(&function(&x).unwrap()), to_vec(&function(&precise).unwrap()));
        let errors = found.iter().zip(&expected).map(|(found, expected)| {
            // Below, numbers have fewer digits.
            let size = expected.abs().max(f64::from(f32::MIN_POSITIVE));
            (found - expected).abs() / size * 2f64.powi(24)
        });
        let largest = errors.fold(0.0, f64::max);
        println!("{name}: {largest:.1}");
        assert!(largest <= bound, "{name}: {largest}");
    }
}
