use std::any::Any;

use crate::Visit;

/// What a call takes or gives: tensors, and tuples, lists, options, maps and derived structs of them, and plain data.
///
/// Whatever can be [walked](Visit) is one. A struct of tensors of your own becomes one by `#[derive(StatefulModule)]`.
///
/// ```
/// use bridge_graph::{Pytree, StatefulModule, shapes};
/// use candle_core::{DType, Device, Tensor};
///
/// #[derive(StatefulModule)]
/// struct Output { logits: Tensor, hidden: Vec<Tensor> }
///
/// let zeros = |size| Tensor::zeros(size, DType::F32, &Device::Cpu);
/// let output = Output { logits: zeros(10)?, hidden: vec![zeros(4)?] };
/// assert_eq!(shapes(&output)?, "{hidden: [f32[4]], logits: f32[10]}");
/// # Ok::<(), bridge_vars::Error>(())
/// ```
#[doc(alias("jax.tree", "PyTreeNode", "struct.dataclass"))]
#[diagnostic::on_unimplemented(
    message = "`{Self}` can not be taken or given by a module's call",
    note = "use tensors, plain data, or tuples, vectors, options and maps of them; derive `StatefulModule` on a struct of them"
)]
pub trait Pytree: Visit + Any {
    #[doc(hidden)]
    fn as_any(&self) -> &dyn Any;
    #[doc(hidden)]
    fn as_any_mut(&mut self) -> &mut dyn Any;
    #[doc(hidden)]
    fn as_visit(&self) -> &dyn Visit;
}

impl<T: Visit + Any> Pytree for T {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
    fn as_visit(&self) -> &dyn Visit {
        self
    }
}
