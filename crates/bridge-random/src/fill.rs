//! How a draw fills memory: one block of the generator an element, in parallel, vectorised where the processor can.

#![allow(
    unsafe_code,
    reason = "calls kernels compiled for features, after asking the processor; fills memory that is not set before"
)]

use std::mem::MaybeUninit;

use candle_core::{Device, Shape, Tensor, WithDType};
use rayon::prelude::*;

use crate::key::{high_word, low_word};
use crate::threefry::KeySchedule;
use crate::word::Word;
use crate::{Error, Key, Result, Scheme};

/// How many elements one task fills; draws of fewer than two tasks stay on the calling thread.
///
/// The bits do not depend on it: an element is a function of the key and its index.
pub(crate) const CHUNK: usize = 1 << 14;

/// What makes an element of a draw from `N` words.
///
/// `sample` must be `#[inline(always)]`, and so must all that it calls, to be compiled for the features of the kernel
/// it lands in.
pub(crate) trait Sampler<const N: usize = 1>: Copy + Send + Sync {
    type Word: Word;
    type Output: Copy + Send;

    /// Element `index` of the draw, from its words.
    fn sample(self, index: usize, words: [Self::Word; N]) -> Self::Output;
}

/// A sampler of its own for each element, where a parameter is a tensor.
#[derive(Clone, Copy)]
pub(crate) struct Each<'a, S>(pub(crate) &'a [S]);

impl<const N: usize, S: Sampler<N>> Sampler<N> for Each<'_, S> {
    type Word = S::Word;
    type Output = S::Output;

    #[inline(always)]
    fn sample(self, index: usize, words: [S::Word; N]) -> S::Output {
        self.0[index].sample(index, words)
    }
}

/// Where a draw's words come from: element `i` gets number `offset + i` of the `total` that the key has.
#[derive(Clone, Copy)]
pub(crate) struct Source {
    pub(crate) key: Key,
    pub(crate) offset: u64,
    /// Of no consequence but under [`Scheme::Legacy`].
    pub(crate) total: u64,
}

impl Source {
    /// All words of a draw of `count` elements.
    pub(crate) fn whole(key: Key, count: usize) -> Self {
        Self { key, offset: 0, total: count as u64 }
    }

    /// The two rows of a draw of shape `(2, count)`.
    pub(crate) fn rows(key: Key, count: usize) -> [Self; 2] {
        let (count, total) = (count as u64, 2 * count as u64);
        [Self { key, offset: 0, total }, Self { key, offset: count, total }]
    }

    fn skip(self, count: usize) -> Self {
        Self { offset: self.offset.wrapping_add(count as u64), ..self }
    }
}

/// Makes element `i` of `out` from the words that each source has for it. All are set when it returns.
fn fill_memory<const N: usize, S: Sampler<N>>(
    sampler: S,
    sources: [Source; N],
    out: &mut [MaybeUninit<S::Output>],
) {
    if out.len() < 2 * CHUNK {
        return fill_chunk(sampler, sources, 0, out);
    }
    out.par_chunks_mut(CHUNK).enumerate().for_each(|(number, chunk)| {
        fill_chunk(sampler, sources, number * CHUNK, chunk);
    });
}

/// Makes element `i` of `out` from the words that each source has for it.
pub(crate) fn fill<const N: usize, S: Sampler<N>>(sampler: S, sources: [Source; N], out: &mut [S::Output]) {
    // SAFETY: memory that is set may be taken for memory that may not be, as nothing but elements is written to it.
    let out = unsafe { &mut *(std::ptr::from_mut(out) as *mut [MaybeUninit<S::Output>]) };
    fill_memory(sampler, sources, out);
}

/// A draw of `count` elements.
pub(crate) fn draw<S: Sampler>(sampler: S, key: Key, count: usize) -> Vec<S::Output> {
    draw_from(sampler, [Source::whole(key, count)], count)
}

