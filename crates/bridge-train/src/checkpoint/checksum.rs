//! CRC-32 checksums, by which damage to a file is noticed.

use std::io::{self, Write};

use candle_core::DType;
use crc32fast::Hasher;
use safetensors::Dtype;

/// Stands for a checksum that is not known yet. All are of the same length.
pub(super) const UNKNOWN: &str = "00000000";

/// The checksum of a tensor whose elements are these bytes.
pub(super) fn of_tensor(dtype: DType, shape: &[usize], bytes: &[u8]) -> String {
    let mut hasher = begin(dtype, shape);
    hasher.update(bytes);
    hex(hasher)
}

/// The checksum of a description that has the checksum `own` in it.
pub(super) fn of_description(json: &str, own: &str) -> String {
    let mut hasher = Hasher::new();
    hasher.update(json.replacen(own, UNKNOWN, 1).as_bytes());
    hex(hasher)
}

/// Hands on what is written, and sums it up.
pub(super) struct Summed<W> {
    out: W,
    hasher: Hasher,
}

impl<W: Write> Summed<W> {
    /// For the elements of a tensor.
    pub(super) fn new(out: W, dtype: DType, shape: &[usize]) -> Self {
        Self { out, hasher: begin(dtype, shape) }
    }

    pub(super) fn checksum(self) -> String {
        hex(self.hasher)
    }
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hasher.update(bytes.get(..written).unwrap_or(bytes));
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A tensor's dtype and shape stand outside of the description, so its checksum covers them.
fn begin(dtype: DType, shape: &[usize]) -> Hasher {
    let mut hasher = Hasher::new();
    hasher.update(format!("{}{shape:?}", Dtype::from(dtype)).as_bytes());
    hasher
}

fn hex(hasher: Hasher) -> String {
    format!("{:08x}", hasher.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_tensor_covers_dtype_shape_and_elements() {
        // zlib.crc32(b"U8[2, 1]\x01\x02")
        let expected = "74a78458";
        assert_eq!(of_tensor(DType::U8, &[2, 1], &[1, 2]), expected);
        let mut summed = Summed::new(Vec::new(), DType::U8, &[2, 1]);
        summed.write_all(&[1]).unwrap();
        summed.write_all(&[2]).unwrap();
        assert_eq!(summed.out, [1, 2]);
        assert_eq!(summed.checksum(), expected);
    }

    #[test]
    fn a_description_has_its_checksum_in_it() {
        let open = format!("{{\"crc32\":\"{UNKNOWN}\",\"x\":1}}");
        let own = of_description(&open, UNKNOWN);
        assert_eq!(of_description(&open.replacen(UNKNOWN, &own, 1), &own), own);
        assert_ne!(of_description(&open.replacen(UNKNOWN, &own, 1).replace("1}", "2}"), &own), own);
    }
}
