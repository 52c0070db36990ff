//! Kernels against the compositions that they stand for.

use crate::support::{assert_close, device, to_vec, values};
use bridge_ops::Result;
use candle_core::{DType, Shape, Tensor, Var};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::process::Command;

/// The dtypes of operators, with the most that two ways to compute may differ by.
pub(crate) const DTYPES: [(DType, f64); 4] =
    [(DType::F64, 1e-13), (DType::F32, 4e-6), (DType::BF16, 1.0 / 128.0), (DType::F16, 1.0 / 1024.0)];

/// Checks an operator of tensors of the given shapes against a composition: results and gradients, in every dtype, with
/// inputs that are contiguous, transposed, narrowed and broadcast.
///
/// The numbers are those of [`values`]. `scale` is how large the numbers are from which the result's rounding comes: 1
/// for functions of an element, more for sums of many.
#[track_caller]
pub(crate) fn check_twin(
    operator: impl Fn(&[Tensor]) -> Result<Tensor>,
    composition: impl Fn(&[Tensor]) -> Result<Tensor>,
    shapes: &[Shape],
    scale: f64,
) {
    for (dtype, tolerance) in DTYPES {
        for view in [View::Whole, View::Transposed, View::Narrowed, View::Broadcast] {
            let inputs: Vec<Tensor> = shapes
                .iter()
                .enumerate()
                .map(|(seed, shape)| view.make(shape, dtype, seed as u32 + 1))
                .collect();
            let (found, gradients) = with_gradients(&operator, &inputs);
            let (expected, expected_gradients) = with_gradients(&composition, &inputs);
            assert_eq!(
                (found.shape(), found.dtype()),
                (expected.shape(), expected.dtype()),
                "{dtype:?} {view:?}"
            );
            assert_close(&found, &to_vec(&expected), tolerance * scale);
            for (gradient, expected) in gradients.iter().zip(&expected_gradients) {
                assert_eq!((gradient.shape(), gradient.dtype()), (expected.shape(), expected.dtype()));
                assert_close(gradient, &to_vec(expected), tolerance * scale);
            }
        }
    }
}

/// The result, and the gradients of all inputs under an irregular gradient of the result.
#[track_caller]
pub(crate) fn with_gradients(
    function: impl Fn(&[Tensor]) -> Result<Tensor>,
    inputs: &[Tensor],
) -> (Tensor, Vec<Tensor>) {
    // Their own layout is kept: a leaf of the whole storage, of which the input is a view.
    let variables: Vec<Var> =
        inputs.iter().map(|input| Var::from_tensor(&input.contiguous().unwrap()).unwrap()).collect();
    let views: Vec<Tensor> =
        variables.iter().zip(inputs).map(|(variable, input)| like_view(variable, input)).collect();
    let result = function(&views).unwrap();
    let weights = values(result.shape(), 4242).to_dtype(result.dtype()).unwrap();
    let gradients = (&result * weights).unwrap().sum_all().unwrap().backward().unwrap();
    let gradients = variables
        .iter()
        .enumerate()
        .map(|(position, variable)| {
            gradients
                .get(variable)
                .unwrap_or_else(|| panic!("no gradient for input {position} of {inputs:?}"))
                .clone()
        })
        .collect();
    (result, gradients)
}

/// A variable's elements, laid out as those of `input`.
fn like_view(variable: &Var, input: &Tensor) -> Tensor {
    let tensor = variable.as_tensor();
    if input.is_contiguous() && input.layout().start_offset() == 0 {
        return tensor.clone();
    }
    if input.rank() >= 2 && input.t().unwrap().is_contiguous() {
        return tensor.t().unwrap().contiguous().unwrap().t().unwrap();
    }
    if input.rank() >= 1 && input.stride()[0] == 0 {
        return tensor.narrow(0, 0, 1).unwrap().broadcast_as(input.shape()).unwrap();
    }
    // Between other elements, along the last axis.
    let last = input.rank() - 1;
    Tensor::cat(&[tensor, tensor], last).unwrap().narrow(last, 0, input.dims()[last]).unwrap()
}

#[derive(Clone, Copy, Debug)]
enum View {
    Whole,
    Transposed,
    Narrowed,
    Broadcast,
}