/// A draw of `count` elements from several sources of words.
pub(crate) fn draw_from<const N: usize, S: Sampler<N>>(
    sampler: S,
    sources: [Source; N],
    count: usize,
) -> Vec<S::Output> {
    // Not zeroed first: large draws take longer to reach memory than to compute.
    let mut out = Vec::with_capacity(count);
    fill_memory(sampler, sources, &mut out.spare_capacity_mut()[..count]);
    // SAFETY: the elements up to here were set.
    unsafe { out.set_len(count) };
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

/// Draws elements `start..` of a longer draw.
///
/// # Errors
///
/// A key of [`Scheme::Legacy`], whose elements depend on the length of the whole.
pub(crate) fn fill_part<S: Sampler>(sampler: S, key: Key, start: u64, out: &mut [S::Output]) -> Result<()> {
    if key.scheme() == Scheme::Legacy {
        return Err(Error::LegacyPart { key });
    }
    fill(sampler, [Source { key, offset: start, total: 0 }], out);
    Ok(())
}

/// The number of elements of a shape, if there is memory for as many `T`.
pub(crate) fn element_count<T>(shape: &Shape) -> Result<usize> {
    element_count_of_size(shape, size_of::<T>())
}

/// The number of elements of a shape, if there is memory for as many that take `size` bytes each.
pub(crate) fn element_count_of_size(shape: &Shape, size: usize) -> Result<usize> {
    /// Beyond this many bytes, an allocation is tried.
    const TRIED: usize = 1 << 32;

    let too_large = || Error::TooLarge { shape: shape.clone() };
    // Strides are products of sizes, whatever other sizes are 0.
    let sizes = || shape.dims().iter().copied();
    sizes().map(|size| size.max(1)).try_fold(1, usize::checked_mul).ok_or_else(too_large)?;
    let count: usize = sizes().product();
    let bytes = count.checked_mul(size).ok_or_else(too_large)?;
    if bytes > TRIED {
        // The memory is given back at once: it is only touched where it is used.
        Vec::<u8>::new().try_reserve_exact(bytes).map_err(|_| too_large())?;
    }
    Ok(count)
}

/// How many elements are made at a time: their words fit the processor's first cache.
const BLOCK: usize = 256;

/// Makes elements `first..`.
fn fill_chunk<const N: usize, S: Sampler<N>>(
    sampler: S,
    sources: [Source; N],
    first: usize,
    out: &mut [MaybeUninit<S::Output>],
) {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
        {
            // SAFETY: the processor has the features that the function is compiled for.
            return unsafe { fill_avx512(sampler, sources, first, out) };
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the processor has the features that the function is compiled for.
            return unsafe { fill_avx2_fma(sampler, sources, first, out) };
        }
    }
    fill_portable(sampler, sources, first, out);
}

/// Compiles the kernels for the features of a kind of processor.
#[cfg(target_arch = "x86_64")]
macro_rules! compile_for {
    ($features:literal, $fill:ident, $fill_words:ident) => {
        #[target_feature(enable = $features)]
        fn $fill<const N: usize, S: Sampler<N>>(
            sampler: S,
            sources: [Source; N],
            first: usize,
            out: &mut [MaybeUninit<S::Output>],
        ) {
            fill_here(sampler, sources, first, out, |source, words| $fill_words(source, words));
        }

        // By itself, so that it is compiled once for all samplers.
        #[inline(never)]
        #[target_feature(enable = $features)]
        fn $fill_words<W: Word>(source: Source, words: &mut [W]) {
            fill_words_here(source, words);
        }
    };
}

#[cfg(target_arch = "x86_64")]
compile_for!("avx512f,avx512vl,avx512bw,avx512dq", fill_avx512, fill_words_avx512);
#[cfg(target_arch = "x86_64")]
compile_for!("avx2,fma", fill_avx2_fma, fill_words_avx2_fma);

/// The same bits on any processor. Where the compiler may not assume fused multiply-adds, each is a call of the C
/// library's, which is exact and slow.
fn fill_portable<const N: usize, S: Sampler<N>>(
    sampler: S,
    sources: [Source; N],
    first: usize,
    out: &mut [MaybeUninit<S::Output>],
) {
    fill_here(sampler, sources, first, out, fill_words_here);
}

/// Two loops for each block of elements, one for the words and one for what becomes of them, simple enough for the compiler
/// to vectorise.
#[inline(always)]
fn fill_here<const N: usize, S: Sampler<N>>(
    sampler: S,
    sources: [Source; N],
    first: usize,
    out: &mut [MaybeUninit<S::Output>],
    fill_words: impl Fn(Source, &mut [S::Word]),
) {
    let mut words = [[S::Word::default(); BLOCK]; N];
    for (number, block) in out.chunks_mut(BLOCK).enumerate() {
        let first = first + number * BLOCK;
        for (words, source) in words.iter_mut().zip(sources) {
            fill_words(source.skip(first), &mut words[..block.len()]);
        }
        let words = words.each_ref().map(|words| &words[..block.len()]);
        for (offset, value) in block.iter_mut().enumerate() {
            value.write(sampler.sample(first + offset, words.map(|words| words[offset])));
        }
    }
}

