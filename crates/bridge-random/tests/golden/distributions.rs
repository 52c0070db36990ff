use bridge_random::{Key, Result, bernoulli, normal, truncated_normal, uniform, uniform_between};
use candle_core::{DType, Device, Tensor};
use serde_json::Value;

use crate::expected::{cases, check, device, float_dtype, key_of, load, number, shape};

/// Compares the cases of a file that are f32 or f64 and that `sample` makes; `values` of each dtype.
fn check_file(
    name: &str,
    values: [usize; 2],
    sample: impl Fn(&Value, Key, Vec<usize>, DType, &Device) -> Option<Result<Tensor>>,
) {
    let file = load(name);
    let device = device();
    let mut checked = [0, 0];
    for case in cases(&file, &[name, "big"]) {
        // Half precision is out of scope.
        let Some(dtype) = float_dtype(&case["out"]) else {
            continue;
        };
        let shape = shape(&case["out"]);
        let Some(found) = sample(case, key_of(&case["key"]), shape, dtype, &device) else {
            continue;
        };
        checked[usize::from(dtype == DType::F64)] += check(case, &found.unwrap());
    }
    assert!(checked[0] >= values[0] && checked[1] >= values[1], "only {checked:?} values of {name}");
}

#[test]
fn uniform_numbers() {
    check_file("uniform", [80_252, 60], |case, key, shape, dtype, device| {
        let (low, high) = (&case["minval"], &case["maxval"]);
        // Bounds that are arrays are out of scope.
        if low.is_array() {
            return None;
        }
        let (low, high) = (number(low), number(high));
        if (low, high) == (0.0, 1.0) {
            return Some(uniform(key, shape, dtype, device));
        }
        Some(uniform_between(key, shape, low, high, dtype, device))
    });
}

#[test]
fn normal_numbers() {
    check_file("normal", [100_171, 32], |_, key, shape, dtype, device| {
        Some(normal(key, shape, dtype, device))
    });
}

#[test]
fn truncated_normal_numbers() {
    check_file("truncated_normal", [50_241, 24], |case, key, shape, dtype, device| {
        let (lower, upper) = (number(&case["lower"]), number(&case["upper"]));
        Some(truncated_normal(key, lower, upper, shape, dtype, device))
    });
}

#[test]
fn decisions() {
    let file = load("bernoulli");
    let device = device();
    let mut checked = 0;
    for case in cases(&file, &["bernoulli", "big"]) {
        // The `high` mode and probabilities of other dtypes are out of scope.
        if case["mode"] != "low" || case["p_dtype"] != "float32" {
            continue;
        }
        let shape = shape(&case["out"]);
        let found = bernoulli(key_of(&case["key"]), number(&case["p"]), shape, &device);
        checked += check(case, &found.unwrap());
    }
    assert_eq!(checked, 33_248);
}
