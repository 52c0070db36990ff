use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Seek, SeekFrom, Write};

use bridge_graph::{Program, Visit, split_dyn};
use bridge_random::{KeyArray, Scheme};
use bridge_vars::{Error, Leaf, Path, Result, State, Value, Variables};
use candle_core::{Device, Tensor};
use rayon::prelude::*;
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use super::CheckpointError;
use super::checksum::{self, TensorSum, UNKNOWN};
use super::description::{Description, Host, KEY, LeafEntry, Part, RESERVED, VERSION};
use super::shards::Shards;
use crate::files::{Index, MAX_HEADER, check_members, with_bytes, write_atomically};

/// A file to be: parts with names, each a module, a state or variables.
///
/// A part is a snapshot of the moment when it was added. Read the file with
/// [`CheckpointFile`](crate::CheckpointFile).
///
/// ```
/// use bridge_graph::StatefulModule;
/// use bridge_train::{AdamW, Checkpoint, CheckpointFile, Optimizer};
/// use bridge_vars::{Filter, Param};
/// use candle_core::{Device, Tensor};
///
/// #[derive(StatefulModule)]
/// struct Scale { factor: Param, power: u32 }
///
/// let scale = Scale { factor: Param::new(Tensor::new(2f32, &Device::Cpu)?), power: 3 };
/// let mut optimizer = Optimizer::for_module(AdamW::new(1e-3), &scale, Filter::of::<Param>())?;
/// # let directory = tempfile::tempdir().map_err(bridge_vars::Error::new)?;
/// # let path = directory.path().join("training.safetensors");
/// Checkpoint::new().module("model", &scale)?.state("optimizer", &optimizer.state())?.save(&path)?;
///
/// let file = CheckpointFile::open(&path, &Device::Cpu)?;
/// optimizer.restore(&file.state("optimizer")?)?;
/// let scale: Scale = file.module("model")?;
/// assert_eq!((scale.power, scale.factor.value()?.to_scalar::<f32>()?), (3, 2.));
/// # Ok::<(), bridge_vars::Error>(())
/// ```
///
#[doc = include_str!("../../docs/checkpoint-format.md")]
#[doc(alias("orbax", "save_checkpoint", "state_dict"))]
#[derive(Clone, Debug, Default)]
pub struct Checkpoint {
    parts: BTreeMap<String, Part>,
    tensors: BTreeMap<String, Tensor>,
}

impl Checkpoint {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// With a module: its description and all of its state.
    ///
    /// The part `""` has its tensors under their bare paths.
    ///
    /// # Errors
    /// If a static value can not be stored, or the names are taken: [`CheckpointError::PartTwice`],
    /// [`CheckpointError::NameTaken`].
    pub fn module<M: Visit + ?Sized>(self, part: &str, module: &M) -> Result<Self> {
        let (program, state) = split_dyn(module)?;
        let graphdef = program.encode()?;
        self.with(part, state.iter(), |leaves| Part::Module { graphdef, leaves })
    }

    /// With a state.
    ///
    /// # Errors
    /// [`CheckpointError::Opaque`] for a leaf that has no form in a file; and if the names are taken.
    pub fn state(self, part: &str, state: &State) -> Result<Self> {
        self.with(part, state.iter(), |leaves| Part::State { leaves })
    }

    /// With variables; their tensors' names have the collection between the part and the path.
    ///
    /// # Errors
    /// [`CheckpointError::Opaque`] for a leaf that has no form in a file; and if the names are taken.
    pub fn variables(self, part: &str, variables: &Variables) -> Result<Self> {
        self.with(part, variables.iter(), |leaves| Part::Variables { leaves })
    }

    fn with<'a>(
        mut self,
        part: &str,
        leaves: impl Iterator<Item = (Path, &'a Leaf)>,
        make: impl FnOnce(Vec<Box<LeafEntry>>) -> Part,
    ) -> Result<Self> {
        let mut entries = Vec::new();
        for (path, leaf) in leaves {
            let (host, tensor) = stored(part, &path, &leaf.value)?;
            let (kind, collection) = (leaf.kind.name().to_owned(), leaf.kind.collection().to_owned());
            let entry =
                LeafEntry { path, kind, collection, metadata: leaf.metadata.clone(), host, crc32: None };
            if let (Some(name), Some(tensor)) = (entry.tensor_name(part), tensor) {
                if name == RESERVED || self.tensors.contains_key(&name) {
                    let (part, path) = (part.to_owned(), entry.path);
                    return Err(CheckpointError::NameTaken { part, path, name }.into());
                }
                self.tensors.insert(name, tensor);
            }
            entries.push(Box::new(entry));
        }
        let made = make(entries);
        if made.is_too_deep() {
            return Err(CheckpointError::TooDeep { part: part.into() }.into());
        }
        match self.parts.insert(part.to_owned(), made) {
            None => Ok(self),
            Some(_) => Err(CheckpointError::PartTwice { part: part.into() }.into()),
        }
    }

