//! Layers of burn with the weights of the file.

use std::error::Error;

use burn::module::Param;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{LayerNorm, LayerNormConfig, Linear};
use burn::tensor::{Device, Int, Tensor, TensorData};
use safetensors::{Dtype, SafeTensors};

type Outcome<T> = Result<T, Box<dyn Error>>;

pub struct Weights<'a> {
    file: SafeTensors<'a>,
    device: Device,
}

impl<'a> Weights<'a> {
    pub fn new(bytes: &'a [u8], device: &Device) -> Outcome<Self> {
        Ok(Self { file: SafeTensors::deserialize(bytes)?, device: device.clone() })
    }

    pub fn device(&self) -> &Device {
        &self.device
    }

    fn tensor<const D: usize>(&self, name: &str) -> Outcome<Tensor<D>> {
        let view = self.file.tensor(name)?;
        if view.dtype() != Dtype::F32 {
            return Err(format!("{name} is not f32").into());
        }
        let values: Vec<f32> = numbers(view.data(), f32::from_le_bytes);
        Ok(Tensor::from_data(TensorData::new(values, view.shape().to_vec()), &self.device))
    }

    /// Each of the batches of a tensor of one more dimension.
    pub fn batches<const D: usize>(&self, name: &str) -> Outcome<Vec<Tensor<D>>> {
        let view = self.file.tensor(name)?;
        let (count, shape) = view.shape().split_first().ok_or("no batches")?;
        let values: Vec<f32> = numbers(view.data(), f32::from_le_bytes);
        let batches = values.chunks(values.len() / count);
        Ok(batches
            .map(|batch| {
                Tensor::from_data(TensorData::new(batch.to_vec(), shape.to_vec()), &self.device)
            })
            .collect())
    }

    pub fn labels(&self) -> Outcome<Vec<Tensor<1, Int>>> {
        let view = self.file.tensor("labels")?;
        let values: Vec<i64> = numbers(view.data(), i64::from_le_bytes);
        let size = view.shape()[1];
        let batches = values.chunks(size);
        Ok(batches
            .map(|batch| Tensor::from_data(TensorData::new(batch.to_vec(), vec![size]), &self.device))
            .collect())
    }

    fn vector(&self, name: &str) -> Outcome<Param<Tensor<1>>> {
        Ok(Param::from_tensor(self.tensor(name)?))
    }

    pub fn linear(&self, name: &str) -> Outcome<Linear> {
        let weight = Param::from_tensor(self.tensor::<2>(&format!("{name}.kernel"))?);
        Ok(Linear { weight, bias: Some(self.vector(&format!("{name}.bias"))?) })
    }

    pub fn conv(&self, name: &str) -> Outcome<Conv2d> {
        let kernel = self.tensor::<4>(&format!("{name}.kernel"))?;
        let [height, width, inputs, outputs] = kernel.dims();
        let conv = Conv2dConfig::new([inputs, outputs], [height, width]).init(&self.device);
        // In memory as burn's convolution wants it, and a leaf.
        let data = kernel.permute([3, 2, 0, 1]).into_data();
        let weight = Param::from_tensor(Tensor::from_data(data, &self.device));
        Ok(Conv2d { weight, bias: Some(self.vector(&format!("{name}.bias"))?), ..conv })
    }

    pub fn norm(&self, name: &str, epsilon: f64) -> Outcome<LayerNorm> {
        let gamma = self.vector(&format!("{name}.scale"))?;
        let mut norm =
            LayerNormConfig::new(gamma.dims()[0]).with_epsilon(epsilon).init(&self.device);
        norm.gamma = gamma;
        norm.beta = Some(self.vector(&format!("{name}.bias"))?);
        Ok(norm)
    }
}

fn numbers<T, const N: usize>(bytes: &[u8], number: fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks().0.iter().map(|&bytes| number(bytes)).collect()
}
