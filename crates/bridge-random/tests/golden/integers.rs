use bridge_random::{Choice, Error, Key, RandomInteger, permutation, permutation_vec, permute, randint};
use bridge_random::{randint_vec, shuffle};
use candle_core::DType;
use serde_json::Value;

use crate::distributions::mode_of;
use crate::expected::{
    assert_sections, cases, check, check_bits, device, dtype_of, integer, key_of, load, shape, tensor_of,
};

fn check_vec<I: RandomInteger + Copy + Into<i128>>(case: &Value, key: Key, low: i64, high: i64) -> usize {
    let count = shape(&case["out"]).iter().product();
    let found: Vec<I> = randint_vec(key, count, low, high).unwrap();
    check_bits(case, &found.into_iter().map(|x| Into::<i128>::into(x) as u64).collect::<Vec<_>>())
}

#[test]
fn randint_numbers() {
    let file = load("randint");
    assert_sections(&file, &["randint", "big"]);
    let (mut checked, mut refused) = (0, 0);
    for case in cases(&file, &["randint", "big"]) {
        let (low, high) = (integer(&case["minval"]), integer(&case["maxval"]));
        let (key, dtype) = (key_of(&case["key"]), case["out"]["dtype"].as_str().unwrap());
        if high <= low {
            // JAX gives `low` everywhere; here, a range that has no number is an error.
            let found = randint(key, shape(&case["out"]), low, high, DType::I32, &device());
            assert!(matches!(found.unwrap_err(), Error::IntegerBounds { .. }), "{case}");
            refused += 1;
            continue;
        }
        checked += match dtype {
            // candle has no such dtypes.
            "int8" => check_vec::<i8>(case, key, low, high),
            "uint16" => check_vec::<u16>(case, key, low, high),
            _ => {
                let dtype = dtype_of(&case["out"]["dtype"]);
                check(case, &randint(key, shape(&case["out"]), low, high, dtype, &device()).unwrap())
            }
        };
    }
    assert_eq!((checked, refused), (30_298, 4));
}

#[test]
fn permutations() {
    let file = load("permutation");
    // The sums of `cumsum` are compared beside the function.
    assert_sections(&file, &["permutation", "big", "choice", "cumsum"]);
    let mut checked = 0;
    for case in cases(&file, &["permutation", "big"]) {
        let key = key_of(&case["key"]);
        if case["kind"] == "array" {
            let (x, axis) = (tensor_of(&case["x"]), integer(&case["axis"]) as isize);
            let permuted =
                if case["independent"] == true { shuffle(key, &x, axis) } else { permute(key, &x, axis) };
            checked += check(case, &permuted.unwrap());
            continue;
        }
        let count = integer(&case["n"]) as usize;
        let order = permutation_vec(key, count).unwrap();
        let tensor = permutation(key, count, &device()).unwrap();
        assert_eq!(tensor.to_vec1::<u32>().unwrap(), order);
        let order: Vec<_> = order.into_iter().map(u64::from).collect();
        checked += check_bits(case, &order);
    }
    assert_eq!(checked, 73_439);
}

#[test]
fn choices() {
    let file = load("permutation");
    let mut checked = 0;
    for case in cases(&file, &["choice"]) {
        let mut choice = Choice::new();
        if case["replace"] == false {
            choice = choice.without_replacement();
        }
        choice = choice.mode(mode_of(case));
        if case["p"].is_object() {
            choice = choice.weights(&tensor_of(&case["p"]));
        }
        let population = integer(&case["a"]) as usize;
        let found = choice.indices(key_of(&case["key"]), population, shape(&case["out"]), &device());
        checked += check(case, &found.unwrap());
    }
    assert_eq!(checked, 221);
}
