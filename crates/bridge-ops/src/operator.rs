//! Kernels as operators of candle's graph.

use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, CustomOp3, DType, Layout, Result, Shape, Tensor, WithDType,
};
use std::borrow::Cow;

use crate::kernels::element::Element;
use crate::kernels::storage::elements;

/// Evaluates an expression with a type that is the dtype's, for the four floats.
macro_rules! with_float {
    ($dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            candle_core::DType::F32 => {
                type $T = f32;
                $body
            }
            candle_core::DType::F64 => {
                type $T = f64;
                $body
            }
            candle_core::DType::BF16 => {
                type $T = half::bf16;
                $body
            }
            candle_core::DType::F16 => {
                type $T = half::f16;
                $body
            }
            found => candle_core::bail!("a float dtype was expected, found {found:?}"),
        }
    };
}
pub(crate) use with_float;

/// An argument of an operator's forward pass.
#[derive(Clone, Copy)]
pub(crate) struct Argument<'a> {
    pub(crate) storage: &'a CpuStorage,
    pub(crate) layout: &'a Layout,
}

impl<'a> Argument<'a> {
    /// The elements in order.
    pub(crate) fn elements<T: Element>(self) -> Result<Cow<'a, [T]>> {
        elements(self.storage, self.layout)
    }

    /// The elements of the whole storage.
    pub(crate) fn storage<T: Element>(self) -> Result<&'a [T]> {
        T::cpu_storage_as_slice(self.storage)
    }

    /// The elements in order, in the dtype of the arithmetic, which may be wider than their own.
    pub(crate) fn wide<R: Element>(self) -> Result<Vec<R>> {
        if self.storage.dtype() == R::DTYPE {
            return self.elements().map(Cow::into_owned);
        }
        with_float!(self.storage.dtype(), T => {
            Ok(self.elements::<T>()?.iter().map(|&value| R::from_f64(value.to_f64())).collect())
        })
    }
}

/// An operator with a kernel for each pass. The dtype is that of its first argument.
pub(crate) trait Fused: Send + Sync + 'static {
    /// The name that errors show.
    const NAME: &'static str;

    fn forward<T: Element>(&self, arguments: &[Argument]) -> Result<(CpuStorage, Shape)>;

    /// The gradients of the arguments, in order; `None` for those that have none. What is missing at the end has none.
    fn backward<T: Element>(
        &self,
        arguments: &[&Tensor],
        result: &Tensor,
        gradient: &Tensor,
    ) -> Result<Vec<Option<Tensor>>>;
}

/// Applies an operator to one to three tensors.
pub(crate) fn apply(operator: impl Fused, arguments: &[&Tensor]) -> Result<Tensor> {
    match arguments {
        [x] => x.apply_op1(Operator(operator)),
        [x, y] => x.apply_op2(y, Operator(operator)),
        [x, y, z] => x.apply_op3(y, z, Operator(operator)),
        _ => candle_core::bail!("operators have one to three arguments, found {}", arguments.len()),
    }
}

struct Operator<F>(F);

impl<F: Fused> Operator<F> {
    fn forward(&self, arguments: &[(&CpuStorage, &Layout)]) -> Result<(CpuStorage, Shape)> {
        let arguments: Vec<Argument> =
            arguments.iter().map(|&(storage, layout)| Argument { storage, layout }).collect();
        let dtype = arguments.first().map_or(DType::F32, |first| first.storage.dtype());
        with_float!(dtype, T => self.0.forward::<T>(&arguments))
    }

    fn backward<const N: usize>(
        &self,
        arguments: [&Tensor; N],
        result: &Tensor,
        gradient: &Tensor,
    ) -> Result<[Option<Tensor>; N]> {
        let dtype = arguments.first().map_or(DType::F32, |first| first.dtype());
        let gradients = with_float!(dtype, T => self.0.backward::<T>(&arguments, result, gradient))?;
        let mut gradients = gradients.into_iter();
        Ok(std::array::from_fn(|_| gradients.next().flatten()))
    }
}

impl<F: Fused> CustomOp1 for Operator<F> {
    fn name(&self) -> &'static str {
        F::NAME
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        self.forward(&[(storage, layout)])
    }

    fn bwd(&self, x: &Tensor, result: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let [x] = self.backward([x], result, gradient)?;
        Ok(x)
    }
}

impl<F: Fused> CustomOp2 for Operator<F> {
    fn name(&self) -> &'static str {
        F::NAME
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.forward(&[(s1, l1), (s2, l2)])
    }

    fn bwd(
        &self,
        x: &Tensor,
        y: &Tensor,
        result: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [x, y] = self.backward([x, y], result, gradient)?;
        Ok((x, y))
    }
}

impl<F: Fused> CustomOp3 for Operator<F> {
    fn name(&self) -> &'static str {
        F::NAME
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.forward(&[(s1, l1), (s2, l2), (s3, l3)])
    }

    fn bwd(
        &self,
        x: &Tensor,
        y: &Tensor,
        z: &Tensor,
        result: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [x, y, z] = self.backward([x, y, z], result, gradient)?;
        Ok((x, y, z))
    }
}
