use std::error::Error as StdError;
use std::fmt;

use candle_core::Error as CandleError;

use crate::Path;

/// What went wrong, in any layer, with the place in the tree where it did.
///
/// Every layer has its own error enum ([`VarsError`] is this one's); an `Error` holds any of them, one
/// pointer wide, and [`Error::downcast_ref`] gives it back.
///
/// It converts to and from candle's error, so `?` works in candle's `Module::forward`, and what was
/// thrown inside comes out typed: see [`Error::from_candle`].
///
/// ```
/// use bridge_vars::{Error, Path, VarsError};
/// let error = Error::from(VarsError::PathNotFound { path: Path::from("a.b"), close: vec![] });
/// let through_candle = Error::from(candle_core::Error::from(error));
/// assert!(matches!(through_candle.downcast_ref(), Some(VarsError::PathNotFound { .. })));
/// ```
pub struct Error(Box<Located>);

struct Located {
    path: Option<Path>,
    source: Box<dyn StdError + Send + Sync>,
}

/// A result with this project's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Wraps any error.
    pub fn new(source: impl StdError + Send + Sync + 'static) -> Self {
        Self(Box::new(Located { path: None, source: Box::new(source) }))
    }

    /// The error of a layer, if it is of type `E`.
    pub fn downcast_ref<E: StdError + 'static>(&self) -> Option<&E> {
        self.0.source.downcast_ref()
    }

    /// Where in the tree of modules it happened, if the error itself does not say so.
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_ref()
    }

    /// Says where it happened, unless a place further inside is known already.
    #[must_use]
    pub fn at(mut self, path: &Path) -> Self {
        if self.0.path.is_none() {
            self.0.path = Some(path.clone());
        }
        self
    }

    /// From candle's error; gives back the original where one of ours was wrapped in it, whatever
    /// backtraces and contexts candle put around it.
    pub fn from_candle(error: CandleError) -> Self {
        match error {
            CandleError::WithBacktrace { inner, backtrace } => match is_ours(&inner) {
                true => Self::from_candle(*inner),
                false => Self::new(CandleError::WithBacktrace { inner, backtrace }),
            },
            CandleError::Context { inner, context } => match is_ours(&inner) {
                true => Self::from_candle(*inner),
                false => Self::new(CandleError::Context { inner, context }),
            },
            CandleError::WithPath { inner, path } => match is_ours(&inner) {
                true => Self::from_candle(*inner),
                false => Self::new(CandleError::WithPath { inner, path }),
            },
            CandleError::WrappedContext { wrapped, context } => match wrapped.downcast::<Self>() {
                Ok(ours) => *ours,
                Err(wrapped) => match wrapped.downcast::<CandleError>() {
                    Ok(inner) if is_ours(&inner) => Self::from_candle(*inner),
                    Ok(inner) => Self::new(CandleError::WrappedContext { wrapped: inner, context }),
                    Err(wrapped) => Self::new(CandleError::WrappedContext { wrapped, context }),
                },
            },
            other => Self::new(other),
        }
    }
}

fn is_ours(error: &CandleError) -> bool {
    match error {
        CandleError::WithBacktrace { inner, .. }
        | CandleError::Context { inner, .. }
        | CandleError::WithPath { inner, .. } => is_ours(inner),
        CandleError::WrappedContext { wrapped, .. } => {
            wrapped.is::<Error>() || wrapped.downcast_ref::<CandleError>().is_some_and(is_ours)
        }
        _ => false,
    }
}

impl From<CandleError> for Error {
    fn from(error: CandleError) -> Self {
        Self::from_candle(error)
    }
}

impl From<Error> for CandleError {
    // `WrappedContext` is the one variant that keeps the error itself, not only its text.
    fn from(error: Error) -> Self {
        CandleError::WrappedContext { wrapped: Box::new(error), context: "in a module's forward".into() }
    }
}

impl From<bridge_random::Error> for Error {
    fn from(error: bridge_random::Error) -> Self {
        Self::new(error)
    }
}

impl From<bridge_ops::Error> for Error {
    fn from(error: bridge_ops::Error) -> Self {
        Self::new(error)
    }
}

impl From<VarsError> for Error {
    fn from(error: VarsError) -> Self {
        Self::new(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.path {
            Some(path) if !path.is_empty() => write!(f, "at `{path}`: {}", self.0.source),
            _ => write!(f, "{}", self.0.source),
        }
    }
}

// candle prints a wrapped error by its `Debug`, so that has to be readable too.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&*self.0.source)
    }
}

