use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bridge_graph::{
    BareTensor, Field, GraphDef, GraphError, GraphNode, Mismatch, Program, Registry, StatefulModule, Visit,
    iter_graph, merge, update,
};
use bridge_random::{CountArray, Key, KeyArray, Scheme};
use bridge_vars::{Leaf, Opaque, Result, State, Tree, VariableType, Variables};
use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;
use serde_json::Value as Json;

use super::CheckpointError;
use super::checksum::TensorSum;
use super::description::{Description, Host, KEY, LeafEntry, Part, Unreadable, VERSION};
use crate::TensorFile;
use crate::files::check_members;
use crate::fit::{describe, differences, placed};

/// A file that a [`Checkpoint`](crate::Checkpoint) wrote, open for reading.
///
/// Opening reads and checks the description; tensors are read, and compared with their checksums, when a part
/// is asked for. Nothing that a file
/// may hold is executed or makes this panic, and no more is allocated than its length justifies.
#[derive(Debug)]
pub struct CheckpointFile {
    device: Device,
    /// What floating point numbers become.
    float_dtype: Option<DType>,
    tensors: TensorFile,
    parts: BTreeMap<String, Part>,
}

impl CheckpointFile {
    /// Opens a file, whose tensors go to `device`.
    ///
    /// # Errors
    /// [`CheckpointError::Io`], [`CheckpointError::Malformed`], [`CheckpointError::Foreign`],
    /// [`CheckpointError::NewerVersion`].
    pub fn open(path: impl AsRef<Path>, device: &Device) -> Result<Self> {
        Self::of(TensorFile::open(path)?, device)
    }

    /// The same, with the file mapped into memory.
    ///
    /// # Errors
    /// Those of [`CheckpointFile::open`].
    ///
    /// # Safety
    /// No program may change or shorten the file as long as this lives. [`CheckpointFile::open`] needs no such promise.
    #[allow(unsafe_code, reason = "a file that is mapped can change under the program")]
    pub unsafe fn open_mapped(path: impl AsRef<Path>, device: &Device) -> Result<Self> {
        // SAFETY: the caller promises the same.
        Self::of(unsafe { TensorFile::open_mapped(path) }?, device)
    }

    fn of(tensors: TensorFile, device: &Device) -> Result<Self> {
        let file = tensors.path().to_owned();
        let Some(json) = tensors.metadata().get(KEY) else {
            let tensors = tensors.places().len();
            return Err(CheckpointError::Foreign { file, tensors }.into());
        };
        check_members(json.as_bytes(), tensors.length()).map_err(|refused| tensors.refused(refused))?;
        let described = Description::read(json).and_then(|description| {
            description.check(tensors.places()).map_err(Unreadable::Malformed)?;
            Ok(description.parts)
        });
        match described {
            Ok(parts) => Ok(Self { device: device.clone(), float_dtype: None, tensors, parts }),
            Err(Unreadable::Malformed(reason)) => Err(CheckpointError::Malformed { file, reason }.into()),
            Err(Unreadable::Newer(found)) => {
                Err(CheckpointError::NewerVersion { file, found, supported: VERSION }.into())
            }
        }
    }

    /// Converts floating point tensors to a dtype when they are read, and what a module's description says of them.
    ///
    /// ```
    /// use bridge_train::{CheckpointFile, save};
    /// use bridge_vars::Param;
    /// use candle_core::{DType, Device, Tensor};
    ///
    /// # let directory = tempfile::tempdir().map_err(bridge_vars::Error::new)?;
    /// # let path = directory.path().join("model.safetensors");
    /// save(&path, &vec![Param::new(Tensor::new(2f32, &Device::Cpu)?)])?;
    /// let file = CheckpointFile::open(&path, &Device::Cpu)?.with_float_dtype(DType::BF16);
    /// let params: Vec<Param> = file.module("")?;
    /// assert_eq!(params[0].value()?.dtype(), DType::BF16);
    /// # Ok::<(), bridge_vars::Error>(())
    /// ```
    #[must_use]
    pub fn with_float_dtype(mut self, dtype: DType) -> Self {
        self.float_dtype = Some(dtype);
        self
    }

    /// The names of the parts, in order.
    pub fn parts(&self) -> impl Iterator<Item = &str> {
        self.parts.keys().map(String::as_str)
    }

