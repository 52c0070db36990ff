//! How a key's counter becomes random words.

use serde::{Deserialize, Serialize};

/// How a key's counter becomes random words, as `jax_threefry_partitionable` has it. A property of the key, which its
/// children inherit.
///
/// ```
/// use bridge_random::{Scheme, key};
///
/// // What JAX draws with `jax_threefry_partitionable=False`.
/// let old = key(0).with_scheme(Scheme::Legacy);
/// let [child, _] = old.split();
/// assert_eq!(child.words(), [4146024105, 967050713]);
/// assert_eq!(child.scheme(), Scheme::Legacy);
/// ```
#[doc(alias = "jax_threefry_partitionable")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Scheme {
    /// JAX's default since 0.5.0: an element depends on the key and its index alone, so a longer draw begins with the
    /// shorter one, and any part can be made again without the rest.
    #[default]
    Partitionable,
    /// With `jax_threefry_partitionable=False`, the default before 0.5.0: an element depends on how many are drawn as well. For
    /// seeds of that time.
    Legacy,
}
