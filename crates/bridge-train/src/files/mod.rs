//! Files of named tensors.

mod atomic;
mod header;
mod index;
mod pickle;
mod pytorch;
mod tensor_bytes;
mod tensor_file;

pub(crate) use atomic::write_atomically;
pub(crate) use header::{MAX_HEADER, Place, check_members};
pub(crate) use index::Index;
pub(crate) use tensor_bytes::with_bytes;
pub use tensor_file::TensorFile;
