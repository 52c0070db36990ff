//! Compares two folders of golden files, without running what makes them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value};

use super::{file_failure, read};
use crate::help::{self, Outcome};

/// How far a value under `"tolerance": "close"` may be from the stored one: this, and this much of its size.
const CLOSE: f64 = 1e-5;

/// What has been compared so far, and what differed.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    /// Numbers, texts and truth values compared.
    pub(super) values: usize,
    pub(super) files: usize,
    /// One line for each array or value that differs.
    pub(super) differences: Vec<String>,
}

/// The golden files in a folder, sorted by name.
pub(super) fn names(folder: &Path) -> Outcome<Vec<String>> {
    let failure = |error| file_failure(folder, &error);
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(failure)? {
        let name = entry.map_err(failure)?.file_name();
        let name = name.to_string_lossy();
        if name.ends_with(".json") {
            names.push(name.into_owned());
        }
    }
    names.sort();
    Ok(names)
}

impl Comparison {
    /// Compares every file of two folders, and fails where there is none.
    pub(super) fn folders(&mut self, stored: &Path, fresh: &Path, label: &str) -> Outcome {
        let (stored_names, fresh_names) = (names(stored)?, names(fresh)?);
        if stored_names.is_empty() {
            return Err(help::failed(format!("no golden files in {}", stored.display())));
        }
        let all: BTreeSet<&String> = stored_names.iter().chain(&fresh_names).collect();
        for name in all {
            let path = format!("{label}/{name}");
            match (stored_names.contains(name), fresh_names.contains(name)) {
                (true, true) => {
                    self.files += 1;
                    let (stored, fresh) = (parse(&stored.join(name))?, parse(&fresh.join(name))?);
                    self.value(&stored, &fresh, &path, Class::Exact);
                }
                (true, false) => self.differ(&path, "is stored, but no longer made"),
                _ => self.differ(&path, "is made, but not stored"),
            }
        }
        Ok(())
    }

    fn value(&mut self, stored: &Value, fresh: &Value, path: &str, class: Class) {
        match (stored, fresh) {
            (Value::Object(stored), Value::Object(fresh)) => self.object(stored, fresh, path, class),
            (Value::Array(stored), Value::Array(fresh)) => self.array(stored, fresh, path, class),
            _ => {
                self.values += 1;
                if !class.agree(stored, fresh) {
                    self.differ(path, &format!("stored {stored}, regenerated {fresh}"));
                }
            }
        }
    }

    fn object(&mut self, stored: &Map<String, Value>, fresh: &Map<String, Value>, path: &str, class: Class) {
        let class = match stored.get("tolerance").and_then(Value::as_str) {
            Some("close") => Class::Close,
            Some("exact") => Class::Exact,
            _ => class,
        };
        let keys: BTreeSet<&String> = stored.keys().chain(fresh.keys()).collect();
        for key in keys {
            let path = format!("{path}/{key}");
            match (stored.get(key), fresh.get(key)) {
                (Some(stored), Some(fresh)) => {
                    let class = match (class, key.as_str()) {
                        (Class::Close, "u32") => Class::CloseBits,
                        _ => class,
                    };
                    self.value(stored, fresh, &path, class);
                }
                (Some(_), None) => self.differ(&path, "is stored, but no longer made"),
                _ => self.differ(&path, "is made, but not stored"),
            }
        }
    }

    fn array(&mut self, stored: &[Value], fresh: &[Value], path: &str, class: Class) {
        if stored.len() != fresh.len() {
            let (stored, fresh) = (stored.len(), fresh.len());
            return self.differ(path, &format!("{stored} values stored, {fresh} regenerated"));
        }
        if stored.iter().any(|value| value.is_array() || value.is_object()) {
            for (index, (stored, fresh)) in stored.iter().zip(fresh).enumerate() {
                self.value(stored, fresh, &format!("{path}[{index}]"), class);
            }
            return;
        }
        self.values += stored.len();
        let mut differing =
            stored.iter().zip(fresh).enumerate().filter(|(_, (stored, fresh))| !class.agree(stored, fresh));
        if let Some((index, (first, regenerated))) = differing.next() {
            let count = 1 + differing.count();
            let all = stored.len();
            self.differ(
                path,
                &format!("{count} of {all} values differ, the first at [{index}]: stored {first}, regenerated {regenerated}"),
            );
        }
    }

    fn differ(&mut self, path: &str, what: &str) {
        self.differences.push(format!("{path}: {what}"));
    }
}

