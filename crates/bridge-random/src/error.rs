//! What can go wrong when random tensors are made.

use candle_core::{DType, Shape};

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

    /// The shape has more elements than memory can address.
    #[error("shape {shape:?} has more elements than memory can address; expected a smaller shape")]
    TooLarge {
        /// The shape asked for.
        shape: Shape,
    },

    /// A probability outside of 0 to 1.
    #[error("expected a probability from 0 to 1, found {found}")]
    Probability {
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

    /// An initializer that depends on fan-in or fan-out, on a shape that has neither.
    #[error(
        "shape {shape:?} has no fan-in and fan-out: expected at least two dimensions; \
         use an initializer that does not scale by them (such as `Zeros` or `Normal`) or give the parameter two dimensions"
    )]
    NoFans {
        /// The parameter's shape.
        shape: Shape,
    },

    /// An axis of [`VarianceScaling`](crate::VarianceScaling) that the shape does not have.
    #[error("{name} {axis} is out of range for shape {shape:?}: expected an axis from -{rank} to {rank} exclusive", rank = shape.rank())]
    Axis {
        /// Which of the axes: `in_axis`, `out_axis` or `batch_axis`.
        name: &'static str,
        /// The axis given.
        axis: isize,
        /// The parameter's shape.
        shape: Shape,
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
