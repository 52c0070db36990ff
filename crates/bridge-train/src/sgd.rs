use bridge_ops::UpdateFormula;
use bridge_vars::Result;
use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::UpdateRule;
use crate::update_rule::remembered;

/// Stochastic gradient descent, with or without momentum.
///
/// With gradient `g`, parameter `p`, and the decayed gradient `d = g + weight_decay * p`:
///
/// ```text
/// trace = d + momentum * trace
/// p     = p - learning_rate * (nesterov ? d + momentum * trace : trace)
/// ```
///
/// and `p - learning_rate * d` without momentum. This is `optax.sgd`, and with weight decay
/// `optax.chain(optax.add_decayed_weights(weight_decay), optax.sgd(..))`, which is also PyTorch's.
///
/// ```
/// use bridge_train::Sgd;
/// let rule = Sgd::new(0.1).with_momentum(0.9).with_nesterov(true);
/// assert_eq!((rule.momentum, rule.weight_decay), (Some(0.9), 0.));
/// ```
#[doc(alias("optax.sgd", "SGD", "optax.trace"))]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sgd {
    /// The learning rate.
    pub learning_rate: f64,
    /// How much of the last step's direction stays, if anything is remembered at all.
    #[serde(default)]
    pub momentum: Option<f64>,
    /// True for Nesterov's momentum; means nothing without momentum.
    #[serde(default)]
    pub nesterov: bool,
    /// The share of the parameter that is added to its gradient.
    #[serde(default)]
    pub weight_decay: f64,
}

impl Sgd {
    /// Plain descent at a learning rate.
    pub fn new(learning_rate: f64) -> Self {
        Self { learning_rate, momentum: None, nesterov: false, weight_decay: 0. }
    }

    /// With momentum.
    #[must_use]
    pub fn with_momentum(self, momentum: f64) -> Self {
        Self { momentum: Some(momentum), ..self }
    }

    /// With Nesterov's momentum or the ordinary one.
    #[must_use]
    pub fn with_nesterov(self, nesterov: bool) -> Self {
        Self { nesterov, ..self }
    }

    /// With weight decay.
    #[must_use]
    pub fn with_weight_decay(self, weight_decay: f64) -> Self {
        Self { weight_decay, ..self }
    }
}

impl UpdateRule for Sgd {
    fn memory(&self) -> &'static [&'static str] {
        if self.momentum.is_some() { &["trace"] } else { &[] }
    }

    fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    fn set_learning_rate(&mut self, learning_rate: f64) {
        self.learning_rate = learning_rate;
    }

    fn update(
        &self,
        _step: u32,
        parameter: &Tensor,
        gradient: &Tensor,
        memory: &mut [Tensor],
    ) -> Result<Tensor> {
        let gradient = match self.weight_decay {
            0. => gradient.clone(),
            decay => (gradient + parameter.affine(decay, 0.)?)?,
        };
        let direction = match self.momentum {
            None => gradient,
            Some(momentum) => {
                let [trace] = remembered(self.memory(), memory)?;
                *trace = (&gradient + trace.affine(momentum, 0.)?)?;
                match self.nesterov {
                    true => (gradient + trace.affine(momentum, 0.)?)?,
                    false => trace.clone(),
                }
            }
        };
        Ok((parameter - direction.affine(self.learning_rate, 0.)?)?)
    }

    fn fused(&self, _step: u32) -> Option<UpdateFormula> {
        let Self { learning_rate, momentum, nesterov, weight_decay } = *self;
        Some(UpdateFormula::Sgd { learning_rate, momentum, nesterov, weight_decay })
    }
}
