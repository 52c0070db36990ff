//! Functions of one element, with their derivatives.

use super::element::Real;
use super::simd::Instructions;

/// What a derivative is computed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reads {
    Input,
    Output,
}

/// A function of one element. Both methods are inlined into the loops of kernels: `#[inline(always)]`.
pub(crate) trait Function: Copy + Send + Sync + 'static {
    /// The name that errors show.
    const NAME: &'static str;

    /// What [`Function::pull_back`] reads.
    const READS: Reads;

    fn value<R: Real, I: Instructions>(self, x: R) -> R;

    /// The gradient of the input: the output's gradient times the derivative, where input or output is `read`.
    fn pull_back<R: Real, I: Instructions>(self, read: R, gradient: R) -> R;
}
