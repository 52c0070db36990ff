//! What can go wrong in an operator.

use candle_core::{DType, Shape};

/// The result of an operator.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an operator could not compute its result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An argument has a shape that the operator does not accept.
    #[error("{operator}: `{argument}` must have {expected}, found {found:?}")]
    Shape {
        /// The operator that was called.
        operator: &'static str,
        /// The argument at fault.
        argument: &'static str,
        /// The shape that the argument should have, in words.
        expected: String,
        /// The shape that it has.
        found: Shape,
    },

    /// An argument has a dtype that the operator does not accept.
    #[error("{operator}: `{argument}` must have {expected}, found {found:?}; convert it with `to_dtype`")]
    DType {
        /// The operator that was called.
        operator: &'static str,
        /// The argument at fault.
        argument: &'static str,
        /// The dtypes that are accepted, in words.
        expected: &'static str,
        /// The dtype that it has.
        found: DType,
    },

    /// A mean over no elements was asked for.
    #[error("{operator}: `{argument}` of shape {found:?} has nothing to take the mean of")]
    Empty {
        /// The operator that was called.
        operator: &'static str,
        /// The argument at fault.
        argument: &'static str,
        /// The shape that it has.
        found: Shape,
    },

    /// A label names a class that the logits do not have.
    #[error(
        "{operator}: label {label} at flat position {position} is out of range: the logits have {classes} classes, \
         so labels go from 0 to {}", classes.saturating_sub(1)
    )]
    LabelOutOfRange {
        /// The operator that was called.
        operator: &'static str,
        /// The label.
        label: i64,
        /// Where it is in the flattened labels.
        position: usize,
        /// The number of classes of the logits.
        classes: usize,
    },

    /// An index names a row that the table does not have.
    #[error(
        "{operator}: index {index} at flat position {position} is out of range: the table has {rows} rows, \
         so indices go from 0 to {}", rows.saturating_sub(1)
    )]
    IndexOutOfRange {
        /// The operator that was called.
        operator: &'static str,
        /// The index.
        index: i64,
        /// Where it is in the flattened indices.
        position: usize,
        /// The number of rows of the table.
        rows: usize,
    },

    /// A probability lies outside its range.
    #[error("{operator}: `{argument}` must be {expected}, found {found}")]
    Probability {
        /// The operator that was called.
        operator: &'static str,
        /// The argument at fault.
        argument: &'static str,
        /// The range that is accepted, in words.
        expected: &'static str,
        /// The value that was given.
        found: f64,
    },

    /// A formula was given more or fewer tensors than it remembers.
    #[error("{operator}: the formula remembers {expected} tensors, found {found}")]
    Memory {
        /// The operator that was called.
        operator: &'static str,
        /// How many tensors it remembers.
        expected: usize,
        /// How many were given.
        found: usize,
    },

    /// The random numbers could not be drawn.
    #[error(transparent)]
    Random(#[from] bridge_random::Error),

    /// candle failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

impl From<Error> for candle_core::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Candle(error) => error,
            error => Self::wrap(error),
        }
    }
}