    /// Writes the file, whole or not at all: if this fails, or the machine does, what was there before is
    /// still there. The same content gives the same bytes.
    ///
    /// # Errors
    /// [`CheckpointError::Io`]; [`CheckpointError::Header`] for metadata that could not be read back.
    pub fn save(&self, path: impl AsRef<std::path::Path>) -> Result<()> {
        let path = path.as_ref();
        let tensors = self.in_order();
        // Checksums take up as much room once they are known: they are computed while the tensors are written.
        let unknown = tensors.iter().map(|(name, _)| (*name, UNKNOWN.to_owned())).collect();
        let begin = begin(&tensors, Some(self.description(&unknown)?))?;
        let written = write_atomically(path, |out| {
            out.write_all(&begin)?;
            let file = *out.get_ref();
            let (written, sums) = rayon::join(
                || write_tensors(out, &tensors),
                || {
                    let sums = checksums(&tensors);
                    // What is written by now is on its way to the disk while the rest is written. Whether all of it
                    // arrives is asked in the end.
                    let _ = file.sync_data();
                    sums
                },
            );
            written?;
            let known = sums.and_then(|sums| self::begin(&tensors, Some(self.description(&sums)?)));
            out.seek(SeekFrom::Start(0))?;
            out.write_all(&known.map_err(io::Error::other)?)
        });
        written.map_err(|source| refused(path, source))
    }

    /// Writes several files of at most so many bytes of tensors each, or of one tensor that takes more, and
    /// their index, as `model.safetensors.index.json`, under the name that is given: whole or not at all.
    ///
    /// The files lie beside the index, and have names that begin as its name does and go on with a checksum. Those
    /// that the index had before are removed once the new one is there. One program at a time can save to an index.
    ///
    /// # Errors
    /// Those of [`Checkpoint::save`].
    pub fn save_sharded(&self, index: impl AsRef<std::path::Path>, largest: u64) -> Result<()> {
        let index = index.as_ref();
        if index.is_symlink() {
            let source = io::Error::other("it is a link: save beside what it leads to");
            return Err(refused(index, source));
        }
        let tensors = self.in_order();
        let description = self.description(&checksums(&tensors)?)?;
        let (mut groups, mut filled) = (Vec::<Vec<_>>::new(), 0);
        for tensor in tensors {
            let length = byte_length(tensor.1);
            match groups.last_mut() {
                Some(group) if filled + length <= largest => group.push(tensor),
                _ => {
                    groups.push(vec![tensor]);
                    filled = 0;
                }
            }
            filled += length;
        }
        let shards = Shards::new(index, &description, groups.iter().map(Vec::len));
        let old = shards.listed();
        let (mut map, mut total) = (BTreeMap::new(), 0);
        let mut new = BTreeSet::new();
        for (number, group) in groups.iter().enumerate() {
            let name = shards.name(number + 1, groups.len());
            let path = index.with_file_name(&name);
            let begin = begin(group, None)?;
            let written = write_atomically(&path, |out| {
                out.write_all(&begin)?;
                write_tensors(out, group)
            });
            written.map_err(|source| refused(&path, source))?;
            map.extend(group.iter().map(|(tensor, _)| ((*tensor).to_owned(), name.clone())));
            total += group.iter().map(|(_, tensor)| byte_length(tensor)).sum::<u64>();
            new.insert(name);
        }
        let text = Index::text(map, total, [(KEY.to_owned(), description)])
            .map_err(|error| CheckpointError::Header { reason: error.to_string() })?;
        write_atomically(index, |out| out.write_all(text.as_bytes()))
            .map_err(|source| refused(index, source))?;
        for name in old.difference(&new) {
            // One that can not be removed takes room, and harms nothing.
            let _ = std::fs::remove_file(index.with_file_name(name));
        }
        Ok(())
    }

    /// In safetensors' own order: widest elements first, so that all are aligned.
    fn in_order(&self) -> Vec<(&str, &Tensor)> {
        let mut tensors: Vec<_> = self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        tensors.sort_by_key(|(name, tensor)| (Reverse(Dtype::from(tensor.dtype())), *name));
        tensors
    }

