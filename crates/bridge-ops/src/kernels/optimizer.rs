//! How parameters move along their gradients: one pass over everything that a step reads and writes.
//!
//! The arithmetic is that of candle's operators, one rounding for each: the bits do not depend on the instruction set.

#![allow(
    unsafe_code,
    reason = "threads write to their own parts of what remembers and of the new parameters"
)]

use std::borrow::Cow;
use std::mem::MaybeUninit;
use std::ops::Range;

use super::element::{BLOCK, Element, Real, scratch};
use super::simd::{Instructions, Kernel};
use super::storage::Pointer;

/// AdamW with its numbers folded together.
#[derive(Clone, Copy)]
pub(crate) struct AdamW<R> {
    pub(crate) beta1: R,
    pub(crate) rest1: R,
    pub(crate) beta2: R,
    pub(crate) rest2: R,
    /// `1 / √(1 - beta2^t)`.
    pub(crate) root: R,
    pub(crate) epsilon: R,
    /// `learning_rate / (1 - beta1^t)`.
    pub(crate) rate: R,
    /// `learning_rate * weight_decay`.
    pub(crate) decay: R,
}

impl<R: Real> AdamW<R> {
    #[inline(always)]
    fn step<const DECAYS: bool>(self, parameter: R, gradient: R, mu: &mut R, nu: &mut R) -> R {
        *mu = *mu * self.beta1 + gradient * self.rest1;
        *nu = *nu * self.beta2 + gradient * gradient * self.rest2;
        let change = *mu / (nu.sqrt() * self.root + self.epsilon) * self.rate;
        // Not a product with 0, which is NaN for an infinite parameter.
        if DECAYS { parameter - (change + parameter * self.decay) } else { parameter - change }
    }
}

/// Stochastic gradient descent.
#[derive(Clone, Copy)]
pub(crate) struct Sgd<R> {
    pub(crate) rate: R,
    pub(crate) momentum: R,
    pub(crate) decay: R,
}

impl<R: Real> Sgd<R> {
    #[inline(always)]
    fn decayed<const DECAYS: bool>(self, parameter: R, gradient: R) -> R {
        if DECAYS { gradient + parameter * self.decay } else { gradient }
    }
    #[inline(always)]
    fn plain<const DECAYS: bool>(self, parameter: R, gradient: R) -> R {
        parameter - self.decayed::<DECAYS>(parameter, gradient) * self.rate
    }
    #[inline(always)]
    fn step<const DECAYS: bool, const NESTEROV: bool>(self, parameter: R, gradient: R, trace: &mut R) -> R {
        let gradient = self.decayed::<DECAYS>(parameter, gradient);
        *trace = gradient + *trace * self.momentum;
        let direction = if NESTEROV { gradient + *trace * self.momentum } else { *trace };
        parameter - direction * self.rate
    }
}

/// What moves a parameter.
#[derive(Clone, Copy)]
pub(crate) enum Rule<R> {
    AdamW(AdamW<R>),
    Sgd(Sgd<R>),
    Momentum(Sgd<R>),
    Nesterov(Sgd<R>),
}

/// A parameter whose step is to be made.
pub(crate) struct Moving<'a, T: Element> {
    pub(crate) rule: Rule<T::Wide>,
    /// The gradient is multiplied by it first.
    pub(crate) factor: T::Wide,
    pub(crate) parameter: Cow<'a, [T]>,
    pub(crate) gradient: Cow<'a, [T]>,
    /// As many as the rule remembers are there.
    pub(crate) memory: [Option<Pointer<T::Wide>>; 2],
    pub(crate) updated: Pointer<T>,
}

/// Makes the step of a part of a parameter.
pub(crate) struct Step<'k, 'a, T: Element> {
    moving: &'k Moving<'a, T>,
    range: Range<usize>,
}

impl<'k, 'a, T: Element> Step<'k, 'a, T> {
    /// # Safety
    /// The pointers are to as many elements as the parameter has; nothing else reads or writes those of `range` while the
    /// kernel runs. The elements of what remembers are initialised.
    pub(crate) unsafe fn new(moving: &'k Moving<'a, T>, range: Range<usize>) -> Self {
        Self { moving, range }
    }
}

