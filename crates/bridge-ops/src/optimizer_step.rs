//! The step of an optimizer, for all parameters at once.

#![allow(unsafe_code, reason = "kernels write to memory whose tensors are looked after here")]

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, DType, Device, Layout, Storage, Tensor, Var};
use half::{bf16, f16};
use std::borrow::Cow;
use std::ops::Range;

use crate::kernels::element::{Element, Real};
use crate::kernels::optimizer::{AdamW, Moving, Rule, Sgd, Step};
use crate::kernels::spans::Spans;
use crate::kernels::storage::Pointer;
use crate::kernels::{parallel, simd, storage};
use crate::precision::{compute_dtype, require_float};
use crate::{Error, Result};

const OPERATOR: &str = "update_parameters";

/// How many elements are worth a thread.
const LEAST: usize = 1 << 14;

/// How a parameter moves: the rules that [`update_parameters`] has a kernel for.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum UpdateFormula {
    /// Adam with decoupled weight decay ([Loshchilov and Hutter, 2019](https://arxiv.org/abs/1711.05101)), which remembers
    /// `mu` and `nu`:
    ///
    /// ```text
    /// mu = beta1 * mu + (1 - beta1) * g
    /// nu = beta2 * nu + (1 - beta2) * g²
    /// p  = p - learning_rate * ((mu / (1 - beta1^step)) / (√(nu / (1 - beta2^step)) + epsilon) + weight_decay * p)
    /// ```
    #[doc(alias("optax.adamw", "optax.adam"))]
    AdamW {
        /// The number of the step, from 1.
        step: u32,
        /// The learning rate.
        learning_rate: f64,
        /// How much of `mu` stays.
        beta1: f64,
        /// How much of `nu` stays.
        beta2: f64,
        /// What keeps the division from being one by zero.
        epsilon: f64,
        /// The share of the parameter that is taken from it, times the learning rate.
        weight_decay: f64,
    },
    /// Stochastic gradient descent, which remembers a `trace` if there is momentum. With `d = g + weight_decay * p`:
    ///
    /// ```text
    /// trace = d + momentum * trace
    /// p     = p - learning_rate * (nesterov ? d + momentum * trace : trace)
    /// ```
    ///
    /// and `p - learning_rate * d` without momentum.
    #[doc(alias("optax.sgd"))]
    Sgd {
        /// The learning rate.
        learning_rate: f64,
        /// How much of `trace` stays, if anything is remembered at all.
        momentum: Option<f64>,
        /// True for Nesterov's momentum.
        nesterov: bool,
        /// The share of the parameter that is added to its gradient.
        weight_decay: f64,
    },
}

impl UpdateFormula {
    /// How many tensors it remembers.
    pub fn remembers(&self) -> usize {
        match self {
            Self::AdamW { .. } => 2,
            Self::Sgd { momentum, .. } => usize::from(momentum.is_some()),
        }
    }

    fn rule<R: Real>(self) -> Rule<R> {
        match self {
            Self::AdamW { step, learning_rate, beta1, beta2, epsilon, weight_decay } => {
                let correction = |beta: f64| 1. - beta.powf(f64::from(step));
                Rule::AdamW(AdamW {
                    beta1: R::real(beta1),
                    rest1: R::real(1. - beta1),
                    beta2: R::real(beta2),
                    rest2: R::real(1. - beta2),
                    root: R::real(1. / correction(beta2).sqrt()),
                    epsilon: R::real(epsilon),
                    rate: R::real(learning_rate / correction(beta1)),
                    decay: R::real(learning_rate * weight_decay),
                })
            }
            Self::Sgd { learning_rate, momentum, nesterov, weight_decay } => {
                let (rate, decay) = (R::real(learning_rate), R::real(weight_decay));
                let sgd = Sgd { rate, momentum: R::real(momentum.unwrap_or(0.)), decay };
                match momentum {
                    None => Rule::Sgd(sgd),
                    Some(_) if nesterov => Rule::Nesterov(sgd),
                    Some(_) => Rule::Momentum(sgd),
                }
            }
        }
    }
}

/// One parameter's part in a step.
#[derive(Clone, Debug)]
pub struct ParameterUpdate {
    /// How it moves.
    pub formula: UpdateFormula,
    /// The parameter as it is, of any layout.
    pub parameter: Tensor,
    /// The gradient, in shape and dtype of the parameter, of any layout.
    pub gradient: Tensor,
    /// What the gradient is multiplied by first: 1, or what clips it.
    pub gradient_factor: f64,
    /// What the formula remembers, in order: contiguous, in the parameter's shape, f64 for an f64 parameter and f32 for all
    /// others. Changed in place.
    pub memory: [Option<Tensor>; 2],
    /// Where the new value goes: contiguous, in shape and dtype of the parameter. `None` is replaced by a new
    /// tensor, which is a variable of candle's: gradients can be taken with respect to it without a copy.
    pub updated: Option<Tensor>,
}