    /// Takes the values of a part, a module or a state, over into a module's variables, in place. They move
    /// to the devices that the variables are on.
    ///
    /// The part must have all variables of the module and no others, with their types, shapes and dtypes,
    /// and a bare tensor of the module must be the one in the file. Nothing is changed unless all fits.
    ///
    /// # Errors
    /// [`CheckpointError::Part`] with [`GraphError::Misfit`], which lists everything that does not fit; and those
    /// of [`CheckpointFile::state`].
    #[doc(alias("load_state_dict", "restore"))]
    pub fn load_into<M: Visit + ?Sized>(&self, part: &str, module: &M) -> Result<()> {
        let found = self.state(part)?;
        self.in_part(part, || {
            let (mut expected, mut constants) = (State::default(), State::default());
            iter_graph(module, |path, node| {
                match node {
                    GraphNode::Variable(variable) => expected.insert(path, variable.leaf()?)?,
                    GraphNode::Tensor(tensor) => constants.insert(path, BareTensor::leaf(tensor))?,
                    _ => None,
                };
                Ok(())
            })?;
            let mut misfit = differences(&State::merge([expected.clone(), constants.clone()])?, &found);
            for (path, leaf) in constants.iter() {
                let known = misfit.mismatched.iter().any(|mismatch| mismatch.path == path);
                if let Some(other) = found.tree().get(&path)
                    && !known
                    && !leaf.identical(other)?
                {
                    misfit.mismatched.push(Mismatch {
                        path,
                        expected: format!(
                            "{} with the module's own values, as it is no variable",
                            describe(leaf)
                        ),
                        found: "other values".into(),
                    });
                }
            }
            match misfit.is_empty() {
                true => update(module, &placed(&expected, &found)?),
                false => Err(GraphError::Misfit(misfit).into()),
            }
        })
    }

    /// A module, built from the file alone.
    ///
    /// # Errors
    /// [`CheckpointError::Part`] if it is not an `M`; and those of [`CheckpointFile::state`].
    pub fn module<M: Field>(&self, part: &str) -> Result<M> {
        let (program, state) = self.split(part)?;
        self.in_part(part, || merge(&GraphDef::from_program(Arc::new(program)), &state))
    }

    /// The same, where the module contains boxed ones: those of the registry.
    ///
    /// # Errors
    /// [`CheckpointError::Part`] if it is not an `M`, or the registry lacks a type; and those of
    /// [`CheckpointFile::state`].
    pub fn module_with<M: Field>(&self, part: &str, registry: &Registry) -> Result<M> {
        let (program, state) = self.split(part)?;
        self.in_part(part, || registry.merge(&GraphDef::from_program(Arc::new(program)), &state))
    }

    /// A module of any type that the registry knows, built from the file alone.
    ///
    /// # Errors
    /// [`CheckpointError::Part`] if the registry does not know it; and those of [`CheckpointFile::state`].
    pub fn rebuild(&self, part: &str, registry: &Registry) -> Result<Box<dyn StatefulModule>> {
        let (program, state) = self.split(part)?;
        self.in_part(part, || registry.rebuild(&program, &state))
    }

    fn split(&self, part: &str) -> Result<(Program, State)> {
        match self.part(part)? {
            Part::Module { graphdef, leaves } => {
                // The description first: its types are then those of the leaves.
                let program = self.in_part(part, || self.program(graphdef))?;
                Ok((program, self.tree(part, leaves)?.into()))
            }
            other => Err(self.kind(part, Part::MODULE, other)),
        }
    }

    /// A state, or the state of a module.
    ///
    /// # Errors
    /// [`CheckpointError::PartNotFound`], [`CheckpointError::PartKind`], [`CheckpointError::Damaged`]; and if the
    /// file can not be read.
    pub fn state(&self, part: &str) -> Result<State> {
        match self.part(part)? {
            Part::State { leaves } | Part::Module { leaves, .. } => Ok(self.tree(part, leaves)?.into()),
            other => Err(self.kind(part, Part::STATE, other)),
        }
    }

    /// Variables.
    ///
    /// # Errors
    /// [`CheckpointError::PartNotFound`], [`CheckpointError::PartKind`], [`CheckpointError::Damaged`]; and if the
    /// file can not be read.
    pub fn variables(&self, part: &str) -> Result<Variables> {
        match self.part(part)? {
            Part::Variables { leaves } => Ok(self.tree(part, leaves)?.into()),
            other => Err(self.kind(part, Part::VARIABLES, other)),
        }
    }

