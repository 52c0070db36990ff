use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use bridge_vars::Result;
use candle_core::{DType, Device, Tensor};
use memmap2::Mmap;

use super::header::{Header, Place, Refused};
use super::index::Index;
use super::tensor_bytes::read_tensor;
use crate::CheckpointError;

/// Named tensors in files, whoever wrote them: a safetensors file, a `.pth` or `.bin` file of `torch.save`, or several of
/// either under an index (`model.safetensors.index.json`).
///
/// Of a file of PyTorch the tensors in dicts and lists are taken, by their paths; numbers and texts beside them are
/// [metadata](TensorFile::metadata). No code in it is executed.
///
/// Opening reads the headers; a tensor is read when it is asked for.
///
/// ```
/// use bridge_train::TensorFile;
/// use candle_core::{Device, Tensor};
///
/// # let directory = tempfile::tempdir().map_err(bridge_vars::Error::new)?;
/// # let path = directory.path().join("model.safetensors");
/// let weight = Tensor::new(&[[1f32, 2.]], &Device::Cpu)?;
/// candle_core::safetensors::save(&[("weight".to_owned(), weight)].into(), &path)?;
/// let file = TensorFile::open(&path)?;
/// assert_eq!(file.names().collect::<Vec<_>>(), ["weight"]);
/// assert_eq!(file.tensor("weight", &Device::Cpu)?.dims(), [1, 2]);
/// # Ok::<(), bridge_vars::Error>(())
/// ```
#[doc(alias("MmapedSafetensors", "SafeTensors", "safe_open"))]
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    files: Vec<(PathBuf, Data)>,
    tensors: BTreeMap<String, Place>,
    metadata: BTreeMap<String, String>,
}

#[derive(Debug)]
enum Data {
    File(File),
    Mapped(Mmap),
}

impl TensorFile {
    /// Opens a file of tensors, or the index of several.
    ///
    /// # Errors
    /// [`CheckpointError::Io`], [`CheckpointError::Malformed`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path.as_ref(), |file| Ok(Data::File(file)))
    }

    /// The same, with the files mapped into memory: a tensor's bytes are copied from there.
    ///
    /// # Errors
    /// Those of [`TensorFile::open`].
    ///
    /// # Safety
    /// No program may change or shorten the files as long as this lives. [`TensorFile::open`] needs no such promise.
    #[allow(unsafe_code, reason = "a file that is mapped can change under the program")]
    pub unsafe fn open_mapped(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path.as_ref(), |file| {
            // SAFETY: the caller promises that nothing changes the file.
            let map = unsafe { Mmap::map(&file) }?;
            Ok(Data::Mapped(map))
        })
    }

    fn open_with(path: &Path, data: impl Fn(File) -> std::io::Result<Data>) -> Result<Self> {
        let named = |path: &Path| {
            let path = path.to_owned();
            move |refused| refused_file(&path, refused)
        };
        let mut opened = Self {
            path: path.to_owned(),
            files: vec![],
            tensors: BTreeMap::new(),
            metadata: BTreeMap::new(),
        };
        match Index::read(path).map_err(named(path))? {
            None => {
                let header = opened.add(path, &data).map_err(named(path))?;
                opened.metadata = header.metadata;
                opened.tensors = header.tensors;
            }
            Some(index) => {
                for name in index.files() {
                    let file = path.with_file_name(name);
                    let header = opened.add(&file, &data).map_err(named(&file))?;
                    opened.tensors.extend(index.take(name, header.tensors).map_err(named(path))?);
                }
                index.check(&opened.tensors).map_err(named(path))?;
                opened.metadata = index.metadata;
            }
        }
        Ok(opened)
    }

    fn add(&mut self, path: &Path, data: &impl Fn(File) -> std::io::Result<Data>) -> Result<Header, Refused> {
        let file = File::open(path)?;
        let header = Header::read(&file, self.files.len())?;
        self.files.push((path.to_owned(), data(file)?));
        Ok(header)
    }

    /// The file that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names of the tensors, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The shape of a tensor.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|place| &place.shape[..])
    }

    /// The dtype of a tensor; none if candle has no such dtype.
    pub fn dtype(&self, name: &str) -> Option<DType> {
        DType::try_from(self.tensors.get(name)?.dtype).ok()
    }

    /// What the file says besides its tensors.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// How many bytes the tensors and their metadata take: what justifies memory.
    pub(crate) fn length(&self) -> u64 {
        let tensors: u64 = self.tensors.values().map(|place| place.length as u64).sum();
        tensors + self.metadata.values().map(|text| text.len() as u64).sum::<u64>()
    }

    /// Reads a tensor.
    ///
    /// # Errors
    /// [`CheckpointError::TensorNotFound`]; [`CheckpointError::Malformed`] for a dtype that candle does not have;
    /// and if the file can not be read.
    pub fn tensor(&self, name: &str, device: &Device) -> Result<Tensor> {
        self.tensor_seen(name, device, |_| {})
    }

    /// Reads a tensor, whose bytes `see` gets in order.
    pub(crate) fn tensor_seen(
        &self,
        name: &str,
        device: &Device,
        mut see: impl FnMut(&[u8]),
    ) -> Result<Tensor> {
        let Some(place) = self.tensors.get(name) else {
            let (file, tensor) = (self.path.clone(), name.to_owned());
            let available = self.names().map(str::to_owned).collect();
            return Err(CheckpointError::TensorNotFound { file, tensor, available }.into());
        };
        let Some((path, data)) = self.files.get(place.file) else {
            return Err(self.malformed(format!("`{name}` is in no file")).into());
        };
        let Ok(dtype) = DType::try_from(place.dtype) else {
            let reason = format!("no tensor of candle can be {}, as `{name}` is", place.dtype);
            return Err(self.malformed(reason).into());
        };
        let width = dtype.size_in_bytes();
        let length = match &place.strides {
            Some(_) => place.shape.iter().product::<usize>() * width,
            None => place.length,
        };
        read_tensor(dtype, &place.shape, length, device, |bytes| {
            let read = match &place.strides {
                None => data.read(place.start, bytes, &mut see),
                Some(strides) => {
                    let mut span = vec![0; place.length];
                    data.read(place.start, &mut span, &mut see)
                        .map(|()| gather(&span, &place.shape, strides, width, bytes))
                }
            };
            read.map_err(|source| CheckpointError::Io { file: path.clone(), action: "read", source }.into())
        })
    }

    pub(crate) fn malformed(&self, reason: String) -> CheckpointError {
        CheckpointError::Malformed { file: self.path.clone(), reason }
    }

    pub(crate) fn refused(&self, refused: Refused) -> CheckpointError {
        refused_file(&self.path, refused)
    }

    pub(crate) fn places(&self) -> &BTreeMap<String, Place> {
        &self.tensors
    }
}

