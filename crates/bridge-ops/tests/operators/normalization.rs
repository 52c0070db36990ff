use crate::support::{assert_close, check_gradient, device, gradient_of_sum, message, to_vec, values};
use bridge_ops::{Error, Result, batch_statistics, normalize};
use candle_core::{D, DType, Tensor};

/// Mean and variance of each column of a matrix, in two passes.
fn column_statistics(x: &Tensor) -> (Vec<f64>, Vec<f64>) {
    let (rows, columns) = x.dims2().unwrap();
    let x = to_vec(x);
    (0..columns)
        .map(|column| {
            let values: Vec<f64> = x.iter().skip(column).step_by(columns).copied().collect();
            let mean = values.iter().sum::<f64>() / rows as f64;
            (mean, values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / rows as f64)
        })
        .unzip()
}

/// Statistics of `x` over `axes`, which `as_matrix` brings to the front as one.
#[track_caller]
fn check_statistics(x: &Tensor, axes: &[usize], as_matrix: &Tensor) {
    let (mean, variance) = batch_statistics(x, axes).unwrap();
    let (expected_mean, expected_variance) = column_statistics(as_matrix);
    assert_close(&mean, &expected_mean, 1e-14);
    assert_close(&variance, &expected_variance, 1e-13);
}

#[test]
fn statistics_of_any_axes_and_layout() {
    let x = values((4, 3), 1);
    check_statistics(&x, &[0], &x);
    check_statistics(&x, &[1], &x.t().unwrap());
    check_statistics(&x.t().unwrap(), &[1], &x);
    check_statistics(&x, &[0, 1], &x.reshape((12, 1)).unwrap());
    let x = values((2, 4, 5, 3), 2);
    check_statistics(&x, &[0, 1, 2], &x.reshape((40, 3)).unwrap());
    let (mean, variance) = batch_statistics(&x, (1, 2)).unwrap();
    assert_eq!((mean.dims(), variance.dims()), (&[2, 3][..], &[2, 3][..]));
    let x = values((3, 4), 3);
    check_statistics(&x.broadcast_as((2, 3, 4)).unwrap(), &[0, 1], &x);
    let (mean, variance) = batch_statistics(&x, ()).unwrap();
    assert_eq!(to_vec(&mean), to_vec(&x));
    assert_close(&variance, &[0.0; 12], 1e-15);
}

/// The difference of the two means can round below 0.
#[test]
fn variance_is_never_negative() {
    let x = values((1000, 8), 1).affine(1e-4, 1e3).unwrap().to_dtype(DType::F32).unwrap();
    let mean_of_squares = to_vec(&x.sqr().unwrap().mean(0).unwrap());
    let squared_mean = to_vec(&x.mean(0).unwrap().sqr().unwrap());
    assert!(mean_of_squares.iter().zip(squared_mean).any(|(a, b)| *a < b), "the input must provoke it");

    let (_, variance) = batch_statistics(&x, 0).unwrap();
    assert!(to_vec(&variance).iter().all(|&variance| variance >= 0.0));
    for value in to_vec(&gradient_of_sum(|x| batch_norm(x, None, None), &x)) {
        assert!(value.is_finite());
    }
}

fn batch_norm(x: &Tensor, scale: Option<&Tensor>, bias: Option<&Tensor>) -> Result<Tensor> {
    let axes: Vec<usize> = (0..x.rank() - 1).collect();
    let (mean, variance) = batch_statistics(x, axes)?;
    normalize(x, &mean, &variance, scale, bias, 1e-5)
}

fn layer_norm(x: &Tensor, scale: Option<&Tensor>, bias: Option<&Tensor>) -> Result<Tensor> {
    let (mean, variance) = batch_statistics(x, D::Minus1)?;
    let (mean, variance) = (mean.unsqueeze(D::Minus1)?, variance.unsqueeze(D::Minus1)?);
    normalize(x, &mean, &variance, scale, bias, 1e-6)
}

