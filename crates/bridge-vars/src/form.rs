use std::fmt;

use candle_core::{DType, Tensor};

/// A tensor's dtype and shape. Small, and kept beside the tensor: comparing those of a whole model would otherwise wait
/// for memory at each tensor and each shape.
#[derive(Clone, PartialEq, Eq)]
pub struct TensorForm(Dims);

#[derive(Clone, PartialEq, Eq)]
enum Dims {
    /// Up to four dimensions, as most tensors have.
    Small(DType, u8, [u32; 4]),
    Large(Box<(DType, Vec<usize>)>),
}

impl TensorForm {
    /// Of this dtype and shape.
    pub fn new(dtype: DType, dims: &[usize]) -> Self {
        let mut small = [0; 4];
        let fits = dims.len() <= small.len()
            && small
                .iter_mut()
                .zip(dims)
                .all(|(small, dim)| u32::try_from(*dim).map(|dim| *small = dim).is_ok());
        Self(match fits {
            true => Dims::Small(dtype, dims.len() as u8, small),
            false => Dims::Large(Box::new((dtype, dims.to_vec()))),
        })
    }

    /// The dtype.
    pub fn dtype(&self) -> DType {
        match &self.0 {
            Dims::Small(dtype, ..) => *dtype,
            Dims::Large(large) => large.0,
        }
    }

    /// The number of elements; `usize::MAX`, if there are more.
    pub fn element_count(&self) -> usize {
        self.dims().iter().fold(1, |count: usize, size| count.saturating_mul(*size))
    }

    /// The sizes of the dimensions.
    pub fn dims(&self) -> Vec<usize> {
        match &self.0 {
            Dims::Small(_, rank, dims) => {
                dims.iter().take(usize::from(*rank)).map(|dim| *dim as usize).collect()
            }
            Dims::Large(large) => large.1.clone(),
        }
    }
}

impl From<&Tensor> for TensorForm {
    fn from(tensor: &Tensor) -> Self {
        Self::new(tensor.dtype(), tensor.dims())
    }
}

impl fmt::Display for TensorForm {
    /// `f32[2, 3]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:?}", self.dtype().as_str(), self.dims())
    }
}
impl fmt::Debug for TensorForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_any_shape() {
        for dims in [&[][..], &[3], &[1, 2, 3, 4], &[1, 2, 3, 4, 5], &[u32::MAX as usize, 1 << 40]] {
            let form = TensorForm::new(DType::BF16, dims);
            assert_eq!((form.dtype(), form.dims()), (DType::BF16, dims.to_vec()));
            assert_eq!(form.to_string(), format!("bf16{dims:?}"));
        }
        assert_eq!(size_of::<TensorForm>(), 24);
    }
}