fn refused_file(path: &Path, refused: Refused) -> CheckpointError {
    match refused {
        Refused::Io(source) => CheckpointError::Io { file: path.to_owned(), action: "read", source },
        Refused::Malformed(reason) => CheckpointError::Malformed { file: path.to_owned(), reason },
    }
}

impl Data {
    fn read(&self, start: u64, bytes: &mut [u8], see: &mut impl FnMut(&[u8])) -> std::io::Result<()> {
        // In pieces, so that what is seen is still in the processor's cache.
        const PIECE: usize = 1 << 18;
        let mut at = start;
        for piece in bytes.chunks_mut(PIECE) {
            match self {
                Self::File(file) => read_exact_at(file, piece, at)?,
                Self::Mapped(map) => {
                    let from = usize::try_from(at).ok();
                    let mapped = from.and_then(|from| map.get(from..from.checked_add(piece.len())?));
                    piece.copy_from_slice(mapped.ok_or(std::io::ErrorKind::UnexpectedEof)?);
                }
            }
            see(piece);
            at += piece.len() as u64;
        }
        Ok(())
    }
}

/// Puts elements in order, which are apart by strides.
fn gather(span: &[u8], shape: &[usize], strides: &[usize], width: usize, out: &mut [u8]) {
    let mut at = vec![0usize; shape.len()];
    for element in out.chunks_exact_mut(width) {
        let from = at.iter().zip(strides).map(|(at, stride)| at * stride).sum::<usize>() * width;
        if let Some(bytes) = span.get(from..from + width) {
            element.copy_from_slice(bytes);
        }
        for (at, dim) in at.iter_mut().zip(shape).rev() {
            *at += 1;
            if *at < *dim {
                break;
            }
            *at = 0;
        }
    }
}

#[cfg(unix)]
pub(super) fn read_exact_at(file: &File, bytes: &mut [u8], at: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, at)
}

#[cfg(windows)]
pub(super) fn read_exact_at(file: &File, mut bytes: &mut [u8], mut at: u64) -> std::io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, bytes, at)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            read => {
                bytes = bytes.get_mut(read..).unwrap_or_default();
                at += read as u64;
            }
        }
    }
    Ok(())
}
