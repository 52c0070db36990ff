//! Layers of candle-nn with the weights of the file.

use std::collections::HashMap;

use candle_core::{Device, Result, Tensor, Var};
use candle_nn::{Conv2d, Conv2dConfig, Embedding, LayerNorm, Linear};

pub struct Weights {
    tensors: HashMap<String, Tensor>,
    training: bool,
    /// Those that layers have, in training.
    pub vars: Vec<Var>,
}

impl Weights {
    pub fn load(file: &str, training: bool) -> Result<Self> {
        let tensors = candle_core::safetensors::load(file, &Device::Cpu)?;
        Ok(Self { tensors, training, vars: Vec::new() })
    }

    fn tensor(&mut self, name: &str) -> Result<Tensor> {
        self.tensors.remove(name).ok_or_else(|| candle_core::Error::Msg(format!("the file lacks {name}")))
    }

    pub fn batches(&mut self, name: &str) -> Result<Vec<Tensor>> {
        let batches = self.tensor(name)?;
        (0..batches.dim(0)?).map(|batch| batches.get(batch)?.copy()).collect()
    }

    /// A variable in training, and otherwise a plain tensor, which makes no graph.
    fn parameter(&mut self, tensor: &Tensor) -> Result<Tensor> {
        let tensor = tensor.contiguous()?;
        if !self.training {
            return Ok(tensor);
        }
        let var = Var::from_tensor(&tensor)?;
        self.vars.push(var.clone());
        Ok(var.as_tensor().clone())
    }

    fn named(&mut self, name: &str) -> Result<Tensor> {
        let tensor = self.tensor(name)?;
        self.parameter(&tensor)
    }

    pub fn linear(&mut self, name: &str) -> Result<Linear> {
        let kernel = self.tensor(&format!("{name}.kernel"))?;
        let (weight, bias) = (self.parameter(&kernel.t()?)?, self.named(&format!("{name}.bias"))?);
        Ok(Linear::new(weight, Some(bias)))
    }

    pub fn conv(&mut self, name: &str) -> Result<Conv2d> {
        let kernel = self.tensor(&format!("{name}.kernel"))?.permute((3, 2, 0, 1))?;
        let (weight, bias) = (self.parameter(&kernel)?, self.named(&format!("{name}.bias"))?);
        Ok(Conv2d::new(weight, Some(bias), Conv2dConfig::default()))
    }

    pub fn norm(&mut self, name: &str, epsilon: f64) -> Result<LayerNorm> {
        let (scale, bias) = (self.named(&format!("{name}.scale"))?, self.named(&format!("{name}.bias"))?);
        Ok(LayerNorm::new(scale, bias, epsilon))
    }

    pub fn embedding(&mut self, name: &str, width: usize) -> Result<Embedding> {
        Ok(Embedding::new(self.named(name)?, width))
    }
}
