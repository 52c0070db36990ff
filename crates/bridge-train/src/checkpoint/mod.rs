//! One file that holds modules, states and variables, and describes itself.

mod builder;
mod checksum;
mod description;
mod error;
mod file;
mod shards;
mod short;

pub use builder::Checkpoint;
pub use error::CheckpointError;
pub use file::CheckpointFile;
pub use short::{load, load_into, rebuild, save};
