use bridge_random::{
    Categorical, Error, Initializer, Key, NumberOrTensor, Result, SamplingMode, bernoulli_with, exponential,
    gumbel, gumbel_with, laplace, logistic, normal, rademacher, truncated_normal, uniform, uniform_between,
};
use candle_core::{DType, Device, Tensor};
use serde_json::Value;

use crate::expected::{
    assert_sections, cases, check, device, dtype_of, integer, key_of, load, number, shape, tensor_of,
};

/// Compares the cases of some sections of a file; `values` is how many values these have.
fn check_sections(
    name: &str,
    sections: &[&str],
    values: usize,
    sample: impl Fn(&Value, Key, Vec<usize>, DType, &Device) -> Result<Tensor>,
) {
    let file = load(name);
    let mut checked = 0;
    for case in cases(&file, sections) {
        let (key, shape) = (key_of(&case["key"]), shape(&case["out"]));
        let dtype = match case["out"]["dtype"].as_str() {
            Some("bool") => DType::U8,
            _ => dtype_of(&case["out"]["dtype"]),
        };
        let found = sample(case, key, shape, dtype, &device()).unwrap();
        assert_eq!(found.dtype(), dtype, "{case}");
        checked += check(case, &found);
    }
    assert_eq!(checked, values, "values of {name}");
}

/// A number, or numbers in one or two dimensions.
fn parameter(value: &Value) -> NumberOrTensor {
    fn dims(value: &Value) -> Vec<usize> {
        let Some(items) = value.as_array() else { return vec![] };
        [vec![items.len()], items.first().map(dims).unwrap_or_default()].concat()
    }
    fn numbers(value: &Value) -> Vec<f32> {
        match value.as_array() {
            Some(items) => items.iter().flat_map(numbers).collect(),
            None => vec![number(value) as f32],
        }
    }
    if !value.is_array() {
        return number(value).into();
    }
    Tensor::from_vec(numbers(value), dims(value), &device()).unwrap().into()
}

pub(crate) fn mode_of(case: &Value) -> SamplingMode {
    match case["mode"].as_str().unwrap_or("low") {
        "low" => SamplingMode::Low,
        "high" => SamplingMode::High,
        other => panic!("unknown mode {other}"),
    }
}

#[test]
fn uniform_numbers() {
    assert_sections(&load("uniform"), &["uniform", "big"]);
    check_sections("uniform", &["uniform", "big"], 80_510, |case, key, shape, dtype, device| {
        let (low, high) = (parameter(&case["minval"]), parameter(&case["maxval"]));
        if matches!((&low, &high), (NumberOrTensor::Number(0.0), NumberOrTensor::Number(1.0))) {
            return uniform(key, shape, dtype, device);
        }
        let (NumberOrTensor::Tensor(low), NumberOrTensor::Tensor(high)) = (&low, &high) else {
            return uniform_between(key, shape, low, high, dtype, device);
        };
        // One pair of these bounds is in the wrong order: an error here, the lower bound alone in JAX.
        let error = uniform_between(key, shape.clone(), low, high, dtype, device).unwrap_err();
        assert!(matches!(error, Error::Bounds { low: 2.0, high: 1.0, .. }), "{error}");
        uniform_between(key, shape, low, high.broadcast_maximum(low)?, dtype, device)
    });
}

#[test]
fn normal_numbers() {
    // The points of `functions` are compared beside the functions.
    assert_sections(&load("normal"), &["normal", "big", "functions"]);
    check_sections("normal", &["normal", "big"], 100_267, |_, key, shape, dtype, device| {
        normal(key, shape, dtype, device)
    });
}

#[test]
fn truncated_normal_numbers() {
    let sections = ["truncated_normal", "big", "far_bounds", "jit_constant_bounds"];
    assert_sections(&load("truncated_normal"), &sections);
    check_sections(
        "truncated_normal",
        &["truncated_normal", "big"],
        50_409,
        |case, key, shape, dtype, device| {
            let (lower, upper) = (number(&case["lower"]), number(&case["upper"]));
            truncated_normal(key, lower, upper, shape, dtype, device)
        },
    );
    check_sections("truncated_normal", &["far_bounds"], 80, |case, key, shape, dtype, device| {
        let (lower, upper) = (number(&case["lower"]), number(&case["upper"]));
        if case["array"] == false {
            return truncated_normal(key, lower, upper, shape, dtype, device);
        }
        let [lower, upper] = [lower, upper].map(|bound| Tensor::full(bound, shape.clone(), device));
        truncated_normal(key, lower?, upper?, shape, dtype, device)
    });
    check_sections("truncated_normal", &["jit_constant_bounds"], 240, |case, key, shape, dtype, device| {
        let (lower, upper) = (number(&case["lower"]), number(&case["upper"]));
        let initializer = Initializer::TruncatedNormal { stddev: 1.0, lower, upper };
        initializer.under_jit().init(key, shape, dtype, device)
    });
}

#[test]
fn decisions() {
    assert_sections(&load("bernoulli"), &["bernoulli", "array_p", "big"]);
    check_sections("bernoulli", &["bernoulli", "array_p", "big"], 33_866, |case, key, shape, _, device| {
        let probability = match case["p_dtype"].as_str() {
            None | Some("float32") => parameter(&case["p"]),
            Some(_) => {
                let p = Tensor::new(number(&case["p"]), device)?;
                p.to_dtype(dtype_of(&case["p_dtype"]))?.into()
            }
        };
        bernoulli_with(key, probability, shape, mode_of(case), device)
    });
}

#[test]
fn other_distributions() {
    assert_sections(&load("categorical"), &["gumbel", "categorical", "misc"]);
    check_sections("categorical", &["misc"], 3_928, |case, key, shape, dtype, device| {
        match case["dist"].as_str().unwrap() {
            "exponential" => exponential(key, shape, dtype, device),
            "laplace" => laplace(key, shape, dtype, device),
            "logistic" => logistic(key, shape, dtype, device),
            "rademacher" => rademacher(key, shape, dtype, device),
            other => panic!("unknown distribution {other}"),
        }
    });
}

#[test]
fn gumbel_numbers() {
    let file = load("categorical");
    let mut checked = 0;
    for case in cases(&file, &["gumbel"]) {
        let out = if case["big"].is_null() { &case["out"] } else { &case["big"] };
        let (key, dtype) = (key_of(&case["key"]), dtype_of(&out["dtype"]));
        let found = match mode_of(case) {
            SamplingMode::Low => gumbel(key, shape(out), dtype, &device()),
            mode => gumbel_with(key, shape(out), mode, dtype, &device()),
        };
        checked += check(&serde_json::json!({"case": case["mode"], "out": out}), &found.unwrap());
    }
    assert_eq!(checked, 22_497);
}

#[test]
fn categories() {
    let file = load("categorical");
    let mut checked = 0;
    for case in cases(&file, &["categorical"]) {
        let mut categorical =
            Categorical::new(&tensor_of(&case["logits"])).axis(integer(&case["axis"]) as isize);
        if let Some(shape) = case["shape"].as_array() {
            categorical =
                categorical.shape(shape.iter().map(|n| n.as_u64().unwrap() as usize).collect::<Vec<_>>());
        }
        if case["replace"] == false {
            categorical = categorical.without_replacement();
        }
        categorical = categorical.mode(mode_of(case));
        checked += check(case, &categorical.sample(key_of(&case["key"])).unwrap());
    }
    assert_eq!(checked, 710);
}
