//! Dropout by a mask.

use crate::composition::elementwise::{Storage, constant};
use candle_core::{CpuStorage, CudaStorage, CustomOp2, Layout, MetalStorage, Result, Shape, Tensor, op};

/// [`crate::dropout`] with a mask of the shape of `x`.
pub fn dropout(x: &Tensor, keep: f64, mask: &Tensor) -> Result<Tensor> {
    x.apply_op2(mask, Dropout { keep })
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
    ) -> Result<(S, Shape)> {
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
    ) -> Result<(CpuStorage, Shape)> {
        self.forward(x, x_layout, mask, mask_layout)
    }

    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        mask: &CudaStorage,
        mask_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.forward(x, x_layout, mask, mask_layout)
    }

    fn metal_fwd(
        &self,
        x: &MetalStorage,
        x_layout: &Layout,
        mask: &MetalStorage,
        mask_layout: &Layout,
    ) -> Result<(MetalStorage, Shape)> {
        self.forward(x, x_layout, mask, mask_layout)
    }

    fn bwd(
        &self,
        _: &Tensor,
        mask: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((Some(gradient.apply_op2(mask, *self)?), None))
    }
}
