use std::fmt;

use bridge_vars::{Error, Path};

/// What can go wrong when a module is split, merged, updated, drawn from or differentiated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GraphError {
    /// A state does not fit a module.
    #[error("{0}")]
    Misfit(Misfit),
    /// A `GraphDef` describes something else than the type that it is to become.
    #[error("{}the `GraphDef` has {found}, the type expects {expected}", at(.path))]
    Structure {
        /// Where.
        path: Path,
        /// What the type expects there.
        expected: String,
        /// What the `GraphDef` has there.
        found: String,
    },
    /// A static value can not be written, or does not read back as what it was.
    #[error(
        "{}the static value {value} can not be stored in a file: {reason}; give it a type whose \
         serde form keeps it", at(.path)
    )]
    Static {
        /// Where.
        path: Path,
        /// The value, as it prints.
        value: String,
        /// Why not.
        reason: String,
    },
    /// There is no random stream of that name, and no `default` stream.
    #[error(
        "no random stream `{stream}`, found {}: add it, `Rngs::new(0).with_stream(\"{stream}\", 1)`, or a \
         `default`; inside a functional call, pass a key for it, `[(\"{stream}\", key)]`", found(.available)
    )]
    StreamNotFound {
        /// The name that was asked for.
        stream: String,
        /// The names that exist.
        available: Vec<String>,
    },
    /// The call gave no key for a random stream that was drawn from.
    #[error(
        "the call gave no key for the random stream `{stream}`: pass one, `[(\"{stream}\", key)]`, or switch \
         to evaluation"
    )]
    StreamSealed {
        /// The stream's name.
        stream: String,
    },
    /// A random stream that holds a batch of keys was drawn from.
    #[error(
        "the random stream `{stream}` holds a batch of keys of shape {shape:?}: draw from one of its lanes, \
         `stream.lanes()?`, or restore what it was split from"
    )]
    StreamBatched {
        /// The stream's name.
        stream: String,
        /// The shape of its keys.
        shape: Vec<usize>,
    },
    /// A random stream has no lanes, or not as many as another.
    #[error(
        "the random stream `{stream}` has keys of shape {shape:?}: expected a batch of {expected} lanes, \
         as `split` makes"
    )]
    StreamLanes {
        /// The stream's name.
        stream: String,
        /// The shape of its keys.
        shape: Vec<usize>,
        /// How many lanes were expected.
        expected: String,
    },
    /// None of the random streams holds a batch of keys.
    #[error("no random stream holds a batch of keys, found {}: make one, `rngs.split(3)?`", found(.available))]
    NoLanes {
        /// The names of the streams.
        available: Vec<String>,
    },
    /// A stream that holds a batch of keys was to start again from a single one.
    #[error(
        "the random stream `{stream}` holds a batch of keys of shape {shape:?}, which a single key does not start: split the \
         new key, `reseed_with(module, ReseedPolicy::MatchShape, ..)`, or restore what the stream was split from"
    )]
    ReseedBatched {
        /// The stream's name.
        stream: String,
        /// The shape of its keys.
        shape: Vec<usize>,
    },
    /// A batch of keys was given to start streams from.
    #[error("the seed of `{stream}` is a batch of keys of shape {shape:?}: expected a seed or one key")]
    SeedBatched {
        /// The name that it was given for.
        stream: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// A random stream's key and count are not what a stream has.
    #[error(
        "the random stream `{stream}` has {key} with {count}: expected a key with a count, or as many of both"
    )]
    StreamForm {
        /// The stream's name.
        stream: String,
        /// What stands for its key.
        key: String,
        /// What stands for its count.
        count: String,
    },
    /// Parameters that the filter matched took no part in the loss.
    #[error(
        "no gradient reached {}: leave them out of the filter, or find where the graph was cut \
         (`detach`, or an operator of candle's without a backward)",
        list(.paths)
    )]
    MissingGradients {
        /// The parameters' paths.
        paths: Vec<Path>,
    },
    /// The filter of a gradient matched nothing.
    #[error(
        "the filter `{filter}` matches no variable to take gradients with respect to: \
         `Filter::of::<Param>()` matches the parameters"
    )]
    NothingToDifferentiate {
        /// The filter.
        filter: String,
    },
    /// A gradient was asked of something else than one number.
    #[error("a loss must be one number, found shape {shape:?}: take its mean or sum")]
    LossNotScalar {
        /// The shape that was found.
        shape: Vec<usize>,
    },
    /// A file names a module type that the program did not register.
    #[error("no module type `{name}` is registered, found {}: add `.with::<{name}>()`", found(.available))]
    UnknownModule {
        /// The type's name.
        name: String,
        /// The names that are registered.
        available: Vec<String>,
    },
}

impl From<GraphError> for Error {
    fn from(error: GraphError) -> Self {
        Error::new(error)
    }
}

/// Everything in which a state and a module differ, all at once.
#[derive(Debug, Default)]
pub struct Misfit {
    /// Paths that the module has and the state lacks.
    pub missing: Vec<Path>,
    /// Paths that the state has and the module lacks.
    pub unexpected: Vec<Path>,
    /// Paths that both have, with different types, shapes or dtypes.
    pub mismatched: Vec<Mismatch>,
}

/// One value that is not what its place expects.
#[derive(Debug)]
pub struct Mismatch {
    /// Where.
    pub path: Path,
    /// What the module expects.
    pub expected: String,
    /// What the state holds.
    pub found: String,
}

impl Misfit {
    /// True if nothing differs.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.mismatched.is_empty()
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the state does not fit the module")?;
        for path in &self.missing {
            write!(f, "\n  missing `{path}`")?;
            // A missing path and an unexpected one with the same end are most likely one that was renamed.
            if let Some(close) = self.unexpected.iter().find(|other| other.last() == path.last()) {
                write!(f, " (is `{close}` meant?)")?;
            }
        }
        for path in &self.unexpected {
            write!(f, "\n  unexpected `{path}`")?;
        }
        for Mismatch { path, expected, found } in &self.mismatched {
            write!(f, "\n  `{path}`: expected {expected}, found {found}")?;
        }
        f.write_str(
            "\nbuild the module as it was for this state, or rename, replace or drop the state's entries",
        )
    }
}

fn at(path: &Path) -> String {
    if path.is_empty() { String::new() } else { format!("at `{path}`: ") }
}

fn list(paths: &[Path]) -> String {
    paths.iter().map(|path| format!("`{path}`")).collect::<Vec<_>>().join(", ")
}

fn found(names: &[String]) -> String {
    match names {
        [] => "none".into(),
        names => names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
    }
}
