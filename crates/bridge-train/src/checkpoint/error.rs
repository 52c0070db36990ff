use std::io;
use std::path::PathBuf;

use bridge_vars::{Error, Path};

use super::description::MAX_DEPTH;

/// What can go wrong when a checkpoint is written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The operating system refused.
    #[error("can not {action} `{}`: {source}", .file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What was to be done with it.
        action: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The file is not a safetensors file, or is damaged, or its description does not fit its tensors.
    #[error("`{}` is damaged or no checkpoint: {reason}", .file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A tensor is not the one that was saved.
    #[error(
        "`{}` is damaged: the data of its tensor `{tensor}` is not what was saved, use another copy",
        .file.display()
    )]
    Damaged {
        /// The file.
        file: PathBuf,
        /// The tensor's name in it.
        tensor: String,
    },
    /// A file that something else wrote.
    #[error(
        "`{}` is a file of {tensors} tensors without a description of modules, states or \
         variables: read its tensors with `TensorFile`", .file.display()
    )]
    Foreign {
        /// The file.
        file: PathBuf,
        /// How many tensors it holds.
        tensors: usize,
    },
    /// A later release wrote the file.
    #[error(
        "`{}` has version {found} of the format, this release reads up to {supported}: use a later release",
        .file.display()
    )]
    NewerVersion {
        /// The file.
        file: PathBuf,
        /// Its version.
        found: u64,
        /// The latest version that can be read.
        supported: u64,
    },
    /// A batch of random keys that draw in different ways.
    #[error(
        "{} of {} is a batch of keys of several schemes, which a file does not hold: give them one, \
         `keys.map(|key| key.with_scheme(scheme))`", .path, name_of(.part)
    )]
    MixedKeys {
        /// The part that it belongs to.
        part: String,
        /// Where in the part.
        path: Path,
    },
    /// The file has no such tensor.
    #[error("`{}` has no tensor `{tensor}`{}", .file.display(), closest(.tensor, .available))]
    TensorNotFound {
        /// The file.
        file: PathBuf,
        /// The name that was asked for.
        tensor: String,
        /// The names that it has.
        available: Vec<String>,
    },
    /// The file has no such part.
    #[error("`{}` has no {}, found {}", .file.display(), name_of(.part), list(.available))]
    PartNotFound {
        /// The file.
        file: PathBuf,
        /// The part that was asked for.
        part: String,
        /// The parts that it has.
        available: Vec<String>,
    },
    /// A part is something else than what it was read as.
    #[error("`{}`: {} is {found}, not {expected}", .file.display(), name_of(.part))]
    PartKind {
        /// The file.
        file: PathBuf,
        /// The part.
        part: String,
        /// What it was read as.
        expected: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// A part can not become what was asked for: a module of another type or shape, most likely.
    #[error("`{}`, {}: {source}", .file.display(), name_of(.part))]
    Part {
        /// The file.
        file: PathBuf,
        /// The part.
        part: String,
        /// What went wrong: a `GraphError`, most often.
        source: Error,
    },
    /// The tensors of a file do not fit a model.
    #[error("`{}`: {source}", .file.display())]
    Weights {
        /// The file.
        file: PathBuf,
        /// What does not fit: a `GraphError::Misfit`.
        source: Error,
    },
    /// Two parts of a checkpoint have the same name.
    #[error("the checkpoint has a part `{part}` already: give this one another name")]
    PartTwice {
        /// The name.
        part: String,
    },
    /// Two tensors of a checkpoint would have the same name, or one the name that the format keeps.
    #[error(
        "`{path}` of the part `{part}` would be stored as `{name}`, which is taken: give the part another name"
    )]
    NameTaken {
        /// The part.
        part: String,
        /// The path in it.
        path: Path,
        /// The tensor's name in the file.
        name: String,
    },
    /// A tensor that was described and is not made.
    #[error(
        "`{path}` of the part `{part}` is {form}, not made yet: `materialize` the model before it is saved"
    )]
    NotMade {
        /// The part.
        part: String,
        /// The path in it.
        path: Path,
        /// Dtype and shape.
        form: String,
    },
    /// A value that has no form in a file.
    #[error("`{path}` of the part `{part}` is {found}, which can not be stored: leave it out by a filter")]
    Opaque {
        /// The part.
        part: String,
        /// The path in it.
        path: Path,
        /// What it is.
        found: &'static str,
    },
    /// A part is nested deeper than can be read back.
    #[error("the part `{part}` is nested more than {MAX_DEPTH} deep")]
    TooDeep {
        /// The part.
        part: String,
    },
    /// The description of a checkpoint could not be read back: its metadata is nested too deeply, or it is
    /// too large for a safetensors header.
    #[error("the checkpoint could not be read back, and is not written: {reason}")]
    Header {
        /// Why.
        reason: String,
    },
}

impl From<CheckpointError> for Error {
    fn from(error: CheckpointError) -> Self {
        Error::new(error)
    }
}

fn list(parts: &[String]) -> String {
    match parts {
        [] => "none".into(),
        parts => parts.iter().map(|part| name_of(part)).collect::<Vec<_>>().join(", "),
    }
}

/// A part as it stands in messages; the short forms (`save`, `load`) write one without a name.
fn name_of(part: &str) -> String {
    match part {
        "" => "the part without a name (`\"\"`), which `save` writes".into(),
        part => format!("part `{part}`"),
    }
}

/// What may have been meant, after a message.
fn closest(name: &str, others: &[String]) -> String {
    let others = others.iter().map(|other| Path::from(other.as_str()));
    match &Path::from(name).similar(others)[..] {
        [] => String::new(),
        close => format!(
            ", did you mean {}?",
            close.iter().map(|path| format!("`{path}`")).collect::<Vec<_>>().join(" or ")
        ),
    }
}
