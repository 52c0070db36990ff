//! A function of one element over a tensor: one pass forward, one pass backward.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, WithDType};
use std::mem::MaybeUninit;

use super::element::{BLOCK, Element};
use super::function::{Function, Reads};
use super::simd::{Instructions, Kernel, dispatch};
use super::storage::{self, Written};
use crate::operator::with_float;

/// The fewest elements that are worth a thread of their own.
const LEAST: usize = 8 * 1024;

/// The values of `function` over `x`, a float tensor on the CPU.
pub(crate) fn apply(x: &Tensor, function: impl Function) -> Result<Tensor> {
    x.apply_op1(Operator(function))
}

struct Operator<F>(F);

impl<F: Function> CustomOp1 for Operator<F> {
    fn name(&self) -> &'static str {
        F::NAME
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let values = with_float!(x.dtype(), T => {
            T::to_cpu_storage_owned(forward::<T, F>(self.0, &storage::elements(x, layout)?))
        });
        Ok((values, layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        if !x.track_op() {
            return Ok(None);
        }
        with_float!(x.dtype(), T => {
            let read = if reads_output::<T, F>() { y } else { x };
            storage::with_elements::<T, _>(read, |read| {
                storage::with_elements::<T, _>(gradient, |gradient| {
                    storage::tensor(backward(self.0, read, gradient), x.shape()).map(Some)
                })
            })
        })
    }
}

/// Whether a derivative is computed from the output: in half precision, where that has lost digits, it is from the input.
#[inline(always)]
fn reads_output<T: Element, F: Function>() -> bool {
    F::READS == Reads::Output && size_of::<T>() == size_of::<T::Wide>()
}

fn forward<T: Element, F: Function>(function: F, x: &[T]) -> Vec<T> {
    storage::parallel_written(x.len(), BLOCK, LEAST, |start, room| {
        dispatch(Forward { function, x: &x[start..][..room.len()], room })
    })
}

struct Forward<'x, 'a, T, F> {
    function: F,
    x: &'x [T],
    room: &'a mut [MaybeUninit<T>],
}

impl<'a, T: Element, F: Function> Kernel for Forward<'_, 'a, T, F> {
    type Output = Written<'a, T>;

    #[inline(always)]
    fn run<I: Instructions>(self) -> Written<'a, T> {
        Written::map(self.room, self.x, |x| self.function.value::<T::Wide, I>(x))
    }
}

fn backward<T: Element, F: Function>(function: F, read: &[T], gradient: &[T]) -> Vec<T> {
    storage::parallel_written(gradient.len(), BLOCK, LEAST, |start, room| {
        let (read, gradient) = (&read[start..][..room.len()], &gradient[start..][..room.len()]);
        dispatch(Backward { function, read, gradient, room })
    })
}

struct Backward<'x, 'a, T, F> {
    function: F,
    read: &'x [T],
    gradient: &'x [T],
    room: &'a mut [MaybeUninit<T>],
}

impl<'a, T: Element, F: Function> Kernel for Backward<'_, 'a, T, F> {
    type Output = Written<'a, T>;

    #[inline(always)]
    fn run<I: Instructions>(self) -> Written<'a, T> {
        Written::map_two(self.room, self.read, self.gradient, |read, gradient| {
            let again = F::READS == Reads::Output && !reads_output::<T, F>();
            let read = if again { self.function.value::<T::Wide, I>(read) } else { read };
            self.function.pull_back::<T::Wide, I>(read, gradient)
        })
    }
}
