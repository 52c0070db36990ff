//! CRC-32 checksums, by which damage to a file is noticed.

use crc32fast::Hasher;
use safetensors::Dtype;

/// Stands for a checksum that is not known yet. All are of the same length.
pub(super) const UNKNOWN: &str = "00000000";

/// The checksum of a description that has the checksum `own` in it.
pub(super) fn of_description(json: &str, own: &str) -> String {
    of_text(&json.replacen(own, UNKNOWN, 1))
}

/// The checksum of a text.
pub(super) fn of_text(text: &str) -> String {
    let mut hasher = Hasher::new();
    hasher.update(text.as_bytes());
    hex(hasher)
}

/// The checksum of a tensor, to which its elements are shown in order.
pub(super) struct TensorSum(Hasher);

impl TensorSum {
    /// A tensor's dtype and shape stand outside of the description, so its checksum covers them.
    pub(super) fn new(dtype: Dtype, shape: &[usize]) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(format!("{dtype}{shape:?}").as_bytes());
        Self(hasher)
    }

    pub(super) fn see(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(super) fn finish(self) -> String {
        hex(self.0)
    }
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
        let mut sum = TensorSum::new(Dtype::U8, &[2, 1]);
        sum.see(&[1]);
        sum.see(&[2]);
        assert_eq!(sum.finish(), expected);
    }

    #[test]
    fn a_description_has_its_checksum_in_it() {
        let open = format!("{{\"crc32\":\"{UNKNOWN}\",\"x\":1}}");
        let own = of_description(&open, UNKNOWN);
        assert_eq!(of_description(&open.replacen(UNKNOWN, &own, 1), &own), own);
        assert_ne!(of_description(&open.replacen(UNKNOWN, &own, 1).replace("1}", "2}"), &own), own);
    }
}
