//! Random orders.

use candle_core::{D, Device, Tensor};
use rayon::prelude::*;

use crate::axis::{axis_to_last, checked_axis, last_to_axis};
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
pub fn permutation_vec(key: Key, count: usize) -> Result<Vec<u32>> {
    let last =
        u32::try_from(count.saturating_sub(1)).map_err(|_| Error::PermutationLength { found: count })?;
    let mut order: Vec<u32> = (0..=last).take(count).collect();
    for bits in sorting_bits(key, count) {
        sort_line(&mut order, &bits);
    }
    Ok(order)
}

/// What a tensor has along an axis, in a random order: rows of a matrix stay whole for axis 0. A negative axis counts from
/// the end.
///
/// The order is made on the host; a tensor of any dtype stays where it is.
///
/// # Errors
///
/// An axis that the tensor does not have; more than 2^32 elements on it.
///
/// ```
/// use bridge_random::{key, permute};
/// use candle_core::{Device, Tensor};
///
/// let x = Tensor::new(&[[1u32, 2], [3, 4], [5, 6]], &Device::Cpu)?;
/// assert_eq!(permute(key(1), &x, 0)?.to_vec2::<u32>()?, [[5, 6], [1, 2], [3, 4]]);
/// # Ok::<(), bridge_random::Error>(())
/// ```
#[doc(alias = "permutation")]
pub fn permute(key: Key, tensor: &Tensor, axis: isize) -> Result<Tensor> {
    let axis = checked_axis("axis", axis, tensor.shape())?;
    let order = permutation(key, tensor.dim(axis)?, tensor.device())?;
    Ok(tensor.contiguous()?.index_select(&order, axis)?)
}

/// Each line of a tensor along an axis in a random order of its own: rows of a matrix are mixed for axis 0. A negative axis
/// counts from the end.
///
/// The orders are made on the host; a tensor of any dtype stays where it is.
///
/// # Errors
///
/// An axis that the tensor does not have; more than 2^32 elements on it.
///
/// ```
/// use bridge_random::{key, shuffle};
/// use candle_core::{Device, Tensor};
///
/// let x = Tensor::new(&[[1u32, 2, 3], [4, 5, 6]], &Device::Cpu)?;
/// let mut rows = shuffle(key(0), &x, 1)?.to_vec2::<u32>()?;
/// rows.iter_mut().for_each(|row| row.sort());
/// assert_eq!(rows, x.to_vec2::<u32>()?);
/// # Ok::<(), bridge_random::Error>(())
/// ```
#[doc(alias = "permutation")]
#[doc(alias = "independent")]
pub fn shuffle(key: Key, tensor: &Tensor, axis: isize) -> Result<Tensor> {
    let axis = checked_axis("axis", axis, tensor.shape())?;
    let (count, length) = (tensor.elem_count(), tensor.dim(axis)?);
    if count == 0 {
        return Ok(tensor.clone());
    }
    let last = u32::try_from(length - 1).map_err(|_| Error::PermutationLength { found: length })?;
    // The lines as they lie when the axis is moved to the end.
    let inner: usize = tensor.dims()[axis + 1..].iter().product();
    let mut orders: Vec<u32> = (0..count / length).flat_map(|_| 0..=last).collect();
    for bits in sorting_bits(key, count) {
        let mut line_bits = vec![0; length];
        for (line, order) in orders.chunks_exact_mut(length).enumerate() {
            let first = line / inner * inner * length + line % inner;
            for (at, bits_here) in line_bits.iter_mut().enumerate() {
                *bits_here = bits[first + at * inner];
            }
            sort_line(order, &line_bits);
        }
    }
    let mut dims = tensor.dims().to_vec();
    dims.remove(axis);
    dims.push(length);
    let orders = Tensor::from_vec(orders, dims, tensor.device())?;
    let lines = axis_to_last(tensor, axis)?.contiguous()?.gather(&orders, D::Minus1)?;
    Ok(last_to_axis(&lines, axis)?.contiguous()?)
}

/// The bits that each round sorts by.
fn sorting_bits(mut key: Key, count: usize) -> impl Iterator<Item = Vec<u32>> {
    (0..sorts(count)).map(move |_| {
        let [next, drawn] = key.split();
        key = next;
        drawn.bits_u32(count)
    })
}

/// Puts an order into the order of these bits; elements with equal bits keep theirs.
fn sort_line(order: &mut [u32], bits: &[u32]) {
    let numbered = bits.iter().zip(0u64..).map(|(bits, place)| u64::from(*bits) << 32 | place);
    let mut places: Vec<u64> = numbered.collect();
    places.par_sort_unstable();
    let before = order.to_vec();
    for (element, place) in order.iter_mut().zip(places) {
        *element = before[place as u32 as usize];
    }
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

    #[test]
    fn shuffles_each_line_by_itself() {
        let x = Tensor::arange(0u32, 60, &Device::Cpu).unwrap().reshape((3, 4, 5)).unwrap();
        for axis in [0, 1, 2, -1, -3] {
            let shuffled = shuffle(key(5), &x, axis).unwrap();
            let axis = checked_axis("axis", axis, x.shape()).unwrap();
            let lines = |tensor: &Tensor| {
                let lines = axis_to_last(tensor, axis).unwrap().contiguous().unwrap().flatten_to(1).unwrap();
                lines.to_vec2::<u32>().unwrap()
            };
            let (before, after) = (lines(&x), lines(&shuffled));
            assert_ne!(before, after);
            for (before, mut after) in before.into_iter().zip(after) {
                after.sort_unstable();
                assert_eq!(before, after);
            }
        }
    }

    #[test]
    fn nothing_is_permuted_to_nothing() {
        let empty = Tensor::zeros((0, 3), candle_core::DType::F32, &Device::Cpu).unwrap();
        assert_eq!(permute(key(0), &empty, 0).unwrap().dims(), [0, 3]);
        assert_eq!(permute(key(0), &empty, 1).unwrap().dims(), [0, 3]);
        assert_eq!(shuffle(key(0), &empty, 1).unwrap().dims(), [0, 3]);
        let error = permute(key(0), &empty, 2).unwrap_err();
        assert!(matches!(error, Error::Axis { axis: 2, .. }), "{error}");
    }

    #[cfg(target_pointer_width = "64")]
    #[test]
    fn more_than_a_u32_can_number_is_an_error() {
        let error = permutation_vec(key(0), (1 << 32) + 1).unwrap_err();
        assert!(matches!(error, Error::PermutationLength { .. }), "{error}");
    }
}
