//! Elementwise operators that run candle's storage kernels forward and a formula of our own backward.

use candle_core::backend::{BackendDevice, BackendStorage};
use candle_core::{CpuStorage, CudaStorage, CustomOp1, Layout, MetalStorage, Result, Shape, Tensor};

/// candle's storage on some device, whose device makes storage of the same kind.
pub(crate) trait Storage: BackendStorage<Device: BackendDevice<Storage = Self>> {}

impl<S: BackendStorage<Device: BackendDevice<Storage = S>>> Storage for S {}

/// A differentiable function of one element.
///
/// The forward pass is written against candle's storage interface, so that one text serves every device.
pub(crate) trait Elementwise: Send + Sync + 'static {
    /// The name that errors show.
    const NAME: &'static str;

    /// The values, contiguous.
    fn forward<S: Storage>(&self, x: &S, layout: &Layout) -> Result<S>;

    /// The gradient of the input, given input, output and the output's gradient.
    ///
    /// Not detached, so that second derivatives work where candle is asked to keep the graph.
    fn backward(&self, x: &Tensor, y: &Tensor, gradient: &Tensor) -> Result<Tensor>;
}

/// Applies `function` to every element of `x`.
pub(crate) fn apply(x: &Tensor, function: impl Elementwise) -> Result<Tensor> {
    x.apply_op1(Operator(function))
}

/// One `value` in the dtype and on the device of `like`, and the layout that broadcasts it to `shape`.
pub(crate) fn constant<S: Storage>(like: &S, value: f64, shape: &Shape) -> Result<(S, Layout)> {
    let layout = Layout::contiguous(());
    let storage = like.device().zeros_impl(layout.shape(), like.dtype())?;
    let storage = if value == 0.0 { storage } else { storage.affine(&layout, 1.0, value)? };
    Ok((storage, layout.broadcast_as(shape)?))
}

struct Operator<F>(F);

impl<F: Elementwise> Operator<F> {
    fn forward<S: Storage>(&self, storage: &S, layout: &Layout) -> Result<(S, Shape)> {
        Ok((self.0.forward(storage, layout)?, layout.shape().clone()))
    }
}

impl<F: Elementwise> CustomOp1 for Operator<F> {
    fn name(&self) -> &'static str {
        F::NAME
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        self.forward(storage, layout)
    }

    fn cuda_fwd(&self, storage: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        self.forward(storage, layout)
    }

    fn metal_fwd(&self, storage: &MetalStorage, layout: &Layout) -> Result<(MetalStorage, Shape)> {
        self.forward(storage, layout)
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        self.0.backward(x, y, gradient).map(Some)
    }
}