    fn description(&self, checksums: &BTreeMap<&str, String>) -> Result<String> {
        let mut parts = self.parts.clone();
        for (part, described) in &mut parts {
            for leaf in described.leaves_mut() {
                leaf.crc32 = leaf.tensor_name(part).and_then(|name| checksums.get(name.as_str()).cloned());
            }
        }
        let unreadable = |reason: String| CheckpointError::Header { reason };
        let text = |error: serde_json::Error| unreadable(error.to_string());
        let description = Description { version: VERSION, crc32: UNKNOWN.into(), parts };
        let json = serde_json::to_string(&description).map_err(text)?;
        // serde_json writes any depth, but does not read any depth.
        serde_json::from_str::<Description>(&json).map_err(text)?;
        let length = self.tensors.values().map(byte_length).sum::<u64>() + json.len() as u64;
        check_members(json.as_bytes(), length).map_err(|refused| unreadable(refused.to_string()))?;
        Ok(json.replacen(UNKNOWN, &checksum::of_description(&json, UNKNOWN), 1))
    }
}

fn write_tensors(out: &mut impl Write, tensors: &[(&str, &Tensor)]) -> io::Result<()> {
    tensors.iter().try_for_each(|(_, tensor)| {
        with_bytes(tensor, |bytes| out.write_all(bytes)).map_err(io::Error::other)?
    })
}

/// What stands before the tensors.
fn begin(tensors: &[(&str, &Tensor)], description: Option<String>) -> Result<Vec<u8>> {
    let refused = |reason: String| CheckpointError::Header { reason };
    let mut end = 0usize;
    let infos = tensors.iter().map(|(name, tensor)| {
        let (dtype, start) = (Dtype::from(tensor.dtype()), end);
        end += byte_length(tensor) as usize;
        let info = TensorInfo { dtype, shape: tensor.dims().to_vec(), data_offsets: (start, end) };
        ((*name).to_owned(), info)
    });
    let infos = infos.collect();
    let metadata = description.map(|json| [(KEY.to_owned(), json)].into_iter().collect());
    let metadata = Metadata::new(metadata, infos).map_err(|error| refused(error.to_string()))?;
    let mut header = serde_json::to_vec(&metadata).map_err(|error| refused(error.to_string()))?;
    header.resize(header.len().next_multiple_of(8), b' ');
    let length = header.len() as u64;
    match length > MAX_HEADER {
        true => Err(refused(format!("its description takes {length} bytes")).into()),
        false => Ok([&length.to_le_bytes()[..], &header].concat()),
    }
}

fn checksums<'a>(tensors: &[(&'a str, &Tensor)]) -> Result<BTreeMap<&'a str, String>> {
    let sums = tensors.par_iter().map(|(name, tensor)| {
        let mut sum = TensorSum::new(Dtype::from(tensor.dtype()), tensor.dims());
        with_bytes(tensor, |bytes| sum.see(bytes))?;
        Ok((*name, sum.finish()))
    });
    sums.collect()
}

fn byte_length(tensor: &Tensor) -> u64 {
    (tensor.elem_count() * Dtype::from(tensor.dtype()).bitsize()).div_ceil(8) as u64
}

fn refused(path: &std::path::Path, source: io::Error) -> Error {
    CheckpointError::Io { file: path.into(), action: "write", source }.into()
}

/// What stands for a value in the description and among the tensors.
fn stored(part: &str, path: &Path, value: &Value) -> Result<(Option<Host>, Option<Tensor>)> {
    Ok(match value {
        Value::Tensor(tensor) => (None, Some(tensor.get().clone())),
        Value::Key(key) => stored_keys(part, path, &(*key).into())?,
        Value::Keys(keys) => stored_keys(part, path, keys)?,
        Value::Count(count) => (Some(Host::Count), Some(Tensor::new(*count, &Device::Cpu)?)),
        Value::Counts(counts) => {
            let tensor = Tensor::from_slice(counts.elements(), counts.dims(), &Device::Cpu)?;
            (Some(Host::Count), Some(tensor))
        }
        Value::Described(described) => {
            let (part, path, form) = (part.to_owned(), path.clone(), described.form().to_string());
            return Err(CheckpointError::NotMade { part, path, form }.into());
        }
        other => match other.opaque::<Program>() {
            Ok(program) => (Some(Host::Graphdef(program.encode()?)), None),
            Err(_) => {
                let (part, path, found) = (part.to_owned(), path.clone(), other.kind());
                return Err(CheckpointError::Opaque { part, path, found }.into());
            }
        },
    })
}

fn stored_keys(part: &str, path: &Path, keys: &KeyArray) -> Result<(Option<Host>, Option<Tensor>)> {
    let host = match keys.elements() {
        [first, rest @ ..] if rest.iter().any(|key| key.scheme() != first.scheme()) => {
            let (part, path) = (part.to_owned(), path.clone());
            return Err(CheckpointError::MixedKeys { part, path }.into());
        }
        [key, ..] if key.scheme() != Scheme::default() => Host::LegacyKey,
        _ => Host::Key,
    };
    let words: Vec<u32> = keys.elements().iter().flat_map(|key| key.words()).collect();
    let dims = [keys.dims(), &[2]].concat();
    Ok((Some(host), Some(Tensor::from_vec(words, dims, &Device::Cpu)?)))
}
