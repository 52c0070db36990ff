//! The golden files, which hold what Flax and JAX computed, and how a tensor is compared with them.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail by panicking"
)]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use candle_bridge::random::Key;
use candle_bridge::vars::Result;
use candle_core::{DType, Device, Tensor, WithDType};
use serde_json::Value as Json;

/// How far an entry that is not exact may be off, relative and absolute.
pub const TOLERANCE: f32 = 1e-5;

/// The seeds of every file of `flax/`.
const SEEDS: [i64; 3] = [0, 1, 42];

/// An array of a golden file.
#[derive(Debug)]
pub struct Entry {
    name: String,
    exact: bool,
    dtype: String,
    shape: Vec<usize>,
    bits: Vec<u32>,
}

impl Entry {
    /// The array that an object of a golden file holds; the name is for failures.
    pub fn read(name: impl Into<String>, json: &Json) -> Self {
        let name = name.into();
        let exact = match json.get("tolerance").map(text) {
            None | Some("exact") => true,
            Some("close") => false,
            Some(other) => panic!("{name}: unknown tolerance {other}"),
        };
        let words = ["u32", "data"].into_iter().find_map(|field| json.get(field));
        let words = items(words.unwrap_or_else(|| panic!("{name} is not a whole array of 32 bits")));
        let bits: Vec<u32> = words.iter().map(word).collect();
        let shape = shape_of(&json["shape"]);
        assert_eq!(bits.len(), shape.iter().product::<usize>(), "{name} has another size than its shape");
        assert!(!bits.is_empty(), "{name} holds nothing to compare with");
        Self { name, exact, dtype: text(&json["dtype"]).to_owned(), shape, bits }
    }

    /// The array's shape.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements' bits; those of a mask are 0 and 1.
    pub fn bits(&self) -> &[u32] {
        &self.bits
    }

    /// The elements of a float array.
    pub fn floats(&self) -> Vec<f32> {
        assert_eq!(self.dtype, "float32", "{}", self.name);
        self.bits.iter().copied().map(f32::from_bits).collect()
    }

    /// The elements of a mask.
    pub fn mask(&self) -> Vec<bool> {
        assert_eq!(self.dtype, "bool", "{}", self.name);
        self.bits.iter().map(|bit| *bit != 0).collect()
    }

    /// The array as a tensor: f32, u8 for a mask, i64 for integers.
    ///
    /// # Errors
    /// Those of the device.
    pub fn tensor(&self, device: &Device) -> Result<Tensor> {
        let shape = self.shape();
        Ok(match self.dtype.as_str() {
            "float32" => Tensor::from_vec(self.floats(), shape, device)?,
            "bool" => Tensor::from_vec(self.mask().into_iter().map(u8::from).collect(), shape, device)?,
            "int32" => {
                let integers = self.bits.iter().map(|bits| i64::from(bits.cast_signed())).collect::<Vec<_>>();
                Tensor::from_vec(integers, shape, device)?
            }
            other => panic!("{}: no tensor of {other}", self.name),
        })
    }

    fn readable(&self, bits: u32) -> String {
        match self.dtype.as_str() {
            "float32" => format!("{:e} ({bits:#010x})", f32::from_bits(bits)),
            _ => format!("{} ({bits:#010x})", bits.cast_signed()),
        }
    }
}

/// Fails unless the tensor has the entry's shape and bits; says which element is the first that differs.
pub fn assert_exact(found: &Tensor, entry: &Entry) {
    assert_eq!(found.dims(), entry.shape(), "the shape of {}", entry.name);
    let found = match (found.dtype(), entry.dtype.as_str()) {
        (DType::F32, "float32") => elements(found, f32::to_bits),
        (DType::U8, "bool") => elements(found, |element: u8| u32::from(element)),
        (DType::U32, "uint32") => elements(found, |element: u32| element),
        (DType::I32, "int32") => elements(found, i32::cast_unsigned),
        (found, expected) => panic!("the dtype of {} is {found:?}, expected {expected}", entry.name),
    };
    let differs = |(found, expected): (&u32, &u32)| found != expected;
    if let Some(at) = found.iter().zip(entry.bits()).position(differs) {
        let (name, found, expected) =
            (&entry.name, entry.readable(found[at]), entry.readable(entry.bits()[at]));
        panic!("{name}, element {at}: found {found}, expected {expected}");
    }
}

