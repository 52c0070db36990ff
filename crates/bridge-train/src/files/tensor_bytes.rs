//! Tensors as the bytes that safetensors has for them.

use bytemuck::{cast_slice, cast_slice_mut};
use candle_core::{CpuStorage, DType, Device, Result, Storage, Tensor};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

/// Hands the elements over in row-major order, to the bit, whatever the strides.
pub(crate) fn with_bytes<T>(tensor: &Tensor, f: impl FnOnce(&[u8]) -> T) -> Result<T> {
    let tensor = tensor.to_device(&Device::Cpu)?.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else {
        return Err(candle_core::Error::Msg("a tensor on the CPU has other storage".into()));
    };
    let (start, end) = layout
        .contiguous_offsets()
        .ok_or_else(|| candle_core::Error::Msg("a contiguous tensor has gaps".into()))?;
    fn part<T>(values: &[T], start: usize, end: usize) -> Result<&[T]> {
        values
            .get(start..end)
            .ok_or_else(|| candle_core::Error::Msg("a tensor reaches beyond its storage".into()))
    }
    Ok(match storage {
        CpuStorage::U8(values) => f(part(values, start, end)?),
        CpuStorage::U32(values) => f(cast_slice(part(values, start, end)?)),
        CpuStorage::I16(values) => f(cast_slice(part(values, start, end)?)),
        CpuStorage::I32(values) => f(cast_slice(part(values, start, end)?)),
        CpuStorage::I64(values) => f(cast_slice(part(values, start, end)?)),
        CpuStorage::BF16(values) => f(cast_slice(part(values, start, end)?.reinterpret_cast())),
        CpuStorage::F16(values) => f(cast_slice(part(values, start, end)?.reinterpret_cast())),
        CpuStorage::F32(values) => f(cast_slice(part(values, start, end)?)),
        CpuStorage::F64(values) => f(cast_slice(part(values, start, end)?)),
        CpuStorage::F8E4M3(values) => {
            f(&part(values, start, end)?.iter().map(|value| value.to_bits()).collect::<Vec<_>>())
        }
        // candle can not compute with these, and stores them as the bytes of the file they came from.
        CpuStorage::F6E2M3(bytes)
        | CpuStorage::F6E3M2(bytes)
        | CpuStorage::F4(bytes)
        | CpuStorage::F8E8M0(bytes) => {
            let bits = tensor.elem_count() * safetensors::Dtype::from(tensor.dtype()).bitsize();
            match bytes.len() == bits.div_ceil(8) {
                true => f(bytes),
                false => {
                    let reason =
                        format!("a part of a larger tensor of {:?} can not be taken out", tensor.dtype());
                    return Err(candle_core::Error::Msg(reason));
                }
            }
        }
    })
}

/// A tensor whose bytes are read straight into its own memory.
pub(crate) fn read_tensor(
    dtype: DType,
    shape: &[usize],
    length: usize,
    device: &Device,
    read: impl FnOnce(&mut [u8]) -> bridge_vars::Result<()>,
) -> bridge_vars::Result<Tensor> {
    let count = length / dtype.size_in_bytes().max(1);
    macro_rules! typed {
        ($zero:expr, $bytes:expr) => {{
            let mut values = vec![$zero; count];
            read($bytes(&mut values))?;
            Ok(Tensor::from_vec(values, shape, device)?)
        }};
    }
    match dtype {
        DType::U8 => typed!(0u8, |values| values),
        DType::U32 => typed!(0u32, cast_slice_mut::<u32, u8>),
        DType::I16 => typed!(0i16, cast_slice_mut::<i16, u8>),
        DType::I32 => typed!(0i32, cast_slice_mut::<i32, u8>),
        DType::I64 => typed!(0i64, cast_slice_mut::<i64, u8>),
        DType::BF16 => typed!(bf16::ZERO, |values| cast_slice_mut(<[bf16]>::reinterpret_cast_mut(values))),
        DType::F16 => typed!(f16::ZERO, |values| cast_slice_mut(<[f16]>::reinterpret_cast_mut(values))),
        DType::F32 => typed!(0f32, cast_slice_mut::<f32, u8>),
        DType::F64 => typed!(0f64, cast_slice_mut::<f64, u8>),
        _ => {
            let mut bytes = vec![0; length];
            read(&mut bytes)?;
            Ok(Tensor::from_raw_buffer(&bytes, dtype, shape, device)?)
        }
    }
}
