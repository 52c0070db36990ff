//! Files that are made to take far more memory than they are long: no allocation is larger than four times the file.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]
#![allow(unsafe_code, reason = "an allocator that watches the system's")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use bridge_graph::{Registry, StatefulModule};
use bridge_train::{Checkpoint, CheckpointFile, TensorFile, save};
use bridge_vars::{Metadata, Param};
use candle_core::{Device, Tensor};
use serde_json::{Value, json};

struct Watched;

static LARGEST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is the system's own.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LARGEST.fetch_max(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are the system's conditions.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        LARGEST.fetch_max(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        LARGEST.fetch_max(size, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(at, layout, size) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watched = Watched;

/// One at a time, so that nobody else's allocations are seen.
static ALONE: Mutex<()> = Mutex::new(());

#[derive(StatefulModule)]
struct Scale {
    factor: Param,
    #[module(static)]
    names: Vec<String>,
}

/// Does everything with a file of these bytes, and says how large the largest allocation was.
fn largest(bytes: &[u8]) -> usize {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file.safetensors");
    fs::write(&path, bytes).unwrap();
    LARGEST.store(0, Ordering::Relaxed);
    if let Ok(file) = TensorFile::open(&path) {
        let names: Vec<_> = file.names().take(3).map(str::to_owned).collect();
        names.iter().for_each(|name| _ = file.tensor(name, &Device::Cpu));
    }
    if let Ok(file) = CheckpointFile::open(&path, &Device::Cpu) {
        let parts: Vec<_> = file.parts().map(str::to_owned).collect();
        for part in parts {
            let _ = file.state(&part);
            let _ = file.variables(&part);
            let _ = file.module::<Scale>(&part);
            let _ = file.rebuild(&part, &Registry::new().with::<Scale>());
        }
    }
    LARGEST.load(Ordering::Relaxed)
}

fn check(what: &str, bytes: &[u8]) {
    let _alone = ALONE.lock();
    // The first time, the program itself may need more: it has names and threads to make.
    largest(bytes);
    let largest = largest(bytes);
    // The names of files and messages are what they are.
    assert!(
        largest <= (4 * bytes.len()).max(16 << 10),
        "{what}: {largest} bytes at once for a file of {}",
        bytes.len()
    );
}

fn header(json: &str) -> Vec<u8> {
    [&(json.len() as u64).to_le_bytes()[..], json.as_bytes()].concat()
}

/// A description whose checksum is right.
fn described(description: &Value) -> Vec<u8> {
    let mut description = description.clone();
    description["crc32"] = json!("00000000");
    let text = description.to_string();
    let checksum = format!("{:08x}", crc32fast::hash(text.as_bytes()));
    let text = text.replacen("00000000", &checksum, 1);
    header(&json!({ "__metadata__": { "candle-bridge": text } }).to_string())
}

const MANY: usize = 200_000;

#[test]
fn of_headers() {
    let zeros = vec!["0"; MANY].join(",");
    check(
        "a shape",
        &header(&format!(r#"{{"a":{{"dtype":"F32","shape":[{zeros}],"data_offsets":[0,0]}}}}"#)),
    );
    check("a list", &header(&format!("[{zeros}]")));
    check("a list of an unknown field", &header(&format!(r#"{{"a":[{zeros}]}}"#)));
    let members: Vec<_> = (0..MANY).map(|number| format!(r#""{number}":0"#)).collect();
    check("members", &header(&format!("{{{}}}", members.join(","))));
    check("depth", &header(&"[".repeat(MANY)));
    let tensors: Vec<_> = (0..MANY / 10)
        .map(|number| format!(r#""{number}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#))
        .collect();
    check("tensors", &header(&format!("{{{}}}", tensors.join(","))));
    let few: Vec<_> = (0..28_700).map(|number| format!(r#""{number}":["U8",[0],[0,0]]      "#)).collect();
    check("tensors as lists", &header(&format!("{{{}}}", few.join(","))));
    check("an index", format!(r#"{{"weight_map":{{}},"metadata":{{"a":[{zeros}]}}}}"#).as_bytes());
    let map: Vec<_> = (0..MANY).map(|number| format!(r#""{number}":"a""#)).collect();
    check("a large index", format!(r#"{{"weight_map":{{{}}}}}"#, map.join(",")).as_bytes());
    check("a long header", &[&(1u64 << 26).to_le_bytes()[..], b"{}"].concat());
}

#[test]
fn of_descriptions() {
    let part = |part: Value| described(&json!({ "version": 1, "parts": { "": part } }));
    let zeros = vec![0; MANY];
    check("a graphdef", &part(json!({ "is": "module", "graphdef": zeros, "leaves": [] })));
    check("leaves", &part(json!({ "is": "state", "leaves": zeros })));
    let leaf = json!({ "path": "a", "type": "P", "collection": "p", "host": { "graphdef": [] } });
    check("small leaves", &part(json!({ "is": "state", "leaves": vec![leaf; MANY / 10] })));
    let dots =
        json!({ "path": ".".repeat(MANY), "type": "P", "collection": "p", "host": { "graphdef": [] } });
    check("a path", &part(json!({ "is": "state", "leaves": [dots] })));
    let listed = json!(["", "", ""]);
    check("leaves as lists", &part(json!({ "is": "state", "leaves": vec![listed; MANY / 10] })));
    let entry = json!({ "key": "a", "is": "end" });
    check(
        "small entries",
        &part(json!({ "is": "module", "graphdef": vec![entry; MANY / 10], "leaves": [] })),
    );
    let metadata = json!({ "path": "a", "type": "P", "collection": "p", "metadata": { "a": zeros } });
    check("metadata", &part(json!({ "is": "state", "leaves": [metadata] })));
    let value = json!({ "key": "a", "is": "value", "value": json!(zeros).to_string() });
    check("a static value", &part(json!({ "is": "module", "graphdef": [value], "leaves": [] })));
}

#[test]
fn of_whole_files() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.safetensors");
    let factor = Param::new(Tensor::zeros(MANY, candle_core::DType::F32, &Device::Cpu).unwrap());
    factor.set_metadata(Metadata::default().with("sharding", vec!["data"; 50]));
    let names = (0..1000).map(|number| number.to_string()).collect();
    save(&path, &Scale { factor, names }).unwrap();
    check("a model", &fs::read(&path).unwrap());
    // What could not be read back is not written.
    let small = Param::new(Tensor::zeros(1, candle_core::DType::F32, &Device::Cpu).unwrap());
    small.set_metadata(Metadata::default().with("many", vec![0; 1000]));
    let error = Checkpoint::new().module("", &small).unwrap().save(&path).unwrap_err().to_string();
    assert!(
        error.contains("could not be read back, and is not written: its JSON has more members"),
        "{error}"
    );
}
