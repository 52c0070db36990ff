//! Files that are damaged, foreign, from the future or made up: typed errors with the file's name, never a
//! panic, never an allocation that the file does not justify.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

use std::fs;
use std::path::PathBuf;

use bridge_graph::{Registry, Rngs, StatefulModule};
use bridge_train::{Checkpoint, CheckpointError, CheckpointFile, save};
use bridge_vars::{Param, Path, Variables};
use candle_core::{Device, Tensor};
use proptest::prelude::*;
use serde_json::{Value, json};

#[derive(StatefulModule)]
struct Chain {
    kernel: Param,
    next: Option<Box<Chain>>,
    power: u32,
    rngs: Rngs,
}

fn chain(length: usize) -> Chain {
    Chain {
        kernel: Param::new(Tensor::new(&[length as f32], &Device::Cpu).unwrap()),
        next: (length > 0).then(|| Box::new(chain(length - 1))),
        power: 3,
        rngs: Rngs::new(0),
    }
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
    fn path(&self) -> PathBuf {
        self.0.path().join("checkpoint.safetensors")
    }

    /// Does everything that can be done with a file of these bytes; false if something in it can not be read.
    fn read(&self, bytes: &[u8]) -> bool {
        fs::write(self.path(), bytes).unwrap();
        let file = match CheckpointFile::open(self.path(), &Device::Cpu) {
            Ok(file) => file,
            Err(error) => {
                self.check(&error);
                return false;
            }
        };
        let mut readable = true;
        for part in file.parts() {
            let (state, variables) = (file.state(part).map(|_| ()), file.variables(part).map(|_| ()));
            readable &= state.is_ok() || variables.is_ok();
            let results = [
                file.load_into(part, &chain(1)),
                file.module::<Chain>(part).map(|_| ()),
                file.rebuild(part, &Registry::new().with::<Chain>()).map(|_| ()),
                state,
                variables,
            ];
            results.into_iter().filter_map(Result::err).for_each(|error| self.check(&error));
        }
        readable
    }

    /// That an error is typed and names the file.
    fn check(&self, error: &bridge_vars::Error) {
        assert!(error.downcast_ref::<CheckpointError>().is_some(), "{error}");
        assert!(error.to_string().contains(&*self.path().to_string_lossy()), "{error}");
    }

    fn open(&self, bytes: &[u8]) -> CheckpointError {
        fs::write(self.path(), bytes).unwrap();
        let error = CheckpointFile::open(self.path(), &Device::Cpu).err().unwrap();
        self.check(&error);
        match error.downcast_ref::<CheckpointError>().unwrap() {
            CheckpointError::Malformed { file, reason } => {
                CheckpointError::Malformed { file: file.clone(), reason: reason.clone() }
            }
            CheckpointError::Foreign { file, tensors } => {
                CheckpointError::Foreign { file: file.clone(), tensors: *tensors }
            }
            CheckpointError::NewerVersion { file, found, supported } => {
                CheckpointError::NewerVersion { file: file.clone(), found: *found, supported: *supported }
            }
            other => panic!("{other}"),
        }
    }
}

fn saved() -> Vec<u8> {
    let place = Place::new();
    let mut variables = Variables::default();
    variables.insert(&Path::from("w"), Param::leaf(1u32)).unwrap();
    let checkpoint = Checkpoint::new().module("model", &chain(1)).unwrap();
    checkpoint.variables("variables", &variables).unwrap().save(place.path()).unwrap();
    fs::read(place.path()).unwrap()
}

fn header_length(bytes: &[u8]) -> usize {
    8 + usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap()
}

/// A file with this description, which gets its checksum, and so many bytes of data.
fn described(description: &Value, tensors: Value, data: usize) -> Vec<u8> {
    let mut description = description.clone();
    if let Some(fields) = description.as_object_mut() {
        fields.insert("crc32".into(), "00000000".into());
    }
    sealed(&description.to_string(), tensors, &vec![0; data])
}

/// A file with this description, in which the checksum is still zeros.
fn sealed(description: &str, mut tensors: Value, data: &[u8]) -> Vec<u8> {
    let checksum = format!("{:08x}", crc32fast::hash(description.as_bytes()));
    tensors["__metadata__"] = json!({ "candle-bridge": description.replacen("00000000", &checksum, 1) });
    let header = tensors.to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

#[test]
fn every_changed_byte_is_refused() {
    let (place, bytes) = (Place::new(), saved());
    assert!(place.read(&bytes));
    for at in 0..bytes.len() {
        for mask in [0x01, 0x10, 0x80] {
            let mut damaged = bytes.clone();
            damaged[at] ^= mask;
            assert!(!place.read(&damaged), "byte {at} of {}", bytes.len());
        }
    }
}

#[test]
fn every_flipped_bit_of_the_data_is_refused_and_names_the_tensor() {
    let (place, bytes) = (Place::new(), saved());
    for at in header_length(&bytes)..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            fs::write(place.path(), damaged).unwrap();
            let file = CheckpointFile::open(place.path(), &Device::Cpu).unwrap();
            let errors: Vec<_> = [file.state("model").err(), file.variables("variables").err()]
                .into_iter()
                .flatten()
                .collect();
            let [error] = &errors[..] else { panic!("byte {at}: {errors:?}") };
            place.check(error);
            let Some(CheckpointError::Damaged { tensor, .. }) = error.downcast_ref() else {
                panic!("{error}")
            };
            assert!(tensor.starts_with("model.") || tensor == "variables.params.w", "{tensor}");
        }
    }
}

