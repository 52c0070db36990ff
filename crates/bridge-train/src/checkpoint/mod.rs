//! One file that holds modules, states and variables, and describes itself.

mod atomic;
mod builder;
mod checksum;
mod description;
mod error;
mod file;
mod header;
mod short;
mod tensor_bytes;

pub use builder::Checkpoint;
pub use error::CheckpointError;
pub use file::CheckpointFile;
pub use short::{load, load_as, rebuild, save};
