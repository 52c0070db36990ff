//! Layers in other dtypes than f32.

use bridge_functional::{BatchNorm, Dense, FunctionalModule};
use bridge_random::key;
use candle_core::{DType, Tensor};

use crate::support::device;

#[test]
fn dense_in_double_precision() {
    let x = Tensor::ones((4, 3), DType::F64, &device()).unwrap();
    let (y, variables) = Dense::new(2).param_dtype(DType::F64).init_with_output(key(0), &x).unwrap();
    assert_eq!(y.dtype(), DType::F64);
    assert_eq!(variables.get("params", "kernel").unwrap().tensor().unwrap().dtype(), DType::F64);
}

#[test]
fn batch_norm_has_statistics_in_f32_for_half_precision() {
    for dtype in [DType::BF16, DType::F16, DType::F64] {
        let x = Tensor::ones((4, 3), dtype, &device()).unwrap();
        let norm = BatchNorm::new().param_dtype(dtype);
        let variables = norm.eval().init(key(0), &x).unwrap();
        let (y, updates) = norm.train().apply_mut(&variables, key(0), "batch_stats", &x).unwrap();
        let statistics = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
        let mean = updates.get("batch_stats", "mean").unwrap().tensor().unwrap().dtype();
        assert_eq!((y.dtype(), mean), (dtype, statistics));
    }
}

#[test]
fn a_dtype_has_a_serde_form() {
    let dense = Dense::new(2).param_dtype(DType::BF16);
    let mut json = serde_json::to_value(&dense).unwrap();
    assert_eq!(json["param_dtype"], "bf16");
    assert_eq!(serde_json::from_value::<Dense>(json.clone()).unwrap(), dense);
    json["param_dtype"] = "f17".into();
    assert_eq!(serde_json::from_value::<Dense>(json).unwrap_err().to_string(), "no dtype `f17`");
}
