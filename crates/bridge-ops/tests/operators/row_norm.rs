use crate::support::{assert_close, check_gradient, device, gradient_of_sum, message, to_vec, values};
use crate::twin::{
    check_any_number_of_threads, check_fewer_instructions, check_not_finite, check_twin, with_gradients,
};
use bridge_ops::{Error, Result, collect_gradients, composition, layer_norm, rms_norm};
use candle_core::{DType, Shape, Tensor, Var};

/// The normalization of one row, in f64.
fn normalized(row: &[f64], centered: bool, epsilon: f64) -> Vec<f64> {
    let mean = if centered { row.iter().sum::<f64>() / row.len() as f64 } else { 0.0 };
    let square = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / row.len() as f64;
    row.iter().map(|x| (x - mean) / (square + epsilon).sqrt()).collect()
}

/// Each of a row's numbers with the parameters for it.
fn reference(
    x: &Tensor,
    scale: Option<&Tensor>,
    bias: Option<&Tensor>,
    centered: bool,
    epsilon: f64,
) -> Vec<f64> {
    let features = x.dims()[x.rank() - 1];
    let scale = scale.map_or_else(|| vec![1.0; features], to_vec);
    let bias = bias.map_or_else(|| vec![0.0; features], to_vec);
    let rows = to_vec(x);
    let rows = rows.chunks(features).flat_map(|row| normalized(row, centered, epsilon));
    rows.enumerate().map(|(index, x)| x * scale[index % features] + bias[index % features]).collect()
}

fn some(features: usize) -> (Tensor, Tensor) {
    (values(features, 21), values(features, 22))
}

#[track_caller]
fn check(x: &Tensor) {
    let (scale, bias) = some(x.dims()[x.rank() - 1]);
    for scale in [None, Some(&scale)] {
        for bias in [None, Some(&bias)] {
            for epsilon in [1e-6, 0.1] {
                let expected = reference(x, scale, bias, true, epsilon);
                let y = layer_norm(x, scale, bias, epsilon).unwrap();
                assert_eq!(y.dims(), x.dims());
                assert_close(&y, &expected, 1e-13);
            }
        }
        let y = rms_norm(x, scale, 1e-6).unwrap();
        assert_eq!(y.dims(), x.dims());
        assert_close(&y, &reference(x, scale, None, false, 1e-6), 1e-13);
    }
}

#[test]
fn values_of_any_layout() {
    for dims in [vec![5], vec![3, 5], vec![2, 3, 5], vec![0, 4], vec![2, 1000]] {
        check(&values(dims, 1));
    }
    check(&values((5, 3), 2).t().unwrap());
    check(&values((2, 5, 3), 3).transpose(1, 2).unwrap());
    check(&values((3, 9), 4).narrow(1, 2, 5).unwrap());
    check(&values(4, 6).broadcast_as((3, 4)).unwrap());
    // Constant rows, and rows of one.
    check(&values((3, 1), 5));
    check(&Tensor::ones((2, 5), DType::F64, &device()).unwrap());
}

/// `flax.linen.LayerNorm` and `RMSNorm` of Flax 0.12.8.
#[test]
fn values_are_those_of_flax() {
    let x = Tensor::new(&[[1f32, 2.0, -1.0, 0.5], [100.0, 101.0, 99.0, 103.0]], &device()).unwrap();
    let scale = Tensor::new(&[1f32, 2.0, -1.0, 0.5], &device()).unwrap();
    let bias = Tensor::new(&[0.5f32, 0.0, 1.0, -2.0], &device()).unwrap();
    let flax = [0.84641004, 2.5403402, 2.50111, -2.057735, -0.007092476, 0.33806163, 2.1832156, -1.2393613];
    assert_close(&layer_norm(&x, Some(&scale), Some(&bias), 1e-6).unwrap(), &flax, 5e-7);
    let flax =
        [0.8449415, 1.2647856, -0.49474669, -2.1149805, -0.005937457, 0.16864581, -0.18052065, -0.48218763];
    assert_close(&layer_norm(&x, None, Some(&bias), 1e-2).unwrap(), &flax, 5e-7);
    let flax = [0.7999998, 3.199999, 0.7999998, 0.19999994, 0.9924489, 2.0047467, -0.9825244, 0.5111112];
    assert_close(&rms_norm(&x, Some(&scale), 1e-6).unwrap(), &flax, 5e-7);
    let flax = [0.7974522, 1.5949044, -0.7974522, 0.3987261, 0.99244845, 1.002373, 0.982524, 1.0222219];
    assert_close(&rms_norm(&x, None, 1e-2).unwrap(), &flax, 5e-7);
}

/// `E[x^2] - E[x]^2` in f32 would be nothing but rounding here.
#[test]
fn a_large_mean_costs_no_precision() {
    let x = Tensor::new(&[[10_000f32, 10_001.0, 10_002.0, 10_003.0]], &device()).unwrap();
    let wide = x.to_dtype(DType::F64).unwrap();
    assert_close(&layer_norm(&x, None, None, 1e-6).unwrap(), &reference(&wide, None, None, true, 1e-6), 2e-7);
}

