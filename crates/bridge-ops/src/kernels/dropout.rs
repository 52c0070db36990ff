//! Dropout in one pass. A mask that comes from a key is drawn a block at a time, forward and again backward.

use bridge_random::{Key, fill_bernoulli};
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, WithDType};
use std::mem::MaybeUninit;
use std::sync::OnceLock;

use super::element::{BLOCK, Element, Real};
use super::simd::{Instructions, Kernel, dispatch};
use super::storage::{self, Written};
use crate::operator::with_float;

/// The fewest elements that are worth a thread of their own.
const LEAST: usize = 8 * 1024;

/// `x / keep` where `mask`, u8 of the same shape, is not 0, else 0.
pub(crate) fn with_mask(x: &Tensor, keep: f64, mask: &Tensor) -> Result<Tensor> {
    x.apply_op2(mask, Masked { keep })
}

/// `x / keep` where the Bernoulli draw of a key is 1, else 0. The key is not of the legacy scheme.
pub(crate) fn with_key(x: &Tensor, keep: f64, key: Key) -> Result<Tensor> {
    x.apply_op1(Drawn { key, keep })
}

const NAME: &str = "dropout";

struct Masked {
    keep: f64,
}

impl Masked {
    fn over<T: Element>(&self, x: &[T], mask: &[u8]) -> Result<Vec<T>> {
        masked(x, self.keep, |start, block| {
            block.copy_from_slice(&mask[start..][..block.len()]);
            Ok(())
        })
    }
}

impl CustomOp2 for Masked {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        mask: &CpuStorage,
        mask_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let mask = storage::elements::<u8>(mask, mask_layout)?;
        let values = with_float!(x.dtype(), T => {
            T::to_cpu_storage_owned(self.over(&storage::elements::<T>(x, x_layout)?, &mask)?)
        });
        Ok((values, x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        mask: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        if !x.track_op() {
            return Ok((None, None));
        }
        let gradient = storage::with_elements::<u8, _>(mask, |mask| {
            with_float!(x.dtype(), T => storage::with_elements::<T, _>(gradient, |gradient| {
                storage::tensor(self.over(gradient, mask)?, x.shape())
            }))
        })?;
        Ok((Some(gradient), None))
    }
}

struct Drawn {
    key: Key,
    keep: f64,
}

impl Drawn {
    fn over<T: Element>(&self, x: &[T]) -> Result<Vec<T>> {
        masked(x, self.keep, |start, block| {
            fill_bernoulli(self.key, self.keep, start as u64, block).map_err(candle_core::Error::wrap)
        })
    }
}

impl CustomOp1 for Drawn {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let values = with_float!(x.dtype(), T => {
            T::to_cpu_storage_owned(self.over(&storage::elements::<T>(x, layout)?)?)
        });
        Ok((values, layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        if !x.track_op() {
            return Ok(None);
        }
        with_float!(x.dtype(), T => storage::with_elements::<T, _>(gradient, |gradient| {
            storage::tensor(self.over(gradient)?, x.shape()).map(Some)
        }))
    }
}

/// `mask` writes a block of the mask, from the element of an index on.
fn masked<T: Element>(
    x: &[T],
    keep: f64,
    mask: impl Fn(usize, &mut [u8]) -> Result<()> + Sync,
) -> Result<Vec<T>> {
    // Rounded to the dtype first, and divided by in it, as in Flax.
    let keep = T::from_f64(keep).widen();
    let failed = OnceLock::new();
    let values = storage::parallel_written(x.len(), BLOCK, LEAST, |start, room| {
        let x = &x[start..][..room.len()];
        let mask = |offset: usize, block: &mut [u8]| {
            if let Err(error) = mask(start + offset, block) {
                failed.get_or_init(|| error);
            }
        };
        dispatch(Mask { x, keep, mask, room })
    });
    failed.into_inner().map_or(Ok(values), Err)
}

struct Mask<'x, 'a, T: Element, M> {
    x: &'x [T],
    keep: T::Wide,
    mask: M,
    room: &'a mut [MaybeUninit<T>],
}

impl<'a, T: Element, M: Fn(usize, &mut [u8])> Kernel for Mask<'_, 'a, T, M> {
    type Output = Written<'a, T>;

    #[inline(always)]
    fn run<I: Instructions>(self) -> Written<'a, T> {
        Written::map_masked(self.room, self.x, self.mask, |x, bit| {
            if bit == 0 { T::Wide::ZERO } else { x / self.keep }
        })
    }
}
