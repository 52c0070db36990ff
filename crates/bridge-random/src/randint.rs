//! Random integers.

use candle_core::{DType, Device, Shape, Tensor};

use crate::fill::element_count;
use crate::{Error, Key, Result};

const DTYPES: &[DType] = &[DType::U8, DType::U32, DType::I16, DType::I32, DType::I64];

/// Integers from `low` to `high` (exclusive), almost evenly distributed.
///
/// As in JAX, bounds beyond the dtype's range are cut to it, and `low` alone is drawn where `high` is not above it. Where
/// `high - low` is no power of two, some numbers are likelier by up to one part in 2^32 / (high - low) (2^64 for i64).
///
/// Dtypes: u8, u32, i16, i32, i64. JAX's default is i32. The numbers are made on the host and sent to `device`.
///
/// # Errors
///
/// Another dtype.
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
    let shape = shape.into();
    // Enough for every dtype here; drawing takes 64 bits an element at most.
    let count = element_count::<u64>(&shape)?;

    // Narrow dtypes draw 32 bits too.
    macro_rules! tensor {
        ($element:ident from $word:ident) => {{
            let range = Range::new(low, high, i64::from($element::MIN), i64::from($element::MAX));
            let offsets = $word::offsets(key, count, range.span as $word);
            let low = range.low as $word;
            let values =
                offsets.into_iter().map(|offset| low.wrapping_add(offset) as $element).collect::<Vec<_>>();
            Ok(Tensor::from_vec(values, shape, device)?)
        }};
    }
    match dtype {
        DType::U8 => tensor!(u8 from u32),
        DType::U32 => tensor!(u32 from u32),
        DType::I16 => tensor!(i16 from u32),
        DType::I32 => tensor!(i32 from u32),
        DType::I64 => tensor!(i64 from u64),
        found => Err(Error::UnsupportedDType { operation: "randint", found, supported: DTYPES }),
    }
}

/// A half-open range of integers, cut to what the dtype holds.
struct Range {
    low: i64,
    /// How many integers there are, modulo 2^64.
    span: u64,
}

impl Range {
    fn new(low: i64, high: i64, min: i64, max: i64) -> Self {
        // The dtype's own maximum is drawn only if the bound is above it.
        let beyond = high > max;
        let (low, high) = (low.clamp(min, max), high.clamp(min, max));
        let span =
            if high <= low { 1 } else { (high.wrapping_sub(low) as u64).wrapping_add(u64::from(beyond)) };
        Self { low, span }
    }
}

/// An unsigned integer that offsets are computed in.
trait Offset: Sized {
    /// `count` numbers below `span`; any number where that is 0, which stands for 2^bits.
    ///
    /// Two words are drawn for each, as the digits of a number twice as wide, to be nearly even.
    fn offsets(key: Key, count: usize, span: Self) -> Vec<Self>;
}

macro_rules! impl_offset {
    ($word:ident, $bits:ident) => {
        impl Offset for $word {
            fn offsets(key: Key, count: usize, span: Self) -> Vec<Self> {
                let modulo = |value: Self| value.checked_rem(span).unwrap_or(value);
                // 2^bits modulo the span, but 0 where the square wraps: as JAX has it.
                let root = modulo(1 << (Self::BITS / 2));
                let base = modulo(root.wrapping_mul(root));
                let [high, low] = key.split();
                high.$bits(count)
                    .into_iter()
                    .zip(low.$bits(count))
                    .map(|(high, low)| modulo(modulo(high).wrapping_mul(base).wrapping_add(modulo(low))))
                    .collect()
            }
        }
    };
}

impl_offset!(u32, bits_u32);
impl_offset!(u64, bits_u64);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key;

    #[test]
    fn whole_ranges_reach_both_ends() {
        let draw = |low, high, dtype| randint(key(0), 5000, low, high, dtype, &Device::Cpu);
        let x = draw(i64::MIN, i64::MAX, DType::U8).unwrap();
        let x = x.to_vec1::<u8>().unwrap();
        assert!(x.contains(&0) && x.contains(&255));
        let x = draw(-3, 3, DType::I16).unwrap().to_vec1::<i16>().unwrap();
        assert!((-3..3).all(|value| x.contains(&value)) && x.iter().all(|x| (-3..3).contains(x)));
        let x = draw(i64::MIN, i64::MAX, DType::I64).unwrap();
        let x = x.to_vec1::<i64>().unwrap();
        assert!(x.iter().any(|x| *x < -(1 << 62)) && x.iter().any(|x| *x > 1 << 62));
    }

    #[test]
    fn other_dtypes_are_errors() {
        let error = randint(key(0), 3, 0, 10, DType::F32, &Device::Cpu).unwrap_err();
        assert!(error.to_string().contains("I64"), "{error}");
    }
}
