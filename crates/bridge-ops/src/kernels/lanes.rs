//! Vectors as the processor has them, for the one kernel in which the compiler does not find them by itself.

#![allow(
    unsafe_code,
    reason = "instructions that only some processors have, and loads from where a pointer points"
)]

use super::element::Real;
use super::simd::Portable;

/// A vector of numbers.
///
/// # Safety
/// The methods may be called only where the processor has the instructions of the vector's
/// [level](super::simd::Instructions). `load` and `store` reach [`Lanes::COUNT`] numbers from the pointer on, of any
/// alignment.
pub(crate) trait Lanes: Copy {
    type Scalar: Real;

    const COUNT: usize;

    unsafe fn splat(value: Self::Scalar) -> Self;
    unsafe fn load(from: *const Self::Scalar) -> Self;
    unsafe fn store(self, to: *mut Self::Scalar);
    unsafe fn plus(self, other: Self) -> Self;
    /// `self` where it is larger, else `other`, also where one is NaN.
    unsafe fn larger(self, other: Self) -> Self;
    /// `self * factor + term`.
    unsafe fn times_plus(self, factor: Self, term: Self) -> Self;
    /// Numbers of `self` and `other` in turn: the first vector of them, and the second.
    unsafe fn interleave(self, other: Self) -> (Self, Self);
}

/// The most numbers of a vector.
pub(crate) const MOST: usize = 16;

/// Lays a square across: number `i` of vector `j` becomes number `j` of vector `i`. What is beyond is left undefined.
///
/// Each round turns the digits of (vector, number) by one, so that they have changed places in the end.
///
/// # Safety
/// As for the methods of [`Lanes`].
#[inline(always)]
pub(crate) unsafe fn transpose<L: Lanes>(square: &mut [L; MOST]) {
    let half = L::COUNT / 2;
    for _ in 0..L::COUNT.ilog2() {
        let before = *square;
        for index in 0..half {
            // SAFETY: the caller's.
            (square[2 * index], square[2 * index + 1]) =
                unsafe { before[index].interleave(before[index + half]) };
        }
    }
}

/// Four numbers, for the vectors that every processor of an architecture has.
#[derive(Clone, Copy)]
pub(crate) struct Quad<R>([R; 4]);

impl<R: Real> Lanes for Quad<R> {
    type Scalar = R;
    const COUNT: usize = 4;

    #[inline(always)]
    unsafe fn splat(value: R) -> Self {
        Self([value; 4])
    }
    #[inline(always)]
    unsafe fn load(from: *const R) -> Self {
        // SAFETY: the caller's; an array is aligned as its elements.
        Self(unsafe { from.cast::<[R; 4]>().read() })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut R) {
        // SAFETY: the caller's.
        unsafe { to.cast::<[R; 4]>().write(self.0) }
    }
    #[inline(always)]
    unsafe fn plus(self, other: Self) -> Self {
        Self(std::array::from_fn(|lane| self.0[lane] + other.0[lane]))
    }
    #[inline(always)]
    unsafe fn larger(self, other: Self) -> Self {
        let larger = |one: R, other: R| if one > other { one } else { other };
        Self(std::array::from_fn(|lane| larger(self.0[lane], other.0[lane])))
    }
    #[inline(always)]
    unsafe fn times_plus(self, factor: Self, term: Self) -> Self {
        Self(std::array::from_fn(|lane| self.0[lane].times_plus::<Portable>(factor.0[lane], term.0[lane])))
    }
    #[inline(always)]
    unsafe fn interleave(self, Self([e, f, g, h]): Self) -> (Self, Self) {
        let [a, b, c, d] = self.0;
        (Self([a, e, b, f]), Self([c, g, d, h]))
    }
}

