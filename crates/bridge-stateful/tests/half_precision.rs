//! Layers whose parameters are in half precision.
#![allow(clippy::unwrap_used, reason = "a test that fails panics")]

use bridge_graph::Rngs;
use bridge_stateful::BatchNorm;
use bridge_vars::Error;
use candle_core::{DType, Device, Tensor};

#[test]
fn batch_norm_trains_with_statistics_in_f32() {
    for dtype in [DType::BF16, DType::F16, DType::F64] {
        let norm = BatchNorm::new(2, &Rngs::new(0).with_dtype(dtype)).unwrap();
        let x = Tensor::new(&[[1f32, 2.], [3., 6.]], &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
        assert_eq!(norm.forward(&x).unwrap().dtype(), dtype);
        let mean = norm.mean.value().unwrap();
        assert_eq!(mean.dtype(), if dtype == DType::F64 { DType::F64 } else { DType::F32 });
        let mean = mean.to_dtype(DType::F64).unwrap().to_vec1::<f64>().unwrap();
        assert!((mean[0] - 0.02).abs() < 1e-6 && (mean[1] - 0.04).abs() < 1e-6, "{mean:?}");
    }
}

#[test]
fn batch_norm_refuses_another_number_of_features() {
    let norm = BatchNorm::new(1, &Rngs::new(0)).unwrap();
    let x = Tensor::zeros((2, 3), DType::F32, &Device::Cpu).unwrap();
    for evaluating in [false, true] {
        norm.use_running_average.set(evaluating);
        let error: Error = norm.forward(&x).unwrap_err();
        assert_eq!(error.to_string(), "BatchNorm: `x` must have shape [.., 1], found [2, 3]");
    }
}
