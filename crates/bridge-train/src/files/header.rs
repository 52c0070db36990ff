//! Reading and checking what stands before a safetensors file's tensors.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};

use safetensors::Dtype;
use safetensors::tensor::Metadata;

use super::pytorch;

/// What safetensors' own reader accepts.
pub(crate) const MAX_HEADER: u64 = 100_000_000;
/// JSON may be nested this deep; serde_json reads no deeper.
const MAX_NESTING: usize = 128;
/// So many bytes of a file justify one more item of a list in its JSON,
const BYTES_PER_ITEM: u64 = 16;
/// and so many one more member of an object.
const BYTES_PER_MEMBER: u64 = 48;
/// So many are always allowed.
const FEW_MEMBERS: u64 = 64;

#[derive(Debug)]
pub(crate) struct Header {
    /// What the file says besides its tensors.
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) tensors: BTreeMap<String, Place>,
}

/// Where a tensor is in its file; within the file's length.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Which of the files, if there are several.
    pub(crate) file: usize,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    pub(crate) start: u64,
    pub(crate) length: usize,
    /// In elements, where the tensor's elements do not follow each other in order.
    pub(crate) strides: Option<Vec<usize>>,
}

/// Why a file can not be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("{0}")]
    Io(io::Error),
    #[error("{0}")]
    Malformed(String),
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

pub(crate) fn malformed<T>(reason: impl Into<String>) -> Result<T, Refused> {
    Err(Refused::Malformed(reason.into()))
}

impl Header {
    /// Reads the header. Allocates no more than the file's length justifies.
    pub(crate) fn read(mut file: &File, number: usize) -> Result<Self, Refused> {
        let length = file.metadata()?.len();
        let Some(after_prefix) = length.checked_sub(8) else {
            return malformed(format!("it has {length} bytes, no room for a safetensors header"));
        };
        let mut prefix = [0; 8];
        file.read_exact(&mut prefix)?;
        if prefix.starts_with(b"PK\x03\x04") {
            return pytorch::read(file, number);
        }
        if prefix.starts_with(b"\x80\x02\x8a\x0a") {
            return malformed("it is of a `torch.save` before PyTorch 1.6: load it there, and save it again");
        }
        let header_length = u64::from_le_bytes(prefix);
        let data_length = match after_prefix.checked_sub(header_length) {
            Some(rest) if header_length <= MAX_HEADER => rest,
            _ => {
                return malformed(format!(
                    "it is cut short, or no safetensors file: its header should take {header_length} bytes, which it does not have; use \
                     another copy"
                ));
            }
        };
        let mut header = vec![0; header_length as usize];
        file.read_exact(&mut header)?;
        check_members(&header, length)?;
        let header: Metadata = match serde_json::from_slice(&header) {
            Ok(header) => header,
            Err(error) => return malformed(format!("no safetensors header: {error}")),
        };
        if header.data_len() as u64 != data_length {
            let expected = header.data_len();
            return malformed(format!(
                "it was cut short or grew: its tensors take {expected} bytes, and it has {data_length}; use another copy"
            ));
        }
        let metadata = header.metadata().clone().unwrap_or_default().into_iter().collect();
        let mut tensors = BTreeMap::new();
        for (name, info) in header.tensors() {
            let (start, end) = info.data_offsets;
            // A product of any of the dimensions must be a number, even beside a dimension of 0.
            let sizes = info.shape.iter().try_fold(1usize, |size, dim| size.checked_mul(*dim.max(&1)));
            if sizes.is_none() {
                return malformed(format!(
                    "no tensor can be {:?} {:?}, as `{name}` is",
                    info.dtype, info.shape
                ));
            }
            let (start, length) = (8 + header_length + start as u64, end - start);
            tensors.insert(
                name,
                Place {
                    file: number,
                    dtype: info.dtype,
                    shape: info.shape.clone(),
                    start,
                    length,
                    strides: None,
                },
            );
        }
        Ok(Self { metadata, tensors })
    }
}

/// Refuses JSON that would take far more memory than the file: every member takes at least some tens of bytes, and
/// its text may be one digit and a comma.
pub(crate) fn check_members(json: &[u8], file_length: u64) -> Result<(), Refused> {
    let most = |bytes_each: u64| (file_length / bytes_each).max(FEW_MEMBERS);
    // Of each list or object that is open: how many more it may have.
    let mut open: Vec<u64> = Vec::new();
    let (mut quoted, mut escaped) = (false, false);
    for byte in json {
        match (quoted, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => quoted = !quoted,
            (true, _) => {}
            (false, b'[' | b'{') => {
                if open.len() == MAX_NESTING {
                    return malformed(format!("its JSON is nested more than {MAX_NESTING} deep"));
                }
                open.push(most(if *byte == b'[' { BYTES_PER_ITEM } else { BYTES_PER_MEMBER }) - 1);
            }
            (false, b']' | b'}') => _ = open.pop(),
            (false, b',') => {
                if let Some(left) = open.last_mut() {
                    match left.checked_sub(1) {
                        Some(fewer) => *left = fewer,
                        None => {
                            return malformed(
                                "its JSON has more members in one place than its length justifies",
                            );
                        }
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_counted_outside_of_texts() {
        check_members(br#"{"a\",,,,,,,,": [0, 1], "b": ["[", "]"]}"#, 64).unwrap();
        let many = format!("[0{}]", ", 0".repeat(99));
        check_members(many.as_bytes(), 1599).unwrap_err();
        check_members(many.as_bytes(), 1600).unwrap();
        check_members(&[b'['; 129], 1 << 20).unwrap_err();
    }
}