/// Makes one step of all parameters: a single pass over the memory of each, shared out over the threads at once.
///
/// Parameters and gradients are only read. Tensors that are changed must share their storage with nothing that is read
/// elsewhere. Tensors are on the CPU; arithmetic is in f32 for bf16, f16 and f32 parameters and in f64 for f64, and the bits
/// do not depend on threads or processor.
///
/// ```
/// use bridge_ops::{ParameterUpdate, UpdateFormula, update_parameters};
/// use candle_core::{Device, Tensor};
/// let mut updates = [ParameterUpdate {
///     formula: UpdateFormula::Sgd { learning_rate: 0.5, momentum: None, nesterov: false, weight_decay: 0. },
///     parameter: Tensor::new(&[1f32, 2.], &Device::Cpu)?,
///     gradient: Tensor::new(&[2f32, -2.], &Device::Cpu)?,
///     gradient_factor: 1.,
///     memory: [None, None],
///     updated: None,
/// }];
/// update_parameters(&mut updates)?;
/// assert_eq!(updates[0].updated.as_ref().map(|updated| updated.to_vec1::<f32>()).transpose()?, Some(vec![0., 3.]));
/// # Ok::<(), bridge_ops::Error>(())
/// ```
///
/// # Errors
/// If shapes, dtypes or layouts are not those above, a tensor is not on the CPU, or there are not as many tensors to remember
/// as the formula has. Nothing has changed then.
pub fn update_parameters(updates: &mut [ParameterUpdate]) -> Result<()> {
    updates.iter().try_for_each(check)?;
    let new = run(updates)?;
    for (update, new) in updates.iter_mut().zip(new) {
        if new.is_some() {
            update.updated = new;
        }
    }
    Ok(())
}

/// What fits is not refused later, when memory has been taken.
fn check(update: &ParameterUpdate) -> Result<()> {
    let ParameterUpdate { formula, parameter, gradient, memory, updated, .. } = update;
    require_float(OPERATOR, "parameter", parameter)?;
    let (dtype, wide) = (parameter.dtype(), compute_dtype(parameter.dtype()));
    let alike = |argument, tensor: &Tensor, dtype: DType, expected| {
        if tensor.shape() != parameter.shape() {
            let expected = format!("the shape of `parameter`, {:?}", parameter.dims());
            return Err(Error::Shape {
                operator: OPERATOR,
                argument,
                expected,
                found: tensor.shape().clone(),
            });
        }
        if tensor.dtype() != dtype {
            return Err(Error::DType { operator: OPERATOR, argument, expected, found: tensor.dtype() });
        }
        Ok(())
    };
    alike("gradient", gradient, dtype, "the dtype of `parameter`")?;
    let found = memory.iter().take_while(|tensor| tensor.is_some()).count();
    if found != formula.remembers() {
        return Err(Error::Memory { operator: OPERATOR, expected: formula.remembers(), found });
    }
    for tensor in memory.iter().flatten() {
        alike("memory", tensor, wide, "f64 for an f64 parameter, f32 for all others")?;
    }
    if let Some(tensor) = updated {
        alike("updated", tensor, dtype, "the dtype of `parameter`")?;
    }
    let changed = memory.iter().flatten().map(|tensor| ("memory", tensor));
    for (argument, tensor) in changed.chain(updated.iter().map(|tensor| ("updated", tensor))) {
        if !tensor.is_contiguous() {
            let expected = "a contiguous layout, to be changed in place".into();
            let found = tensor.shape().clone();
            return Err(Error::Shape { operator: OPERATOR, argument, expected, found });
        }
    }
    Ok(())
}

/// Makes the step; gives back the new values that have no tensor yet.
fn run(updates: &[ParameterUpdate]) -> Result<Vec<Option<Tensor>>> {
    // Dropped last, also when something fails: then everything goes back to its tensor.
    let mut loans = Vec::with_capacity(updates.len());
    for ParameterUpdate { memory: [first, second], updated, .. } in updates {
        loans.push([Loan::take(first)?, Loan::take(second)?, Loan::take(updated)?]);
    }
    let inputs: Vec<_> = updates
        .iter()
        .map(|update| (update.parameter.storage_and_layout(), update.gradient.storage_and_layout()))
        .collect();
    let mut ready = Vec::with_capacity(updates.len());
    for ((update, (parameter, gradient)), loans) in updates.iter().zip(&inputs).zip(&mut loans) {
        let (parameter, gradient) = ((&*parameter.0, parameter.1), (&*gradient.0, gradient.1));
        ready.push(match update.parameter.dtype() {
            DType::BF16 => AnyReady::BF16(Ready::new(update, parameter, gradient, loans)?),
            DType::F16 => AnyReady::F16(Ready::new(update, parameter, gradient, loans)?),
            DType::F32 => AnyReady::F32(Ready::new(update, parameter, gradient, loans)?),
            _ => AnyReady::F64(Ready::new(update, parameter, gradient, loans)?),
        });
    }
    let spans = Spans::new(updates.iter().map(|update| update.parameter.elem_count()));
    parallel::ranges(spans.total(), 64, LEAST, |range| {
        for (index, part) in spans.within(range) {
            match &ready[index] {
                AnyReady::BF16(ready) => ready.step(part),
                AnyReady::F16(ready) => ready.step(part),
                AnyReady::F32(ready) => ready.step(part),
                AnyReady::F64(ready) => ready.step(part),
            }
        }
    });
    let mut new = Vec::with_capacity(updates.len());
    for (ready, update) in ready.into_iter().zip(updates) {
        new.push(match ready {
            AnyReady::BF16(ready) => ready.into_new(update)?,
            AnyReady::F16(ready) => ready.into_new(update)?,
            AnyReady::F32(ready) => ready.into_new(update)?,
            AnyReady::F64(ready) => ready.into_new(update)?,
        });
    }
    Ok(new)
}

