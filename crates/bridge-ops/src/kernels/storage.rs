//! Slices of candle's storages, and results that are written once.

#![allow(unsafe_code, reason = "results are written into memory that is not set to zero first")]

use candle_core::backend::{BackendDevice, BackendStorage};
use candle_core::cpu_backend::CpuDevice;
use candle_core::{CpuStorage, InplaceOp1, Layout, Result, Shape, Storage, Tensor, WithDType};
use std::borrow::Cow;
use std::mem::MaybeUninit;

use super::element::{BLOCK, Element, scratch};
use super::parallel;

/// The elements of a storage in the order of a layout: where they are, or gathered.
pub(crate) fn elements<'a, T: WithDType>(storage: &'a CpuStorage, layout: &Layout) -> Result<Cow<'a, [T]>> {
    let all = T::cpu_storage_as_slice(storage)?;
    match layout.contiguous_offsets() {
        Some((start, end)) => all.get(start..end).map(Cow::Borrowed).ok_or_else(|| {
            candle_core::Error::Msg(format!("a layout ends at {end}, its storage at {}", all.len()))
        }),
        None => gathered(storage, layout).map(Cow::Owned),
    }
}

fn gathered<T: WithDType>(storage: &CpuStorage, layout: &Layout) -> Result<Vec<T>> {
    let mut gathered = CpuDevice.zeros_impl(layout.shape(), T::DTYPE)?;
    storage.copy_strided_src(&mut gathered, 0, layout)?;
    T::cpu_storage_data(gathered)
}

/// Calls `read` with the elements of a tensor on the CPU.
pub(crate) fn with_elements<T: WithDType, R>(
    tensor: &Tensor,
    read: impl FnOnce(&[T]) -> Result<R>,
) -> Result<R> {
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => read(&elements::<T>(storage, layout)?),
        _ => candle_core::bail!("a tensor on the CPU was expected, found one on {:?}", tensor.device()),
    }
}

/// A vector of `length` elements that `write` writes, all of them.
///
/// # Safety
/// `write` must have written every element when it returns.
pub(crate) unsafe fn written<T: Copy>(length: usize, write: impl FnOnce(&mut [MaybeUninit<T>])) -> Vec<T> {
    let mut values = Vec::with_capacity(length);
    write(&mut values.spare_capacity_mut()[..length]);
    // SAFETY: the capacity is `length` at least, and the caller vouches for the elements.
    unsafe { values.set_len(length) };
    values
}

/// A vector of `length` elements, shared out over the threads in runs that are a multiple of `grain` long.
///
/// `write` gets the index of a run's first element and an iterator's worth of room, which it returns as written: the
/// slice that [`Written`] makes of it.
pub(crate) fn parallel_written<T: Copy + Send>(
    length: usize,
    grain: usize,
    least: usize,
    write: impl for<'a> Fn(usize, &'a mut [MaybeUninit<T>]) -> Written<'a, T> + Sync,
) -> Vec<T> {
    // SAFETY: the ranges cover everything, and each range's room came back as `Written`.
    unsafe {
        written(length, |out| {
            let start = Pointer(out.as_mut_ptr());
            parallel::ranges(length, grain, least, |range| {
                // SAFETY: ranges do not overlap and lie inside of `out`, which outlives the call.
                let room = std::slice::from_raw_parts_mut({ start }.get().add(range.start), range.len());
                let (address, long) = (room.as_ptr(), room.len());
                let written = write(range.start, room);
                assert!(std::ptr::eq(address, written.0.as_ptr()) && long == written.0.len());
            });
        })
    }
}

/// Room whose every element has been written.
pub(crate) struct Written<'a, T>(&'a mut [MaybeUninit<T>]);

impl<'a, T: Copy> Written<'a, T> {
    /// Writes each element by its index.
    #[inline(always)]
    pub(crate) fn by(room: &'a mut [MaybeUninit<T>], value: impl Fn(usize) -> T) -> Self {
        for (index, place) in room.iter_mut().enumerate() {
            place.write(value(index));
        }
        Self(room)
    }

    /// Trusts that it is written.
    ///
    /// # Safety
    /// Every element must have been written.
    #[inline(always)]
    pub(crate) unsafe fn trusted(room: &'a mut [MaybeUninit<T>]) -> Self {
        Self(room)
    }
}

impl<'a, T: Element> Written<'a, T> {
    /// Writes `value` of each element of `x`, computed in the dtype of the arithmetic.
    #[inline(always)]
    pub(crate) fn map(room: &'a mut [MaybeUninit<T>], x: &[T], value: impl Fn(T::Wide) -> T::Wide) -> Self {
        assert_eq!(room.len(), x.len());
        let (mut wide, mut narrow) = (scratch::<T>(), scratch::<T>());
        for (room, x) in room.chunks_mut(BLOCK).zip(x.chunks(BLOCK)) {
            let x = T::wide(x, &mut wide);
            T::fill(room, &mut narrow, |room| {
                for (place, &x) in room.iter_mut().zip(x) {
                    place.write(value(x));
                }
            });
        }
        Self(room)
    }

