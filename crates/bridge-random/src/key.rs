//! The key: what every random number is a function of.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::threefry::KeySchedule;

/// A key of the Threefry-2x32 generator: 64 bits, from which tensors are drawn and further keys derived.
///
/// A key is a plain value. Drawing from it does not change it: the same key and shape give the same numbers, on every
/// device and with any number of threads. To draw again, derive a new key with [`Key::split`] or [`Key::fold_in`].
///
/// Words, splitting and folding are those of JAX with its default settings (`jax_threefry_partitionable`), bit for bit.
/// It serialises as its two words.
///
/// ```
/// use bridge_random::key;
///
/// let [weights, dropout] = key(0).split();
/// assert_ne!(weights, dropout);
/// assert_eq!(dropout, key(0).fold_in(1));
/// assert_eq!(weights.bits_u32(3), weights.bits_u32(3));
/// ```
#[doc(alias = "PRNGKey")]
#[doc(alias = "PRNGKeyArray")]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Key([u32; 2]);

/// The key of a seed: short for [`Key::new`].
///
/// ```
/// use bridge_random::{Key, key};
///
/// assert_eq!(key(42), Key::new(42));
/// ```
#[doc(alias = "PRNGKey")]
#[doc(alias = "manual_seed")]
pub fn key(seed: i64) -> Key {
    Key::new(seed)
}

impl Key {
    /// The key of a seed, as JAX makes it by default: from the seed's low 32 bits alone.
    ///
    /// ```
    /// use bridge_random::Key;
    ///
    /// assert_eq!(Key::new(-1).words(), [0, 0xFFFF_FFFF]);
    /// assert_eq!(Key::new((1 << 32) + 7), Key::new(7));
    /// ```
    pub fn new(seed: i64) -> Self {
        Self([0, low_word(seed as u64)])
    }

    /// The key of all 64 bits of a seed, as JAX makes it under `jax_enable_x64`.
    ///
    /// ```
    /// use bridge_random::Key;
    ///
    /// assert_eq!(Key::from_seed_64((1 << 32) + 7).words(), [1, 7]);
    /// assert_eq!(Key::from_seed_64(7), Key::new(7));
    /// ```
    #[doc(alias = "jax_enable_x64")]
    pub fn from_seed_64(seed: i64) -> Self {
        Self([high_word(seed as u64), low_word(seed as u64)])
    }

    /// The key of two words, such as another program's key data.
    ///
    /// ```
    /// use bridge_random::Key;
    ///
    /// assert_eq!(Key::from_words([1, 7]).words(), [1, 7]);
    /// ```
    #[doc(alias = "wrap_key_data")]
    pub const fn from_words(words: [u32; 2]) -> Self {
        Self(words)
    }

    /// The key's two words.
    #[doc(alias = "key_data")]
    pub const fn words(self) -> [u32; 2] {
        self.0
    }

    /// `N` new keys. Any of them may be used where this one would have been.
    ///
    /// Child `i` is the same whatever `N` is.
    ///
    /// ```
    /// use bridge_random::key;
    ///
    /// let [first, second] = key(0).split();
    /// let [_, _, third] = key(0).split();
    /// assert_eq!(key(0).split_vec(3), [first, second, third]);
    /// ```
    pub fn split<const N: usize>(self) -> [Self; N] {
        std::array::from_fn(|index| self.child(index as u64))
    }

    /// `count` new keys: [`Key::split`] for a number that is known at run time.
    pub fn split_vec(self, count: usize) -> Vec<Self> {
        (0..count).map(|index| self.child(index as u64)).collect()
    }

    /// The new key that belongs to `data`: a step, a layer, a worker.
    ///
    /// ```
    /// use bridge_random::key;
    ///
    /// let step = |count| key(0).fold_in(count);
    /// assert_ne!(step(0), step(1));
    /// ```
    pub fn fold_in(self, data: u32) -> Self {
        self.child(u64::from(data))
    }

    fn child(self, index: u64) -> Self {
        let (first, second) = KeySchedule::new(self).block(high_word(index), low_word(index));
        Self([first, second])
    }
}

/// Eight hexadecimal digits a word: `00000000:0000002a`.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, second] = self.0;
        write!(f, "{first:08x}:{second:08x}")
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

pub(crate) fn high_word(value: u64) -> u32 {
    (value >> 32) as u32
}

pub(crate) fn low_word(value: u64) -> u32 {
    value as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_its_words() {
        let key = Key::from_words([0xDEAD_BEEF, 42]);
        assert_eq!(key.to_string(), "deadbeef:0000002a");
        assert_eq!(format!("{key:?}"), "Key(deadbeef:0000002a)");
    }

    #[test]
    fn serialises_as_two_words() {
        let key = Key::from_words([u32::MAX, 42]);
        let json = serde_json::to_string(&key).unwrap();
        assert_eq!(json, "[4294967295,42]");
        assert_eq!(serde_json::from_str::<Key>(&json).unwrap(), key);
        assert!(serde_json::from_str::<Key>("[1]").is_err());
    }

    #[test]
    fn orders_by_first_word() {
        assert!(Key::from_words([0, 9]) < Key::from_words([1, 0]));
    }
}
