use candle_bridge::graph::{Rngs, StatefulModule};
use candle_bridge::random::{Key, normal};
use candle_bridge::stateful::{Activation, Linear};
use candle_core::{DType, Device, Tensor};

use super::{Network, Result};

/// 784-512-512-10 with relu, 128 examples a batch: 669,706 parameters.
#[derive(StatefulModule)]
pub(crate) struct Mlp {
    pub(crate) layers: [Linear; 3],
}

impl Mlp {
    /// What goes into the last layer.
    pub(crate) fn features(&self, inputs: &Tensor) -> Result<Tensor> {
        let [first, second, _] = &self.layers;
        second.forward(&first.forward(inputs)?)
    }
}

impl Network for Mlp {
    fn new(rngs: &Rngs) -> Result<Self> {
        let linear = |inputs, outputs| Linear::new(inputs, outputs, rngs);
        let (first, second, last) = (linear(784, 512)?, linear(512, 512)?, linear(512, 10)?);
        let relu = |layer: Linear| layer.with_activation(Activation::Relu);
        Ok(Self { layers: [relu(first), relu(second), last] })
    }

    fn inputs(key: Key) -> Result<Tensor> {
        Ok(normal(key, (128, 784), DType::F32, &Device::Cpu)?)
    }

    fn forward(&self, inputs: &Tensor) -> Result<Tensor> {
        let [_, _, last] = &self.layers;
        last.forward(&self.features(inputs)?)
    }
}
