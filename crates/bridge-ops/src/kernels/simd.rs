//! One source for every processor: a kernel is compiled for several instruction sets, and the best one that the
//! processor has is chosen at run time.
//!
//! Kernels are plain loops that the compiler turns into vector instructions. `CANDLE_BRIDGE_KERNELS` (`portable`, `avx2`
//! or `avx512`) asks for less than the processor has, for tests and for the same bits on different processors of one
//! architecture.

#![allow(unsafe_code, reason = "a function for an instruction set may only run where the processor has it")]

use std::sync::OnceLock;

use super::lanes::{Lanes, Quad};

/// A set of instructions, from the most common one up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Portable,
    Avx2,
    Avx512,
}

/// The environment variable that asks for less than the processor has.
pub(crate) const VARIABLE: &str = "CANDLE_BRIDGE_KERNELS";

/// The level that kernels run at in this process.
pub(crate) fn level() -> Level {
    static LEVEL: OnceLock<Level> = OnceLock::new();
    *LEVEL.get_or_init(|| {
        let wanted = match std::env::var(VARIABLE).as_deref() {
            Ok("portable") => Level::Portable,
            Ok("avx2") => Level::Avx2,
            _ => Level::Avx512,
        };
        wanted.min(available())
    })
}

#[cfg(target_arch = "x86_64")]
fn available() -> Level {
    let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    let avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl");
    match (avx2, avx512) {
        (true, true) => Level::Avx512,
        (true, false) => Level::Avx2,
        _ => Level::Portable,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn available() -> Level {
    Level::Portable
}

/// What the compiler may use where a kernel is compiled.
pub(crate) trait Instructions: 'static {
    /// Whether `a * b + c` with one rounding is an instruction. Where it is not, it would be a slow function.
    const FUSED: bool;

    /// How many rows of a matrix product stay in registers at a time, beside two vectors of columns.
    const ROWS: usize;

    /// A vector of f32.
    type Single: Lanes<Scalar = f32>;

    /// A vector of f64.
    type Double: Lanes<Scalar = f64>;
}

pub(crate) struct Portable;

impl Instructions for Portable {
    const FUSED: bool = cfg!(any(target_arch = "aarch64", target_feature = "fma"));
    const ROWS: usize = 4;
    type Single = Quad<f32>;
    type Double = Quad<f64>;
}

#[cfg(target_arch = "x86_64")]
pub(crate) struct Avx2;

#[cfg(target_arch = "x86_64")]
impl Instructions for Avx2 {
    const FUSED: bool = true;
    const ROWS: usize = 6;
    type Single = std::arch::x86_64::__m256;
    type Double = std::arch::x86_64::__m256d;
}

#[cfg(target_arch = "x86_64")]
pub(crate) struct Avx512;

#[cfg(target_arch = "x86_64")]
impl Instructions for Avx512 {
    const FUSED: bool = true;
    const ROWS: usize = 14;
    type Single = std::arch::x86_64::__m512;
    type Double = std::arch::x86_64::__m512d;
}

/// Something to compile for each level. Everything that it calls should be `#[inline(always)]`: what is not inlined is
/// compiled for the lowest level alone.
pub(crate) trait Kernel {
    type Output;
    fn run<I: Instructions>(self) -> Self::Output;
}

/// Runs a kernel at the level of this process.
#[inline]
pub(crate) fn dispatch<K: Kernel>(kernel: K) -> K::Output {
    match level() {
        // SAFETY: `level` is at most what the processor has.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { avx512(kernel) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { avx2(kernel) },
        _ => portable(kernel),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
#[inline(never)]
fn avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<Avx512>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
#[inline(never)]
fn avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<Avx2>()
}

#[inline(never)]
fn portable<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<Portable>()
}
