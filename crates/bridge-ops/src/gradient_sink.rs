//! Where the gradients of leaves go, beside candle's own store.
//!
//! candle's backward pass makes zeros for every gradient, and a sum of them and of what an operator returns. Inside of
//! [`collect_gradients`] an operator adds the gradient of a leaf where it is wanted, and returns none to candle.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use candle_core::{CpuStorage, DType, Result, Tensor, TensorId, WithDType};
use rustc_hash::FxHashMap;

use crate::kernels::element::{Element, Real};
use crate::kernels::storage;

/// For how many backward passes memory is kept that none of them needs.
const PASSES_KEPT: u32 = 4;

/// Memory of gradients that nobody has any more, for the next backward pass of its thread.
#[derive(Debug, Default)]
struct Spare {
    buffers: Vec<(CpuStorage, u32)>,
}

/// The place that the memory of a gradient came from, and [can go back to](Home::give_back).
#[derive(Clone, Debug)]
pub struct Home(Weak<Mutex<Spare>>);

impl Home {
    /// Takes over the memory of a gradient that [`collect_gradients`] gave. No one else may hold the tensor: it is left empty.
    pub fn give_back(&self, gradient: &Tensor) {
        let Some(spare) = self.0.upgrade() else { return };
        // Sums are in one of these; what was narrowed from them is of no use.
        if let Ok(storage @ (CpuStorage::F32(_) | CpuStorage::F64(_))) = storage::take(gradient) {
            spare.lock().unwrap_or_else(PoisonError::into_inner).buffers.push((storage, 0));
        }
    }
}

/// A leaf's gradient, as far as it is there.
struct Slot {
    leaf: Tensor,
    sum: Option<CpuStorage>,
}

struct Sink {
    slots: Vec<Slot>,
    places: FxHashMap<TensorId, usize>,
    spare: Arc<Mutex<Spare>>,
}

thread_local! {
    static SINKS: RefCell<Vec<Sink>> = const { RefCell::new(Vec::new()) };
    static SPARE: Arc<Mutex<Spare>> = Arc::default();
}

/// A gradient that was collected.
#[derive(Debug)]
pub struct Collected {
    /// The gradient, in shape and dtype of its leaf, and in no graph.
    pub gradient: Tensor,
    /// Where its memory can go when it is not needed any more.
    pub home: Home,
}

/// Runs a backward pass in which operators of this crate put aside what they have to add to the gradients of `leaves`.
///
/// Returned are the result of `backward`, and for each leaf what was put aside: a part of its gradient. What other
/// operators add is in candle's store. Memory is taken from gradients that were [given back](Home::give_back). What a leaf
/// that is listed twice gets is in its first place. It holds for every backward pass of this thread until `backward`
/// returns, also for one that an operator makes in its own.
///
/// ```
/// use bridge_ops::{collect_gradients, linear};
/// use candle_core::{DType, Device, Tensor, Var};
/// let kernel = Var::ones((2, 3), DType::F32, &Device::Cpu)?;
/// let x = Tensor::ones((1, 2), DType::F32, &Device::Cpu)?;
/// let loss = linear(&x, &kernel, None)?.sum_all()?;
/// let (store, mut collected) = collect_gradients(&[kernel.as_tensor()], || loss.backward())?;
/// let aside = collected.remove(0).map(|collected| collected.gradient);
/// let gradient = aside.as_ref().or(store.get(&kernel));
/// assert_eq!(gradient.map(Tensor::dims), Some(&[2, 3][..]));
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Errors
/// Those of `backward`.
pub fn collect_gradients<R>(
    leaves: &[&Tensor],
    backward: impl FnOnce() -> Result<R>,
) -> Result<(R, Vec<Option<Collected>>)> {
    /// Takes the sink away again, also after a panic.
    struct Ends;
    impl Drop for Ends {
        fn drop(&mut self) {
            SINKS.with_borrow_mut(|sinks| drop(sinks.pop()));
        }
    }
    let slots = leaves.iter().map(|&leaf| Slot { leaf: leaf.clone(), sum: None }).collect();
    // What is not a variable is inside of the graph, where candle wants every gradient.
    let variables = leaves.iter().enumerate().filter(|(_, leaf)| leaf.is_variable());
    let mut places = FxHashMap::default();
    for (place, leaf) in variables {
        places.entry(leaf.id()).or_insert(place);
    }
    let spare = SPARE.with(Arc::clone);
    SINKS.with_borrow_mut(|sinks| sinks.push(Sink { slots, places, spare: spare.clone() }));
    let ends = Ends;
    let result = backward()?;
    let slots = SINKS.with_borrow_mut(|sinks| sinks.last_mut().map(|sink| std::mem::take(&mut sink.slots)));
    drop(ends);
    let home = Home(Arc::downgrade(&spare));
    let collected = slots.unwrap_or_default().into_iter().map(|Slot { leaf, sum }| {
        let Some(sum) = sum else { return Ok(None) };
        let gradient = finished(sum, &leaf, &spare)?;
        Ok(Some(Collected { gradient, home: home.clone() }))
    });
    let collected = collected.collect::<Result<_>>()?;
    spare.lock().unwrap_or_else(PoisonError::into_inner).buffers.retain_mut(|(_, age)| {
        *age += 1;
        *age <= PASSES_KEPT
    });
    Ok((result, collected))
}

