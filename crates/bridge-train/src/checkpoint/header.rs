//! Reading and checking what stands before a file's tensors.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};

use candle_core::DType;
use safetensors::tensor::Metadata;

use super::checksum;
use super::description::{Description, Host, KEY, LeafEntry, MAX_DEPTH, Part, VERSION, Version};

/// What safetensors' own reader accepts.
pub(super) const MAX_HEADER: u64 = 100_000_000;

#[derive(Debug)]
pub(super) struct Header {
    pub(super) parts: BTreeMap<String, Part>,
    pub(super) tensors: BTreeMap<String, Place>,
}

/// Where a tensor is in the file; within the file's length.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) dtype: DType,
    pub(super) shape: Vec<usize>,
    pub(super) start: u64,
    pub(super) length: usize,
}

/// Why a header can not be used.
#[derive(Debug)]
pub(super) enum Refused {
    Io(io::Error),
    Malformed(String),
    Foreign { tensors: usize },
    Newer { found: u64 },
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn malformed<T>(reason: impl Into<String>) -> Result<T, Refused> {
    Err(Refused::Malformed(reason.into()))
}

impl Header {
    /// Reads the header. Allocates no more than the file's length justifies.
    pub(super) fn read(mut file: &File) -> Result<Self, Refused> {
        let length = file.metadata()?.len();
        let Some(after_prefix) = length.checked_sub(8) else {
            return malformed(format!("it has {length} bytes, no room for a safetensors header"));
        };
        let mut prefix = [0; 8];
        file.read_exact(&mut prefix)?;
        let header_length = u64::from_le_bytes(prefix);
        let data_length = match after_prefix.checked_sub(header_length) {
            Some(rest) if header_length <= MAX_HEADER => rest,
            _ => {
                return malformed(format!(
                    "it is cut short, or no safetensors file: its header should take {header_length} bytes, which it does not have; use \
                     another copy"
                ));
            }
        };
        let mut header = vec![0; header_length as usize];
        file.read_exact(&mut header)?;
        let header: Metadata = match serde_json::from_slice(&header) {
            Ok(header) => header,
            Err(error) => return malformed(format!("no safetensors header: {error}")),
        };
        if header.data_len() as u64 != data_length {
            let expected = header.data_len();
            return malformed(format!(
                "it was cut short or grew: its tensors take {expected} bytes, and it has {data_length}; use another copy"
            ));
        }
        let Some(json) = header.metadata().as_ref().and_then(|metadata| metadata.get(KEY)) else {
            return Err(Refused::Foreign { tensors: header.tensors().len() });
        };
        let parts = describe(json)?;
        let mut tensors = BTreeMap::new();
        for (name, info) in header.tensors() {
            let (start, end) = info.data_offsets;
            // A product of any of the dimensions must be a number, even beside a dimension of 0.
            let sizes = info.shape.iter().try_fold(1usize, |size, dim| size.checked_mul(*dim.max(&1)));
            let (Ok(dtype), Some(_)) = (DType::try_from(info.dtype), sizes) else {
                return malformed(format!(
                    "no tensor can be {:?} {:?}, as `{name}` is",
                    info.dtype, info.shape
                ));
            };
            let (start, length) = (8 + header_length + start as u64, end - start);
            tensors.insert(name, Place { dtype, shape: info.shape.clone(), start, length });
        }
        let header = Self { parts, tensors };
        header.check()?;
        Ok(header)
    }

    /// That every leaf has its tensor, and every tensor its leaf.
    fn check(&self) -> Result<(), Refused> {
        let mut met = BTreeSet::new();
        for (name, part) in &self.parts {
            if part.is_too_deep() {
                return malformed(format!("the part `{name}` is nested more than {MAX_DEPTH} deep"));
            }
            for leaf in part.leaves() {
                let Some(tensor) = leaf.tensor_name(name) else { continue };
                let Some(place) = self.tensors.get(&tensor) else {
                    return malformed(format!("it lacks the tensor `{tensor}` that it describes"));
                };
                if !holds(leaf, place) {
                    return malformed(format!(
                        "the tensor `{tensor}` is not the host value it is said to be"
                    ));
                }
                if leaf.crc32.is_none() {
                    return malformed(format!("the tensor `{tensor}` has no checksum"));
                }
                if !met.insert(tensor) {
                    return malformed(format!("`{}` of the part `{name}` is there twice", leaf.path));
                }
            }
        }
        match self.tensors.keys().find(|name| !met.contains(*name)) {
            Some(name) => malformed(format!("it does not describe its tensor `{name}`")),
            None => Ok(()),
        }
    }
}

fn describe(json: &str) -> Result<BTreeMap<String, Part>, Refused> {
    let unreadable = |error: serde_json::Error| Refused::Malformed(format!("its description: {error}"));
    match serde_json::from_str::<Version>(json).map_err(unreadable)?.version {
        VERSION => {
            let description: Description = serde_json::from_str(json).map_err(unreadable)?;
            match checksum::of_description(json, &description.crc32) == description.crc32 {
                true => Ok(description.parts),
                false => malformed("its description is not what was saved, by its checksum"),
            }
        }
        0 => malformed("its description has version 0"),
        found => Err(Refused::Newer { found }),
    }
}

fn holds(leaf: &LeafEntry, place: &Place) -> bool {
    match leaf.host {
        Some(Host::Key | Host::LegacyKey) => place.dtype == DType::U32 && place.shape.last() == Some(&2),
        Some(Host::Count) => place.dtype == DType::U32,
        Some(Host::Graphdef(_)) | None => true,
    }
}
