//! Random orders.

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use crate::{Error, Key, Result};

/// The numbers from 0 to `count` (exclusive) in a random order, as a u32 tensor of shape `(count,)`.
///
/// The order is made on the host and sent to `device`.
///
/// # Errors
///
/// More than 2^32 elements.
///
/// ```
/// use bridge_random::{key, permutation};
/// use candle_core::Device;
///
/// let order = permutation(key(42), 10, &Device::Cpu)?;
/// assert_eq!(order.to_vec1::<u32>()?, [7, 4, 2, 5, 3, 6, 8, 9, 0, 1]);
/// # Ok::<(), bridge_random::Error>(())
/// ```
#[doc(alias = "randperm")]
#[doc(alias = "shuffle")]
pub fn permutation(key: Key, count: usize, device: &Device) -> Result<Tensor> {
    let order = permutation_vec(key, count)?;
    Ok(Tensor::from_vec(order, count, device)?)
}

/// [`permutation`] as a vector: an epoch's order of examples, for instance.
///
/// # Errors
///
/// More than 2^32 elements.
///
/// ```
/// use bridge_random::{key, permutation_vec};
///
/// assert_eq!(permutation_vec(key(42), 10)?, [7, 4, 2, 5, 3, 6, 8, 9, 0, 1]);
/// # Ok::<(), bridge_random::Error>(())
/// ```
#[doc(alias = "randperm")]
#[doc(alias = "shuffle")]
pub fn permutation_vec(mut key: Key, count: usize) -> Result<Vec<u32>> {
    let too_long = |_| Error::PermutationLength { found: count };
    let last = u32::try_from(count.saturating_sub(1)).map_err(too_long)?;
    let mut order: Vec<u32> = (0..=last).take(count).collect();
    for _ in 0..sorts(count) {
        let [next, drawn] = key.split();
        key = next;
        let mut pairs: Vec<(u32, u32)> = drawn.bits_u32(count).into_iter().zip(order).collect();
        // Stable: equal keys keep their order.
        pairs.par_sort_by_key(|(bits, _)| *bits);
        order = pairs.into_iter().map(|(_, element)| element).collect();
    }
    Ok(order)
}

/// How many sorts by 32 random bits leave no trace of the order before, whatever keys coincide.
fn sorts(count: usize) -> usize {
    let exponent = 3.0;
    (exponent * (count.max(1) as f64).ln() / f64::from(u32::MAX).ln()).ceil() as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key;

    #[test]
    fn sorts_as_often_as_jax() {
        let sorts: Vec<_> = [0, 1, 2, 1625, 1626, 2_642_245, 2_642_246].map(sorts).into();
        assert_eq!(sorts, [0, 0, 1, 1, 2, 2, 3]);
    }

    #[test]
    fn holds_every_element_once() {
        for count in [0, 1, 2, 1000, 3000] {
            let mut order = permutation_vec(key(1), count).unwrap();
            order.sort_unstable();
            assert!(order.into_iter().eq(0..count as u32), "{count}");
        }
    }

    #[test]
    fn does_not_depend_on_threads() {
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            pool.unwrap().install(|| permutation_vec(key(1), 70_000).unwrap())
        };
        assert!(with(1) == with(2));
    }

    #[cfg(target_pointer_width = "64")]
    #[test]
    fn more_than_a_u32_can_number_is_an_error() {
        let error = permutation_vec(key(0), (1 << 32) + 1).unwrap_err();
        assert!(matches!(error, Error::PermutationLength { .. }), "{error}");
    }
}
