//! Random bits, as unsigned integers.

use std::marker::PhantomData;

use crate::Key;
use crate::fill::{Sampler, draw, fill};

/// Random bits on the host.
///
/// An element is a function of the key, the width and its index alone, so a longer draw begins with the shorter one.
/// The widths are draws of their own, except that 8 and 16 bits are the low bits of the 32.
///
/// ```
/// use bridge_random::key;
///
/// let bits = key(0).bits_u32(5);
/// assert_eq!(key(0).bits_u32(3), bits[..3]);
/// assert_eq!(key(0).bits_u8(1), [bits[0] as u8]);
///
/// let mut tail = [0; 2];
/// key(0).fill_bits_u32(3, &mut tail);
/// assert_eq!(tail, bits[3..]);
/// ```
impl Key {
    /// `count` random bytes.
    #[doc(alias = "bits")]
    pub fn bits_u8(self, count: usize) -> Vec<u8> {
        draw(Bits::new(), self, count)
    }

    /// `count` times 16 random bits.
    #[doc(alias = "bits")]
    pub fn bits_u16(self, count: usize) -> Vec<u16> {
        draw(Bits::new(), self, count)
    }

    /// `count` times 32 random bits.
    #[doc(alias = "bits")]
    pub fn bits_u32(self, count: usize) -> Vec<u32> {
        draw(Bits::new(), self, count)
    }

    /// `count` times 64 random bits.
    #[doc(alias = "bits")]
    pub fn bits_u64(self, count: usize) -> Vec<u64> {
        draw(Bits::new(), self, count)
    }

    /// Elements `start..` of [`Key::bits_u8`], into memory of the caller's.
    pub fn fill_bits_u8(self, start: u64, out: &mut [u8]) {
        fill(Bits::new(), self, start, out);
    }

    /// Elements `start..` of [`Key::bits_u16`], into memory of the caller's.
    pub fn fill_bits_u16(self, start: u64, out: &mut [u16]) {
        fill(Bits::new(), self, start, out);
    }

    /// Elements `start..` of [`Key::bits_u32`], into memory of the caller's.
    pub fn fill_bits_u32(self, start: u64, out: &mut [u32]) {
        fill(Bits::new(), self, start, out);
    }

    /// Elements `start..` of [`Key::bits_u64`], into memory of the caller's.
    pub fn fill_bits_u64(self, start: u64, out: &mut [u64]) {
        fill(Bits::new(), self, start, out);
    }
}

/// A word of random bits, from the two words of a block.
pub(crate) trait Word: Copy + Default + Send + Sync {
    fn from_block(first: u32, second: u32) -> Self;
}

impl Word for u8 {
    #[inline(always)]
    fn from_block(first: u32, second: u32) -> Self {
        (first ^ second) as Self
    }
}

impl Word for u16 {
    #[inline(always)]
    fn from_block(first: u32, second: u32) -> Self {
        (first ^ second) as Self
    }
}

impl Word for u32 {
    #[inline(always)]
    fn from_block(first: u32, second: u32) -> Self {
        first ^ second
    }
}

impl Word for u64 {
    #[inline(always)]
    fn from_block(first: u32, second: u32) -> Self {
        Self::from(first) << 32 | Self::from(second)
    }
}

#[derive(Clone, Copy)]
struct Bits<W>(PhantomData<W>);

impl<W> Bits<W> {
    fn new() -> Self {
        Self(PhantomData)
    }
}

impl<W: Word> Sampler for Bits<W> {
    type Output = W;

    #[inline(always)]
    fn sample(self, first: u32, second: u32) -> W {
        W::from_block(first, second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fill::tests::check_paths;

    #[test]
    fn every_path_fills_the_same_bits() {
        check_paths("u8", Bits::<u8>::new(), |bits| bits);
        check_paths("u16", Bits::<u16>::new(), |bits| bits);
        check_paths("u32", Bits::<u32>::new(), |bits| bits);
        check_paths("u64", Bits::<u64>::new(), |bits| bits);
    }
}
