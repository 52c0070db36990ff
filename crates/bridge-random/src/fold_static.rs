//! Keys from names: how Linen derives the key of a parameter from its module's path.

use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};

use crate::Key;

/// One part of what [`fold_static`] hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PathItem<'a> {
    /// The name of a module.
    Name(&'a str),
    /// How many keys a scope has handed out, this one included.
    Count(u32),
}

/// What keeps the items of a path apart in [`fold_static`].
#[doc(alias = "flax_fix_rng_separator")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Separator {
    /// Nothing, as in Flax by default: the paths `("ab", "c")` and `("a", "bc")` get the same key.
    #[default]
    None,
    /// A zero byte before each item, as in Flax under `flax_fix_rng_separator`.
    ZeroByte,
}

/// The key of a path below `key`: the SHA-1 digest of the items, folded in. No items give `key` itself.
///
/// This is what Linen's `make_rng` does, with the names of the modules from the root down, then the scope's counter
/// (which is 1 for the first key).
///
/// ```
/// use bridge_random::{PathItem, Separator, fold_static, key};
///
/// let kernel = fold_static(key(42), [PathItem::Name("Leaf_0"), PathItem::Count(1)], Separator::None);
/// assert_eq!(kernel.words(), [240181005, 2781976429]);
/// ```
#[doc(alias = "_fold_in_static")]
#[doc(alias = "make_rng")]
pub fn fold_static<'a>(key: Key, items: impl IntoIterator<Item = PathItem<'a>>, separator: Separator) -> Key {
    let mut items = items.into_iter().peekable();
    if items.peek().is_none() {
        return key;
    }
    let mut hash = Sha1::new();
    for item in items {
        if separator == Separator::ZeroByte {
            hash.update([0]);
        }
        match item {
            PathItem::Name(name) => hash.update(name),
            PathItem::Count(count) => {
                // As few bytes as the number needs, the highest first; none at all for 0.
                for byte in count.to_be_bytes().into_iter().skip_while(|byte| *byte == 0) {
                    hash.update([byte]);
                }
            }
        }
    }
    let digest: [u8; 20] = hash.finalize().into();
    let [first, second, third, fourth, ..] = digest;
    key.fold_in(u32::from_be_bytes([first, second, third, fourth]))
}

#[cfg(test)]
mod tests {
    use super::PathItem::{Count, Name};
    use super::*;
    use crate::key;

    fn fold<const N: usize>(items: [PathItem<'_>; N], separator: Separator) -> Key {
        fold_static(key(42), items, separator)
    }

    #[test]
    fn no_items_leave_the_key() {
        assert_eq!(fold([], Separator::None), key(42));
        assert_eq!(fold([], Separator::ZeroByte), key(42));
    }

    #[test]
    fn only_the_separator_tells_joined_names_apart() {
        let pair =
            |separator| [fold([Name("ab"), Name("c")], separator), fold([Name("a"), Name("bc")], separator)];
        let [left, right] = pair(Separator::None);
        assert_eq!(left, right);
        let [left, right] = pair(Separator::ZeroByte);
        assert_ne!(left, right);
    }

    #[test]
    fn counts_take_as_few_bytes_as_they_need() {
        for (count, bytes) in [(0, ""), (1, "\u{1}"), (127, "\u{7f}"), (256, "\u{1}\0")] {
            assert_eq!(
                fold([Count(count)], Separator::None),
                fold([Name(bytes)], Separator::None),
                "{count}"
            );
        }
    }
}
