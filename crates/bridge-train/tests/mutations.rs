//! Files of every kind with seeded damage: a typed error or what a file can hold, never a panic. A bounded part runs with
//! the other tests; `CANDLE_BRIDGE_MUTATIONS=1000000` in front of
//! `cargo test --release -p bridge-train --test mutations` runs that many for each kind.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use bridge_graph::{Registry, Rngs, StatefulModule};
use bridge_train::{Checkpoint, CheckpointError, CheckpointFile, TensorFile};
use bridge_vars::{Metadata, Param, RngKey};
use candle_core::{DType, Device, Tensor};

#[derive(StatefulModule)]
struct Model {
    kernel: Param,
    choice: Choice,
    children: Vec<Option<Box<Model>>>,
    rngs: Rngs,
    #[module(static)]
    sizes: Vec<u8>,
}

#[derive(StatefulModule)]
enum Choice {
    Nothing,
    Key(RngKey),
}

fn model(depth: usize) -> Model {
    let kernel = Param::new(Tensor::ones((2, 2), DType::BF16, &Device::Cpu).unwrap());
    kernel.set_metadata(Metadata::default().with("sharding", vec!["data", "model"]));
    let choice = match depth {
        0 => Choice::Nothing,
        _ => Choice::Key(RngKey::new(bridge_random::key(1))),
    };
    let children = (0..depth).map(|_| Some(Box::new(model(depth - 1)))).chain([None]).collect();
    Model { kernel, choice, children, rngs: Rngs::new(0), sizes: vec![1, 2] }
}

/// Numbers that look random, the same ones in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

const EXTREMES: [u64; 8] = [0, 1, 0x7f, 0xffff, 0x7fff_ffff, 0xffff_ffff, i64::MAX as u64, u64::MAX];

fn set(bytes: &mut [u8], at: usize, width: usize, value: u64) {
    for (byte, new) in bytes[at..].iter_mut().zip(&value.to_le_bytes()[..width]) {
        *byte = *new;
    }
}

fn mutate(bytes: &mut Vec<u8>, numbers: &mut Numbers) {
    let (at, other) = (numbers.below(bytes.len()), numbers.below(bytes.len()));
    let length = numbers.below(16.min(bytes.len() - at.max(other)) + 1);
    match numbers.below(7) {
        0 if !bytes.is_empty() => bytes[at] ^= 1 << numbers.below(8),
        1 if !bytes.is_empty() => bytes[at] = numbers.next() as u8,
        2 => set(bytes, at, 1 << numbers.below(4), EXTREMES[numbers.below(EXTREMES.len())]),
        3 => _ = bytes.drain(at..at + length),
        4 => bytes.extend_from_within(at..at + length),
        5 => bytes.copy_within(other..other + length, at),
        _ => bytes.truncate(at),
    }
}

struct Target {
    directory: tempfile::TempDir,
    path: PathBuf,
    registry: Registry,
}

impl Target {
    /// Does everything that can be done with the file.
    fn read(&self, bytes: &[u8]) {
        fs::write(&self.path, bytes).unwrap();
        let check = |error: bridge_vars::Error| {
            assert!(error.downcast_ref::<CheckpointError>().is_some(), "{error}");
            assert!(error.to_string().contains(&*self.directory.path().to_string_lossy()), "{error}");
        };
        match TensorFile::open(&self.path) {
            Ok(file) => {
                let names: Vec<_> = file.names().map(str::to_owned).collect();
                let tensors = names.iter().map(|name| file.tensor(name, &Device::Cpu));
                tensors.filter_map(Result::err).for_each(check);
            }
            Err(error) => check(error),
        }
        match CheckpointFile::open(&self.path, &Device::Cpu) {
            Ok(file) => {
                let parts: Vec<_> = file.parts().map(str::to_owned).collect();
                for part in parts {
                    file.module::<Model>(&part).map(|_| ()).unwrap_or_else(check);
                    file.rebuild(&part, &self.registry).map(|_| ()).unwrap_or_else(check);
                    file.variables(&part).map(|_| ()).unwrap_or_else(check);
                }
            }
            Err(error) => check(error),
        }
    }
}

fn check(name: &str, make: impl FnOnce(&Path)) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    make(&path);
    let bytes = fs::read(&path).unwrap();
    let target = Target { directory, path, registry: Registry::new().with::<Model>() };
    let asked = std::env::var("CANDLE_BRIDGE_MUTATIONS").ok();
    let cases = asked.as_ref().map_or(3000, |asked| asked.parse::<usize>().unwrap());
    // Every place that may be a length, at its extremes.
    for at in (0..bytes.len()).step_by(if asked.is_some() { 1 } else { 13 }) {
        for (width, value) in
            [(2, 0), (2, u64::MAX), (4, 0), (4, i32::MAX as u64), (4, u64::MAX), (8, u64::MAX)]
        {
            let mut damaged = bytes.clone();
            set(&mut damaged, at, width, value);
            target.read(&damaged);
        }
    }
    let mut numbers = Numbers(1);
    for _ in 0..cases {
        let mut damaged = bytes.clone();
        for _ in 0..=numbers.below(4) {
            mutate(&mut damaged, &mut numbers);
        }
        target.read(&damaged);
    }
}

fn fixture(name: &str) -> impl Fn(&Path) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    move |path| _ = fs::copy(&from, path).unwrap()
}

#[test]
fn of_a_checkpoint() {
    check("model.safetensors", |path| {
        Checkpoint::new().module("model", &model(2)).unwrap().save(path).unwrap()
    });
}

#[test]
fn of_an_index() {
    check("model.safetensors.index.json", |path| {
        Checkpoint::new().module("model", &model(1)).unwrap().save_sharded(path, 20).unwrap();
    });
}

#[test]
fn of_a_file_of_python() {
    check("python.safetensors", fixture("safetensors_of_python.safetensors"));
}

#[test]
fn of_a_state_dict() {
    check("pytorch.pth", fixture("pytorch.pth"));
}

#[test]
fn of_a_training_run_of_pytorch() {
    check("pytorch.bin", fixture("pytorch_training.bin"));
}
