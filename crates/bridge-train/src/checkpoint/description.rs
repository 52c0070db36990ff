//! The serde form of what a file says about its tensors.

use std::collections::{BTreeMap, BTreeSet};

use bridge_vars::{Metadata, Path, PathKey};
use candle_core::DType;
use safetensors::Dtype;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::checksum;
use crate::files::Place;

/// The key of the description in the safetensors metadata. One key, because safetensors writes several in
/// random order.
pub(super) const KEY: &str = "candle-bridge";
pub(super) const VERSION: u64 = 1;
/// The name under which safetensors keeps its metadata among the tensors.
pub(super) const RESERVED: &str = "__metadata__";
/// Trees are walked by recursion: a file must not be able to exhaust the stack.
pub(super) const MAX_DEPTH: usize = 256;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Description {
    pub(super) version: u64,
    /// Of the whole description, computed with [`UNKNOWN`](super::checksum::UNKNOWN) in this place.
    pub(super) crc32: String,
    pub(super) parts: BTreeMap<String, Part>,
}

/// What every version has.
#[derive(Deserialize)]
pub(super) struct Version {
    pub(super) version: u64,
}

/// Why a description can not be read.
#[derive(Debug)]
pub(super) enum Unreadable {
    Malformed(String),
    Newer(u64),
}

impl Description {
    /// Reads a description, and compares it with its checksum.
    pub(super) fn read(json: &str) -> Result<Self, Unreadable> {
        let reason = |error: serde_json::Error| Unreadable::Malformed(format!("its description: {error}"));
        match serde_json::from_str::<Version>(json).map_err(reason)?.version {
            VERSION => {
                let description: Self = serde_json::from_str(json).map_err(reason)?;
                match checksum::of_description(json, &description.crc32) == description.crc32 {
                    true => Ok(description),
                    false => Err(Unreadable::Malformed(
                        "its description is not what was saved, by its checksum".into(),
                    )),
                }
            }
            0 => Err(Unreadable::Malformed("its description has version 0".into())),
            found => Err(Unreadable::Newer(found)),
        }
    }

    /// That every leaf has its tensor, and every tensor its leaf.
    pub(super) fn check(&self, tensors: &BTreeMap<String, Place>) -> Result<(), String> {
        let mut met = BTreeSet::new();
        for (name, part) in &self.parts {
            if part.is_too_deep() {
                return Err(format!("the part `{name}` is nested more than {MAX_DEPTH} deep"));
            }
            for leaf in part.leaves() {
                let Some(tensor) = leaf.tensor_name(name) else { continue };
                let Some(place) = tensors.get(&tensor) else {
                    return Err(format!("it lacks the tensor `{tensor}` that it describes"));
                };
                if !holds(leaf, place) {
                    return Err(format!("the tensor `{tensor}` is not the host value it is said to be"));
                }
                if DType::try_from(place.dtype).is_err() {
                    let (dtype, shape) = (place.dtype, &place.shape);
                    return Err(format!("no tensor can be {dtype} {shape:?}, as `{tensor}` is"));
                }
                if leaf.crc32.is_none() {
                    return Err(format!("the tensor `{tensor}` has no checksum"));
                }
                if !met.insert(tensor) {
                    return Err(format!("`{}` of the part `{name}` is there twice", leaf.path));
                }
            }
        }
        match tensors.keys().find(|name| !met.contains(*name)) {
            Some(name) => Err(format!("it does not describe its tensor `{name}`")),
            None => Ok(()),
        }
    }
}

/// Leaves are boxed, because a list grows by doubling, and a leaf takes more room than its text.
#[allow(clippy::vec_box, reason = "as it says above")]
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub(super) enum Part {
    Module { graphdef: Json, leaves: Vec<Box<LeafEntry>> },
    State { leaves: Vec<Box<LeafEntry>> },
    Variables { leaves: Vec<Box<LeafEntry>> },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct LeafEntry {
    pub(super) path: Path,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) collection: String,
    #[serde(default, skip_serializing_if = "Metadata::is_empty")]
    pub(super) metadata: Metadata,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) host: Option<Host>,
    /// Of its tensor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) crc32: Option<String>,
}

/// A value that does not live on a device.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Host {
    /// Keys as words, on the tensor's last dimension: one, or a batch in the shape of the other dimensions.
    Key,
    /// The same, of keys of the legacy scheme.
    LegacyKey,
    /// A count, or a batch of them.
    Count,
    Graphdef(Json),
}

impl Part {
    pub(super) const MODULE: &str = "a module";
    pub(super) const STATE: &str = "a state";
    pub(super) const VARIABLES: &str = "variables";

    pub(super) fn leaves(&self) -> &[Box<LeafEntry>] {
        match self {
            Self::Module { leaves, .. } | Self::State { leaves } | Self::Variables { leaves } => leaves,
        }
    }

    pub(super) fn leaves_mut(&mut self) -> &mut [Box<LeafEntry>] {
        match self {
            Self::Module { leaves, .. } | Self::State { leaves } | Self::Variables { leaves } => leaves,
        }
    }

    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Module { .. } => Self::MODULE,
            Self::State { .. } => Self::STATE,
            Self::Variables { .. } => Self::VARIABLES,
        }
    }

    pub(super) fn is_too_deep(&self) -> bool {
        let graphdef = match self {
            Self::Module { graphdef, .. } => Some(graphdef),
            _ => None,
        };
        let hosts = self.leaves().iter().filter_map(|leaf| match &leaf.host {
            Some(Host::Graphdef(graphdef)) => Some(graphdef),
            _ => None,
        });
        self.leaves().iter().any(|leaf| leaf.path.len() > MAX_DEPTH)
            || graphdef.into_iter().chain(hosts).any(|graphdef| graphdef_depth(graphdef) > MAX_DEPTH)
    }
}

impl LeafEntry {
    /// The name of its tensor, if it has one.
    pub(super) fn tensor_name(&self, part: &str) -> Option<String> {
        match self.host {
            Some(Host::Graphdef(_)) => None,
            _ => Some(tensor_name(part, &self.path)),
        }
    }
}

fn tensor_name(part: &str, path: &Path) -> String {
    match part {
        "" => path.to_string(),
        part => Path::from(PathKey::from(part)).concat(path).to_string(),
    }
}

/// How deep the nodes of an encoded description are nested.
fn graphdef_depth(graphdef: &Json) -> usize {
    let (mut depth, mut deepest) = (0usize, 0);
    for entry in graphdef.as_array().into_iter().flatten() {
        match entry.get("is").and_then(Json::as_str) {
            Some("module" | "variant" | "list" | "tuple" | "map" | "ordered_map") => depth += 1,
            Some("end") => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

fn holds(leaf: &LeafEntry, place: &Place) -> bool {
    match leaf.host {
        Some(Host::Key | Host::LegacyKey) => place.dtype == Dtype::U32 && place.shape.last() == Some(&2),
        Some(Host::Count) => place.dtype == Dtype::U32,
        Some(Host::Graphdef(_)) | None => true,
    }
}