#[test]
fn values_are_those_of_flax() {
    let x = [[1f32, 2.0, -1.0], [0.5, -3.0, 4.0], [2.0, 2.0, 2.0], [-1.0, 0.0, 1.0]];
    let x = Tensor::new(&x, &device()).unwrap();
    let scale = Tensor::new(&[1f32, 2.0, 0.5], &device()).unwrap();
    let bias = Tensor::new(&[0f32, 1.0, -1.0], &device()).unwrap();
    let batch = [
        [0.34640867, 2.71037006, -1.69337416],
        [-0.11546956, -2.17640162, -0.30662578],
        [1.27016521, 2.71037006, -0.86132514],
        [-1.50110424, 0.75566143, -1.13867486],
    ];
    assert_close(&batch_norm(&x, Some(&scale), Some(&bias)).unwrap(), batch.as_flattened(), 2e-7);
    let layer = [
        [0.26726112, 3.13808894, -1.66815293],
        [0.0, -1.44948959, -0.38762760],
        [0.0, 1.0, -1.0],
        [-1.22474396, 1.0, -0.38762802],
    ];
    assert_close(&layer_norm(&x, Some(&scale), Some(&bias)).unwrap(), layer.as_flattened(), 2e-6);
}

#[test]
fn normalized_values_of_any_layout() {
    let check =
        |x: &Tensor, mean: &Tensor, variance: &Tensor, scale: Option<&Tensor>, bias: Option<&Tensor>| {
            let full = |tensor: &Tensor| to_vec(&tensor.broadcast_as(x.shape()).unwrap());
            let mut expected = to_vec(x);
            let (means, variances) = (full(mean), full(variance));
            for (index, value) in expected.iter_mut().enumerate() {
                *value = (*value - means[index]) / (variances[index] + 1e-3).sqrt();
                *value *= scale.map_or(1.0, |scale| full(scale)[index]);
                *value += bias.map_or(0.0, |bias| full(bias)[index]);
            }
            let y = normalize(x, mean, variance, scale, bias, 1e-3).unwrap();
            assert_eq!(y.dims(), x.dims());
            assert_close(&y, &expected, 1e-13);
        };
    let positive = |tensor: Tensor| tensor.sqr().unwrap();
    let (mean, variance, scale, bias) = (values(3, 1), positive(values(3, 2)), values(3, 3), values(3, 4));
    for x in [values((4, 3), 5), values((3, 4), 6).t().unwrap(), values(3, 7).broadcast_as((4, 3)).unwrap()] {
        check(&x, &mean, &variance, Some(&scale), Some(&bias));
        check(&x, &mean, &variance, Some(&scale), None);
        check(&x, &mean, &variance, None, Some(&bias));
        check(&x, &mean, &variance, None, None);
    }
    // Statistics of each row, or of each row and group.
    check(&values((4, 3), 8), &values((4, 1), 9), &positive(values((4, 1), 10)), Some(&scale), Some(&bias));
    let (scale, bias) = (values((2, 3), 11), values((2, 3), 12));
    let (mean, variance) = (values((2, 1, 2, 1), 13), positive(values((2, 1, 2, 1), 14)));
    check(&values((2, 5, 2, 3), 15), &mean, &variance, Some(&scale), Some(&bias));
}

#[test]
fn gradients_are_right() {
    for part in 0..2 {
        let statistics =
            |x: &Tensor| batch_statistics(x, (0, 1)).map(|(mean, var)| [mean, var][part].clone());
        check_gradient(|inputs| statistics(&inputs[0]), &[values((3, 2, 2), 1)]);
        check_gradient(|inputs| statistics(&inputs[0].transpose(0, 2)?), &[values((2, 2, 3), 2)]);
    }
    // Through the statistics.
    let parameters = [values(3, 3), values(3, 4)];
    let inputs = [&[values((4, 3), 5)], &parameters[..]].concat();
    check_gradient(|inputs| batch_norm(&inputs[0], Some(&inputs[1]), Some(&inputs[2])), &inputs);
    check_gradient(|inputs| layer_norm(&inputs[0], Some(&inputs[1]), Some(&inputs[2])), &inputs);
    check_gradient(|inputs| batch_norm(&inputs[0], None, None), &inputs[..1]);
    let inputs = [&[values((3, 2, 2), 6)], &parameters[..]].concat();
    check_gradient(
        |inputs| batch_norm(&inputs[0].transpose(0, 2)?, Some(&inputs[1]), Some(&inputs[2])),
        &inputs,
    );
    // With given statistics.
    let inputs = [values((4, 3), 7), values(3, 8), values(3, 9).sqr().unwrap(), values(3, 10), values(3, 11)];
    let given = |inputs: &[Tensor]| {
        normalize(&inputs[0], &inputs[1], &inputs[2], Some(&inputs[3]), Some(&inputs[4]), 0.1)
    };
    check_gradient(given, &inputs);
}