#[cfg(target_arch = "x86_64")]
macro_rules! lanes {
    ($vector:ident, $scalar:ty, $count:literal, $splat:ident, $load:ident, $store:ident, $plus:ident, $larger:ident, $times_plus:ident, $interleave:ident) => {
        impl Lanes for std::arch::x86_64::$vector {
            type Scalar = $scalar;
            const COUNT: usize = $count;

            #[inline(always)]
            unsafe fn splat(value: $scalar) -> Self {
                // SAFETY: the caller's, here and below.
                unsafe { std::arch::x86_64::$splat(value) }
            }
            #[inline(always)]
            unsafe fn load(from: *const $scalar) -> Self {
                // SAFETY: see `splat`.
                unsafe { std::arch::x86_64::$load(from) }
            }
            #[inline(always)]
            unsafe fn store(self, to: *mut $scalar) {
                // SAFETY: see `splat`.
                unsafe { std::arch::x86_64::$store(to, self) }
            }
            #[inline(always)]
            unsafe fn plus(self, other: Self) -> Self {
                // SAFETY: see `splat`.
                unsafe { std::arch::x86_64::$plus(self, other) }
            }
            #[inline(always)]
            unsafe fn larger(self, other: Self) -> Self {
                // SAFETY: see `splat`. The instruction gives the second where one is NaN.
                unsafe { std::arch::x86_64::$larger(self, other) }
            }
            #[inline(always)]
            unsafe fn times_plus(self, factor: Self, term: Self) -> Self {
                // SAFETY: see `splat`.
                unsafe { std::arch::x86_64::$times_plus(self, factor, term) }
            }
            #[inline(always)]
            unsafe fn interleave(self, other: Self) -> (Self, Self) {
                // SAFETY: see `splat`.
                unsafe { interleave::$interleave(self, other) }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
lanes!(
    __m256,
    f32,
    8,
    _mm256_set1_ps,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_add_ps,
    _mm256_max_ps,
    _mm256_fmadd_ps,
    single_256
);
#[cfg(target_arch = "x86_64")]
lanes!(
    __m256d,
    f64,
    4,
    _mm256_set1_pd,
    _mm256_loadu_pd,
    _mm256_storeu_pd,
    _mm256_add_pd,
    _mm256_max_pd,
    _mm256_fmadd_pd,
    double_256
);
#[cfg(target_arch = "x86_64")]
lanes!(
    __m512,
    f32,
    16,
    _mm512_set1_ps,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_add_ps,
    _mm512_max_ps,
    _mm512_fmadd_ps,
    single_512
);
#[cfg(target_arch = "x86_64")]
lanes!(
    __m512d,
    f64,
    8,
    _mm512_set1_pd,
    _mm512_loadu_pd,
    _mm512_storeu_pd,
    _mm512_add_pd,
    _mm512_max_pd,
    _mm512_fmadd_pd,
    double_512
);

#[cfg(target_arch = "x86_64")]
mod interleave {
    use std::arch::x86_64::*;

    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn single_256(a: __m256, b: __m256) -> (__m256, __m256) {
        let (low, high) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
        (_mm256_permute2f128_ps::<0x20>(low, high), _mm256_permute2f128_ps::<0x31>(low, high))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn double_256(a: __m256d, b: __m256d) -> (__m256d, __m256d) {
        let (low, high) = (_mm256_unpacklo_pd(a, b), _mm256_unpackhi_pd(a, b));
        (_mm256_permute2f128_pd::<0x20>(low, high), _mm256_permute2f128_pd::<0x31>(low, high))
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn single_512(a: __m512, b: __m512) -> (__m512, __m512) {
        let first = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
        let second = _mm512_add_epi32(first, _mm512_set1_epi32(8));
        (_mm512_permutex2var_ps(a, first, b), _mm512_permutex2var_ps(a, second, b))
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn double_512(a: __m512d, b: __m512d) -> (__m512d, __m512d) {
        let first = _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11);
        let second = _mm512_add_epi64(first, _mm512_set1_epi64(4));
        (_mm512_permutex2var_pd(a, first, b), _mm512_permutex2var_pd(a, second, b))
    }
}