impl<T: Element> Kernel for Step<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Instructions>(self) {
        let Moving { rule, memory, .. } = self.moving;
        match (*rule, *memory) {
            (Rule::AdamW(rule), [Some(mu), Some(nu)]) => match rule.decay == T::Wide::ZERO {
                false => self.two(mu, nu, |p, g, mu, nu| rule.step::<true>(p, g, mu, nu)),
                true => self.two(mu, nu, |p, g, mu, nu| rule.step::<false>(p, g, mu, nu)),
            },
            (Rule::Sgd(rule), _) => match rule.decay == T::Wide::ZERO {
                false => self.none(|p, g| rule.plain::<true>(p, g)),
                true => self.none(|p, g| rule.plain::<false>(p, g)),
            },
            (Rule::Momentum(rule), [Some(trace), _]) => match rule.decay == T::Wide::ZERO {
                false => self.one(trace, |p, g, trace| rule.step::<true, false>(p, g, trace)),
                true => self.one(trace, |p, g, trace| rule.step::<false, false>(p, g, trace)),
            },
            (Rule::Nesterov(rule), [Some(trace), _]) => match rule.decay == T::Wide::ZERO {
                false => self.one(trace, |p, g, trace| rule.step::<true, true>(p, g, trace)),
                true => self.one(trace, |p, g, trace| rule.step::<false, true>(p, g, trace)),
            },
            // Whoever made it gives what the rule remembers.
            _ => debug_assert!(false, "a rule without its memory"),
        }
    }
}

impl<T: Element> Step<'_, '_, T> {
    #[inline(always)]
    fn none(self, step: impl Fn(T::Wide, T::Wide) -> T::Wide) {
        self.blocks(|_, p, g, out| {
            let (p, g) = (&p[..out.len()], &g[..out.len()]);
            for index in 0..out.len() {
                out[index].write(step(p[index], g[index]));
            }
        });
    }

    #[inline(always)]
    fn one(self, trace: Pointer<T::Wide>, step: impl Fn(T::Wide, T::Wide, &mut T::Wide) -> T::Wide) {
        self.blocks(|at, p, g, out| {
            // SAFETY: `blocks` gives parts of `range`, which are this kernel's alone.
            let trace = unsafe { std::slice::from_raw_parts_mut(trace.get().add(at), out.len()) };
            with_one(p, g, trace, out, &step);
        });
    }

    #[inline(always)]
    fn two(
        self,
        mu: Pointer<T::Wide>,
        nu: Pointer<T::Wide>,
        step: impl Fn(T::Wide, T::Wide, &mut T::Wide, &mut T::Wide) -> T::Wide,
    ) {
        self.blocks(|at, p, g, out| {
            // SAFETY: as in `one`.
            let mu = unsafe { std::slice::from_raw_parts_mut(mu.get().add(at), out.len()) };
            // SAFETY: as above.
            let nu = unsafe { std::slice::from_raw_parts_mut(nu.get().add(at), out.len()) };
            with_two(p, g, mu, nu, out, &step);
        });
    }

    /// Calls `block` with the index of each block's first element, its parameters and gradients in the dtype of the
    /// arithmetic, and room for the new parameters, which it fills.
    #[inline(always)]
    fn blocks(self, block: impl Fn(usize, &[T::Wide], &[T::Wide], &mut [MaybeUninit<T::Wide>])) {
        let Moving { factor, parameter, gradient, updated, .. } = self.moving;
        let (mut wide_p, mut wide_g, mut wide_out) = (scratch::<T>(), scratch::<T>(), scratch::<T>());
        let mut scaled = [T::Wide::ZERO; BLOCK];
        let mut at = self.range.start;
        while at < self.range.end {
            let end = self.range.end.min(at + BLOCK);
            let p = T::wide(&parameter[at..end], &mut wide_p);
            let mut g = T::wide(&gradient[at..end], &mut wide_g);
            if *factor != T::Wide::ONE {
                for (scaled, &g) in scaled.iter_mut().zip(g) {
                    *scaled = g * *factor;
                }
                g = &scaled[..end - at];
            }
            // SAFETY: as in `one`; room needs no value.
            let out = unsafe {
                std::slice::from_raw_parts_mut(updated.get().add(at).cast::<MaybeUninit<T>>(), end - at)
            };
            T::fill(out, &mut wide_out, |out| block(at, p, g, out));
            at = end;
        }
    }
}

// Functions of their own, because their arguments are known not to overlap: the compiler makes vectors of the loops.

#[inline(always)]
fn with_one<R: Real>(
    p: &[R],
    g: &[R],
    trace: &mut [R],
    out: &mut [MaybeUninit<R>],
    step: &impl Fn(R, R, &mut R) -> R,
) {
    let (p, g, trace) = (&p[..out.len()], &g[..out.len()], &mut trace[..out.len()]);
    for index in 0..out.len() {
        out[index].write(step(p[index], g[index], &mut trace[index]));
    }
}

#[inline(always)]
fn with_two<R: Real>(
    p: &[R],
    g: &[R],
    mu: &mut [R],
    nu: &mut [R],
    out: &mut [MaybeUninit<R>],
    step: &impl Fn(R, R, &mut R, &mut R) -> R,
) {
    let (p, g) = (&p[..out.len()], &g[..out.len()]);
    let (mu, nu) = (&mut mu[..out.len()], &mut nu[..out.len()]);
    for index in 0..out.len() {
        out[index].write(step(p[index], g[index], &mut mu[index], &mut nu[index]));
    }
}
