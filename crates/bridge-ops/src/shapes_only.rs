//! Calls in which shapes and dtypes alone matter.

use std::cell::Cell;

use candle_core::{DType, Device, Shape, Tensor};

use crate::Result;

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// Runs `f` with operators of this crate that check their inputs and compute nothing: each gives a [`stand_in`] of its result.
///
/// It holds in this thread, until `f` returns. candle's own operators compute as ever, on the zeros that they are given.
///
/// ```
/// use bridge_ops::{linear, shapes_only, stand_in};
/// use candle_core::{DType, Device};
/// // A kernel of 4 TB.
/// let kernel = stand_in((1 << 20, 1 << 20), DType::F32, &Device::Cpu)?;
/// let x = stand_in((8, 1 << 20), DType::F32, &Device::Cpu)?;
/// let y = shapes_only(|| linear(&x, &kernel, None))?;
/// assert_eq!(y.dims(), &[8, 1 << 20]);
/// # Ok::<(), bridge_ops::Error>(())
/// ```
#[doc(alias("eval_shape", "meta", "FakeTensorMode"))]
pub fn shapes_only<T>(f: impl FnOnce() -> T) -> T {
    struct Ends;
    impl Drop for Ends {
        fn drop(&mut self) {
            DEPTH.set(DEPTH.get().saturating_sub(1));
        }
    }
    DEPTH.set(DEPTH.get() + 1);
    let _ends = Ends;
    f()
}

/// True inside of [`shapes_only`].
pub fn is_shapes_only() -> bool {
    DEPTH.get() > 0
}

/// A tensor of zeros of any shape that takes the memory of one element.
///
/// # Errors
/// If candle can not make a zero of the dtype on the device.
pub fn stand_in(shape: impl Into<Shape>, dtype: DType, device: &Device) -> Result<Tensor> {
    Ok(Tensor::zeros((), dtype, device)?.broadcast_as(shape)?)
}

/// What stands in for a result like `x`, where nothing is computed.
pub(crate) fn like(x: &Tensor) -> Option<Result<Tensor>> {
    is_shapes_only().then(|| stand_in(x.shape(), x.dtype(), x.device()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_with_its_call_even_by_a_panic() {
        shapes_only(|| {
            assert!(is_shapes_only());
            shapes_only(|| ());
            assert!(is_shapes_only());
        });
        let _ = std::panic::catch_unwind(|| shapes_only(|| panic!("on purpose")));
        assert!(!is_shapes_only());
        assert!(!shapes_only(|| std::thread::spawn(is_shapes_only).join()).unwrap());
    }

    /// Every operator at a size that no machine has, in every float dtype.
    #[test]
    fn no_operator_computes() {
        use crate::*;
        let device = &Device::Cpu;
        for dtype in [DType::F32, DType::F64, DType::BF16, DType::F16] {
            let huge = &stand_in((1 << 20, 1 << 20), dtype, device).unwrap();
            let (statistics, narrow) = (statistics_dtype(dtype), 1 << 20);
            let check = |result: Result<Tensor>, dims: &[usize], dtype: DType| {
                let result = result.unwrap();
                assert_eq!((result.dims(), result.dtype()), (dims, dtype));
            };
            let same = |result| check(result, huge.dims(), dtype);
            shapes_only(|| {
                for activation in [relu, gelu, gelu_exact, silu, sigmoid, tanh, softplus, abs] {
                    same(activation(huge));
                }
                same(elu(huge, 1.0));
                same(leaky_relu(huge, 0.1));
                same(softmax(huge));
                same(log_softmax(huge));
                let vector = stand_in(narrow, dtype, device).unwrap();
                same(linear(huge, huge, Some(&vector)));
                same(dropout_with_key(huge, 0.5, bridge_random::key(0), &[]));
                same(dropout(huge, 0.5, &stand_in(huge.dims(), DType::U8, device).unwrap()));
                let (mean, variance) = batch_statistics(huge, 0).unwrap();
                check(Ok(mean.clone()), &[narrow], statistics);
                check(moving_average(&mean, &variance, 0.9), &[narrow], statistics);
                same(normalize(huge, &mean, &variance, Some(&vector), None, 1e-5));
                check(mean_squared_error(huge, huge), &[], statistics);
                let labels = stand_in(narrow, DType::U32, device).unwrap();
                check(softmax_cross_entropy_per_example(huge, &labels), &[narrow], statistics);
                check(softmax_cross_entropy(huge, &labels), &[], statistics);
                let options = CrossEntropy::new().label_smoothing(0.1).ignore_index(0);
                check(options.per_example(huge, &labels), &[narrow], statistics);
                check(options.mean(huge, &labels), &[], statistics);
                check(binary_cross_entropy_with_logits(huge, huge), &[], statistics);
                check(binary_cross_entropy_with_logits_per_element(huge, huge), huge.dims(), statistics);
                let indices = stand_in((2, narrow), DType::I64, device).unwrap();
                check(embedding(huge, &indices), &[2, narrow, narrow], dtype);
                same(layer_norm(huge, Some(&vector), Some(&vector), 1e-6));
                same(rms_norm(huge, Some(&vector), 1e-6));
            });
        }
    }

    #[test]
    fn inputs_are_checked_all_the_same() {
        use crate::*;
        let device = &Device::Cpu;
        let x = &stand_in((2, 3), DType::F32, device).unwrap();
        let integers = &stand_in((2, 3), DType::U32, device).unwrap();
        shapes_only(|| {
            for result in [
                relu(integers),
                silu(integers),
                softmax(integers),
                log_softmax(&stand_in((), DType::F32, device).unwrap()),
                linear(x, x, None),
                normalize(x, &stand_in(2, DType::F32, device).unwrap(), x, None, None, 0.),
                mean_squared_error(x, &stand_in((3, 2), DType::F32, device).unwrap()),
                binary_cross_entropy_with_logits(x, integers),
                CrossEntropy::new().label_smoothing(2.).mean(x, &stand_in(2, DType::U32, device).unwrap()),
                embedding(integers, integers),
                layer_norm(x, None, Some(&stand_in(2, DType::F32, device).unwrap()), 0.),
                rms_norm(integers, None, 0.),
                dropout_with_key(x, 2., bridge_random::key(0), &[]),
            ] {
                assert!(result.is_err());
            }
        });
    }

    #[test]
    fn candle_computes_with_stand_ins() {
        let device = &Device::Cpu;
        let x = stand_in((2, 3, 4, 5), DType::F32, device).unwrap();
        let product = x.matmul(&x.t().unwrap()).unwrap();
        assert_eq!(product.dims(), &[2, 3, 4, 4]);
        let kernel = stand_in((5, 7), DType::F32, device).unwrap();
        let flat = x.reshape((24, 5)).unwrap();
        assert_eq!(flat.matmul(&kernel).unwrap().dims(), &[24, 7]);
        assert_eq!(stand_in((24, 5), DType::F32, device).unwrap().matmul(&kernel).unwrap().dims(), &[24, 7]);
        let heads = x.transpose(1, 2).unwrap().contiguous().unwrap();
        assert_eq!(heads.matmul(&heads.t().unwrap()).unwrap().dims(), &[2, 4, 3, 3]);
        assert_eq!(x.relu().unwrap().sum_keepdim(1).unwrap().dims(), &[2, 1, 4, 5]);
    }
}
