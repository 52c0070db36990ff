//! The affine map of a dense layer, with an activation: forward one product, backward two.

use std::borrow::Cow;

use candle_core::{CpuStorage, Layout, Result, Shape, Storage, Tensor, WithDType};

use super::element::Element;
use super::product::{Epilogue, Matrix, PulledBack, Sum, column_sums, output, product};
use super::storage::{elements, tensor};
use crate::gradient_sink::gradient;
use crate::operator::{self, Argument, Fused};

/// The operator, of arguments that fit.
#[derive(Clone, Copy)]
pub(crate) struct Linear {
    epilogue: Epilogue,
}

impl Linear {
    pub(crate) fn new(epilogue: Epilogue) -> Self {
        Self { epilogue }
    }

    pub(crate) fn apply(self, x: &Tensor, kernel: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        match bias {
            Some(bias) => operator::apply(self, &[x, kernel, bias]),
            None => operator::apply(self, &[x, kernel]),
        }
    }
}

impl Fused for Linear {
    const NAME: &'static str = "linear";

    fn forward<T: Element>(&self, arguments: &[Argument]) -> Result<(CpuStorage, Shape)> {
        let [x, kernel, bias @ ..] = arguments else { candle_core::bail!("there is nothing to multiply") };
        let (_, outputs) = kernel.layout.shape().dims2()?;
        let (_, leading) = x.layout.dims().split_last().unwrap_or((&0, &[]));
        let shape = Shape::from([leading, &[outputs]].concat());
        let x = Rows::<T>::new(x.storage, x.layout)?;
        let kernel = Matrix::of_layout(kernel.storage::<T>()?, kernel.layout)?;
        let bias = bias.first().map(|bias| bias.elements::<T>()).transpose()?;
        let values = output(&x.matrix()?, &kernel, bias.as_deref(), self.epilogue);
        Ok((T::to_cpu_storage_owned(values), shape))
    }

    fn backward<T: Element>(
        &self,
        arguments: &[&Tensor],
        result: &Tensor,
        output_gradient: &Tensor,
    ) -> Result<Vec<Option<Tensor>>> {
        let [x, kernel, bias @ ..] = arguments else { candle_core::bail!("there is nothing to multiply") };
        let outputs = kernel.dim(1)?;
        let (result, result_layout) = result.storage_and_layout();
        let (output_gradient, gradient_layout) = output_gradient.storage_and_layout();
        // Read along the same lines.
        let result = Rows::<T>::contiguous(on_cpu(&result)?, result_layout)?;
        let output_gradient = Rows::<T>::contiguous(on_cpu(&output_gradient)?, gradient_layout)?;
        let pulled_back = PulledBack::new(output_gradient.matrix()?, result.matrix()?, self.epilogue);

        let x_gradient = match x.track_op() {
            true => {
                let (kernel, layout) = kernel.storage_and_layout();
                let kernel = Matrix::of_layout(T::cpu_storage_as_slice(on_cpu(&kernel)?)?, layout)?;
                let values = output::<T>(&pulled_back, &kernel.transposed(), None, Epilogue::Nothing);
                Some(tensor(values, x.shape())?)
            }
            false => None,
        };
        let kernel_gradient = gradient::<T>(kernel, |values, add| {
            let (x, layout) = x.storage_and_layout();
            let x = Rows::<T>::new(on_cpu(&x)?, layout)?;
            product(&x.matrix()?.transposed(), &pulled_back, &Sum::new(values, outputs, add));
            Ok(())
        })?;
        let bias_gradient = match bias.first() {
            Some(bias) => gradient::<T>(bias, |values, add| {
                column_sums(&pulled_back, values, add);
                Ok(())
            })?,
            None => None,
        };
        Ok(vec![x_gradient, kernel_gradient, bias_gradient])
    }
}

/// A tensor as a matrix of as many columns as its last axis is long.
struct Rows<'a, T: WithDType> {
    values: Cow<'a, [T]>,
    layout: Layout,
}

impl<'a, T: Element> Rows<'a, T> {
    fn new(storage: &'a CpuStorage, layout: &Layout) -> Result<Self> {
        if layout.dims().len() == 2 {
            return Ok(Self { values: T::cpu_storage_as_slice(storage)?.into(), layout: layout.clone() });
        }
        Self::contiguous(storage, layout)
    }

    /// With its rows one after the other.
    fn contiguous(storage: &'a CpuStorage, layout: &Layout) -> Result<Self> {
        let values = elements::<T>(storage, layout)?;
        let (&columns, leading) = layout.dims().split_last().unwrap_or((&1, &[]));
        let rows = leading.iter().product::<usize>();
        Ok(Self { values, layout: Layout::contiguous((rows, columns)) })
    }

    fn matrix(&self) -> Result<Matrix<'_, T>> {
        Matrix::of_layout(&self.values, &self.layout)
    }
}

fn on_cpu(storage: &Storage) -> Result<&CpuStorage> {
    match storage {
        Storage::Cpu(storage) => Ok(storage),
        _ => candle_core::bail!("a tensor on the CPU was expected"),
    }
}