/// The elements of a tensor's storage, taken out of it until this is dropped.
struct Loan<'a> {
    tensor: &'a Tensor,
    storage: CpuStorage,
}

const EMPTY: CpuStorage = CpuStorage::U8(Vec::new());

impl<'a> Loan<'a> {
    fn take(tensor: &'a Option<Tensor>) -> Result<Option<Self>> {
        let Some(tensor) = tensor else { return Ok(None) };
        let storage = storage::take(tensor)?;
        if storage.dtype() != tensor.dtype() {
            // It is lent already.
            storage::put(tensor, storage)?;
            let message = format!("{OPERATOR}: two tensors that are changed have one storage");
            return Err(candle_core::Error::Msg(message).into());
        }
        Ok(Some(Self { tensor, storage }))
    }

    fn pointer<T: Element>(&mut self) -> Result<Pointer<T>> {
        let mut values = T::cpu_storage_data(std::mem::replace(&mut self.storage, EMPTY))?;
        let start = self.tensor.layout().start_offset();
        let room = values.get_mut(start..start + self.tensor.elem_count()).map(<[T]>::as_mut_ptr);
        self.storage = T::to_cpu_storage_owned(values);
        let outside = || candle_core::Error::Msg(format!("{OPERATOR}: a tensor ends beyond its storage"));
        Ok(Pointer::new(room.ok_or_else(outside)?))
    }
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        // It fails for a layout that `take` failed for.
        let _ = storage::put(self.tensor, std::mem::replace(&mut self.storage, EMPTY));
    }
}

type Input<'a> = (&'a Storage, &'a Layout);

/// A parameter with everything that its step needs.
struct Ready<'a, T: Element> {
    moving: Moving<'a, T>,
    /// Room for a new value that has no tensor yet.
    new: Option<Vec<T>>,
}

enum AnyReady<'a> {
    BF16(Ready<'a, bf16>),
    F16(Ready<'a, f16>),
    F32(Ready<'a, f32>),
    F64(Ready<'a, f64>),
}

impl<'a, T: Element> Ready<'a, T> {
    fn new(
        update: &ParameterUpdate,
        parameter: Input<'a>,
        gradient: Input<'a>,
        [first, second, updated]: &mut [Option<Loan<'_>>; 3],
    ) -> Result<Self> {
        let remembered = |loan: &mut Option<Loan<'_>>| loan.as_mut().map(Loan::pointer).transpose();
        let mut new = None;
        let updated = match updated {
            Some(loan) => loan.pointer()?,
            None => Pointer::new(new.insert(Vec::with_capacity(update.parameter.elem_count())).as_mut_ptr()),
        };
        let moving = Moving {
            rule: update.formula.rule(),
            factor: T::Wide::real(update.gradient_factor),
            parameter: elements(parameter)?,
            gradient: elements(gradient)?,
            memory: [remembered(first)?, remembered(second)?],
            updated,
        };
        Ok(Self { moving, new })
    }

    fn step(&self, part: Range<usize>) {
        // SAFETY: all pointers are to as many elements as the parameter has: `Loan::pointer` checked it for the storages,
        // whose loans outlive this, and the new value has the capacity. Threads get parts that do not overlap, and
        // storages that are lent can not be reached by anyone else.
        simd::dispatch(unsafe { Step::new(&self.moving, part) });
    }

    /// The new value, after all steps were made.
    fn into_new(self, update: &ParameterUpdate) -> Result<Option<Tensor>> {
        let Some(mut values) = self.new else { return Ok(None) };
        // SAFETY: the steps wrote as many elements as the parameter has, which is at most the capacity.
        unsafe { values.set_len(update.parameter.elem_count()) };
        Ok(Some(Var::from_vec(values, update.parameter.shape(), &Device::Cpu)?.into_inner()))
    }
}

fn elements<'a, T: Element>((storage, layout): Input<'a>) -> Result<Cow<'a, [T]>> {
    match storage {
        Storage::Cpu(storage) => Ok(storage::elements(storage, layout)?),
        _ => Err(candle_core::Error::Msg(format!("{OPERATOR}: a tensor on the CPU was expected")).into()),
    }
}