#[test]
fn what_is_whole_can_be_read_beside_what_is_damaged() {
    let (place, mut bytes) = (Place::new(), saved());
    // The widest elements come first, then the names in order: the last are of `variables`.
    *bytes.last_mut().unwrap() ^= 1;
    assert!(!place.read(&bytes));
    let file = CheckpointFile::open(place.path(), &Device::Cpu).unwrap();
    assert_eq!(file.module::<Chain>("model").unwrap().power, 3);
    let error = file.variables("variables").unwrap_err().to_string();
    assert!(error.contains("its tensor `variables.params.w` is not what was saved"), "{error}");
}

/// Damage that the checksum of the description agrees with.
#[test]
fn a_flipped_byte_of_the_description_never_panics() {
    let (place, bytes) = (Place::new(), saved());
    let (header, data) = bytes.split_at(header_length(&bytes));
    let header: Value = serde_json::from_slice(&header[8..]).unwrap();
    let description = header["__metadata__"]["candle-bridge"].as_str().unwrap();
    let own = serde_json::from_str::<Value>(description).unwrap()["crc32"].as_str().unwrap().to_owned();
    let description = description.replacen(&own, "00000000", 1);
    assert!(place.read(&sealed(&description, header.clone(), data)));
    let mut refused = 0;
    for at in 0..description.len() {
        for mask in [0x01, 0x02, 0x10] {
            let mut damaged = description.clone().into_bytes();
            damaged[at] ^= mask;
            let Ok(damaged) = String::from_utf8(damaged) else { continue };
            refused += usize::from(!place.read(&sealed(&damaged, header.clone(), data)));
        }
    }
    assert!(refused > description.len(), "only {refused} were refused");
}

#[test]
fn every_truncation_is_refused() {
    let (place, bytes) = (Place::new(), saved());
    for length in 0..bytes.len() {
        let error = place.open(&bytes[..length]);
        assert!(matches!(error, CheckpointError::Malformed { .. }), "{error}");
    }
    let longer = [&bytes[..], &[0]].concat();
    assert!(matches!(place.open(&longer), CheckpointError::Malformed { .. }));
}

proptest! {
    #[test]
    fn any_damage_never_panics(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
        shorten: bool,
    ) {
        let mut bytes = saved();
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if shorten {
            bytes.truncate(cut.index(bytes.len()));
        }
        let _ = Place::new().read(&bytes);
    }

    #[test]
    fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(!Place::new().read(&bytes));
    }
}

#[test]
fn a_header_that_claims_more_than_there_is_allocates_nothing() {
    let place = Place::new();
    for length in [u64::MAX, u64::MAX - 7, 1 << 62, 100_000_001, 1 << 20] {
        let error = place.open(&[&length.to_le_bytes()[..], b"{}"].concat());
        assert!(matches!(error, CheckpointError::Malformed { .. }), "{error}");
    }
}

#[test]
fn a_foreign_file_is_named_as_what_it_is() {
    let place = Place::new();
    let two = [("a", Tensor::new(1f32, &Device::Cpu)), ("b", Tensor::new(2f32, &Device::Cpu))];
    let two = two.map(|(name, tensor)| (name.to_owned(), tensor.unwrap())).into_iter().collect();
    candle_core::safetensors::save(&two, place.path()).unwrap();
    let error = place.open(&fs::read(place.path()).unwrap());
    assert!(matches!(error, CheckpointError::Foreign { tensors: 2, .. }), "{error}");
    assert!(error.to_string().contains("is a file of 2 tensors"), "{error}");
    let error = place.open(b"PK\x03\x04 some archive or other");
    assert!(matches!(error, CheckpointError::Malformed { .. }), "{error}");
}

#[test]
fn a_newer_version_is_refused_whatever_it_holds() {
    let place = Place::new();
    let error = place.open(&described(&json!({ "version": 2, "things": [] }), json!({}), 0));
    assert!(matches!(error, CheckpointError::NewerVersion { found: 2, supported: 1, .. }), "{error}");
    for description in [json!({ "version": 0 }), json!({ "version": 1 }), json!({}), json!([])] {
        let error = place.open(&described(&description, json!({}), 0));
        assert!(matches!(error, CheckpointError::Malformed { .. }), "{error}");
    }
}

