//! Dropout: random elements set to zero, the others scaled up to keep the expectation.

use crate::elementwise::{Storage, constant};
use crate::precision::require_float;
use crate::shapes_only::like;
use crate::{Error, Result, is_shapes_only};
use bridge_random::Key;
use candle_core::{CpuStorage, CudaStorage, CustomOp2, DType, Layout, MetalStorage, Shape, Tensor, op};

/// `x / keep` where `mask` is not 0, else 0.
///
/// `mask` is u8 and broadcasts to the shape of `x`; `keep` is the probability of a 1 in it, above 0 and at most 1. The
/// division is in the dtype of `x` (any float), as in Flax. The gradient of `x` is that of the result under the same
/// mask and division; a dropped NaN or infinity gives 0 in both directions.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[[1f32, 2.0], [3.0, 4.0]], &Device::Cpu)?;
/// let mask = Tensor::new(&[0u8, 1], &Device::Cpu)?;
/// assert_eq!(bridge_ops::dropout(&x, 0.5, &mask)?.to_vec2::<f32>()?, [[0.0, 4.0], [0.0, 8.0]]);
/// # Ok::<(), bridge_ops::Error>(())
/// ```
///
/// # Errors
///
/// When `keep` is out of range, the shapes do not fit, `mask` is not u8, or `x` is not a float tensor.
pub fn dropout(x: &Tensor, keep: f64, mask: &Tensor) -> Result<Tensor> {
    let operator = "dropout";
    require_float(operator, "x", x)?;
    if !(keep > 0.0 && keep <= 1.0) {
        return Err(Error::Probability {
            operator,
            argument: "keep",
            expected: "above 0 and at most 1",
            found: keep,
        });
    }
    if mask.dtype() != DType::U8 {
        return Err(Error::DType {
            operator,
            argument: "mask",
            expected: "dtype u8 (0 drops, 1 keeps)",
            found: mask.dtype(),
        });
    }
    let mask = mask.broadcast_as(x.shape()).map_err(|_| Error::Shape {
        operator,
        argument: "mask",
        expected: format!("a shape that broadcasts to that of `x`, {:?}", x.shape()),
        found: mask.shape().clone(),
    })?;
    like(x).unwrap_or_else(|| Ok(x.apply_op2(&mask, Dropout { keep })?))
}

/// [`dropout`] with a mask drawn from a key, the one that Flax draws from the same key.
///
/// `rate`, from 0 to 1, is the probability of dropping. Along `broadcast_dims` (negative ones count from the end) one
/// decision holds for all elements. Rate 0 returns the input and rate 1 zeros, both without drawing.
///
/// ```
/// # use candle_core::{DType, Device, Tensor};
/// let x = Tensor::ones((4, 8), DType::F32, &Device::Cpu)?;
/// let y = bridge_ops::dropout_with_key(&x, 0.5, bridge_random::key(0), &[-1])?;
/// for row in y.to_vec2::<f32>()? {
///     assert!(row == [0.0; 8] || row == [2.0; 8]);
/// }
/// # Ok::<(), bridge_ops::Error>(())
/// ```
///
/// # Errors
///
/// When `rate` is not from 0 to 1, a dimension is out of range, or `x` is not a float tensor.
#[doc(alias = "Dropout")]
pub fn dropout_with_key(x: &Tensor, rate: f64, key: Key, broadcast_dims: &[isize]) -> Result<Tensor> {
    let operator = "dropout_with_key";
    require_float(operator, "x", x)?;
    if !(0.0..=1.0).contains(&rate) {
        return Err(Error::Probability { operator, argument: "rate", expected: "from 0 to 1", found: rate });
    }
    let mut dims = x.dims().to_vec();
    for &axis in broadcast_dims {
        let index = if axis < 0 { dims.len().checked_add_signed(axis) } else { usize::try_from(axis).ok() };
        *index.and_then(|index| dims.get_mut(index)).ok_or_else(|| Error::Shape {
            operator,
            argument: "x",
            expected: format!("a dimension {axis}, which `broadcast_dims` names"),
            found: x.shape().clone(),
        })? = 1;
    }
    if rate == 0.0 || is_shapes_only() {
        return like(x).unwrap_or_else(|| Ok(x.clone()));
    }
    if rate == 1.0 {
        // Zeros that stay in the graph, so that the parameters below receive a gradient.
        return dropout(x, 1.0, &Tensor::zeros((), DType::U8, x.device())?);
    }
    let keep = 1.0 - rate;
    let mask = bridge_random::bernoulli(key, keep, dims, x.device())?;
    dropout(x, keep, &mask)
}

/// Linear in its first argument, so it is its own backward pass.
#[derive(Clone, Copy)]
struct Dropout {
    keep: f64,
}

impl Dropout {
    fn forward<S: Storage>(
        self,
        x: &S,
        x_layout: &Layout,
        mask: &S,
        mask_layout: &Layout,
    ) -> candle_core::Result<(S, Shape)> {
        let shape = x_layout.shape();
        let (zero, zeros) = constant(x, 0.0, shape)?;
        // Not `x / keep` on tensors, which candle computes as `x * (1 / keep)`: it rounds differently.
        let (keep, keeps) = constant(x, self.keep, shape)?;
        let scaled = x.binary_impl::<op::Div>(&keep, x_layout, &keeps)?;
        let y = mask.where_cond(mask_layout, &scaled, &Layout::contiguous(shape), &zero, &zeros)?;
        Ok((y, shape.clone()))
    }
}

impl CustomOp2 for Dropout {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        mask: &CpuStorage,
        mask_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        self.forward(x, x_layout, mask, mask_layout)
    }

    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        mask: &CudaStorage,
        mask_layout: &Layout,
    ) -> candle_core::Result<(CudaStorage, Shape)> {
        self.forward(x, x_layout, mask, mask_layout)
    }

    fn metal_fwd(
        &self,
        x: &MetalStorage,
        x_layout: &Layout,
        mask: &MetalStorage,
        mask_layout: &Layout,
    ) -> candle_core::Result<(MetalStorage, Shape)> {
        self.forward(x, x_layout, mask, mask_layout)
    }

    fn bwd(
        &self,
        _: &Tensor,
        mask: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((Some(gradient.apply_op2(mask, *self)?), None))
    }
}