#[test]
fn gradients_are_right() {
    let inputs = [values((3, 4), 1), values(4, 2), values(4, 3)];
    check_gradient(|inputs| layer_norm(&inputs[0], Some(&inputs[1]), Some(&inputs[2]), 1e-3), &inputs);
    check_gradient(|inputs| layer_norm(&inputs[0], Some(&inputs[1]), None, 1e-3), &inputs[..2]);
    check_gradient(|inputs| layer_norm(&inputs[0], None, Some(&inputs[1]), 1e-3), &inputs[..2]);
    check_gradient(|inputs| layer_norm(&inputs[0], None, None, 1e-3), &inputs[..1]);
    check_gradient(|inputs| rms_norm(&inputs[0], Some(&inputs[1]), 1e-3), &inputs[..2]);
    check_gradient(|inputs| rms_norm(&inputs[0], None, 1e-3), &inputs[..1]);
    let inputs = [values((4, 2, 3), 4), values(4, 5), values((1, 4), 6)];
    check_gradient(
        |inputs| {
            let x = inputs[0].transpose(0, 2)?;
            layer_norm(&x, Some(&inputs[1]), Some(&inputs[2].squeeze(0)?), 1e-3)
        },
        &inputs,
    );
    // Parameters alone.
    let x = values((40, 4), 7);
    check_gradient(
        |inputs| layer_norm(&x, Some(&inputs[0]), Some(&inputs[1]), 1e-3),
        &[values(4, 8), values(4, 9)],
    );
    // Of rows whose deviation is zero.
    let x = Tensor::ones((2, 3), DType::F64, &device()).unwrap();
    check_gradient(|inputs| rms_norm(&inputs[0], None, 1e-3), &[x]);
}

fn layer(inputs: &[Tensor]) -> Result<Tensor> {
    layer_norm(&inputs[0], Some(&inputs[1]), Some(&inputs[2]), 1e-5)
}

fn layer_twin(inputs: &[Tensor]) -> Result<Tensor> {
    composition::layer_norm(&inputs[0], Some(&inputs[1]), Some(&inputs[2]), 1e-5)
}

fn rms(inputs: &[Tensor]) -> Result<Tensor> {
    rms_norm(&inputs[0], Some(&inputs[1]), 1e-5)
}

fn rms_twin(inputs: &[Tensor]) -> Result<Tensor> {
    composition::rms_norm(&inputs[0], Some(&inputs[1]), 1e-5)
}

#[test]
fn kernels_agree_with_compositions() {
    for (rows, features) in [(1, 5), (3, 10), (5, 17), (33, 64), (2, 513), (2, 5000), (700, 33)] {
        let shapes: [Shape; 3] = [(rows, features).into(), features.into(), features.into()];
        // The gradients of the parameters are sums over the rows.
        let scale = 4.0 * (rows as f64).sqrt();
        check_twin(layer, layer_twin, &shapes, scale);
        check_twin(rms, rms_twin, &shapes[..2], scale);
    }
    let alone: [Shape; 1] = [(5, 17).into()];
    check_twin(
        |x| layer_norm(&x[0], None, None, 1e-5),
        |x| composition::layer_norm(&x[0], None, None, 1e-5),
        &alone,
        4.0,
    );
    check_twin(|x| rms_norm(&x[0], None, 1e-5), |x| composition::rms_norm(&x[0], None, 1e-5), &alone, 4.0);
    let pair: [Shape; 2] = [(5, 17).into(), 17.into()];
    check_twin(
        |x| layer_norm(&x[0], None, Some(&x[1]), 1e-5),
        |x| composition::layer_norm(&x[0], None, Some(&x[1]), 1e-5),
        &pair,
        8.0,
    );
}

#[test]
fn not_finite_as_in_the_composition() {
    let (inf, nan) = (f64::INFINITY, f64::NAN);
    for bad in [nan, inf, -inf] {
        let x = Tensor::new(&[[bad, 1.0, 2.0], [0.5, 1.0, -2.0]], &device()).unwrap();
        let inputs = [x, values(3, 1), values(3, 2)];
        check_not_finite(layer, layer_twin, &inputs);
        let inputs = [values((2, 3), 3), Tensor::new(&[1.0, bad, 2.0], &device()).unwrap()];
        check_not_finite(rms, rms_twin, &inputs);
    }
    let x = Tensor::new(&[[nan, 1.0, 2.0], [0.5, 1.0, -2.0]], &device()).unwrap();
    check_not_finite(rms, rms_twin, &[x, values(3, 1)]);
}

