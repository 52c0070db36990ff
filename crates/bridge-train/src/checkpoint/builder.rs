use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};

use bridge_graph::{Program, Visit, split_dyn};
use bridge_random::{KeyArray, Scheme};
use bridge_vars::{Leaf, Path, Result, State, Value, Variables};
use candle_core::{Device, Tensor};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use super::CheckpointError;
use super::atomic::write_atomically;
use super::checksum::{self, Summed, UNKNOWN};
use super::description::{Description, Host, KEY, LeafEntry, Part, RESERVED, VERSION};
use super::header::MAX_HEADER;
use super::tensor_bytes::write_tensor;

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
        make: impl FnOnce(Vec<LeafEntry>) -> Part,
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
            entries.push(entry);
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
        let mut tensors: Vec<_> = self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        // safetensors' own order: widest elements first, so that all are aligned.
        tensors.sort_by_key(|(name, tensor)| (Reverse(Dtype::from(tensor.dtype())), *name));
        let mut checksums = BTreeMap::new();
        let header =
            self.header(&tensors, &checksums).map_err(|reason| CheckpointError::Header { reason })?;
        let written = write_atomically(path, |out| {
            out.write_all(&(header.len() as u64).to_le_bytes())?;
            out.write_all(&header)?;
            for (name, tensor) in &tensors {
                let mut summed = Summed::new(&mut *out, tensor.dtype(), tensor.dims());
                // candle writes element by element.
                let mut buffered = BufWriter::with_capacity(1 << 16, &mut summed);
                write_tensor(tensor, &mut buffered)?;
                buffered.flush()?;
                drop(buffered);
                checksums.insert(*name, summed.checksum());
            }
            // Checksums are known only now; with them the header is as long as it was.
            out.seek(SeekFrom::Start(8))?;
            out.write_all(&self.header(&tensors, &checksums).map_err(io::Error::other)?)
        });
        written.map_err(|source| CheckpointError::Io { file: path.into(), action: "write", source }.into())
    }

    fn header(
        &self,
        tensors: &[(&str, &Tensor)],
        checksums: &BTreeMap<&str, String>,
    ) -> Result<Vec<u8>, String> {
        let json = self.description(checksums).map_err(|error| error.to_string())?;
        let mut end = 0usize;
        let infos = tensors.iter().map(|(name, tensor)| {
            let (dtype, start) = (Dtype::from(tensor.dtype()), end);
            end += (tensor.elem_count() * dtype.bitsize()).div_ceil(8);
            let info = TensorInfo { dtype, shape: tensor.dims().to_vec(), data_offsets: (start, end) };
            ((*name).to_owned(), info)
        });
        let infos = infos.collect();
        let metadata = Metadata::new(Some([(KEY.to_owned(), json)].into_iter().collect()), infos);
        let metadata = metadata.map_err(|error| error.to_string())?;
        let mut header = serde_json::to_vec(&metadata).map_err(|error| error.to_string())?;
        header.resize(header.len().next_multiple_of(8), b' ');
        match header.len() as u64 > MAX_HEADER {
            true => Err(format!("its description takes {} bytes", header.len())),
            false => Ok(header),
        }
    }

    fn description(&self, checksums: &BTreeMap<&str, String>) -> serde_json::Result<String> {
        let mut parts = self.parts.clone();
        for (part, described) in &mut parts {
            for leaf in described.leaves_mut() {
                let checksum =
                    |name: String| checksums.get(name.as_str()).map_or(UNKNOWN, String::as_str).into();
                leaf.crc32 = leaf.tensor_name(part).map(checksum);
            }
        }
        let json = serde_json::to_string(&Description { version: VERSION, crc32: UNKNOWN.into(), parts })?;
        // serde_json writes any depth, but does not read any depth.
        serde_json::from_str::<Description>(&json)?;
        Ok(json.replacen(UNKNOWN, &checksum::of_description(&json, UNKNOWN), 1))
    }
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