/// Opens a file with one state of these leaves, and says why it is refused.
fn check(leaves: Value, tensors: Value, data: usize, expected: &str) {
    let description = json!({ "version": 1, "parts": { "s": { "is": "state", "leaves": leaves } } });
    match Place::new().open(&described(&description, tensors, data)) {
        CheckpointError::Malformed { reason, .. } => assert!(reason.contains(expected), "{reason}"),
        other => panic!("{other}"),
    }
}

fn leaf(path: &str) -> Value {
    // The checksum of one byte, 0.
    let crc32 = format!("{:08x}", crc32fast::hash(b"U8[1]\0"));
    json!({ "path": path, "type": "Param", "collection": "params", "crc32": crc32 })
}

fn byte(start: usize) -> Value {
    json!({ "dtype": "U8", "shape": [1], "data_offsets": [start, start + 1] })
}

#[test]
fn tensors_and_descriptions_must_fit() {
    check(json!([leaf("a")]), json!({}), 0, "lacks the tensor `s.a`");
    check(json!([]), json!({ "s.a": byte(0) }), 1, "does not describe its tensor `s.a`");
    check(json!([leaf("a"), leaf("a")]), json!({ "s.a": byte(0) }), 1, "`a` of the part `s` is there twice");
    let mut count = leaf("a");
    count["host"] = json!("count");
    check(json!([count]), json!({ "s.a": byte(0) }), 1, "not the host value");
    let mut bare = leaf("a");
    bare["crc32"].take();
    check(json!([bare]), json!({ "s.a": byte(0) }), 1, "the tensor `s.a` has no checksum");
    let boolean = json!({ "dtype": "BOOL", "shape": [1], "data_offsets": [0, 1] });
    check(json!([leaf("a")]), json!({ "s.a": boolean }), 1, "no tensor can be BOOL [1]");
    let huge = json!({ "dtype": "F32", "shape": [0, 1u64 << 60, 1u64 << 60], "data_offsets": [0, 0] });
    check(json!([leaf("a")]), json!({ "s.a": huge }), 0, "no tensor can be F32");
    let deep = "a.".repeat(500) + "a";
    check(json!([leaf(&deep)]), json!({ format!("s.{deep}"): byte(0) }), 1, "nested more than 256 deep");
}

#[test]
fn a_path_that_is_value_and_group_is_refused_when_read() {
    let place = Place::new();
    let leaves = json!([leaf("a"), leaf("a.b")]);
    let description = json!({ "version": 1, "parts": { "s": { "is": "state", "leaves": leaves } } });
    let bytes = described(&description, json!({ "s.a": byte(0), "s.a.b": byte(1) }), 2);
    assert!(!place.read(&bytes));
    let error = CheckpointFile::open(place.path(), &Device::Cpu).unwrap().state("s").unwrap_err();
    assert!(error.to_string().contains("can not be stored beside"), "{error}");
}

#[test]
fn a_recursive_module_can_not_exhaust_the_stack() {
    let place = Place::new();
    save(place.path(), &chain(250)).unwrap();
    let file = CheckpointFile::open(place.path(), &Device::Cpu).unwrap();
    file.module::<Chain>("").unwrap();

    let enter = json!({ "key": "next", "is": "module", "name": "Chain" });
    let graphdef: Vec<_> = std::iter::repeat_n(enter, 50_000).collect();
    let part = json!({ "is": "module", "graphdef": graphdef, "leaves": [] });
    let error = place.open(&described(&json!({ "version": 1, "parts": { "": part } }), json!({}), 0));
    assert!(error.to_string().contains("nested more than 256 deep"), "{error}");
}

/// Serde takes the number of a variant for its name.
#[test]
fn a_kind_by_its_number_does_not_hide_the_depth() {
    let place = Place::new();
    let variable = json!({ "key": "kernel", "is": "variable", "type": "Param", "collection": "params", "host": "no value" });
    let deeper = [json!({ "key": "next", "is": "some" }), json!({ "key": "next", "is": 0, "name": "Chain" })];
    let graphdef: Vec<_> =
        std::iter::repeat_n(deeper.into_iter().chain([variable]), 50_000).flatten().collect();
    let part = json!({ "is": "module", "graphdef": &graphdef[1..], "leaves": [] });
    place.read(&described(&json!({ "version": 1, "parts": { "": part } }), json!({}), 0));
    let file = CheckpointFile::open(place.path(), &Device::Cpu).unwrap();
    let error = file.module::<Chain>("").map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("nodes that are not so deep"), "{error}");
}