impl View {
    fn make(self, shape: &Shape, dtype: DType, seed: u32) -> Tensor {
        let whole = values(shape, seed).to_dtype(dtype).unwrap();
        match self {
            Self::Transposed if shape.rank() >= 2 => whole.t().unwrap().contiguous().unwrap().t().unwrap(),
            Self::Narrowed if shape.rank() >= 1 => {
                let last = shape.rank() - 1;
                Tensor::cat(&[&whole, &whole], last).unwrap().narrow(last, 0, shape.dims()[last]).unwrap()
            }
            Self::Broadcast if shape.rank() >= 1 && shape.dims()[0] > 0 => {
                whole.narrow(0, 0, 1).unwrap().broadcast_as(shape).unwrap()
            }
            _ => whole,
        }
    }
}

/// Checks that NaN and infinities come out of an operator where they come out of the composition, forward and backward.
#[track_caller]
pub(crate) fn check_not_finite(
    operator: impl Fn(&[Tensor]) -> Result<Tensor>,
    composition: impl Fn(&[Tensor]) -> Result<Tensor>,
    inputs: &[Tensor],
) {
    let kind = |value: f64| match value {
        value if value.is_nan() => "NaN",
        f64::INFINITY => "infinity",
        f64::NEG_INFINITY => "-infinity",
        _ => "finite",
    };
    let kinds = |tensor: &Tensor| to_vec(tensor).into_iter().map(kind).collect::<Vec<_>>();
    for (dtype, _) in DTYPES {
        let inputs: Vec<Tensor> = inputs.iter().map(|input| input.to_dtype(dtype).unwrap()).collect();
        let (found, gradients) = with_gradients(&operator, &inputs);
        let (expected, expected_gradients) = with_gradients(&composition, &inputs);
        assert_eq!(kinds(&found), kinds(&expected), "{dtype:?}, from {:?}", to_vec(&inputs[0]));
        for (gradient, expected) in gradients.iter().zip(&expected_gradients) {
            assert_eq!(
                kinds(gradient),
                kinds(expected),
                "gradient, {dtype:?}, from {:?}",
                to_vec(&inputs[0])
            );
        }
    }
}

const BITS: &str = "BRIDGE_OPS_TEST_BITS";

/// Checks that results have the same bits for any number of threads. `test` is the whole name of the test that calls it,
/// which is run in processes of their own.
#[track_caller]
#[allow(clippy::print_stdout, reason = "what a process says to the one that started it")]
pub(crate) fn check_any_number_of_threads(test: &str, results: impl Fn() -> Vec<Tensor>) {
    if std::env::var_os(BITS).is_some() {
        let mut hasher = DefaultHasher::new();
        for tensor in results() {
            to_vec(&tensor).iter().for_each(|value| value.to_bits().hash(&mut hasher));
        }
        return println!("\n{BITS}={:x}", hasher.finish());
    }
    if !device().is_cpu() {
        return;
    }
    let bits = |threads: &str| {
        child(test, &[("CANDLE_NUM_THREADS", threads), ("RAYON_NUM_THREADS", threads), (BITS, "1")])
    };
    let found: Vec<String> = ["1", "2", "3", "7"].into_iter().map(bits).collect();
    assert!(found[0].contains(BITS), "{}", found[0]);
    assert!(found.iter().all(|bits| *bits == found[0]), "{found:?}");
}

const AGAIN: &str = "BRIDGE_OPS_TEST_AGAIN";

/// Runs a test again in processes whose kernels use fewer instructions than the processor has.
#[track_caller]
pub(crate) fn check_fewer_instructions(test: &str) {
    if std::env::var_os(AGAIN).is_none() && device().is_cpu() {
        for level in ["portable", "avx2"] {
            child(test, &[("CANDLE_BRIDGE_KERNELS", level), (AGAIN, "1")]);
        }
    }
}

/// The line of bits that a test prints, run in a process of its own.
#[track_caller]
fn child(test: &str, variables: &[(&str, &str)]) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]).envs(variables.iter().copied());
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{variables:?}: {text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("1 passed"), "no test is called {test}: {text}");
    text.lines().find(|line| line.starts_with(BITS)).unwrap_or_default().to_owned()
}