/// What can go wrong with variables, paths and state trees.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VarsError {
    /// There is nothing at a path.
    #[error("nothing at `{path}`{}", close_names(.close))]
    PathNotFound {
        /// The path that was asked for.
        path: Path,
        /// Paths that exist and look like it.
        close: Vec<Path>,
    },
    /// A path would be a leaf and a subtree at once.
    #[error("`{path}` can not be stored beside `{other}`: a path is either a value or a group of them")]
    PathConflict {
        /// The path that was to be stored.
        path: Path,
        /// The path that is in its way.
        other: Path,
    },
    /// Two trees that were to be merged, or two collections of one tree, hold the same path.
    #[error(
        "`{path}` is there twice, as `{first}` and as `{second}`: rename one, or keep them apart by a filter"
    )]
    DuplicatePath {
        /// The path.
        path: Path,
        /// The type of the first value.
        first: &'static str,
        /// The type of the second value.
        second: &'static str,
    },
    /// A split's filters did not cover everything.
    #[error("no filter matches {}: add `Filter::Everything` as the last one, or use `filter`", list(.paths))]
    Unmatched {
        /// The paths that no filter matched.
        paths: Vec<Path>,
    },
    /// Two trees that were to be gone through together do not have the same paths.
    #[error("the two trees differ:{}{}", only("first", .first), only("second", .second))]
    DifferentPaths {
        /// The paths that only the first has.
        first: Vec<Path>,
        /// The paths that only the second has.
        second: Vec<Path>,
    },
    /// The sharding has another axis where one was to be removed.
    #[error(
        "expected the axis {index} of the sharding to be `{expected}`, found the axes [{}]",
        .names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
    )]
    ShardingAxis {
        /// Where.
        index: usize,
        /// The name that the axis was to have.
        expected: String,
        /// The names of all axes.
        names: Vec<String>,
    },
    /// Metadata keep something under the name of the sharding that is none.
    #[error(
        "expected a sharding in the metadata, found {found}: {reason}; set it by `Metadata::set_sharding`"
    )]
    Sharding {
        /// What is there.
        found: String,
        /// Why it is none.
        reason: String,
    },
    /// A file names hooks that the program did not declare.
    #[error(
        "the hooks `{name}` of a file are not known: declare them before they are used, \
         `Hooks::new(\"{name}\").on_get(..).declare()`"
    )]
    HooksUndeclared {
        /// The hooks' name.
        name: String,
    },
    /// A perturbation is of another form than the value that it is added to.
    #[error(
        "the perturbation is {found}, the value is {expected}: a perturbation is as large as the batch that it was made with; \
         make it anew for this one, or leave the perturbations out"
    )]
    PerturbationForm {
        /// Dtype and shape of the value.
        expected: String,
        /// Dtype and shape of the perturbation.
        found: String,
    },
    /// Two axes of one value have the same name.
    #[error("the name `{name}` is there twice in the sharding {names:?}: each axis takes a name of its own")]
    ShardingNameTwice {
        /// The name.
        name: String,
        /// All names; an empty one is an axis that is not spread.
        names: Vec<String>,
    },
    /// A sharding has more names than the value has axes.
    #[error("the sharding {names:?} has {} names, the value has {rank} axes", .names.len())]
    ShardingRank {
        /// All names.
        names: Vec<String>,
        /// The number of the value's axes.
        rank: usize,
    },
    /// A tensor was described, and how to make it is not known.
    #[error(
        "{form} is not made yet, and how to make it is not known: load its value, or describe it with random keys"
    )]
    NotMade {
        /// Dtype and shape.
        form: String,
    },
    /// A tensor was made of another shape or dtype than it was described.
    #[error("described as {expected}, made as {found}")]
    MadeOtherwise {
        /// What was described.
        expected: String,
        /// What was made.
        found: String,
    },
    /// A value is of another kind than the one asked for.
    #[error("expected {expected}, found {found}")]
    ValueKind {
        /// The kind that was asked for.
        expected: &'static str,
        /// The kind that is there.
        found: &'static str,
    },
}

fn close_names(close: &[Path]) -> String {
    match close.is_empty() {
        true => String::new(),
        false => format!(", did you mean {}?", list(close)),
    }
}

fn only(which: &str, paths: &[Path]) -> String {
    match paths.is_empty() {
        true => String::new(),
        false => format!(" only the {which} has {};", list(paths)),
    }
}

/// Paths as they stand in messages: quoted, the first eight, and how many more.
pub(crate) fn list(paths: &[Path]) -> String {
    let shown: Vec<String> = paths.iter().take(8).map(|path| format!("`{path}`")).collect();
    match paths.len().checked_sub(8) {
        Some(more) if more > 0 => format!("{} and {more} more", shown.join(", ")),
        _ => shown.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Context as _;

    fn ours() -> Error {
        Error::from(VarsError::PathNotFound { path: Path::from("a"), close: vec![Path::from("b")] })
    }

    #[test]
    fn survives_candle_in_every_wrapping() {
        for wrapped in [
            CandleError::from(ours()),
            CandleError::from(ours()).bt(),
            CandleError::from(ours()).context("loading"),
            CandleError::from(ours()).with_path("file"),
            Err::<(), _>(CandleError::from(ours())).context("outer").unwrap_err(),
        ] {
            let text = wrapped.to_string();
            assert!(text.contains("nothing at `a`, did you mean `b`?"), "{text}");
            let back = Error::from(wrapped);
            assert!(matches!(back.downcast_ref(), Some(VarsError::PathNotFound { .. })), "{back}");
        }
    }

    #[test]
    fn keeps_the_innermost_place() {
        let error = ours().at(&Path::from("x.y")).at(&Path::from("x"));
        assert_eq!(error.to_string(), "at `x.y`: nothing at `a`, did you mean `b`?");
    }
}