#[test]
fn half_precision_accumulates_in_f32() {
    for dtype in [DType::BF16, DType::F16] {
        // 300 squared is beyond f16.
        let x = Tensor::ones((4096, 2), dtype, &device()).unwrap().affine(300.0, 0.0).unwrap();
        let value = to_vec(&x)[0];
        let (mean, variance) = batch_statistics(&x, 0).unwrap();
        assert_eq!((mean.dtype(), variance.dtype()), (DType::F32, DType::F32));
        assert_close(&mean, &[value; 2], 0.0);
        assert_close(&variance, &[0.0; 2], 0.0);

        // The bias gradient is a sum over rows.
        let x = Tensor::ones((4096, 2), dtype, &device()).unwrap();
        let bias = Tensor::zeros(2, dtype, &device()).unwrap();
        let ones = Tensor::ones(2, DType::F32, &device()).unwrap();
        let shifted =
            |bias: &Tensor| Ok(normalize(&x, &ones, &ones, None, Some(bias), 0.0)?.to_dtype(DType::F32)?);
        assert_close(&gradient_of_sum(shifted, &bias), &[4096.0; 2], 0.0);
        // So is that of the scale, here of (x - 0) * scale.
        let zeros = ones.zeros_like().unwrap();
        let scaled =
            |scale: &Tensor| Ok(normalize(&x, &zeros, &ones, Some(scale), None, 0.0)?.to_dtype(DType::F32)?);
        assert_close(&gradient_of_sum(scaled, &bias), &[4096.0; 2], 0.0);

        let x = values((5, 3), 1).to_dtype(dtype).unwrap();
        let y = batch_norm(&x, None, None).unwrap();
        assert_eq!(y.dtype(), dtype);
        let expected = to_vec(&batch_norm(&x.to_dtype(DType::F64).unwrap(), None, None).unwrap());
        assert_close(&y, &expected, if dtype == DType::BF16 { 1.0 / 256.0 } else { 1.0 / 2048.0 });
    }
}

#[test]
fn wrong_arguments_are_errors() {
    let x = values((4, 3), 1);
    let three = values(3, 2);
    for axes in [vec![2], vec![0, 0]] {
        assert!(matches!(batch_statistics(&x, axes), Err(Error::Candle(_))));
    }
    assert!(matches!(batch_statistics(&values((0, 3), 1), 0), Err(Error::Empty { .. })));
    assert!(matches!(batch_statistics(&x.to_dtype(DType::U32).unwrap(), 0), Err(Error::DType { .. })));
    let four = values(4, 3);
    assert_eq!(
        message(normalize(&x, &four, &three, None, None, 0.0)),
        "normalize: `mean` must have a shape that broadcasts to that of `x`, [4, 3], found [4]"
    );
    // Would broadcast `x` instead.
    let larger = values((2, 1, 3), 1);
    for (scale, bias) in [(Some(&larger), None), (None, Some(&larger))] {
        assert!(matches!(normalize(&x, &three, &three, scale, bias, 0.0), Err(Error::Shape { .. })));
    }
    let integers = x.to_dtype(DType::U32).unwrap();
    assert!(matches!(normalize(&integers, &three, &three, None, None, 0.0), Err(Error::DType { .. })));
}
