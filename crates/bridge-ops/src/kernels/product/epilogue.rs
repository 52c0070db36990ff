//! What is done to the numbers of a product while they are at hand.

use std::mem::MaybeUninit;

use super::super::activation::{Elu, LeakyRelu, Relu, Sigmoid, Tanh};
use super::super::element::Real;
use super::super::function::{Function, Reads};
use super::super::simd::Instructions;
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
    /// An activation as one; `None` if its derivative is computed from its input.
    pub(crate) fn of(activation: Activation) -> Option<Self> {
        match activation {
            Activation::Relu => Some(Self::Relu(Relu)),
            Activation::Sigmoid => Some(Self::Sigmoid(Sigmoid)),
            Activation::Tanh => Some(Self::Tanh(Tanh)),
            // Its derivative is that of its output only where the output tells negative inputs from others.
            Activation::Elu { alpha } => (alpha > 0.).then_some(Self::Elu(Elu { alpha })),
            Activation::LeakyRelu { negative_slope } => {
                (negative_slope > 0.).then_some(Self::LeakyRelu(LeakyRelu { negative_slope }))
            }
            _ => None,
        }
    }

    /// Writes the function of `sums + bias`.
    #[inline(always)]
    pub(super) fn write<R: Real, I: Instructions>(
        self,
        out: &mut [MaybeUninit<R>],
        sums: &[R],
        bias: Option<&[R]>,
    ) {
        with_function!(self, function => match bias {
            Some(bias) => {
                for ((out, &sum), &bias) in out.iter_mut().zip(sums).zip(bias) {
                    out.write(function.value::<_, I>(sum + bias));
                }
            }
            None => {
                for (out, &sum) in out.iter_mut().zip(sums) {
                    out.write(function.value::<_, I>(sum));
                }
            }
        });
    }

    /// Writes the gradients of the function's inputs, of those of its `outputs`.
    #[inline(always)]
    pub(super) fn pull_back<R: Real, I: Instructions>(self, result: &mut [R], outputs: &[R], gradients: &[R]) {
        with_function!(self, function => {
            for ((place, &output), &gradient) in result.iter_mut().zip(outputs).zip(gradients) {
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
