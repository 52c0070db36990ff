use bridge_random::{
    Distribution, FanMode, Initializer, Key, PathItem, Separator, VarianceScaling, fold_static,
};
use candle_core::{DType, Tensor};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::expected::{
    assert_sections, cases, check, device, dtype_of, key_of, load, number, shape, tensor_of,
};

fn named(name: &str) -> Option<Initializer> {
    Some(match name {
        "lecun_normal" => Initializer::lecun_normal(),
        "lecun_uniform" => Initializer::lecun_uniform(),
        "glorot_normal" => Initializer::glorot_normal(),
        "glorot_uniform" => Initializer::glorot_uniform(),
        "he_normal" => Initializer::he_normal(),
        "he_uniform" => Initializer::he_uniform(),
        "embed" => Initializer::embedding(),
        "zeros" => Initializer::Zeros,
        "ones" => Initializer::Ones,
        _ => return None,
    })
}

fn initializer(case: &Value) -> Initializer {
    fn parse<T: DeserializeOwned>(value: &Value) -> T {
        serde_json::from_value(value.clone()).unwrap()
    }
    let name = case["init"].as_str().unwrap();
    match name {
        "variance_scaling" => {
            let mode: FanMode = parse(&case["mode"]);
            let distribution: Distribution = parse(&case["distribution"]);
            let default = VarianceScaling::new(number(&case["scale"]), mode, distribution);
            if case["in_axis"].is_null() {
                return default.into();
            }
            let scaling = VarianceScaling {
                in_axis: parse(&case["in_axis"]),
                out_axis: parse(&case["out_axis"]),
                batch_axis: parse(&case["batch_axis"]),
                ..default
            };
            if case["note"] == "Embed default" {
                assert_eq!(Initializer::from(scaling.clone()), Initializer::embedding());
            }
            scaling.into()
        }
        "normal" => Initializer::normal(number(&case["stddev"])),
        "uniform" => Initializer::uniform(number(&case["scale"])),
        "truncated_normal" => Initializer::TruncatedNormal {
            stddev: number(&case["stddev"]),
            lower: number(&case["lower"]),
            upper: number(&case["upper"]),
        },
        "constant" => Initializer::Constant(number(&case["value"])),
        "orthogonal" | "delta_orthogonal" => {
            let (scale, column_axis) = (number(&case["scale"]), parse(&case["column_axis"]));
            match name {
                "orthogonal" => Initializer::Orthogonal { scale, column_axis },
                _ => Initializer::DeltaOrthogonal { scale, column_axis },
            }
        }
        _ => named(name).unwrap_or_else(|| panic!("unknown initializer {name}")),
    }
}

fn init(case: &Value, initializer: &Initializer) -> Tensor {
    let dtype = dtype_of(&case["out"]["dtype"]);
    initializer.init(key_of(&case["key"]), shape(&case["out"]), dtype, &device()).unwrap()
}

#[test]
fn initial_values() {
    let file = load("initializers");
    assert_sections(&file, &["exact", "big", "approximate", "under_jit"]);
    let (mut checked, mut values) = (0, 0);
    for case in cases(&file, &["exact", "big"]) {
        values += check(case, &init(case, &initializer(case)));
        checked += 1;
    }
    for case in cases(&file, &["under_jit"]) {
        values += check(case, &init(case, &initializer(case).under_jit()));
        checked += 1;
    }
    assert_eq!((checked, values), (80, 71_860));
}

#[test]
fn orthogonal_values() {
    let file = load("initializers");
    let mut values = 0;
    for case in cases(&file, &["approximate"]) {
        let found = init(case, &initializer(case));
        assert_eq!(found.dims(), shape(&case["out"]), "{case}");
        let difference = (found - tensor_of(&case["out"])).unwrap().abs().unwrap().flatten_all().unwrap();
        let difference = difference.to_vec1::<f32>().unwrap();
        let bound = 1e-6 * number(&case["scale"]) as f32;
        assert!(difference.iter().all(|difference| *difference <= bound), "{case}: {difference:?}");
        values += difference.len();
    }
    assert_eq!(values, 250);
}

/// Checks a value of one of Flax's layers, with the key that its parameter got.
fn check_layer(case: &Value, key: Key) -> usize {
    let out = shape(&case["out"]);
    let found = match case["flat"].as_array() {
        // Layers over several axes initialise a matrix, then reshape it.
        Some(flat) => {
            let flat: Vec<_> = flat.iter().map(|n| n.as_u64().unwrap() as usize).collect();
            Initializer::lecun_normal()
                .init(key, flat, DType::F32, &device())
                .and_then(|x| Ok(x.reshape(out)?))
        }
        None => named(case["init"].as_str().unwrap()).unwrap().init(key, out, DType::F32, &device()),
    };
    check(case, &found.unwrap())
}

#[test]
fn parameters_of_linen_layers() {
    let file = load("linen_rngs");
    let mut checked = 0;
    for case in cases(&file, &["values"]) {
        let path = case["path"].as_array().unwrap().iter();
        let names = path.map(|name| PathItem::Name(name.as_str().unwrap()));
        let count = PathItem::Count(case["count"].as_u64().unwrap() as u32);
        let key = fold_static(key_of(&case["root"]), names.chain([count]), Separator::None);
        checked += check_layer(case, key);
    }
    assert_eq!(checked, 240);
}

#[test]
fn parameters_of_nnx_layers() {
    let file = load("nnx_rngs");
    let mut checked = 0;
    for case in cases(&file, &["values"]) {
        let count = case["counts"][0].as_u64().unwrap() as u32;
        checked += check_layer(case, key_of(&case["root"]).fold_in(count));
    }
    assert_eq!(checked, 147);
}
