use bridge_random::{permutation, permutation_vec, randint};
use candle_core::DType;

use crate::expected::{cases, check, check_bits, device, integer, key_of, load, shape};

#[test]
fn randint_numbers() {
    let file = load("randint");
    let mut checked = 0;
    for case in cases(&file, &["randint", "big"]) {
        let dtype = match case["out"]["dtype"].as_str().unwrap() {
            "uint8" => DType::U8,
            "uint32" => DType::U32,
            "int32" => DType::I32,
            "int64" => DType::I64,
            // candle has no such dtypes.
            "int8" | "uint16" => continue,
            other => panic!("unknown dtype {other}"),
        };
        let (low, high) = (integer(&case["minval"]), integer(&case["maxval"]));
        let key = key_of(&case["key"]);
        let found = randint(key, shape(&case["out"]), low, high, dtype, &device());
        checked += check(case, &found.unwrap());
    }
    assert_eq!(checked, 30_242);
}

#[test]
fn permutations() {
    let file = load("permutation");
    let mut checked = 0;
    for case in cases(&file, &["permutation", "big"]) {
        // Permutations of arrays are out of scope.
        if case["kind"] == "array" {
            continue;
        }
        let key = key_of(&case["key"]);
        let count = integer(&case["n"]) as usize;
        let order = permutation_vec(key, count).unwrap();
        let tensor = permutation(key, count, &device()).unwrap();
        assert_eq!(tensor.to_vec1::<u32>().unwrap(), order);
        let order: Vec<_> = order.into_iter().map(u64::from).collect();
        checked += check_bits(case, &order);
    }
    assert_eq!(checked, 73_343);
}