/// When two values count as equal.
#[derive(Debug, Clone, Copy)]
enum Class {
    Exact,
    /// Numbers that are written with a fraction may differ by the tolerance.
    Close,
    /// As `Close`, of the `f32` whose bits are written as an integer.
    CloseBits,
}

impl Class {
    fn agree(self, stored: &Value, fresh: &Value) -> bool {
        if stored == fresh {
            return true;
        }
        let number = |value: &Value| match self {
            Self::Exact => None,
            // Integers are shapes and the like.
            Self::Close => value.is_f64().then(|| value.as_f64()).flatten(),
            Self::CloseBits => {
                let bits = u32::try_from(value.as_u64()?).ok()?;
                Some(f64::from(f32::from_bits(bits)))
            }
        };
        match (number(stored), number(fresh)) {
            (Some(stored), Some(fresh)) => (stored - fresh).abs() <= CLOSE + CLOSE * stored.abs(),
            _ => false,
        }
    }
}

fn parse(path: &Path) -> Outcome<Value> {
    serde_json::from_str(&read(path)?).map_err(|error| help::failed(format!("{}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn compared(stored: &Value, fresh: &Value) -> Comparison {
        let mut comparison = Comparison::default();
        comparison.value(stored, fresh, "a.json", Class::Exact);
        comparison
    }

    fn check(stored: Value, fresh: Value, expected: &[&str]) {
        assert_eq!(compared(&stored, &fresh).differences, expected);
    }

    fn entry(tolerance: &str, value: f32) -> Value {
        json!({"entries": {"y": {"tolerance": tolerance, "dtype": "float32", "u32": [0, value.to_bits()]}}})
    }

    #[test]
    fn exact_entries_agree_bit_by_bit() {
        check(entry("exact", 1.0), entry("exact", 1.0), &[]);
        let message = "a.json/entries/y/u32: 1 of 2 values differ, the first at [1]: \
                       stored 1065353216, regenerated 1065353217";
        check(entry("exact", 1.0), entry("exact", 1.0f32.next_up()), &[message]);
        check(json!({"x": 1.0}), json!({"x": 1.0000001}), &["a.json/x: stored 1.0, regenerated 1.0000001"]);
    }

    #[test]
    fn close_entries_agree_within_the_tolerance() {
        check(entry("close", 1.0), entry("close", 1.000_015), &[]);
        check(entry("close", 1000.0), entry("close", 1000.005), &[]);
        check(entry("close", 0.0), entry("close", -9e-6), &[]);
        for (stored, fresh) in
            [(1.0, 1.000_03), (1.0, -1.0), (0.0, 2e-5), (1.0, f32::NAN), (1.0, f32::INFINITY)]
        {
            let differences = compared(&entry("close", stored), &entry("close", fresh)).differences;
            assert_eq!(differences.len(), 1, "{stored} and {fresh}: {differences:?}");
        }
    }

    #[test]
    fn a_close_entry_has_its_shape_and_digest_exact() {
        let stored =
            json!({"tolerance": "close", "shape": [200_000, 3], "sha256": "ab", "dec": [0.5, "inf"]});
        check(stored.clone(), stored.clone(), &[]);
        for (key, value) in
            [("shape", json!([200_001, 3])), ("sha256", json!("ac")), ("dec", json!([0.5, 1e9]))]
        {
            let mut fresh = stored.clone();
            fresh[key] = value;
            assert_eq!(compared(&stored, &fresh).differences.len(), 1, "{key}");
        }
    }

    #[test]
    fn what_is_on_one_side_only_is_reported() {
        check(json!({"x": 1}), json!({}), &["a.json/x: is stored, but no longer made"]);
        check(json!({}), json!({"x": 1}), &["a.json/x: is made, but not stored"]);
        check(json!([1, 2]), json!([1]), &["a.json: 2 values stored, 1 regenerated"]);
        check(json!([{"x": [1]}]), json!([{"x": [1, 2]}]), &["a.json[0]/x: 1 values stored, 2 regenerated"]);
    }

    #[test]
    fn counts_every_value() {
        let stored = json!({"a": [1, 2, 3], "b": {"c": "x", "d": [[4], [5]]}});
        assert_eq!(compared(&stored, &stored).values, 6);
    }

    #[test]
    fn an_empty_folder_is_a_failure() {
        let empty = tempfile::tempdir().unwrap();
        let failure = Comparison::default().folders(empty.path(), empty.path(), "jax").unwrap_err();
        assert!(failure.to_string().contains("no golden files"), "{failure}");
    }
}
