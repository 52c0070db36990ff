//! Random bits, as unsigned integers.

use std::marker::PhantomData;

use candle_core::{DType, Device, Shape, Tensor};

use crate::fill::{Sampler, draw, draw_tensor, fill_part};
use crate::word::Word;
use crate::{Error, Key, Result};

/// Random bits in a tensor, each element all of its dtype's bits.
///
/// Dtypes: u8, i16, u32, i32, i64; the signed ones hold the bits of the unsigned integers that JAX gives. The numbers
/// are made on the host and sent to `device`.
///
/// # Errors
///
/// Another dtype.
///
/// ```
/// use bridge_random::{bits, key};
/// use candle_core::{DType, Device};
///
/// let x = bits(key(0), (2, 3), DType::U32, &Device::Cpu)?;
/// assert_eq!(x.flatten_all()?.to_vec1::<u32>()?, key(0).bits_u32(6));
/// # Ok::<(), bridge_random::Error>(())
/// ```
pub fn bits(key: Key, shape: impl Into<Shape>, dtype: DType, device: &Device) -> Result<Tensor> {
    const SUPPORTED: &[DType] = &[DType::U8, DType::I16, DType::U32, DType::I32, DType::I64];
    let shape = shape.into();
    match dtype {
        DType::U8 => draw_tensor(Bits::<u8>::new(), key, shape, device),
        DType::I16 => draw_tensor(SignedBits::<i16>::new(), key, shape, device),
        DType::U32 => draw_tensor(Bits::<u32>::new(), key, shape, device),
        DType::I32 => draw_tensor(SignedBits::<i32>::new(), key, shape, device),
        DType::I64 => draw_tensor(SignedBits::<i64>::new(), key, shape, device),
        found => Err(Error::UnsupportedDType { operation: "bits", found, supported: SUPPORTED }),
    }
}

/// Random bits on the host.
///
/// An element is a function of the key, the width and its index alone, so a longer draw begins with the shorter one (but for
/// keys of the legacy scheme). As with any vector, more elements than memory can address are a panic.
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
/// key(0).fill_bits_u32(3, &mut tail)?;
/// assert_eq!(tail, bits[3..]);
/// # Ok::<(), bridge_random::Error>(())
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
    ///
    /// # Errors
    ///
    /// A key of the legacy scheme, whose elements depend on the length of the whole.
    pub fn fill_bits_u8(self, start: u64, out: &mut [u8]) -> Result<()> {
        fill_part(Bits::new(), self, start, out)
    }

    /// Elements `start..` of [`Key::bits_u16`], into memory of the caller's.
    ///
    /// # Errors
    ///
    /// A key of the legacy scheme, whose elements depend on the length of the whole.
    pub fn fill_bits_u16(self, start: u64, out: &mut [u16]) -> Result<()> {
        fill_part(Bits::new(), self, start, out)
    }

    /// Elements `start..` of [`Key::bits_u32`], into memory of the caller's.
    ///
    /// # Errors
    ///
    /// A key of the legacy scheme, whose elements depend on the length of the whole.
    pub fn fill_bits_u32(self, start: u64, out: &mut [u32]) -> Result<()> {
        fill_part(Bits::new(), self, start, out)
    }

    /// Elements `start..` of [`Key::bits_u64`], into memory of the caller's.
    ///
    /// # Errors
    ///
    /// A key of the legacy scheme, whose elements depend on the length of the whole.
    pub fn fill_bits_u64(self, start: u64, out: &mut [u64]) -> Result<()> {
        fill_part(Bits::new(), self, start, out)
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Bits<W>(PhantomData<W>);

impl<W> Bits<W> {
    pub(crate) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<W: Word> Sampler for Bits<W> {
    type Word = W;
    type Output = W;

    #[inline(always)]
    fn sample(self, _: usize, [word]: [W; 1]) -> W {
        word
    }
}

/// Bits as candle's signed integers.
#[derive(Clone, Copy)]
struct SignedBits<I>(PhantomData<I>);

impl<I> SignedBits<I> {
    fn new() -> Self {
        Self(PhantomData)
    }
}

macro_rules! impl_signed_bits {
    ($($integer:ident of $word:ident)*) => {$(
        impl Sampler for SignedBits<$integer> {
            type Word = $word;
            type Output = $integer;

            #[inline(always)]
            fn sample(self, _: usize, [word]: [$word; 1]) -> $integer {
                word.cast_signed()
            }
        }
    )*};
}

impl_signed_bits!(i16 of u16 i32 of u32 i64 of u64);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fill::tests::check_paths;
    use crate::key;

    #[test]
    fn every_path_fills_the_same_bits() {
        check_paths("u8", Bits::<u8>::new(), |bits| bits);
        check_paths("u16", Bits::<u16>::new(), |bits| bits);
        check_paths("u32", Bits::<u32>::new(), |bits| bits);
        check_paths("u64", Bits::<u64>::new(), |bits| bits);
    }

    #[test]
    fn signed_tensors_hold_the_same_bits() {
        let draw = |dtype| bits(key(3), 100, dtype, &Device::Cpu).unwrap();
        let signed = draw(DType::I16).to_vec1::<i16>().unwrap();
        assert!(signed.into_iter().map(i16::cast_unsigned).eq(key(3).bits_u16(100)));
        let signed = draw(DType::I64).to_vec1::<i64>().unwrap();
        assert!(signed.into_iter().map(i64::cast_unsigned).eq(key(3).bits_u64(100)));
        let error = bits(key(3), 1, DType::F32, &Device::Cpu).unwrap_err();
        assert!(matches!(error, Error::UnsupportedDType { found: DType::F32, .. }), "{error}");
    }
}
