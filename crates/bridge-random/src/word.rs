//! A word of random bits.

use crate::Key;
use crate::threefry::legacy_word;

/// A word of random bits, of some width.
pub(crate) trait Word: Copy + Default + Send + Sync {
    /// All bits set.
    const MAX: Self;

    /// From the two words of a block.
    fn from_block(first: u32, second: u32) -> Self;

    /// Number `index` of `total` under the legacy scheme.
    fn legacy(key: Key, index: u64, total: u64) -> Self;
}

macro_rules! impl_word {
    ($($word:ident)*) => {$(
        impl Word for $word {
            const MAX: Self = Self::MAX;

            #[inline(always)]
            fn from_block(first: u32, second: u32) -> Self {
                (first ^ second) as Self
            }

            fn legacy(key: Key, index: u64, total: u64) -> Self {
                let in_32_bits = u64::from(u32::BITS / Self::BITS);
                let word = legacy_word(key, index / in_32_bits, total.div_ceil(in_32_bits));
                // The low bits come first.
                (word >> (Self::BITS * (index % in_32_bits) as u32)) as Self
            }
        }
    )*};
}

impl_word!(u8 u16 u32);

impl Word for u64 {
    const MAX: Self = Self::MAX;

    #[inline(always)]
    fn from_block(first: u32, second: u32) -> Self {
        Self::from(first) << 32 | Self::from(second)
    }

    fn legacy(key: Key, index: u64, total: u64) -> Self {
        // All high words are drawn before the low ones.
        let word = |index| Self::from(legacy_word(key, index, 2 * total));
        word(index) << 32 | word(total + index)
    }
}
