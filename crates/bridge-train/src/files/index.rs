//! The index of tensors that are spread over several safetensors files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path};

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::header::{MAX_HEADER, Place, Refused, check_members, malformed};

#[derive(Debug, Deserialize, Serialize)]
struct Text {
    #[serde(default)]
    metadata: BTreeMap<String, Json>,
    weight_map: BTreeMap<String, String>,
}

#[derive(Debug)]
pub(crate) struct Index {
    pub(crate) metadata: BTreeMap<String, String>,
    /// The file of every tensor.
    map: BTreeMap<String, String>,
}

impl Index {
    /// Reads an index, if the file is one rather than a safetensors file.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, Refused> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut first = [0; 8];
        // A safetensors file begins with the length of its header, whose highest byte is zero.
        if length < 8 || file.read_exact(&mut first).is_err() || first.contains(&0) {
            return Ok(None);
        }
        if !first.trim_ascii_start().starts_with(b"{") {
            return Ok(None);
        }
        if length > MAX_HEADER {
            return malformed(format!("no index of tensors takes {length} bytes"));
        }
        let mut text = first.to_vec();
        text.reserve_exact(length as usize - text.len());
        file.take(length - 8).read_to_end(&mut text)?;
        check_members(&text, 2 * length)?;
        let text: Text = match serde_json::from_slice(&text) {
            Ok(text) => text,
            Err(error) => return malformed(format!("no index of tensors: {error}")),
        };
        for file in text.weight_map.values() {
            let mut steps = Path::new(file).components();
            // A file beside the index, and nowhere else.
            if !matches!((steps.next(), steps.next()), (Some(Component::Normal(name)), None) if name == file.as_str())
            {
                return malformed(format!("`{file}` is not the name of a file beside it"));
            }
        }
        let metadata = text.metadata.into_iter().map(|(key, value)| match value {
            Json::String(text) => (key, text),
            other => (key, other.to_string()),
        });
        Ok(Some(Self { metadata: metadata.collect(), map: text.weight_map }))
    }

    /// The text of an index: where every tensor is, how many bytes all take, and what else is to be said.
    pub(crate) fn text(
        map: BTreeMap<String, String>,
        total_size: u64,
        metadata: impl IntoIterator<Item = (String, String)>,
    ) -> serde_json::Result<String> {
        let metadata = metadata.into_iter().map(|(key, value)| (key, Json::from(value)));
        let metadata = metadata.chain([("total_size".to_owned(), total_size.into())]).collect();
        serde_json::to_string_pretty(&Text { metadata, weight_map: map })
    }

    pub(crate) fn files(&self) -> BTreeSet<&str> {
        self.map.values().map(String::as_str).collect()
    }

    /// The tensors of a file, of which the index must say that they are there.
    pub(crate) fn take(
        &self,
        file: &str,
        tensors: BTreeMap<String, Place>,
    ) -> Result<BTreeMap<String, Place>, Refused> {
        match tensors.keys().find(|name| self.map.get(*name).is_none_or(|known| known != file)) {
            Some(name) => malformed(format!("it does not say that the tensor `{name}` is in `{file}`")),
            None => Ok(tensors),
        }
    }

    /// That every tensor is there.
    pub(crate) fn check(&self, tensors: &BTreeMap<String, Place>) -> Result<(), Refused> {
        match self.map.iter().find(|(name, _)| !tensors.contains_key(*name)) {
            Some((name, file)) => malformed(format!("`{file}` lacks the tensor `{name}`")),
            None => Ok(()),
        }
    }
}
