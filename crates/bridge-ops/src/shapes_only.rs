//! Calls in which shapes and dtypes alone matter.

use std::cell::Cell;

use candle_core::{DType, Device, Shape, Tensor};

use crate::Result;

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// Runs `f` with operators of this crate that check their inputs and compute nothing: each gives a [`stand_in`] of its result.
///
/// It holds in this thread, until `f` returns. candle's own operators compute as ever, on the zeros that they are given.
///
/// ```
/// use bridge_ops::{linear, shapes_only, stand_in};
/// use candle_core::{DType, Device};
/// // A kernel of 4 TB.
/// let kernel = stand_in((1 << 20, 1 << 20), DType::F32, &Device::Cpu)?;
/// let x = stand_in((8, 1 << 20), DType::F32, &Device::Cpu)?;
/// let y = shapes_only(|| linear(&x, &kernel, None))?;
/// assert_eq!(y.dims(), &[8, 1 << 20]);
/// # Ok::<(), bridge_ops::Error>(())
/// ```
#[doc(alias("eval_shape", "meta", "FakeTensorMode"))]
pub fn shapes_only<T>(f: impl FnOnce() -> T) -> T {
    struct Ends;
    impl Drop for Ends {
        fn drop(&mut self) {
            DEPTH.set(DEPTH.get().saturating_sub(1));
        }
    }
    DEPTH.set(DEPTH.get() + 1);
    let _ends = Ends;
    f()
}

/// True inside of [`shapes_only`].
pub fn is_shapes_only() -> bool {
    DEPTH.get() > 0
}

/// A tensor of zeros of any shape that takes the memory of one element.
///
/// # Errors
/// If candle can not make a zero of the dtype on the device.
pub fn stand_in(shape: impl Into<Shape>, dtype: DType, device: &Device) -> Result<Tensor> {
    Ok(Tensor::zeros((), dtype, device)?.broadcast_as(shape)?)
}

/// What stands in for a result like `x`, where nothing is computed.
pub(crate) fn like(x: &Tensor) -> Option<Result<Tensor>> {
    is_shapes_only().then(|| stand_in(x.shape(), x.dtype(), x.device()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_with_its_call_even_by_a_panic() {
        shapes_only(|| {
            assert!(is_shapes_only());
            shapes_only(|| ());
            assert!(is_shapes_only());
        });
        let _ = std::panic::catch_unwind(|| shapes_only(|| panic!("on purpose")));
        assert!(!is_shapes_only());
        assert!(!shapes_only(|| std::thread::spawn(is_shapes_only).join()).unwrap());
    }

    #[test]
    fn candle_computes_with_stand_ins() {
        let device = &Device::Cpu;
        let x = stand_in((2, 3, 4, 5), DType::F32, device).unwrap();
        let product = x.matmul(&x.t().unwrap()).unwrap();
        assert_eq!(product.dims(), &[2, 3, 4, 4]);
        let kernel = stand_in((5, 7), DType::F32, device).unwrap();
        let flat = x.reshape((24, 5)).unwrap();
        assert_eq!(flat.matmul(&kernel).unwrap().dims(), &[24, 7]);
        assert_eq!(stand_in((24, 5), DType::F32, device).unwrap().matmul(&kernel).unwrap().dims(), &[24, 7]);
        let heads = x.transpose(1, 2).unwrap().contiguous().unwrap();
        assert_eq!(heads.matmul(&heads.t().unwrap()).unwrap().dims(), &[2, 4, 3, 3]);
        assert_eq!(x.relu().unwrap().sum_keepdim(1).unwrap().dims(), &[2, 1, 4, 5]);
    }
}