/// Fails unless the tensor has the entry's shape and each element is within `tolerance * (1 + |expected|)`.
pub fn assert_close(found: &Tensor, entry: &Entry, tolerance: f32) {
    assert_eq!(found.dims(), entry.shape(), "the shape of {}", entry.name);
    assert_eq!(found.dtype(), DType::F32, "the dtype of {}", entry.name);
    for (at, (found, expected)) in
        elements(found, |element: f32| element).into_iter().zip(entry.floats()).enumerate()
    {
        let (name, off) = (&entry.name, (found - expected).abs());
        // A NaN is not within any tolerance.
        let within = off <= tolerance * (1. + expected.abs());
        assert!(within, "{name}, element {at}: found {found:e}, expected {expected:e}, off by {off:e}");
    }
}

fn elements<T: WithDType, U>(tensor: &Tensor, f: impl Fn(T) -> U) -> Vec<U> {
    tensor.flatten_all().unwrap().to_vec1::<T>().unwrap().into_iter().map(f).collect()
}

/// The entries of one seed in a file of `flax/`.
#[derive(Debug)]
pub struct Seeded {
    /// The seed.
    pub seed: i64,
    entries: BTreeMap<String, Entry>,
    compared: RefCell<BTreeSet<String>>,
}

impl Seeded {
    /// The entry of a name, without the seed.
    pub fn entry(&self, name: &str) -> &Entry {
        self.entries.get(name).unwrap_or_else(|| panic!("seed {}: no entry {name}", self.seed))
    }

    /// Compares a tensor with the entry of a name, as exactly as the entry says.
    pub fn compare(&self, name: &str, found: &Tensor) {
        let entry = self.entry(name);
        match entry.exact {
            true => assert_exact(found, entry),
            false => assert_close(found, entry, TOLERANCE),
        }
        assert!(self.compared.borrow_mut().insert(name.to_owned()), "{name} is compared twice");
    }
}

/// Runs a comparison for each seed of a file of `flax/`. Fails unless it compared each entry of these groups, and no
/// other; an entry's group is the first part of its name after the seed.
///
/// # Errors
/// Those of the comparison.
pub fn check(file: &str, groups: &[&str], compare: impl Fn(&Seeded) -> Result<()>) -> Result<()> {
    for golden in seeded(file) {
        compare(&golden)?;
        let of_groups: BTreeSet<String> =
            golden.entries.keys().filter(|name| groups.contains(&group(name))).cloned().collect();
        for group_name in groups {
            assert!(of_groups.iter().any(|name| group(name) == *group_name), "{file} has no {group_name}");
        }
        assert_eq!(*golden.compared.borrow(), of_groups, "what was compared of {file}, seed {}", golden.seed);
    }
    Ok(())
}

/// Fails unless a file of `flax/` has exactly these groups, so that none is without a test.
pub fn assert_groups(file: &str, groups: &[&str]) {
    let groups: BTreeSet<&str> = groups.iter().copied().collect();
    for golden in seeded(file) {
        let found: BTreeSet<&str> = golden.entries.keys().map(|name| group(name)).collect();
        assert_eq!(found, groups, "the groups of {file}, seed {}", golden.seed);
    }
}

fn group(name: &str) -> &str {
    name.split('/').next().unwrap_or(name)
}

fn seeded(file: &str) -> Vec<Seeded> {
    let json = open(&format!("flax/{file}"));
    let mut all: BTreeMap<i64, BTreeMap<String, Entry>> = BTreeMap::new();
    for (name, entry) in json["entries"].as_object().expect("entries") {
        let (seed, rest) = name
            .strip_prefix("seed_")
            .and_then(|name| name.split_once('/'))
            .unwrap_or_else(|| panic!("{file}: {name} does not begin with a seed"));
        let entries = all.entry(seed.parse().unwrap()).or_default();
        entries.insert(rest.to_owned(), Entry::read(format!("{file}: {name}"), entry));
    }
    assert_eq!(all.keys().copied().collect::<Vec<_>>(), SEEDS, "the seeds of {file}");
    all.into_iter().map(|(seed, entries)| Seeded { seed, entries, compared: RefCell::default() }).collect()
}

