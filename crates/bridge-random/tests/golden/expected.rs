//! The golden files, and how a tensor is compared with what they hold.

use std::path::Path;

use bridge_random::Key;
use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};
use serde_json::Value;
use sha2::{Digest, Sha256};

pub(crate) fn load(name: &str) -> Value {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/jax");
    let path = directory.join(name).with_extension("json");
    let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_slice(&bytes).unwrap()
}

/// The cases of some sections of a file.
pub(crate) fn cases<'a>(file: &'a Value, sections: &[&str]) -> impl Iterator<Item = &'a Value> {
    let sections: Vec<_> = sections.iter().map(|name| file[*name].as_array().unwrap()).collect();
    sections.into_iter().flatten()
}

pub(crate) fn device() -> Device {
    match std::env::var("CANDLE_BRIDGE_TEST_DEVICE").as_deref() {
        Err(_) | Ok("cpu") => Device::Cpu,
        Ok("cuda") => Device::new_cuda(0).unwrap(),
        Ok("metal") => Device::new_metal(0).unwrap(),
        Ok(other) => panic!("unknown test device {other}"),
    }
}

pub(crate) fn key_of(value: &Value) -> Key {
    let word = |index: usize| value[index].as_u64().unwrap().try_into().unwrap();
    Key::from_words([word(0), word(1)])
}

/// A number that may be written as a string (`"-inf"`).
pub(crate) fn number(value: &Value) -> f64 {
    match value {
        Value::String(text) => text.parse().unwrap(),
        _ => value.as_f64().unwrap(),
    }
}

/// An integer that may be written as a string. Unsigned ones beyond `i64` wrap, as seeds do.
pub(crate) fn integer(value: &Value) -> i64 {
    match value {
        Value::String(text) => text.parse::<i128>().unwrap() as i64,
        _ => value.as_i64().unwrap(),
    }
}

pub(crate) fn shape(out: &Value) -> Vec<usize> {
    let dims = out["shape"].as_array().unwrap().iter();
    dims.map(|size| size.as_u64().unwrap() as usize).collect()
}

/// The dtype of that name in JAX.
pub(crate) fn dtype_of(name: &Value) -> DType {
    match name.as_str().unwrap() {
        "float16" => DType::F16,
        "bfloat16" => DType::BF16,
        "float32" => DType::F32,
        "float64" => DType::F64,
        "uint8" => DType::U8,
        "uint32" => DType::U32,
        "int32" => DType::I32,
        "int64" => DType::I64,
        other => panic!("candle has no dtype {other}"),
    }
}

/// An array of a golden file as a tensor.
pub(crate) fn tensor_of(array: &Value) -> Tensor {
    let bits = expected_bits(array).into_iter();
    let flat = match array["dtype"].as_str().unwrap() {
        "float32" => Tensor::from_iter(bits.map(|bits| f32::from_bits(bits as u32)), &device()),
        "float64" => Tensor::from_iter(bits.map(f64::from_bits), &device()),
        "float16" => Tensor::from_iter(bits.map(|bits| f16::from_bits(bits as u16)), &device()),
        "bfloat16" => Tensor::from_iter(bits.map(|bits| bf16::from_bits(bits as u16)), &device()),
        "int32" => Tensor::from_iter(bits.map(|bits| bits as i32), &device()),
        other => panic!("no tensor of {other}"),
    };
    flat.unwrap().reshape(shape(array)).unwrap()
}

/// The name of a case, for failures: the case without its arrays.
fn name(case: &Value) -> String {
    let fields = case.as_object().unwrap().iter();
    let fields = fields.filter(|(field, _)| *field != "out" && *field != "x");
    let fields: Vec<_> = fields.map(|(field, v)| format!("{field}={v}")).collect();
    fields.join(" ")
}

/// Fails unless a file has exactly these sections, so that none is without a test.
pub(crate) fn assert_sections(file: &Value, sections: &[&str]) {
    let mut found: Vec<_> = file.as_object().unwrap().keys().map(String::as_str).collect();
    found.retain(|name| *name != "meta");
    let mut expected = sections.to_vec();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
}

/// Compares a tensor with a case's `out`, in shape and bits. The number of values compared.
pub(crate) fn check(case: &Value, found: &Tensor) -> usize {
    let out = &case["out"];
    assert_eq!(found.dims(), shape(out), "the shape of {}", name(case));
    let found = found.flatten_all().unwrap();
    let bits: Vec<u64> = match found.dtype() {
        DType::F32 => words(&found, |x: f32| u64::from(x.to_bits())),
        DType::F64 => words(&found, f64::to_bits),
        DType::F16 => words(&found, |x: f16| u64::from(x.to_bits())),
        DType::BF16 => words(&found, |x: bf16| u64::from(x.to_bits())),
        DType::U8 => words(&found, |x: u8| u64::from(x)),
        DType::U32 => words(&found, |x: u32| u64::from(x)),
        DType::I32 => words(&found, |x: i32| i64::from(x) as u64),
        DType::I64 => words(&found, |x: i64| x as u64),
        other => panic!("no comparison of {other:?}"),
    };
    check_bits(case, &bits)
}

fn words<T: candle_core::WithDType>(tensor: &Tensor, bits: impl Fn(T) -> u64) -> Vec<u64> {
    let values = tensor.to_vec1::<T>().unwrap();
    values.into_iter().map(bits).collect()
}

/// The bits that a key gives for a case of the width that it names, widened to 64 bits.
pub(crate) fn bits_of(key: Key, case: &Value) -> Vec<u64> {
    let count = shape(&case["out"]).iter().product();
    match integer(&case["width"]) {
        8 => key.bits_u8(count).into_iter().map(u64::from).collect(),
        16 => key.bits_u16(count).into_iter().map(u64::from).collect(),
        32 => key.bits_u32(count).into_iter().map(u64::from).collect(),
        64 => key.bits_u64(count),
        other => panic!("unknown width {other}"),
    }
}

/// Compares values, widened to 64 bits, with a case's `out`.
pub(crate) fn check_bits(case: &Value, found: &[u64]) -> usize {
    let out = &case["out"];
    if let Some(digest) = out["sha256"].as_str() {
        let width = match out["dtype"].as_str().unwrap() {
            "bool" | "uint8" | "int8" => 1,
            "uint16" | "float16" | "bfloat16" => 2,
            "float32" | "uint32" | "int32" => 4,
            "float64" | "uint64" | "int64" => 8,
            other => panic!("no width of {other}"),
        };
        let mut hash = Sha256::new();
        for word in found {
            hash.update(&word.to_le_bytes()[..width]);
        }
        let hash = hash.finalize();
        let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        let indices = out["sample_index"].as_array().unwrap();
        for (index, expected) in indices.iter().zip(expected_bits(&out["sample"])) {
            let index = index.as_u64().unwrap() as usize;
            assert_eq!(found[index], expected, "element {index} of {}", name(case));
        }
        assert_eq!(hash, digest, "the digest of {}", name(case));
    } else {
        assert_eq!(found, expected_bits(out), "{}", name(case));
    }
    found.len()
}

fn expected_bits(out: &Value) -> Vec<u64> {
    let array = ["u16", "u32", "u64hex", "data"].into_iter().find_map(|field| out[field].as_array()).unwrap();
    let word = |value: &Value| match value {
        Value::String(digits) => u64::from_str_radix(digits, 16).ok(),
        _ => value.as_u64().or(value.as_i64().map(|x| x as u64)),
    };
    array.iter().map(|value| word(value).unwrap()).collect()
}
