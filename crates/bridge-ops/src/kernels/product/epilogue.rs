//! What is done to the numbers of a product while they are at hand.

use candle_core::DType;
use std::mem::MaybeUninit;

use super::super::activation::{Elu, LeakyRelu, Relu, Sigmoid, Tanh};
use super::super::element::Real;
use super::super::function::{Function, Reads};
use super::super::simd::{Instructions, Kernel, dispatch};
use crate::Activation;

/// Nothing, or an activation whose derivative is computed from its output: what comes out of it is all that is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Epilogue {
    Nothing,
    Relu(Relu),
    Sigmoid(Sigmoid),
    Tanh(Tanh),
    Elu(Elu),
    LeakyRelu(LeakyRelu),
}

/// Evaluates an expression with the function of an epilogue: a loop for each, and no choice inside of it.
macro_rules! with_function {
    ($epilogue:expr, $function:ident => $body:expr) => {
        match $epilogue {
            Epilogue::Nothing => {
                let $function = Identity;
                $body
            }
            Epilogue::Relu($function) => $body,
            Epilogue::Sigmoid($function) => $body,
            Epilogue::Tanh($function) => $body,
            Epilogue::Elu($function) => $body,
            Epilogue::LeakyRelu($function) => $body,
        }
    };
}

impl Epilogue {
    /// An activation as one; `None` if its derivative is computed from its input, in this dtype.
    pub(crate) fn of(activation: Activation, dtype: DType) -> Option<Self> {
        let precise = matches!(dtype, DType::F32 | DType::F64);
        match activation {
            Activation::Relu => Some(Self::Relu(Relu)),
            Activation::Sigmoid if precise => Some(Self::Sigmoid(Sigmoid)),
            Activation::Tanh if precise => Some(Self::Tanh(Tanh)),
            // Its derivative is that of its output only where the output tells negative inputs from others.
            Activation::Elu { alpha } if precise => (alpha > 0.).then_some(Self::Elu(Elu { alpha })),
            Activation::LeakyRelu { negative_slope } => {
                (negative_slope > 0.).then_some(Self::LeakyRelu(LeakyRelu { negative_slope }))
            }
            _ => None,
        }
    }

    /// Writes the function of `sums + bias`.
    pub(super) fn write<R: Real>(self, out: &mut [MaybeUninit<R>], sums: &[R], bias: Option<&[R]>) {
        dispatch(Write { epilogue: self, out, sums, bias });
    }

    /// Writes the gradients of the function's inputs, of those of its `outputs`.
    pub(super) fn pull_back<R: Real>(self, result: &mut [R], outputs: &[R], gradients: &[R]) {
        dispatch(PullBack { epilogue: self, result, outputs, gradients });
    }
}

// Kernels of their own, so that each function is compiled once for a dtype, not wherever a product reads or writes.

struct Write<'a, R> {
    epilogue: Epilogue,
    out: &'a mut [MaybeUninit<R>],
    sums: &'a [R],
    bias: Option<&'a [R]>,
}

impl<R: Real> Kernel for Write<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<I: Instructions>(self) {
        with_function!(self.epilogue, function => match self.bias {
            Some(bias) => {
                for ((out, &sum), &bias) in self.out.iter_mut().zip(self.sums).zip(bias) {
                    out.write(function.value::<_, I>(sum + bias));
                }
            }
            None => {
                for (out, &sum) in self.out.iter_mut().zip(self.sums) {
                    out.write(function.value::<_, I>(sum));
                }
            }
        });
    }
}

struct PullBack<'a, R> {
    epilogue: Epilogue,
    result: &'a mut [R],
    outputs: &'a [R],
    gradients: &'a [R],
}

impl<R: Real> Kernel for PullBack<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<I: Instructions>(self) {
        with_function!(self.epilogue, function => {
            for ((place, &output), &gradient) in self.result.iter_mut().zip(self.outputs).zip(self.gradients) {
                *place = function.pull_back::<_, I>(output, gradient);
            }
        });
    }
}

#[derive(Clone, Copy)]
struct Identity;

impl Function for Identity {
    const NAME: &'static str = "identity";
    const READS: Reads = Reads::Output;

    #[inline(always)]
    fn value<R: Real, I: Instructions>(self, x: R) -> R {
        x
    }

    #[inline(always)]
    fn pull_back<R: Real, I: Instructions>(self, _: R, gradient: R) -> R {
        gradient
    }
}