/// Parameters wider and narrower than the input, as mixed precision has them.
#[test]
fn parameters_may_have_another_dtype() {
    for dtype in [DType::F64, DType::F32, DType::BF16, DType::F16] {
        for parameters in [DType::F64, DType::F32, DType::BF16] {
            let x = Var::from_tensor(&values((6, 5), 1).to_dtype(dtype).unwrap()).unwrap();
            let (scale, bias) = some(5);
            let scale = Var::from_tensor(&scale.to_dtype(parameters).unwrap()).unwrap();
            let bias = Var::from_tensor(&bias.to_dtype(parameters).unwrap()).unwrap();
            let run = |function: fn(&Tensor, Option<&Tensor>, Option<&Tensor>, f64) -> Result<Tensor>| {
                let y = function(&x, Some(&scale), Some(&bias), 1e-5).unwrap();
                assert_eq!(y.dtype(), dtype);
                let weights = values((6, 5), 4).to_dtype(dtype).unwrap();
                let gradients = (&y * weights).unwrap().sum_all().unwrap().backward().unwrap();
                (y, [&x, &scale, &bias].map(|variable| gradients.get(variable).unwrap().clone()))
            };
            let (found, gradients) = run(layer_norm);
            let (expected, expected_gradients) = run(composition::layer_norm);
            let half = [DType::BF16, DType::F16].contains(&dtype) || parameters == DType::BF16;
            let tolerance = if half { 1.0 / 64.0 } else { 4e-6 };
            assert_close(&found, &to_vec(&expected), tolerance);
            for (found, expected) in gradients.iter().zip(&expected_gradients) {
                assert_eq!(found.dtype(), expected.dtype());
                assert_close(found, &to_vec(expected), tolerance);
            }
        }
    }
}

#[test]
fn half_precision_accumulates_in_f32() {
    for dtype in [DType::BF16, DType::F16] {
        // The sum of 4096 ones, and of their squares, is beyond what bf16 and f16 can count.
        let x = Tensor::ones((1, 4096), dtype, &device()).unwrap();
        assert_close(&rms_norm(&x, None, 0.0).unwrap(), &[1.0; 4096], 0.0);
        assert_close(&layer_norm(&x, None, None, 1e-6).unwrap(), &[0.0; 4096], 0.0);
        // So are the gradients of parameters.
        let x = values((4096, 2), 1).to_dtype(dtype).unwrap();
        let bias = Tensor::zeros(2, dtype, &device()).unwrap();
        let gradient = gradient_of_sum(|bias| layer_norm(&x, None, Some(bias), 1e-6), &bias);
        assert_close(&gradient, &[4096.0; 2], 0.0);
    }
}

#[test]
fn gradients_of_parameters_are_put_aside() {
    if !device().is_cpu() {
        return;
    }
    let x = values((50, 4), 1).to_dtype(DType::F32).unwrap();
    let [scale, bias] = [2, 3].map(|seed| values(4, seed).to_dtype(DType::F32).unwrap());
    let (scale, bias) = (Var::from_tensor(&scale).unwrap(), Var::from_tensor(&bias).unwrap());
    let loss = || {
        let once = layer_norm(&x, Some(&scale), Some(&bias), 1e-6).unwrap();
        rms_norm(&once, Some(&scale), 1e-6).unwrap().sqr().unwrap().sum_all().unwrap()
    };
    let store = loss().backward().unwrap();
    for _ in 0..3 {
        let loss = loss();
        let leaves = [scale.as_tensor(), bias.as_tensor()];
        let (rest, collected) = collect_gradients(&leaves, || loss.backward()).unwrap();
        for (leaf, collected) in leaves.iter().zip(collected) {
            assert!(rest.get(leaf).is_none());
            let collected = collected.unwrap();
            assert_close(&collected.gradient, &to_vec(store.get(leaf).unwrap()), 4e-6);
            collected.home.give_back(&collected.gradient);
        }
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    check_any_number_of_threads("row_norm::any_number_of_threads_gives_the_same_bits", || {
        let inputs = [values((500, 100), 1), values(100, 2), values(100, 3)]
            .map(|input| input.to_dtype(DType::F32).unwrap());
        let (y, mut results) = with_gradients(layer, &inputs);
        let (other, gradients) = with_gradients(rms, &inputs[..2]);
        results.extend([y, other]);
        results.extend(gradients);
        results
    });
}

#[test]
fn fewer_instructions_give_the_same() {
    kernels_agree_with_compositions();
    check_fewer_instructions("row_norm::fewer_instructions_give_the_same");
}

#[test]
fn wrong_arguments_are_errors() {
    let x = values((2, 3), 1);
    for dims in [vec![], vec![3, 0]] {
        assert!(matches!(
            layer_norm(&values(dims, 1), None, None, 0.0),
            Err(Error::Shape { argument: "x", .. })
        ));
    }
    assert_eq!(
        message(layer_norm(&x, Some(&values(2, 1)), None, 0.0)),
        "layer_norm: `scale` must have shape [3], because `x` has 3 features, found [2]"
    );
    let result = layer_norm(&x, None, Some(&values((1, 3), 1)), 0.0);
    assert!(matches!(result, Err(Error::Shape { argument: "bias", .. })));
    let integers = Tensor::new(&[1u32, 2, 3], &device()).unwrap();
    assert!(matches!(rms_norm(&x, Some(&integers), 0.0), Err(Error::DType { argument: "scale", .. })));
    assert!(matches!(rms_norm(&integers, None, 0.0), Err(Error::DType { argument: "x", .. })));
}
