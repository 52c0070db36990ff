use bridge_random::{Key, Scheme, key, normal, permutation, randint};
use candle_core::DType;
use serde_json::Value;

use crate::expected::{
    assert_sections, bits_of, cases, check, check_bits, device, integer, key_of, load, shape,
};

#[test]
fn seeds() {
    let file = load("keys");
    let seeds = ["seed_x64_off", "typed_seed_x64_off", "seed_x64_on", "typed_seed_x64_on"];
    let others = ["fold_in", "fold_in_signed", "split", "split_chain"];
    assert_sections(&file, &[&seeds[..], &others].concat());
    let mut checked = 0;
    for case in cases(&file, &["seed_x64_off", "typed_seed_x64_off"]) {
        let seed = &case["seed"];
        assert_eq!(key(integer(seed)), key_of(&case["key"]), "seed {seed}");
        checked += 1;
    }
    for case in cases(&file, &["seed_x64_on", "typed_seed_x64_on"]) {
        let seed = integer(&case["seed"]);
        let found = match case["dtype"].as_str() {
            None | Some("int64" | "uint64") => Key::from_seed_64(seed),
            // A narrower integer has no more words, whatever its sign.
            Some(_) => Key::new(seed),
        };
        assert_eq!(found, key_of(&case["key"]), "64-bit seed of {case}");
        checked += 1;
    }
    assert_eq!(checked, 46);
}

#[test]
fn fold_in() {
    let file = load("keys");
    let mut checked = 0;
    for case in cases(&file, &["fold_in", "fold_in_signed"]) {
        let data = integer(&case["data"]);
        let found = key_of(&case["key"]).fold_in(data as u32);
        assert_eq!(found, key_of(&case["out"]), "{case}");
        checked += 1;
    }
    assert_eq!(checked, 20);
}

/// Keys laid out in a shape, however many dimensions it has.
fn flatten(value: &Value, keys: &mut Vec<Key>) {
    let items = value.as_array().unwrap();
    if items[0].is_array() {
        items.iter().for_each(|item| flatten(item, keys));
    } else {
        keys.push(key_of(value));
    }
}

#[test]
fn split() {
    let file = load("keys");
    let mut checked = 0;
    for case in cases(&file, &["split"]) {
        let mut expected = vec![];
        flatten(&case["out"], &mut expected);
        let parent = key_of(&case["key"]);
        assert_eq!(parent.split_vec(expected.len()), expected, "{case}");
        let dims = case["shape"].as_array().unwrap().iter();
        let dims: Vec<usize> = dims.map(|size| size.as_u64().unwrap() as usize).collect();
        let array = parent.split_array(dims.as_slice()).unwrap();
        assert_eq!((array.dims(), array.elements()), (&dims[..], &expected[..]), "{case}");
        checked += expected.len();
    }
    let chain = &file["split_chain"];
    let mut parent = key(integer(&chain["seed"]));
    for step in cases(chain, &["steps"]) {
        let children = parent.split();
        assert_eq!(children, [key_of(&step[0]), key_of(&step[1])], "{step}");
        parent = children[0];
        checked += 2;
    }
    assert_eq!(checked, 62);
}

#[test]
fn blocks() {
    let file = load("threefry");
    assert_sections(&file, &["block", "non_partitionable"]);
    let mut checked = 0;
    for case in cases(&file, &["block"]) {
        let [high, low] = key_of(&case["x"]).words();
        let [first, second] = key_of(&case["out"]).words();
        let mut bits = [0];
        let index = u64::from(high) << 32 | u64::from(low);
        key_of(&case["key"]).fill_bits_u64(index, &mut bits).unwrap();
        assert_eq!(bits[0], u64::from(first) << 32 | u64::from(second), "{case}");
        checked += 1;
    }
    assert_eq!(checked, 6);
}

#[test]
fn legacy() {
    let file = &load("threefry")["non_partitionable"];
    let mut checked = 0;
    for case in cases(file, &["split"]) {
        let mut expected = vec![];
        flatten(&case["out"], &mut expected);
        let found = key_of(&case["key"]).with_scheme(Scheme::Legacy).split_vec(expected.len());
        assert!(found.iter().map(|key| key.words()).eq(expected.iter().map(|key| key.words())), "{case}");
        checked += expected.len();
    }
    for case in cases(file, &["bits"]) {
        let key = key_of(&case["key"]).with_scheme(Scheme::Legacy);
        checked += check_bits(case, &bits_of(key, case));
    }
    for case in cases(file, &["normal", "randint", "permutation"]) {
        let key = key_of(&case["key"]).with_scheme(Scheme::Legacy);
        let count = shape(&case["out"])[0];
        let found = match count {
            7 if case["out"]["dtype"] == "float32" => normal(key, 7, DType::F32, &device()),
            7 => randint(key, 7, 0, 10, DType::I32, &device()),
            _ => permutation(key, count, &device()),
        };
        checked += check(case, &found.unwrap());
    }
    assert_eq!(checked, 139);
}
