use crate::support::{device, values};
use bridge_ops::*;
use candle_core::{DType, Tensor, Var};

/// candle-nn's fused softmax and norms return results without a graph, and training goes on without their gradients
/// (huggingface/candle#2168, huggingface/candle#2977).
#[test]
fn no_operator_cuts_the_graph() {
    let bits = Tensor::new(&[1u8, 0, 1], &device()).unwrap();
    let labels = Tensor::new(&[0u32, 2], &device()).unwrap();
    let targets = values((2, 3), 1);
    for dtype in [DType::F64, DType::F32, DType::BF16, DType::F16] {
        let cast = |tensor: Tensor| tensor.to_dtype(dtype).unwrap();
        let (matrix, square) = (cast(values((2, 3), 2)), cast(values((3, 3), 3)));
        let (row, positive) = (cast(values(3, 4)), cast(values(3, 5).sqr().unwrap()));
        let targets = cast(targets.clone());
        let one =
            |name, x: &Tensor, function: &dyn Fn(&Tensor) -> Result<Tensor>| check(name, dtype, x, function);

        one("linear x", &matrix, &|x| linear(x, &square, Some(&row)));
        one("linear kernel", &square, &|kernel| linear(&matrix, kernel, Some(&row)));
        one("linear bias", &row, &|bias| linear(&matrix, &square, Some(bias)));
        one("relu", &matrix, &relu);
        one("gelu", &matrix, &gelu);
        one("gelu_exact", &matrix, &gelu_exact);
        one("silu", &matrix, &silu);
        one("sigmoid", &matrix, &sigmoid);
        one("tanh", &matrix, &tanh);
        one("softplus", &matrix, &softplus);
        one("elu", &matrix, &|x| elu(x, 1.0));
        one("leaky_relu", &matrix, &|x| leaky_relu(x, 0.1));
        one("abs", &matrix, &abs);
        one("softmax", &matrix, &softmax);
        one("log_softmax", &matrix, &log_softmax);
        one("softmax_cross_entropy", &matrix, &|x| softmax_cross_entropy(x, &labels));
        one("softmax_cross_entropy_per_example", &matrix, &|x| softmax_cross_entropy_per_example(x, &labels));
        let options = CrossEntropy::new().label_smoothing(0.1).ignore_index(2);
        one("CrossEntropy::mean", &matrix, &|x| options.mean(x, &labels));
        one("CrossEntropy::per_example", &matrix, &|x| options.per_example(x, &labels));
        one("binary_cross_entropy_with_logits logits", &matrix, &|x| {
            binary_cross_entropy_with_logits(x, &targets)
        });
        one("binary_cross_entropy_with_logits targets", &matrix, &|x| {
            binary_cross_entropy_with_logits(&targets, x)
        });
        one("binary_cross_entropy_with_logits_per_element logits", &matrix, &|x| {
            binary_cross_entropy_with_logits_per_element(x, &targets)
        });
        one("binary_cross_entropy_with_logits_per_element targets", &matrix, &|x| {
            binary_cross_entropy_with_logits_per_element(&targets, x)
        });
        one("embedding", &square, &|table| embedding(table, &labels));
        one("mean_squared_error predictions", &matrix, &|x| mean_squared_error(x, &targets));
        one("mean_squared_error targets", &matrix, &|x| mean_squared_error(&targets, x));
        one("batch_statistics mean", &matrix, &|x| Ok(batch_statistics(x, 0)?.0));
        one("batch_statistics variance", &matrix, &|x| Ok(batch_statistics(x, 0)?.1));
        let (scale, bias) = (Some(&row), Some(&row));
        one("layer_norm x", &matrix, &|x| layer_norm(x, scale, bias, 1e-5));
        one("layer_norm scale", &row, &|scale| layer_norm(&matrix, Some(scale), bias, 1e-5));
        one("layer_norm bias", &row, &|bias| layer_norm(&matrix, scale, Some(bias), 1e-5));
        one("rms_norm x", &matrix, &|x| rms_norm(x, scale, 1e-5));
        one("rms_norm scale", &row, &|scale| rms_norm(&matrix, Some(scale), 1e-5));
        one("normalize x", &matrix, &|x| normalize(x, &row, &positive, scale, bias, 1e-5));
        one("normalize mean", &row, &|mean| normalize(&matrix, mean, &positive, scale, bias, 1e-5));
        one("normalize variance", &positive, &|variance| {
            normalize(&matrix, &row, variance, scale, bias, 1e-5)
        });
        one("normalize scale", &row, &|scale| normalize(&matrix, &row, &positive, Some(scale), bias, 1e-5));
        one("normalize bias", &row, &|bias| normalize(&matrix, &row, &positive, scale, Some(bias), 1e-5));
        one("dropout", &matrix, &|x| dropout(x, 0.5, &bits));
        for rate in [0.0, 0.5, 1.0] {
            one("dropout_with_key", &matrix, &|x| dropout_with_key(x, rate, bridge_random::key(0), &[]));
        }
    }
}

/// Tracked in, tracked out, with a gradient of the input's shape and dtype; untracked in, untracked out.
fn check(name: &str, dtype: DType, x: &Tensor, function: &dyn Fn(&Tensor) -> Result<Tensor>) {
    assert!(!function(x).unwrap().track_op(), "{name} of an untracked {dtype:?} is tracked");
    let x = Var::from_tensor(x).unwrap();
    let y = function(&x).unwrap();
    assert!(y.track_op(), "{name} of a tracked {dtype:?} is not tracked");
    let gradients = y.sum_all().unwrap().backward().unwrap();
    let gradient = gradients.get(&x).unwrap_or_else(|| panic!("{name} of {dtype:?} gives no gradient"));
    assert_eq!((gradient.dims(), gradient.dtype()), (x.dims(), dtype), "{name}");
}
