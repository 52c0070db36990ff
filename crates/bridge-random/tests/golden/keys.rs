use bridge_random::{Key, key};
use serde_json::Value;

use crate::expected::{cases, integer, key_of, load};

#[test]
fn seeds() {
    let file = load("keys");
    let mut checked = 0;
    for case in cases(&file, &["seed_x64_off", "typed_seed_x64_off"]) {
        let seed = &case["seed"];
        assert_eq!(key(integer(seed)), key_of(&case["key"]), "seed {seed}");
        checked += 1;
    }
    // Typed seeds with x64 on are the business of callers that have arrays of them.
    for case in cases(&file, &["seed_x64_on"]) {
        let seed = &case["seed"];
        let found = Key::from_seed_64(integer(seed));
        assert_eq!(found, key_of(&case["key"]), "64-bit seed {seed}");
        checked += 1;
    }
    assert_eq!(checked, 39);
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

#[test]
fn split() {
    // Keys laid out in a shape, however many dimensions it has.
    fn flatten(value: &Value, keys: &mut Vec<Key>) {
        let items = value.as_array().unwrap();
        if items[0].is_array() {
            items.iter().for_each(|item| flatten(item, keys));
        } else {
            keys.push(key_of(value));
        }
    }
    let file = load("keys");
    let mut checked = 0;
    for case in cases(&file, &["split"]) {
        let mut expected = vec![];
        flatten(&case["out"], &mut expected);
        let parent = key_of(&case["key"]);
        assert_eq!(parent.split_vec(expected.len()), expected, "{case}");
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
    let mut checked = 0;
    for case in cases(&file, &["block"]) {
        let [high, low] = key_of(&case["x"]).words();
        let [first, second] = key_of(&case["out"]).words();
        let mut bits = [0];
        let index = u64::from(high) << 32 | u64::from(low);
        key_of(&case["key"]).fill_bits_u64(index, &mut bits);
        assert_eq!(bits[0], u64::from(first) << 32 | u64::from(second), "{case}");
        checked += 1;
    }
    assert_eq!(checked, 6);
}
