//! How a draw fills memory: one block of the generator an element, in parallel, vectorised where the processor can.

#![allow(unsafe_code, reason = "calls the kernel compiled for AVX2 and FMA, after asking the processor")]

use candle_core::{Device, Shape, Tensor, WithDType};
use rayon::prelude::*;

use crate::key::{high_word, low_word};
use crate::threefry::KeySchedule;
use crate::{Error, Key, Result};

/// How many elements one task fills; draws of fewer than two tasks stay on the calling thread.
///
/// The bits do not depend on it: an element is a function of the key and its index.
pub(crate) const CHUNK: usize = 1 << 14;

/// What makes an element of a draw from the two words of its block.
///
/// `sample` must be `#[inline(always)]`, and so must all that it calls, to be compiled for the features of the kernel
/// it lands in.
pub(crate) trait Sampler: Copy + Send + Sync {
    type Output: Copy + Default + Send;

    fn sample(self, first: u32, second: u32) -> Self::Output;
}

/// Element `i` of `out` becomes element `start + i` of the draw.
pub(crate) fn fill<S: Sampler>(sampler: S, key: Key, start: u64, out: &mut [S::Output]) {
    if out.len() < 2 * CHUNK {
        return fill_chunk(sampler, key, start, out);
    }
    out.par_chunks_mut(CHUNK).enumerate().for_each(|(index, chunk)| {
        let start = start.wrapping_add((index * CHUNK) as u64);
        fill_chunk(sampler, key, start, chunk);
    });
}

/// The first `count` elements of a draw.
pub(crate) fn draw<S: Sampler>(sampler: S, key: Key, count: usize) -> Vec<S::Output> {
    let mut out = vec![S::Output::default(); count];
    fill(sampler, key, 0, &mut out);
    out
}

/// A draw as a tensor. On the CPU, the tensor owns the memory that was filled.
pub(crate) fn draw_tensor<S>(sampler: S, key: Key, shape: Shape, device: &Device) -> Result<Tensor>
where
    S: Sampler<Output: WithDType>,
{
    let count = element_count::<S::Output>(&shape)?;
    Ok(Tensor::from_vec(draw(sampler, key, count), shape, device)?)
}

/// The number of elements of a shape, if as many `T` can be addressed.
pub(crate) fn element_count<T>(shape: &Shape) -> Result<usize> {
    let sizes = shape.dims().iter();
    sizes
        .copied()
        .try_fold(1, usize::checked_mul)
        .filter(|count| count.checked_mul(size_of::<T>()).is_some_and(|bytes| isize::try_from(bytes).is_ok()))
        .ok_or_else(|| Error::TooLarge { shape: shape.clone() })
}

fn fill_chunk<S: Sampler>(sampler: S, key: Key, start: u64, out: &mut [S::Output]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: the processor has both features that the function is compiled for.
        return unsafe { fill_avx2_fma(sampler, key, start, out) };
    }
    fill_portable(sampler, key, start, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn fill_avx2_fma<S: Sampler>(sampler: S, key: Key, start: u64, out: &mut [S::Output]) {
    fill_here(sampler, key, start, out);
}

/// The same bits on any processor. Where the compiler may not assume fused multiply-adds, each is a call of the C
/// library's, which is exact and slow.
fn fill_portable<S: Sampler>(sampler: S, key: Key, start: u64, out: &mut [S::Output]) {
    fill_here(sampler, key, start, out);
}

#[inline(always)]
fn fill_here<S: Sampler>(sampler: S, key: Key, mut start: u64, mut out: &mut [S::Output]) {
    let schedule = KeySchedule::new(key);
    while !out.is_empty() {
        // The counter's high word is constant up to the next multiple of 2^32, which lets the loop vectorise.
        let (high, low) = (high_word(start), low_word(start));
        let length = usize::try_from((1 << 32) - u64::from(low)).unwrap_or(usize::MAX).min(out.len());
        let (run, rest) = out.split_at_mut(length);
        for (offset, value) in run.iter_mut().enumerate() {
            let (first, second) = schedule.block(high, low.wrapping_add(offset as u32));
            *value = sampler.sample(first, second);
        }
        start = start.wrapping_add(length as u64);
        out = rest;
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fmt::Debug;

    use super::*;
    use crate::key;

    #[derive(Clone, Copy)]
    struct Words;

    impl Sampler for Words {
        type Output = (u32, u32);

        #[inline(always)]
        fn sample(self, first: u32, second: u32) -> (u32, u32) {
            (first, second)
        }
    }

    /// Checks that every way to fill gives the same elements, compared by `bits`.
    pub(crate) fn check_paths<S: Sampler, B: PartialEq + Debug>(
        name: &str,
        sampler: S,
        bits: impl Fn(S::Output) -> B,
    ) {
        let count = 3 * CHUNK + 5;
        let bits_of = |values: &[S::Output]| values.iter().map(|v| bits(*v)).collect::<Vec<_>>();

        let mut portable = vec![S::Output::default(); count];
        fill_portable(sampler, key(7), 0, &mut portable);
        let portable = bits_of(&portable);

        for threads in [1, 2] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let drawn = bits_of(&pool.install(|| draw(sampler, key(7), count)));
            assert!(drawn == portable, "{name} with {threads} threads");
        }
        for length in [0, 1, 9, CHUNK - 1, CHUNK, 2 * CHUNK - 1, 2 * CHUNK, count - 1] {
            let drawn = bits_of(&draw(sampler, key(7), length));
            assert!(drawn == portable[..length], "{name}: the first {length}");
        }
        let mut middle = vec![S::Output::default(); 2 * CHUNK + 1];
        fill(sampler, key(7), 3, &mut middle);
        assert!(bits_of(&middle) == portable[3..][..middle.len()], "{name} from element 3");
    }

    #[test]
    fn every_path_fills_the_same_words() {
        check_paths("words", Words, |words| words);
    }

    #[test]
    fn carries_into_the_high_word() {
        let start = (5 << 32) - 2;
        let mut out = [(0, 0); 4];
        fill(Words, key(42), start, &mut out);
        let block = |high, low| KeySchedule::new(key(42)).block(high, low);
        assert_eq!(out, [block(4, u32::MAX - 1), block(4, u32::MAX), block(5, 0), block(5, 1)]);
    }

    #[test]
    fn shapes_beyond_memory_are_errors() {
        for dims in [vec![usize::MAX], vec![usize::MAX, 2], vec![isize::MAX as usize / 4 + 1]] {
            let shape = Shape::from(dims.clone());
            let error = element_count::<f32>(&shape).unwrap_err();
            assert!(matches!(error, Error::TooLarge { .. }), "{dims:?}");
        }
        assert_eq!(element_count::<f32>(&Shape::from(())).unwrap(), 1);
        assert_eq!(element_count::<f32>(&Shape::from((3, 0))).unwrap(), 0);
    }
}
