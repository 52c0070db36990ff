//! What is asked of all gradients together.

use candle_core::{DType, Layout, Storage, Tensor};
use half::{bf16, f16};
use std::borrow::Cow;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::Result;
use crate::kernels::gradients::{Finite, SUMMED, SumOfSquares};
use crate::kernels::spans::Spans;
use crate::kernels::storage::{self, Written};
use crate::kernels::{parallel, simd};
use crate::precision::{compute_dtype, require_float};

/// How many blocks are worth a thread.
const LEAST: usize = 8;

/// The square root of the sum of the squares of all elements of all tensors, which may be of any shapes, float dtypes and
/// layouts. 0 of none.
///
/// Squares are summed in f64, in an order that does not depend on threads: an f32 gradient of 1e30 does not overflow.
///
/// ```
/// use candle_core::{Device, Tensor};
/// let (a, b) = (Tensor::new(&[3f32], &Device::Cpu)?, Tensor::new(&[0f32, 4.], &Device::Cpu)?);
/// assert_eq!(bridge_ops::global_norm(&[a, b])?, 5.);
/// # Ok::<(), bridge_ops::Error>(())
/// ```
///
/// # Errors
/// For a tensor that is not bf16, f16, f32 or f64; and if candle fails.
#[doc(alias("optax.global_norm", "optax.tree.norm", "clip_grad_norm_"))]
pub fn global_norm(tensors: &[Tensor]) -> Result<f64> {
    let (here, elsewhere) = by_device("global_norm", tensors)?;
    let mut sum = 0.;
    for tensor in elsewhere {
        let sum_there = tensor.to_dtype(compute_dtype(tensor.dtype()))?.sqr()?.sum_all()?;
        sum += sum_there.to_dtype(DType::F64)?.to_scalar::<f64>()?;
    }
    let sums = in_blocks(&here, |spans, tensors| {
        storage::parallel_written(spans.total(), 1, LEAST, |start, room| {
            Written::by(room, |index| {
                let block = spans.within(start + index..start + index + 1);
                block.map(|(tensor, block)| tensors[tensor].sum_of_squares(block)).sum()
            })
        })
    })?;
    Ok((sum + sums.iter().sum::<f64>()).sqrt())
}

/// Whether all elements are finite, for each tensor.
///
/// # Errors
/// Those of [`global_norm`].
#[doc(alias("optax.tree.all_finite", "isfinite"))]
pub fn all_finite(tensors: &[Tensor]) -> Result<Vec<bool>> {
    let (here, _) = by_device("all_finite", tensors)?;
    let mut found = in_blocks(&here, |spans, tensors| {
        let finite: Vec<_> = tensors.iter().map(|_| AtomicBool::new(true)).collect();
        parallel::ranges(spans.total(), 1, LEAST, |blocks| {
            for (tensor, blocks) in spans.within(blocks) {
                if !tensors[tensor].finite(blocks) {
                    finite[tensor].store(false, Ordering::Relaxed);
                }
            }
        });
        finite.into_iter().map(AtomicBool::into_inner).collect::<Vec<_>>()
    })?
    .into_iter();
    let finite = |tensor: &Tensor| match tensor.device().is_cpu() {
        true => Ok(found.next().unwrap_or(true)),
        // 0 times anything else is not a number.
        false => Ok(tensor.affine(0., 0.)?.sum_all()?.to_dtype(DType::F64)?.to_scalar::<f64>()? == 0.),
    };
    tensors.iter().map(finite).collect()
}

/// The tensors on the CPU, and the others.
fn by_device<'a>(
    operator: &'static str,
    tensors: &'a [Tensor],
) -> Result<(Vec<&'a Tensor>, Vec<&'a Tensor>)> {
    tensors.iter().try_for_each(|tensor| require_float(operator, "tensors", tensor))?;
    Ok(tensors.iter().partition(|tensor| tensor.device().is_cpu()))
}

/// Calls `work` with the elements of tensors, and with the spans of their blocks: a tensor's last may be shorter.
fn in_blocks<R>(tensors: &[&Tensor], work: impl FnOnce(&Spans, &[Elements<'_>]) -> R) -> Result<R> {
    let storages: Vec<_> = tensors.iter().map(|tensor| tensor.storage_and_layout()).collect();
    let elements = storages.iter().map(|(storage, layout)| Elements::of(storage, layout));
    let elements = elements.collect::<candle_core::Result<Vec<_>>>()?;
    let spans = Spans::new(tensors.iter().map(|tensor| tensor.elem_count().div_ceil(SUMMED)));
    Ok(work(&spans, &elements))
}

enum Elements<'a> {
    BF16(Cow<'a, [bf16]>),
    F16(Cow<'a, [f16]>),
    F32(Cow<'a, [f32]>),
    F64(Cow<'a, [f64]>),
}

impl<'a> Elements<'a> {
    fn of(storage: &'a Storage, layout: &Layout) -> candle_core::Result<Self> {
        let Storage::Cpu(storage) = storage else { candle_core::bail!("a tensor on the CPU was expected") };
        Ok(match storage {
            candle_core::CpuStorage::BF16(_) => Self::BF16(storage::elements(storage, layout)?),
            candle_core::CpuStorage::F16(_) => Self::F16(storage::elements(storage, layout)?),
            candle_core::CpuStorage::F32(_) => Self::F32(storage::elements(storage, layout)?),
            _ => Self::F64(storage::elements(storage, layout)?),
        })
    }

    fn sum_of_squares(&self, blocks: Range<usize>) -> f64 {
        match self {
            Self::BF16(values) => simd::dispatch(SumOfSquares(part(values, blocks))),
            Self::F16(values) => simd::dispatch(SumOfSquares(part(values, blocks))),
            Self::F32(values) => simd::dispatch(SumOfSquares(part(values, blocks))),
            Self::F64(values) => simd::dispatch(SumOfSquares(part(values, blocks))),
        }
    }

    fn finite(&self, blocks: Range<usize>) -> bool {
        match self {
            Self::BF16(values) => simd::dispatch(Finite(part(values, blocks))),
            Self::F16(values) => simd::dispatch(Finite(part(values, blocks))),
            Self::F32(values) => simd::dispatch(Finite(part(values, blocks))),
            Self::F64(values) => simd::dispatch(Finite(part(values, blocks))),
        }
    }
}

fn part<T>(values: &[T], blocks: Range<usize>) -> &[T] {
    &values[blocks.start * SUMMED..values.len().min(blocks.end * SUMMED)]
}
