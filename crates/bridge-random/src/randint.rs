//! Random integers.

use candle_core::{DType, Device, Shape, Tensor};

use crate::fill::{Sampler, Source, draw_from, element_count};
use crate::{Error, Key, Result};

/// Integers from `low` to `high` (exclusive), almost evenly distributed.
///
/// As in JAX, bounds beyond the dtype's range are cut to it: 0 to 256 gives every u8. Where `high - low` is no power of two,
/// some numbers are likelier by up to one part in 2^32 / (high - low) (2^64 for i64).
///
/// Dtypes: u8, u32, i16, i32, i64. JAX's default is i32. The numbers are made on the host and sent to `device`.
///
/// # Errors
///
/// Another dtype; `high` not above `low`, or no number of the dtype between them, where JAX gives one number everywhere.
///
/// ```
/// use bridge_random::{key, randint};
/// use candle_core::{DType, Device};
///
/// let x = randint(key(42), 5, 0, 10, DType::I64, &Device::Cpu)?;
/// assert!(x.to_vec1::<i64>()?.iter().all(|x| (0..10).contains(x)));
/// # Ok::<(), bridge_random::Error>(())
/// ```
pub fn randint(
    key: Key,
    shape: impl Into<Shape>,
    low: i64,
    high: i64,
    dtype: DType,
    device: &Device,
) -> Result<Tensor> {
    const SUPPORTED: &[DType] = &[DType::U8, DType::U32, DType::I16, DType::I32, DType::I64];
    let shape = shape.into();
    // Enough for every dtype here.
    let count = element_count::<u64>(&shape)?;
    macro_rules! tensor {
        ($integer:ty) => {
            Ok(Tensor::from_vec(randint_vec::<$integer>(key, count, low, high)?, shape, device)?)
        };
    }
    match dtype {
        DType::U8 => tensor!(u8),
        DType::U32 => tensor!(u32),
        DType::I16 => tensor!(i16),
        DType::I32 => tensor!(i32),
        DType::I64 => tensor!(i64),
        found => Err(Error::UnsupportedDType { operation: "randint", found, supported: SUPPORTED }),
    }
}

/// [`randint`] as a vector, of any integer type of up to 64 bits.
///
/// # Errors
///
/// `high` not above `low`, or no number of the type between them; more integers than memory can address.
///
/// ```
/// use bridge_random::{key, randint_vec};
///
/// let x: Vec<i8> = randint_vec(key(0), 100, -3, 4)?;
/// assert!(x.iter().all(|x| (-3..4).contains(x)));
/// # Ok::<(), bridge_random::Error>(())
/// ```
#[doc(alias = "randint")]
pub fn randint_vec<I: RandomInteger>(
    key: Key,
    count: usize,
    low: impl Into<i128>,
    high: impl Into<i128>,
) -> Result<Vec<I>> {
    let (low, high) = (low.into(), high.into());
    element_count::<u64>(&count.into())?;
    I::draw(key, count, low, high).ok_or(Error::IntegerBounds { low, high })
}

/// The integers that [`randint_vec`] draws: those of 8, 16, 32 and 64 bits.
#[diagnostic::on_unimplemented(
    message = "no integers of type `{Self}` can be drawn",
    note = "draw `i8`, `i16`, `i32`, `i64`, `u8`, `u16`, `u32` or `u64`"
)]
pub trait RandomInteger: private::Draw {}

mod private {
    use crate::Key;

    pub trait Draw: Sized {
        /// Nothing if the type has no number between the bounds.
        fn draw(key: Key, count: usize, low: i128, high: i128) -> Option<Vec<Self>>;
    }
}

/// The range of integers that is drawn from, in the word that offsets are computed in: the bits of the lowest one, and how
/// many there are, where 0 stands for 2^bits.
#[derive(Clone, Copy)]
struct Range<W> {
    low: W,
    span: W,
    /// 2^bits modulo the span, but 0 where a square wraps: as JAX has it.
    base: W,
}