/// A whole golden file: `jax/nnx_rngs`.
pub fn open(file: &str) -> Json {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(file).with_extension("json");
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Fails unless a file has exactly these sections, so that none is without a test or a reason.
pub fn assert_sections(file: &Json, sections: &[&str]) {
    let found: BTreeSet<&str> = file.as_object().expect("a golden file").keys().map(String::as_str).collect();
    let expected: BTreeSet<&str> = sections.iter().copied().chain(["meta"]).collect();
    assert_eq!(found, expected);
}

/// What an array of JSON holds.
pub fn items(json: &Json) -> &[Json] {
    json.as_array().unwrap_or_else(|| panic!("{json} is not an array"))
}

/// What an object of JSON holds.
pub fn fields(json: &Json) -> impl Iterator<Item = (&str, &Json)> {
    let object = json.as_object().unwrap_or_else(|| panic!("{json} is not an object"));
    object.iter().map(|(name, value)| (name.as_str(), value))
}

/// A text of JSON.
pub fn text(json: &Json) -> &str {
    json.as_str().unwrap_or_else(|| panic!("{json} is not a text"))
}

/// An integer of JSON: a seed, a count.
pub fn integer(json: &Json) -> i64 {
    json.as_i64().unwrap_or_else(|| panic!("{json} is not an integer"))
}

/// A number of JSON.
pub fn number(json: &Json) -> f64 {
    json.as_f64().unwrap_or_else(|| panic!("{json} is not a number"))
}

/// A shape, or a list of sizes.
pub fn shape_of(json: &Json) -> Vec<usize> {
    items(json).iter().map(|size| integer(size).try_into().unwrap()).collect()
}

/// A key, given by its two words.
pub fn key_of(json: &Json) -> Key {
    let words: Vec<u32> = items(json).iter().map(word).collect();
    Key::from_words(words.try_into().unwrap_or_else(|_| panic!("{json} is not a key")))
}

/// 32 bits, given by an unsigned or a signed integer.
fn word(json: &Json) -> u32 {
    let integer = integer(json);
    u32::try_from(integer).unwrap_or_else(|_| i32::try_from(integer).unwrap().cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn entry(bits: &[u32]) -> Entry {
        Entry::read(
            "x",
            &json!({"tolerance": "exact", "dtype": "float32", "shape": [bits.len()], "u32": bits}),
        )
    }

    fn failure(compare: impl FnOnce() + std::panic::UnwindSafe) -> String {
        let panic = std::panic::catch_unwind(compare).expect_err("a failure");
        panic.downcast_ref::<String>().cloned().unwrap()
    }

    #[test]
    fn exact_is_to_the_bit_and_says_where_it_is_not() {
        let found = Tensor::new(&[1f32, 0., f32::NAN], &Device::Cpu).unwrap();
        assert_exact(&found, &entry(&[0x3f80_0000, 0, f32::NAN.to_bits()]));
        let text = failure(|| {
            assert_exact(
                &Tensor::new(&[1f32, 0.], &Device::Cpu).unwrap(),
                &entry(&[0x3f80_0000, 0x8000_0000]),
            );
        });
        assert_eq!(text, "x, element 1: found 0e0 (0x00000000), expected -0e0 (0x80000000)");
    }

    #[test]
    fn close_is_relative_and_absolute_and_never_nan() {
        let expected = || entry(&[1000f32.to_bits(), 0]);
        assert_close(&Tensor::new(&[1000.009f32, 9e-6], &Device::Cpu).unwrap(), &expected(), TOLERANCE);
        for off in [[1000.02f32, 0.], [1000., 2e-5], [1000., f32::NAN]] {
            let text = failure(move || {
                assert_close(&Tensor::new(&off, &Device::Cpu).unwrap(), &expected(), TOLERANCE);
            });
            assert!(text.starts_with("x, element "), "{text}");
        }
    }

    #[test]
    fn a_group_that_was_not_compared_fails() {
        let text = failure(|| check("linear", &["input"], |_| Ok(())).unwrap());
        assert!(text.contains("what was compared of linear, seed 0"), "{text}");
    }
}
