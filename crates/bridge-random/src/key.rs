//! The key: what every random number is a function of.

use std::fmt;

use candle_core::Shape;
use serde::{Deserialize, Serialize};

use crate::fill::element_count;
use crate::threefry::{child, legacy_child};
use crate::{KeyArray, Result, Scheme};

/// A key of the Threefry-2x32 generator: 64 bits, from which tensors are drawn and further keys derived.
///
/// A key is a plain value. Drawing from it does not change it: the same key and shape give the same numbers, on every
/// device and with any number of threads. To draw again, derive a new key with [`Key::split`] or [`Key::fold_in`].
///
/// Use a key once: for one draw, or to derive keys from. A draw and the children of the same key share their bits.
///
/// Words, splitting and folding are those of JAX, bit for bit: with its default settings, or those of older versions where
/// the key has the [`Scheme`] of these. It serialises as its two words, and the scheme if it is not the default.
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
#[serde(from = "KeyForm", into = "KeyForm")]
pub struct Key {
    words: [u32; 2],
    scheme: Scheme,
}

/// A key as a file has it.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum KeyForm {
    Words([u32; 2]),
    Full { words: [u32; 2], scheme: Scheme },
}

impl From<Key> for KeyForm {
    fn from(Key { words, scheme }: Key) -> Self {
        if scheme == Scheme::default() { Self::Words(words) } else { Self::Full { words, scheme } }
    }
}

impl From<KeyForm> for Key {
    fn from(form: KeyForm) -> Self {
        match form {
            KeyForm::Words(words) => Self::from_words(words),
            KeyForm::Full { words, scheme } => Self { words, scheme },
        }
    }
}

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
        Self::from_words([0, low_word(seed as u64)])
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
        Self::from_words([high_word(seed as u64), low_word(seed as u64)])
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
        Self { words, scheme: Scheme::Partitionable }
    }

    /// The key's two words.
    #[doc(alias = "key_data")]
    pub const fn words(self) -> [u32; 2] {
        self.words
    }

    /// The same key under another scheme.
    #[must_use]
    pub const fn with_scheme(self, scheme: Scheme) -> Self {
        Self { scheme, ..self }
    }

    /// How the key's counter becomes random words.
    #[doc(alias = "key_impl")]
    pub const fn scheme(self) -> Scheme {
        self.scheme
    }

    /// `N` new keys. Any of them may be used where this one would have been.
    ///
    /// Child `i` is the same whatever `N` is, but for keys of [`Scheme::Legacy`].
    ///
    /// ```
    /// use bridge_random::key;
    ///
    /// let [first, second] = key(0).split();
    /// let [_, _, third] = key(0).split();
    /// assert_eq!(key(0).split_vec(3), [first, second, third]);
    /// ```
    pub fn split<const N: usize>(self) -> [Self; N] {
        std::array::from_fn(|index| self.child(index, N))
    }

    /// `count` new keys: [`Key::split`] for a number that is known at run time. As with any vector, more than memory can address
    /// are a panic; [`Key::split_array`] returns an error.
    pub fn split_vec(self, count: usize) -> Vec<Self> {
        (0..count).map(|index| self.child(index, count)).collect()
    }

    /// A batch of new keys in a shape: [`Key::split_vec`], laid out row by row. `()` gives one key.
    ///
    /// # Errors
    ///
    /// A shape of more elements than memory can address.
    ///
    /// ```
    /// use bridge_random::key;
    ///
    /// let keys = key(0).split_array((2, 3))?;
    /// assert_eq!(keys.elements(), key(0).split_vec(6));
    /// # Ok::<(), bridge_random::Error>(())
    /// ```
    #[doc(alias = "split")]
    pub fn split_array(self, shape: impl Into<Shape>) -> Result<KeyArray> {
        let shape = shape.into();
        let count = element_count::<Self>(&shape)?;
        KeyArray::new(shape, self.split_vec(count))
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
        child(self, u64::from(data))
    }

    fn child(self, index: usize, count: usize) -> Self {
        match self.scheme {
            Scheme::Partitionable => child(self, index as u64),
            Scheme::Legacy => legacy_child(self, index as u64, count as u64),
        }
    }
}

/// Eight hexadecimal digits a word: `00000000:0000002a`, followed by `/legacy` under that scheme.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, second] = self.words;
        write!(f, "{first:08x}:{second:08x}")?;
        match self.scheme {
            Scheme::Partitionable => Ok(()),
            Scheme::Legacy => f.write_str("/legacy"),
        }
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
    fn a_scheme_survives_printing_files_and_descent() {
        let legacy = key(1).with_scheme(Scheme::Legacy);
        assert_ne!(legacy, key(1));
        assert_eq!(legacy.to_string(), "00000000:00000001/legacy");
        let json = serde_json::to_string(&legacy).unwrap();
        assert_eq!(json, r#"{"words":[0,1],"scheme":"legacy"}"#);
        assert_eq!(serde_json::from_str::<Key>(&json).unwrap(), legacy);
        assert_eq!(legacy.fold_in(3).words(), key(1).fold_in(3).words());
        assert_ne!(legacy.split::<2>()[0].words(), key(1).split::<2>()[0].words());
        for child in [legacy.fold_in(3), legacy.split::<2>()[1], legacy.split_vec(1)[0]] {
            assert_eq!(child.scheme(), Scheme::Legacy);
        }
    }

    #[test]
    fn orders_by_first_word() {
        assert!(Key::from_words([0, 9]) < Key::from_words([1, 0]));
    }
}