    fn part(&self, part: &str) -> Result<&Part> {
        self.parts.get(part).ok_or_else(|| {
            let available = self.parts().map(str::to_owned).collect();
            CheckpointError::PartNotFound {
                file: self.tensors.path().to_owned(),
                part: part.into(),
                available,
            }
            .into()
        })
    }

    fn kind(&self, part: &str, expected: &'static str, found: &Part) -> bridge_vars::Error {
        let (file, part, found) = (self.tensors.path().to_owned(), part.to_owned(), found.kind());
        CheckpointError::PartKind { file, part, expected, found }.into()
    }

    /// Says where in which file an error happened.
    fn in_part<T>(&self, part: &str, read: impl FnOnce() -> Result<T>) -> Result<T> {
        read().map_err(|source| match source.downcast_ref::<CheckpointError>() {
            Some(_) => source,
            None => CheckpointError::Part { file: self.tensors.path().to_owned(), part: part.into(), source }
                .into(),
        })
    }

    fn tree(&self, part: &str, leaves: &[Box<LeafEntry>]) -> Result<Tree<Leaf>> {
        self.in_part(part, || {
            let mut tree = Tree::default();
            let read = |entry: &LeafEntry| self.leaf(part, entry).map_err(|error| error.at(&entry.path));
            let read: Vec<_> = leaves.par_iter().map(|entry| read(entry)).collect();
            for (entry, leaf) in leaves.iter().zip(read) {
                let leaf = leaf?;
                if tree.insert(&entry.path, leaf)?.is_some() {
                    let reason = format!("`{}` of the part `{part}` is there twice", entry.path);
                    return Err(
                        CheckpointError::Malformed { file: self.tensors.path().to_owned(), reason }.into()
                    );
                }
            }
            Ok(tree)
        })
    }

    fn leaf(&self, part: &str, entry: &LeafEntry) -> Result<Leaf> {
        let value = match &entry.host {
            Some(Host::Graphdef(graphdef)) => {
                let program: Arc<dyn Opaque> = Arc::new(self.program(graphdef)?);
                program.into()
            }
            Some(Host::Key) => self.keys(part, entry, Scheme::Partitionable)?.into(),
            Some(Host::LegacyKey) => self.keys(part, entry, Scheme::Legacy)?.into(),
            Some(Host::Count) => {
                let counts = self.tensor(part, entry, &Device::Cpu)?;
                CountArray::new(counts.shape(), counts.flatten_all()?.to_vec1()?)?.into()
            }
            None => {
                let tensor = self.tensor(part, entry, &self.device)?;
                match self.float_dtype {
                    Some(dtype) if tensor.dtype().is_float() => tensor.to_dtype(dtype)?.into(),
                    _ => tensor.into(),
                }
            }
        };
        let kind = VariableType::from_name_and_collection(&entry.kind, &entry.collection);
        Ok(Leaf { kind, value, metadata: entry.metadata.clone() })
    }

    /// A batch of keys, whose words are on the last dimension; a single key has no other.
    fn keys(&self, part: &str, entry: &LeafEntry, scheme: Scheme) -> Result<KeyArray> {
        let words = self.tensor(part, entry, &Device::Cpu)?;
        let mut dims = words.dims().to_vec();
        dims.pop();
        let words = words.flatten_all()?.to_vec1::<u32>()?;
        let (pairs, _) = words.as_chunks::<2>();
        let keys = pairs.iter().map(|pair| Key::from_words(*pair).with_scheme(scheme));
        Ok(KeyArray::new(dims, keys.collect())?)
    }

    fn program(&self, graphdef: &Json) -> Result<Program> {
        let program = Program::decode(graphdef, &self.device)?;
        Ok(match self.float_dtype {
            Some(dtype) => program.with_float_dtype(dtype),
            None => program,
        })
    }

    fn tensor(&self, part: &str, entry: &LeafEntry, device: &Device) -> Result<Tensor> {
        let name = entry.tensor_name(part).unwrap_or_default();
        let Some(place) = self.tensors.places().get(&name) else {
            let reason = format!("it lacks the tensor `{name}` that it describes");
            return Err(self.tensors.malformed(reason).into());
        };
        let mut sum = TensorSum::new(place.dtype, &place.shape);
        let tensor = self.tensors.tensor_seen(&name, device, |bytes| sum.see(bytes))?;
        match entry.crc32.as_ref() == Some(&sum.finish()) {
            true => Ok(tensor),
            false => {
                let file = self.tensors.path().to_owned();
                Err(CheckpointError::Damaged { file, tensor: name }.into())
            }
        }
    }
}