/// A sum as a tensor in the dtype of its leaf.
fn finished(sum: CpuStorage, leaf: &Tensor, spare: &Mutex<Spare>) -> Result<Tensor> {
    let gradient = match leaf.dtype() {
        DType::F32 => return storage::tensor(f32::cpu_storage_data(sum)?, leaf.shape()),
        DType::F64 => return storage::tensor(f64::cpu_storage_data(sum)?, leaf.shape()),
        DType::BF16 => narrowed::<half::bf16>(f32::cpu_storage_as_slice(&sum)?, leaf),
        _ => narrowed::<half::f16>(f32::cpu_storage_as_slice(&sum)?, leaf),
    };
    spare.lock().unwrap_or_else(PoisonError::into_inner).buffers.push((sum, 0));
    gradient
}

/// The gradient of an operator's argument, for what the operator's `bwd` returns to candle.
///
/// `write` gets the elements of the gradient, in order, in the dtype of the arithmetic, and is told to add to what is
/// there rather than to write over it. It is called only for an argument that is part of the graph. `None` where the
/// gradient has been put aside.
pub(crate) fn gradient<T: Element>(
    argument: &Tensor,
    write: impl FnOnce(&mut [T::Wide], bool) -> Result<()>,
) -> Result<Option<Tensor>> {
    if !argument.track_op() {
        return Ok(None);
    }
    let length = argument.elem_count();
    let place = SINKS.with_borrow_mut(|sinks| {
        let sink = sinks.last_mut()?;
        let place = *sink.places.get(&argument.id())?;
        let spare = sink.spare.clone();
        sink.slots.get_mut(place).map(|slot| (place, slot.sum.take(), spare))
    });
    let Some((place, sum, spare)) = place else {
        let mut values = vec![T::Wide::ZERO; length];
        write(&mut values, false)?;
        return match T::DTYPE == <T::Wide as WithDType>::DTYPE {
            true => storage::tensor(values, argument.shape()).map(Some),
            false => narrowed::<T>(&values, argument).map(Some),
        };
    };
    let add = sum.is_some();
    let mut values = match sum {
        Some(sum) => T::Wide::cpu_storage_data(sum)?,
        None => spare_or_new::<T::Wide>(&spare, length)?,
    };
    write(&mut values, add)?;
    SINKS.with_borrow_mut(|sinks| {
        if let Some(slot) = sinks.last_mut().and_then(|sink| sink.slots.get_mut(place)) {
            slot.sum = Some(T::Wide::to_cpu_storage_owned(values));
        }
    });
    Ok(None)
}

fn spare_or_new<R: Real>(spare: &Mutex<Spare>, length: usize) -> Result<Vec<R>> {
    let mut spare = spare.lock().unwrap_or_else(PoisonError::into_inner);
    let fits = |(storage, _): &(CpuStorage, u32)| {
        R::cpu_storage_as_slice(storage).is_ok_and(|values| values.len() == length)
    };
    match spare.buffers.iter().position(fits) {
        Some(index) => R::cpu_storage_data(spare.buffers.swap_remove(index).0),
        None => Ok(vec![R::ZERO; length]),
    }
}

fn narrowed<T: Element>(values: &[T::Wide], like: &Tensor) -> Result<Tensor> {
    let narrow = storage::parallel_written(values.len(), 64, 1 << 14, |start, room| {
        storage::Written::by(room, |index| T::narrow(values[start + index]))
    });
    storage::tensor(narrow, like.shape())
}
