//! A key as a generator of the `rand` crate, and the other way round.

use rand_core::{RngCore, SeedableRng};

use crate::bits::Bits;
use crate::fill::{Source, fill};
use crate::{Key, Scheme};

/// The random bits of a key as a generator for the `rand` crate (0.9), for code that expects one.
///
/// It gives what [`Key::bits_u32`] gives, one element after the other, and two of them for 64 bits: those of the partitionable
/// scheme whatever the key's, as a generator has no end. So a shuffle or a sample of `rand`'s has the same result on every
/// machine, as far as `rand` promises it.
///
/// ```
/// use bridge_random::key;
/// use rand::Rng;
/// use rand::seq::SliceRandom;
///
/// let mut rng = key(0).into_rng();
/// let mut examples: Vec<u32> = (0..10).collect();
/// examples.shuffle(&mut rng);
/// let flip = rng.random_bool(0.5);
/// # let _ = flip;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRng {
    key: Key,
    /// The number of the element that comes next.
    next: u64,
    /// Elements from `next` on that are ready: drawing many at once is faster.
    ready: [u32; KeyRng::READY],
}

impl KeyRng {
    const READY: usize = 16;

    fn new(key: Key) -> Self {
        // A generator has no end, so only the scheme that knows no length will do.
        Self { key: key.with_scheme(Scheme::Partitionable), next: 0, ready: [0; Self::READY] }
    }
}

impl Key {
    /// A generator for the `rand` crate.
    #[doc(alias = "rand")]
    pub fn into_rng(self) -> KeyRng {
        KeyRng::new(self)
    }

    /// A key from any generator of the `rand` crate: the next 64 bits of it.
    ///
    /// ```
    /// use bridge_random::Key;
    /// use rand::SeedableRng;
    /// use rand::rngs::StdRng;
    ///
    /// let mut rng = StdRng::seed_from_u64(0);
    /// let key = Key::from_rng(&mut rng);
    /// assert_ne!(key, Key::from_rng(&mut rng));
    /// ```
    #[doc(alias = "rand")]
    pub fn from_rng(rng: &mut (impl RngCore + ?Sized)) -> Self {
        Self::from_words([rng.next_u32(), rng.next_u32()])
    }
}

impl RngCore for KeyRng {
    fn next_u32(&mut self) -> u32 {
        let place = (self.next % Self::READY as u64) as usize;
        if place == 0 {
            let source = Source { key: self.key, offset: self.next, total: 0 };
            fill(Bits::new(), [source], &mut self.ready);
        }
        self.next = self.next.wrapping_add(1);
        self.ready[place]
    }

    fn next_u64(&mut self) -> u64 {
        let low = u64::from(self.next_u32());
        u64::from(self.next_u32()) << 32 | low
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(4) {
            let word = self.next_u32().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }
}

impl SeedableRng for KeyRng {
    type Seed = [u8; 8];

    /// The key whose first word is in the first four bytes, the lowest byte first.
    fn from_seed(seed: [u8; 8]) -> Self {
        let [a, b, c, d, e, f, g, h] = seed;
        Key::from_words([u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])]).into_rng()
    }

    /// The generator of [`Key::from_seed_64`].
    fn seed_from_u64(seed: u64) -> Self {
        Key::from_seed_64(seed.cast_signed()).into_rng()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key;

    #[test]
    fn gives_the_bits_of_its_key() {
        let mut rng = key(3).into_rng();
        let bits = key(3).bits_u32(50);
        assert!(bits[..21].iter().all(|bits| rng.next_u32() == *bits));
        assert_eq!(rng.next_u64(), u64::from(bits[22]) << 32 | u64::from(bits[21]));
        let mut bytes = [0; 6];
        rng.fill_bytes(&mut bytes);
        assert_eq!(bytes[..4], bits[23].to_le_bytes());
        assert_eq!(bytes[4..], bits[24].to_le_bytes()[..2]);
        assert_eq!(rng.next_u32(), bits[25]);
        assert_eq!(rng.clone().next_u32(), rng.next_u32());
    }

    #[test]
    fn is_made_from_seeds_and_other_generators() {
        assert_eq!(KeyRng::seed_from_u64(5), key(5).into_rng());
        assert_eq!(KeyRng::from_seed([1, 0, 0, 0, 2, 0, 0, 0]), Key::from_words([1, 2]).into_rng());
        let bits = key(3).bits_u32(2);
        assert_eq!(Key::from_rng(&mut key(3).into_rng()).words(), [bits[0], bits[1]]);
        assert_eq!(key(3).with_scheme(Scheme::Legacy).into_rng(), key(3).into_rng());
    }
}
