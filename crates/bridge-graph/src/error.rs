use std::fmt;

use bridge_vars::{Error, Path, Result};

use crate::Policy;

/// What can go wrong when a module is split, merged, updated, drawn from or differentiated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GraphError {
    /// A state does not fit a module.
    #[error("{0}")]
    Misfit(Misfit),
    /// A weak reference leads to a part that is not in the module.
    #[error(
        "{} to a part outside of the module: put the part into the module, as a `Shared` one, or set the reference \
         to nothing", weak(.paths)
    )]
    WeakOutside {
        /// The references' paths.
        paths: Vec<Path>,
    },
    /// What was to be replaced is not one part that a walk comes to.
    #[error(
        "found {} {target} to replace: select a field, an item or the inside of an `Option` or `Shared`, or name its \
         path, `replace_at(&module, \"layers.0\", ..)`", places(.found)
    )]
    NotSelected {
        /// What was selected.
        target: String,
        /// Where such a thing is.
        found: Vec<Path>,
    },
    /// No module that was meant has a flag that was to be set.
    #[error("no module {filter} has a flag {}: name other modules, or other flags", flags(.names))]
    NothingToSet {
        /// Which modules were meant.
        filter: String,
        /// The names of the flags.
        names: Vec<String>,
    },
    /// Variables that were to be taken out must be where they are.
    #[error(
        "{} can not be taken out, because nothing else can be there: make the field an `Option`, or leave it out of the \
         filter", list(.paths)
    )]
    NotOptional {
        /// Where.
        paths: Vec<Path>,
    },
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
    #[error("no module type `{name}` is registered, found {}: add {remedy}", found(.available))]
    UnknownModule {
        /// The type's name.
        name: String,
        /// The names that are registered.
        available: Vec<String>,
        /// How to register it.
        remedy: String,
    },
}

impl From<GraphError> for Error {
    fn from(error: GraphError) -> Self {
        Error::new(error)
    }
}

/// Everything in which a state and a module differ, all at once.
#[derive(Clone, Debug, Default)]
pub struct Misfit {
    /// Paths that the module has and the state lacks.
    pub missing: Vec<Path>,
    /// Paths that the state has and the module lacks.
    pub unexpected: Vec<Path>,
    /// Paths that both have, with different types, shapes or dtypes.
    pub mismatched: Vec<Mismatch>,
    /// What unexpected paths may have been meant to be, where nothing is said to be missing.
    meant: Vec<(Path, Path)>,
}

/// One value that is not what its place expects.
#[derive(Clone, Debug)]
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
        self.len() == 0
    }

    /// The number of paths in which they differ.
    pub fn len(&self) -> usize {
        self.missing.len() + self.unexpected.len() + self.mismatched.len()
    }

    /// Guesses what the unexpected paths were meant to be, from the paths that there are.
    pub(crate) fn guess(&mut self, known: &[Path]) {
        let close =
            |path: &Path| Some((path.clone(), path.similar(known.iter().cloned()).into_iter().next()?));
        self.meant = self.unexpected.iter().take(SUGGESTIONS).filter_map(close).collect();
    }

    /// The report, or the error where a policy does not allow it.
    ///
    /// # Errors
    /// [`GraphError::Misfit`].
    pub fn settled(self, policy: Policy) -> Result<Self> {
        let allowed = match policy {
            Policy::Strict => self.is_empty(),
            Policy::Subset => self.unexpected.is_empty() && self.mismatched.is_empty(),
            Policy::Partial | Policy::Warn => true,
        };
        if !allowed {
            return Err(GraphError::Misfit(self).into());
        }
        if policy == Policy::Warn && !self.is_empty() {
            log::warn!("{self}");
        }
        Ok(self)
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the state does not fit the module")?;
        for (number, path) in self.missing.iter().enumerate() {
            write!(f, "\n  missing `{path}`")?;
            // A missing path and an unexpected one that are alike are most likely one that was renamed. Comparing all with
            // all of two large models would take long.
            if number < SUGGESTIONS
                && let Some(close) = path.similar(self.unexpected.iter().cloned()).first()
            {
                write!(f, " (is `{close}` meant?)")?;
            }
        }
        for path in &self.unexpected {
            write!(f, "\n  unexpected `{path}`")?;
            if let Some((_, close)) = self.meant.iter().find(|(unexpected, _)| unexpected == path) {
                write!(f, " (is `{close}` meant?)")?;
            }
        }
        for Mismatch { path, expected, found } in &self.mismatched {
            write!(f, "\n  `{path}`: expected {expected}, found {found}")?;
        }
        f.write_str(
            "\nbuild the module as it was for this state, or rename, replace or drop the state's entries",
        )
    }
}

/// How many paths come with a guess at what was meant.
const SUGGESTIONS: usize = 32;

fn weak(paths: &[Path]) -> String {
    match paths {
        [one] => format!("the weak reference at `{one}` leads"),
        more => format!("the weak references at {} lead", list(more)),
    }
}

fn places(paths: &[Path]) -> String {
    match paths {
        [] => "nothing".into(),
        paths => format!("{} parts ({})", paths.len(), list(paths)),
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

fn flags(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" or ")
}
