//! One network, 64-128-64-10 with batch norm and dropout, written both ways.

use candle_bridge::functional;
use candle_bridge::prelude::*;
use candle_bridge::stateful::{Activation, BatchNorm, BatchNormConfig, Dropout, Linear};
use serde::{Deserialize, Serialize};

const DROPOUT: f64 = 0.3;
const MOMENTUM: f64 = 0.9;

/// The network that owns its variables.
#[derive(StatefulModule)]
pub struct StatefulNetwork {
    first: Linear,
    norm: BatchNorm,
    dropout: Dropout,
    second: Linear,
    output: Linear,
}

impl StatefulNetwork {
    pub fn new(rngs: &Rngs) -> Result<Self> {
        let norm = BatchNormConfig { momentum: MOMENTUM, ..BatchNormConfig::default() };
        Ok(Self {
            first: Linear::new(64, 128, rngs)?,
            norm: BatchNorm::with_config(128, &norm, rngs)?,
            dropout: Dropout::new(DROPOUT, rngs)?,
            second: Linear::new(128, 64, rngs)?.with_activation(Activation::Relu),
            output: Linear::new(64, 10, rngs)?,
        })
    }
}

impl Module for StatefulNetwork {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let x = x.apply(&self.first)?.apply(&self.norm)?;
        let x = x.apply(&Activation::Relu)?.apply(&self.dropout)?;
        x.apply(&self.second)?.apply(&self.output)
    }
}

/// The network that is its configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FunctionalNetwork;

impl FunctionalModule for FunctionalNetwork {
    type Output = Tensor;

    fn call(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
        let x = scope.call(&functional::Dense::new(128), x)?;
        let x = scope.call(&functional::BatchNorm::new().momentum(MOMENTUM), &x)?;
        let x = functional::Activation::Relu.forward(&x)?;
        let x = scope.call(&functional::Dropout::new(DROPOUT), &x)?;
        let x = scope.call(&functional::Dense::new(64).activation(functional::Activation::Relu), &x)?;
        scope.call(&functional::Dense::new(10), &x)
    }
}