    /// Writes `value` of each two elements of `x` and `y`, computed in the dtype of the arithmetic.
    #[inline(always)]
    pub(crate) fn map_two(
        room: &'a mut [MaybeUninit<T>],
        x: &[T],
        y: &[T],
        value: impl Fn(T::Wide, T::Wide) -> T::Wide,
    ) -> Self {
        assert_eq!((room.len(), room.len()), (x.len(), y.len()));
        let (mut wide, mut narrow) = ((scratch::<T>(), scratch::<T>()), scratch::<T>());
        for ((room, x), y) in room.chunks_mut(BLOCK).zip(x.chunks(BLOCK)).zip(y.chunks(BLOCK)) {
            let (x, y) = (T::wide(x, &mut wide.0), T::wide(y, &mut wide.1));
            T::fill(room, &mut narrow, |room| {
                for ((place, &x), &y) in room.iter_mut().zip(x).zip(y) {
                    place.write(value(x, y));
                }
            });
        }
        Self(room)
    }
}

impl<'a, T: Element> Written<'a, T> {
    /// Writes `value` of each element of `x` and of a mask, computed in the dtype of the arithmetic. `mask` is asked for
    /// the mask a block at a time, by the index of the block's first element.
    #[inline(always)]
    pub(crate) fn map_masked(
        room: &'a mut [MaybeUninit<T>],
        x: &[T],
        mask: impl Fn(usize, &mut [u8]),
        value: impl Fn(T::Wide, u8) -> T::Wide,
    ) -> Self {
        assert_eq!(room.len(), x.len());
        let (mut wide, mut narrow, mut bits) = (scratch::<T>(), scratch::<T>(), [0; BLOCK]);
        for (number, (room, x)) in room.chunks_mut(BLOCK).zip(x.chunks(BLOCK)).enumerate() {
            let bits = &mut bits[..x.len()];
            mask(number * BLOCK, bits);
            let x = T::wide(x, &mut wide);
            T::fill(room, &mut narrow, |room| {
                for ((place, &x), &bit) in room.iter_mut().zip(x).zip(bits.iter()) {
                    place.write(value(x, bit));
                }
            });
        }
        Self(room)
    }
}

/// A pointer that threads may share, because each writes its own part.
pub(crate) struct Pointer<T>(*mut T);

impl<T> Clone for Pointer<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Pointer<T> {}

impl<T> Pointer<T> {
    pub(crate) fn new(pointer: *mut T) -> Self {
        Self(pointer)
    }

    pub(crate) fn get(self) -> *mut T {
        self.0
    }
}

// SAFETY: whoever dereferences it says why no other thread does so at that place.
unsafe impl<T> Send for Pointer<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Pointer<T> {}

/// Values as room to write to.
#[inline(always)]
pub(crate) fn as_uninit<T: Element>(values: &mut [T]) -> &mut [MaybeUninit<T>] {
    // SAFETY: same layout; `T` is `Copy`, and what is written through the result is a `T`: nothing in this crate writes
    // `MaybeUninit::uninit()`.
    unsafe { &mut *(std::ptr::from_mut(values) as *mut [MaybeUninit<T>]) }
}

/// Room that was written as values; the caller has filled it.
#[inline(always)]
pub(crate) fn as_init<T: Element>(room: &mut [MaybeUninit<T>]) -> &mut [T] {
    // SAFETY: the callers fill `room` right before.
    unsafe { &mut *(std::ptr::from_mut(room) as *mut [T]) }
}

/// Takes the elements out of a tensor's storage, which is empty until they are [put back](put).
pub(crate) fn take(tensor: &Tensor) -> Result<CpuStorage> {
    let exchanged = Exchange(std::sync::Mutex::new(None));
    tensor.inplace_op1(&exchanged)?;
    exchanged.into_storage()
}

/// Puts elements into a tensor's storage.
pub(crate) fn put(tensor: &Tensor, storage: CpuStorage) -> Result<()> {
    tensor.inplace_op1(&Exchange(std::sync::Mutex::new(Some(storage))))
}

struct Exchange(std::sync::Mutex<Option<CpuStorage>>);

impl Exchange {
    fn into_storage(self) -> Result<CpuStorage> {
        let held = self.0.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        held.ok_or_else(|| candle_core::Error::Msg("nothing was taken from the storage".into()))
    }
}

impl InplaceOp1 for Exchange {
    fn name(&self) -> &'static str {
        "exchange"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, _: &Layout) -> Result<()> {
        let mut held = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let put = held.take().unwrap_or(CpuStorage::U8(Vec::new()));
        *held = Some(std::mem::replace(storage, put));
        Ok(())
    }
}

/// A tensor on the CPU that owns `values`.
pub(crate) fn tensor<T: WithDType>(values: Vec<T>, shape: impl Into<Shape>) -> Result<Tensor> {
    Tensor::from_vec(values, shape.into(), &candle_core::Device::Cpu)
}
