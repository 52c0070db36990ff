//! A process that is killed while it saves leaves the file as it was, or the new one.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bridge_graph::StatefulModule;
use bridge_random::{key, randint_vec};
use bridge_train::{Checkpoint, CheckpointFile};
use bridge_vars::{Param, Result};
use candle_core::{Device, Tensor};

#[derive(StatefulModule)]
struct Stack {
    layers: Vec<Param>,
}

const LAYERS: usize = 4;
/// Where the process saves, which is this program again.
const TARGET: &str = "CANDLE_BRIDGE_SAVES_TO";
const KILLS: usize = 200;

/// Every layer holds the number of the save.
fn save(target: &Path, number: u32) {
    let layer = |_| Param::new(Tensor::full(number, 50_000, &Device::Cpu).unwrap());
    let stack = Stack { layers: (0..LAYERS).map(layer).collect() };
    let checkpoint = Checkpoint::new().module("", &stack).unwrap();
    match target.extension().is_some_and(|extension| extension == "json") {
        true => checkpoint.save_sharded(target, 300_000).unwrap(),
        false => checkpoint.save(target).unwrap(),
    }
}

fn saved(target: &Path) -> Result<u32> {
    let stack: Stack = CheckpointFile::open(target, &Device::Cpu)?.module("")?;
    let values = |layer: &Param| layer.value().unwrap().to_vec1::<u32>().unwrap();
    let number = values(&stack.layers[0])[0];
    assert!(stack.layers.iter().all(|layer| values(layer) == [number; 50_000]), "two saves in one file");
    Ok(number)
}

/// Kills a saving process at random moments, and says that what is there is whole and as new as it can be.
fn check(test: &str, file: &str, seed: i64) {
    if let Some(target) = std::env::var_os(TARGET) {
        let first = saved(Path::new(&target)).unwrap();
        (first + 1..u32::MAX).for_each(|number| save(Path::new(&target), number));
    }
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join(file);
    save(&target, 0);
    let moments: Vec<u32> = randint_vec(key(seed), KILLS / 2, 0u32, 25_000u32).unwrap();
    let (mut last, mut interrupted) = (0, 0);
    for moment in moments {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([test, "--exact", "--nocapture"])
            .env(TARGET, &target)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // The moment counts from the first save on.
        let begun = Instant::now();
        // While it saves, files of an index may go that were there when the index was read.
        while saved(&target).is_ok_and(|number| number == last) && begun.elapsed() < Duration::from_secs(30) {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_micros(moment.into()));
        child.kill().unwrap();
        child.wait().unwrap();
        let number = saved(&target).unwrap();
        assert!(number > last, "nothing was saved after {last}");
        last = number;
        let entries = std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let partial = entries.filter(|name| name.to_string_lossy().ends_with(".partial"));
        for name in partial {
            interrupted += 1;
            std::fs::remove_file(directory.path().join(name)).unwrap();
        }
    }
    assert!(interrupted > KILLS / 20, "only {interrupted} were killed while they saved");
}

#[test]
fn a_killed_save_leaves_the_old_file_or_the_new_one() {
    check("a_killed_save_leaves_the_old_file_or_the_new_one", "model.safetensors", 1);
}

#[test]
fn a_killed_save_of_several_files_leaves_the_old_ones_or_the_new_ones() {
    let test = "a_killed_save_of_several_files_leaves_the_old_ones_or_the_new_ones";
    check(test, "model.safetensors.index.json", 2);
}
