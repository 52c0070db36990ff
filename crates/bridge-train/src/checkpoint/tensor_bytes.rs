//! Tensors as the bytes that safetensors has for them.

use std::io::{self, Write};

use candle_core::{CpuStorage, Device, Storage, Tensor};

/// Writes the elements in row-major order, to the bit, whatever the strides.
pub(super) fn write_tensor(tensor: &Tensor, out: &mut impl Write) -> io::Result<()> {
    // candle stores the dtypes that it can not compute with as the bytes of the file they came from, and
    // its `write_bytes` refuses them.
    if tensor.is_contiguous() {
        let cpu = tensor.to_device(&Device::Cpu).map_err(to_io)?;
        let (storage, _) = cpu.storage_and_layout();
        if let Storage::Cpu(
            CpuStorage::F6E2M3(bytes)
            | CpuStorage::F6E3M2(bytes)
            | CpuStorage::F4(bytes)
            | CpuStorage::F8E8M0(bytes),
        ) = &*storage
        {
            return out.write_all(bytes);
        }
    }
    tensor.write_bytes(out).map_err(to_io)
}

fn to_io(error: candle_core::Error) -> io::Error {
    match error {
        candle_core::Error::Io(error) => error,
        other => io::Error::other(other),
    }
}
