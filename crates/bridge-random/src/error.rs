//! What can go wrong when random tensors are made.

use candle_core::{DType, Shape};

use crate::Key;

/// The result of this crate's fallible functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a random tensor could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The function has no numbers of this dtype.
    #[error(
        "`{operation}` can not make dtype {found:?}: expected one of {supported:?}; \
         make one of those, then convert with `Tensor::to_dtype`"
    )]
    UnsupportedDType {
        /// The function that was called.
        operation: &'static str,
        /// The dtype asked for.
        found: DType,
        /// The dtypes that the function makes.
        supported: &'static [DType],
    },

    /// A tensor of a dtype that the function does not take.
    #[error(
        "`{operation}` takes {name} of one of {supported:?}, found {found:?}: convert with `Tensor::to_dtype`"
    )]
    InputDType {
        /// The function that was called.
        operation: &'static str,
        /// What the tensor is.
        name: &'static str,
        /// Its dtype.
        found: DType,
        /// The dtypes that the function takes.
        supported: &'static [DType],
    },

    /// The shape has more elements than there is memory for.
    #[error("shape {shape:?} has more elements than there is memory for: expected a smaller shape")]
    TooLarge {
        /// The shape asked for.
        shape: Shape,
    },

    /// A list of elements that does not fill its shape.
    #[error("shape {shape:?} has {expected} elements, found {found}")]
    ElementCount {
        /// The shape given.
        shape: Shape,
        /// How many elements it has.
        expected: usize,
        /// How many were given.
        found: usize,
    },

    /// A batch of no keys, where the result's shape depends on what a key gives.
    #[error(
        "a batch of keys of shape {shape:?} has no key to draw with, and nothing else tells the shape of a draw"
    )]
    NoKeys {
        /// The batch's shape.
        shape: Shape,
    },

    /// Draws with the keys of a batch that do not stack.
    #[error(
        "key {lane} of the batch drew {:?} of {:?}, the first one {:?} of {:?}: expected the same of each",
        found.0, found.1, expected.0, expected.1
    )]
    Lanes {
        /// The number of the key, row by row.
        lane: usize,
        /// The shape and dtype of the first key's draw.
        expected: (Shape, DType),
        /// Those of this key's.
        found: (Shape, DType),
    },

    /// A part of a draw, of a key whose elements depend on the length of the whole.
    #[error(
        "key {key} is of the legacy scheme, whose elements depend on how many are drawn: \
         draw them all, or use a key of `Scheme::Partitionable`"
    )]
    LegacyPart {
        /// The key.
        key: Key,
    },

    /// A parameter that does not broadcast to the shape drawn.
    #[error("`{name}` of shape {found:?} does not broadcast to the shape drawn, {shape:?}")]
    ParameterShape {
        /// The parameter.
        name: &'static str,
        /// Its shape.
        found: Shape,
        /// The shape asked for.
        shape: Shape,
    },

    /// Nothing that could be drawn: no elements, or none with a probability.
    #[error("`{operation}` has nothing to choose from{}", line.map(|line| format!(" in line {line}")).unwrap_or_default())]
    NothingToChoose {
        /// The function that was called.
        operation: &'static str,
        /// The number of the line along the axis of categories, row by row, if there are several.
        line: Option<usize>,
    },

    /// More draws without replacement than there is to draw.
    #[error("`{operation}` can not choose {asked} of {available} without replacement")]
    TooManyChoices {
        /// The function that was called.
        operation: &'static str,
        /// How many were asked for.
        asked: usize,
        /// How many there are, not counting those without a probability.
        available: usize,
    },

    /// Weights of another shape than what they weigh.
    #[error("expected weights of shape [{population}], found {found:?}")]
    WeightsShape {
        /// The shape of the weights.
        found: Shape,
        /// How many elements there are to choose from.
        population: usize,
    },

    /// A weight that is no weight.
    #[error("weight {index} is {found}: expected a finite number of at least 0")]
    Weight {
        /// The number of the weight.
        index: usize,
        /// The value given.
        found: f64,
    },

    /// Weights that are too great together.
    #[error("the weights add up to {found}: scale them down")]
    WeightsSum {
        /// Their sum, in their dtype.
        found: f64,
    },

    /// A logit that is not a number.
    #[error("the logit of category {category} of line {line} is NaN")]
    LogitIsNan {
        /// The number of the line along the axis of categories, row by row.
        line: usize,
        /// The number of the category.
        category: usize,
    },

    /// A shape that does not fit logits.
    #[error(
        "shape {shape:?} does not end with {lines:?}, the shape of the logits {logits:?} without the axis of categories"
    )]
    CategoricalShape {
        /// The shape asked for.
        shape: Shape,
        /// The shape of the logits.
        logits: Shape,
        /// That without the axis of categories.
        lines: Shape,
    },

    /// A range of integers that has none of the dtype's.
    #[error(
        "`randint` found the bounds {low} and {high}: expected the upper one, which is exclusive, above the lower one, and a \
         number of the dtype between them"
    )]
    IntegerBounds {
        /// The lower bound.
        low: i128,
        /// The upper bound.
        high: i128,
    },

    /// A probability outside of 0 to 1.
    #[error("`{operation}` found the probability {found}: expected one from 0 to 1")]
    Probability {
        /// The function that was called.
        operation: &'static str,
        /// The value given.
        found: f64,
    },

    /// Bounds that leave nothing to draw from.
    #[error("`{operation}` found the bounds {low} and {high}: expected {expected}")]
    Bounds {
        /// The function that was called.
        operation: &'static str,
        /// What the function asks of its bounds.
        expected: &'static str,
        /// The lower bound, in the dtype drawn.
        low: f64,
        /// The upper bound, in the dtype drawn.
        high: f64,
    },

    /// A permutation of more elements than a `u32` can number.
    #[error("expected at most 2^32 elements to permute, found {found}")]
    PermutationLength {
        /// The length asked for.
        found: usize,
    },

    /// Batches of no examples.
    #[error("expected batches of at least one example, found a size of 0")]
    BatchSize,

    /// An initializer that depends on fan-in or fan-out, on a shape that has neither.
    #[error(
        "shape {shape:?} has no fan-in and fan-out: expected at least two dimensions; \
         use an initializer that does not scale by them (such as `Zeros` or `Normal`) or give the parameter two dimensions"
    )]
    NoFans {
        /// The parameter's shape.
        shape: Shape,
    },

    /// An axis that the shape does not have.
    #[error(
        "{name} {axis} is out of range for shape {shape:?}: {}",
        match shape.rank() {
            0 => "it has no axes".to_owned(),
            rank => format!("expected an axis from -{rank} to {rank} exclusive"),
        }
    )]
    Axis {
        /// Which axis: `axis`, or `in_axis`, `out_axis`, `batch_axis` or `column_axis` of an initializer.
        name: &'static str,
        /// The axis given.
        axis: isize,
        /// The shape.
        shape: Shape,
    },

    /// A shape that has no orthogonal matrix in it.
    #[error("`{initializer}` can not fill shape {shape:?}: expected {expected}")]
    OrthogonalShape {
        /// The initializer.
        initializer: &'static str,
        /// What it asks of a shape.
        expected: &'static str,
        /// The parameter's shape.
        shape: Shape,
    },

    /// An initializer that was a closure in the program that wrote it down.
    #[error(
        "the initializer `{type_name}` is a closure, which a file does not hold: set it again, \
         or use one of the named initializers"
    )]
    AbsentInitializer {
        /// The closure's type.
        type_name: String,
    },

    /// An initializer that is a closure made another tensor than it was asked for.
    #[error(
        "the initializer `{type_name}` made {:?} of {:?}: expected {:?} of {:?}",
        found.0, found.1, expected.0, expected.1
    )]
    InitializerResult {
        /// The closure's type.
        type_name: String,
        /// The shape and dtype asked for.
        expected: (Shape, DType),
        /// Those of what it made.
        found: (Shape, DType),
    },

    /// An initializer's scale that its numbers can not be multiplied with.
    #[error(
        "numbers times {found} are beyond {dtype:?}: expected a scale whose numbers are finite in the dtype"
    )]
    Factor {
        /// The factor that follows from the scale or standard deviation; the number itself of a constant.
        found: f64,
        /// The dtype asked for.
        dtype: DType,
    },

    /// A variance that no distribution can have.
    #[error(
        "variance scaling of shape {shape:?} gives the variance {variance} (scale {scale}): \
         expected a finite one, so a scale of at least 0 and no dimension of size 0"
    )]
    Variance {
        /// The parameter's shape.
        shape: Shape,
        /// The scale given.
        scale: f64,
        /// The variance that follows.
        variance: f64,
    },

    /// candle could not make the tensor.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

/// So that samplers can be used in the `forward` of candle's modules.
impl From<Error> for candle_core::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Candle(error) => error,
            other => Self::wrap(other),
        }
    }
}
