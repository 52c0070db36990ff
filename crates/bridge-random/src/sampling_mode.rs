//! How finely rare events are resolved.

use serde::{Deserialize, Serialize};

/// How finely rare events are resolved by [`bernoulli`](crate::bernoulli_with), [`gumbel`](crate::gumbel_with) and
/// [`Categorical`](crate::Categorical): `mode` of JAX.
#[doc(alias = "mode")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum SamplingMode {
    /// One uniform number for each element: events rarer than the dtype's precision (2^-23 in f32) are never drawn, or too
    /// often. JAX's default.
    #[default]
    Low,
    /// Two uniform numbers for each element: twice the digits, in twice the time.
    High,
}
