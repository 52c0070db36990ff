use bridge_random::{Key, PathItem, Separator, fold_static};
use serde_json::Value;

use crate::expected::{cases, key_of, load};

fn fold(root: Key, path: &Value, count: &Value, separator: Separator) -> Key {
    let path = path.as_array().unwrap().iter();
    let names = path.map(|name| PathItem::Name(name.as_str().unwrap()));
    let count = count.as_u64().unwrap().try_into().unwrap();
    fold_static(root, names.chain([PathItem::Count(count)]), separator)
}

/// Keys of lanes, nested as the splits are.
fn lanes(root: Key, splits: &[Value], expected: &Value, key: &impl Fn(Key) -> Key) -> usize {
    let [count, rest @ ..] = splits else {
        assert_eq!(key(root), key_of(expected));
        return 1;
    };
    let children = root.split_vec(count.as_u64().unwrap() as usize);
    let expected = expected.as_array().unwrap();
    assert_eq!(children.len(), expected.len());
    let children = children.into_iter().zip(expected);
    children.map(|(child, expected)| lanes(child, rest, expected, key)).sum()
}

#[test]
fn keys_of_paths() {
    let file = load("linen_rngs");
    let mut checked = 0;
    for case in cases(&file, &["keys"]) {
        println!("{case}");
        let separator = match case["separator"].as_bool().unwrap() {
            false => Separator::None,
            true => Separator::ZeroByte,
        };
        let mut root = key_of(&case["root"]);
        if let Some([path, count]) = case["fork"].as_array().map(Vec::as_slice) {
            root = fold(root, path, count, separator);
        }
        let key = |root| fold(root, &case["path"], &case["count"], separator);
        if let Some(expected) = case["fold_lanes"].as_array() {
            for (index, expected) in (0..).zip(expected) {
                assert_eq!(key(root.fold_in(index)), key_of(expected));
                checked += 1;
            }
        } else if let Some(splits) = case["split"].as_array() {
            checked += lanes(root, splits, &case["lanes"], &key);
        } else {
            assert_eq!(key(root), key_of(&case["key"]));
            checked += 1;
        }
    }
    assert_eq!(checked, 120);
}