/// The first words of a source.
#[inline(always)]
fn fill_words_here<W: Word>(source: Source, words: &mut [W]) {
    let Source { key, offset, total } = source;
    if key.scheme() == Scheme::Legacy {
        for (word, index) in words.iter_mut().zip(offset..) {
            *word = W::legacy(key, index, total);
        }
        return;
    }
    let schedule = KeySchedule::new(key);
    // The counter's high word is constant up to the next multiple of 2^32, which lets the loop vectorise.
    let left = usize::try_from((1 << 32) - u64::from(low_word(offset))).unwrap_or(usize::MAX);
    let (before, after) = words.split_at_mut(left.min(words.len()));
    let next = offset.wrapping_add(before.len() as u64);
    for (run, start) in [(before, offset), (after, next)] {
        let (high, low) = (high_word(start), low_word(start));
        for (place, word) in run.iter_mut().enumerate() {
            let (first, second) = schedule.block(high, low.wrapping_add(place as u32));
            *word = W::from_block(first, second);
        }
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
        type Word = u64;
        type Output = u64;

        #[inline(always)]
        fn sample(self, _: usize, [word]: [u64; 1]) -> u64 {
            word
        }
    }

    /// Checks that every way to fill gives the same elements, compared by `bits`, from as many keys as there are sources.
    pub(crate) fn check_paths<const N: usize, S: Sampler<N>, B: PartialEq + Debug>(
        name: &str,
        sampler: S,
        bits: impl Fn(S::Output) -> B,
    ) {
        for scheme in [Scheme::Partitionable, Scheme::Legacy] {
            check_paths_of(name, scheme, sampler, &bits);
        }
    }

    fn check_paths_of<const N: usize, S: Sampler<N>, B: PartialEq + Debug>(
        name: &str,
        scheme: Scheme,
        sampler: S,
        bits: impl Fn(S::Output) -> B,
    ) {
        let count = 3 * CHUNK + 5;
        let bits_of = |values: &[S::Output]| values.iter().map(|v| bits(*v)).collect::<Vec<_>>();
        let keys = key(7).with_scheme(scheme).split::<N>();
        let sources = |count| keys.map(|key| Source::whole(key, count));

        type Fill<S, const N: usize> =
            fn(S, [Source; N], usize, &mut [MaybeUninit<<S as Sampler<N>>::Output>]);
        let filled_by = |fill: Fill<S, N>| {
            let mut out = vec![MaybeUninit::uninit(); count];
            fill(sampler, sources(count), 0, &mut out);
            // SAFETY: all elements were set.
            out.into_iter().map(|value| bits(unsafe { value.assume_init() })).collect::<Vec<_>>()
        };
        let portable = filled_by(fill_portable);

        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // Dispatch prefers what processors with AVX-512 have.
            // SAFETY: the processor has the features that the function is compiled for.
            let narrow = filled_by(|sampler, sources, first, out| unsafe {
                fill_avx2_fma(sampler, sources, first, out);
            });
            assert!(narrow == portable, "{name} with AVX2");
        }

        for threads in [1, 2, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let drawn = bits_of(&pool.install(|| draw_from(sampler, sources(count), count)));
            assert!(drawn == portable, "{name} with {threads} threads");
        }
        if scheme == Scheme::Legacy {
            return;
        }
        for length in [0, 1, 9, CHUNK - 1, CHUNK, 2 * CHUNK - 1, 2 * CHUNK, count - 1] {
            let drawn = bits_of(&draw_from(sampler, sources(length), length));
            assert!(drawn == portable[..length], "{name}: the first {length}");
        }
        let middle = sources(count).map(|source| source.skip(3));
        let middle = draw_from(sampler, middle, 2 * CHUNK + 1);
        assert!(bits_of(&middle) == portable[3..][..middle.len()], "{name} from element 3");
    }

    #[test]
    fn every_path_fills_the_same_words() {
        check_paths("words", Words, |words| words);
    }

    #[test]
    fn carries_into_the_high_word() {
        let start = (5 << 32) - 2;
        let mut out = [0; 4];
        fill_part(Words, key(42), start, &mut out).unwrap();
        let block = |high, low| {
            let (first, second) = KeySchedule::new(key(42)).block(high, low);
            u64::from_block(first, second)
        };
        assert_eq!(out, [block(4, u32::MAX - 1), block(4, u32::MAX), block(5, 0), block(5, 1)]);
    }

    #[test]
    fn a_part_of_a_legacy_draw_is_an_error() {
        let error = fill_part(Words, key(0).with_scheme(Scheme::Legacy), 0, &mut [0]).unwrap_err();
        assert!(matches!(error, Error::LegacyPart { .. }), "{error}");
    }

    #[test]
    fn shapes_beyond_memory_are_errors() {
        let half = usize::MAX / 2 + 1;
        for dims in [vec![usize::MAX], vec![usize::MAX, 2], vec![isize::MAX as usize / 8], vec![0, half, 4]] {
            let shape = Shape::from(dims.clone());
            let error = element_count::<f32>(&shape).unwrap_err();
            assert!(matches!(error, Error::TooLarge { .. }), "{dims:?}");
        }
        assert_eq!(element_count::<f32>(&Shape::from(())).unwrap(), 1);
        assert_eq!(element_count::<f32>(&Shape::from((3, 0))).unwrap(), 0);
    }
}