macro_rules! impl_random_integer {
    ($word:ident: $($integer:ident)*) => {
        impl Range<$word> {
            fn new(low: i128, high: i128) -> Self {
                // Both may be negative, and the difference may be 2^bits: the low bits are what is asked for.
                let (low, span) = (low as $word, (high - low) as $word);
                let range = Self { low, span, base: 0 };
                let root = range.modulo(1 << ($word::BITS / 2));
                Self { base: range.modulo(root.wrapping_mul(root)), ..range }
            }

            #[inline(always)]
            fn modulo(self, value: $word) -> $word {
                value.checked_rem(self.span).unwrap_or(value)
            }

            /// Two words are the digits of a number twice as wide, to be nearly even.
            #[inline(always)]
            fn draw(self, [high, low]: [$word; 2]) -> $word {
                let offset = self.modulo(high).wrapping_mul(self.base).wrapping_add(self.modulo(low));
                self.low.wrapping_add(self.modulo(offset))
            }
        }
        $(
            impl private::Draw for $integer {
                fn draw(key: Key, count: usize, low: i128, high: i128) -> Option<Vec<Self>> {
                    // The type's own maximum is drawn only if the bound is above it.
                    let (low, high) = (low.max(Self::MIN.into()), high.min(i128::from(Self::MAX) + 1));
                    if low >= high {
                        return None;
                    }
                    let range = Range::<$word>::new(low, high);
                    let sources = key.split().map(|key| Source::whole(key, count));
                    Some(draw_from(Integers::<$word, Self>(range, std::marker::PhantomData), sources, count))
                }
            }
            impl RandomInteger for $integer {}
            impl Sampler<2> for Integers<$word, $integer> {
                type Word = $word;
                type Output = $integer;

                #[inline(always)]
                fn sample(self, _: usize, words: [$word; 2]) -> $integer {
                    self.0.draw(words) as $integer
                }
            }
        )*
    };
}

#[derive(Clone, Copy)]
struct Integers<W, I>(Range<W>, std::marker::PhantomData<I>);

// Narrow types draw 32 bits too.
impl_random_integer!(u32: u8 i8 u16 i16 u32 i32);
impl_random_integer!(u64: u64 i64);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fill::tests::check_paths;
    use crate::key;

    #[test]
    fn every_path_fills_the_same_numbers() {
        let range = Range::<u32>::new(-5, 7);
        check_paths("i32", Integers::<u32, i32>(range, std::marker::PhantomData), |x| x);
        let range = Range::<u64>::new(-5, 1 << 40);
        check_paths("i64", Integers::<u64, i64>(range, std::marker::PhantomData), |x| x);
    }

    #[test]
    fn whole_ranges_reach_both_ends() {
        let x: Vec<u8> = randint_vec(key(0), 5000, i64::MIN, i64::MAX).unwrap();
        assert!(x.contains(&0) && x.contains(&255));
        let x: Vec<i16> = randint_vec(key(0), 5000, -3, 3).unwrap();
        assert!((-3..3).all(|value| x.contains(&value)) && x.iter().all(|x| (-3..3).contains(x)));
        let x: Vec<i64> = randint_vec(key(0), 5000, i64::MIN, i64::MAX).unwrap();
        assert!(x.iter().any(|x| *x < -(1 << 62)) && x.iter().any(|x| *x > 1 << 62));
        let x: Vec<u64> = randint_vec(key(0), 5000, 0, 1i128 << 64).unwrap();
        assert!(x.iter().any(|x| *x > u64::MAX / 4 * 3));
    }

    #[test]
    fn a_range_is_cut_to_the_type_but_not_to_nothing() {
        assert_eq!(randint_vec::<u8>(key(0), 2, 255, 400).unwrap(), [255; 2]);
        assert_eq!(randint_vec::<u8>(key(0), 2, -9, 1).unwrap(), [0; 2]);
        for (low, high) in [(256, 400), (-9, 0)] {
            let error = randint_vec::<u8>(key(0), 2, low, high).unwrap_err();
            assert!(matches!(error, Error::IntegerBounds { .. }), "{error}");
        }
    }

    #[test]
    fn bad_input_is_an_error() {
        let error = randint(key(0), 3, 0, 10, DType::F32, &Device::Cpu).unwrap_err();
        assert!(error.to_string().contains("I64"), "{error}");
        for (low, high) in [(5, 5), (9, 3)] {
            let error = randint(key(0), 3, low, high, DType::I64, &Device::Cpu).unwrap_err();
            assert!(matches!(error, Error::IntegerBounds { .. }), "{error}");
        }
    }
}
