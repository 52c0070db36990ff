use bridge_ops::UpdateFormula;
use bridge_vars::Result;
use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::UpdateRule;
use crate::update_rule::remembered;

/// Adam with decoupled weight decay ([Loshchilov and Hutter, 2019](https://arxiv.org/abs/1711.05101)).
///
/// With gradient `g`, parameter `p` and step `t`, from 1:
///
/// ```text
/// mu = beta1 * mu + (1 - beta1) * g
/// nu = beta2 * nu + (1 - beta2) * g²
/// p  = p - learning_rate * ((mu / (1 - beta1^t)) / (√(nu / (1 - beta2^t)) + epsilon) + weight_decay * p)
/// ```
///
/// Arithmetic and defaults are those of `optax.adamw`. With a weight decay of 0 it is Adam.
///
/// ```
/// use bridge_train::AdamW;
/// let rule = AdamW::new(1e-3).with_weight_decay(0.01);
/// assert_eq!((rule.beta1, rule.beta2, rule.epsilon), (0.9, 0.999, 1e-8));
/// ```
#[doc(alias("optax.adamw", "optax.adam", "Adam"))]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdamW {
    /// The learning rate.
    pub learning_rate: f64,
    /// How much of the gradients' mean stays at each step.
    #[doc(alias = "b1")]
    pub beta1: f64,
    /// How much of the squared gradients' mean stays at each step.
    #[doc(alias = "b2")]
    pub beta2: f64,
    /// What keeps the division from being one by zero.
    #[doc(alias = "eps")]
    pub epsilon: f64,
    /// The share of the parameter that is taken from it at each step, times the learning rate.
    pub weight_decay: f64,
}

impl AdamW {
    /// The defaults at a learning rate.
    pub fn new(learning_rate: f64) -> Self {
        Self { learning_rate, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 1e-4 }
    }

    /// With another beta1.
    #[must_use]
    pub fn with_beta1(self, beta1: f64) -> Self {
        Self { beta1, ..self }
    }

    /// With another beta2.
    #[must_use]
    pub fn with_beta2(self, beta2: f64) -> Self {
        Self { beta2, ..self }
    }

    /// With another epsilon.
    #[must_use]
    pub fn with_epsilon(self, epsilon: f64) -> Self {
        Self { epsilon, ..self }
    }

    /// With another weight decay.
    #[must_use]
    pub fn with_weight_decay(self, weight_decay: f64) -> Self {
        Self { weight_decay, ..self }
    }
}

impl UpdateRule for AdamW {
    fn memory(&self) -> &'static [&'static str] {
        &["mu", "nu"]
    }

    fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    fn set_learning_rate(&mut self, learning_rate: f64) {
        self.learning_rate = learning_rate;
    }

    fn update(
        &self,
        step: u32,
        parameter: &Tensor,
        gradient: &Tensor,
        memory: &mut [Tensor],
    ) -> Result<Tensor> {
        let [mu, nu] = remembered(self.memory(), memory)?;
        *mu = (mu.affine(self.beta1, 0.)? + gradient.affine(1. - self.beta1, 0.)?)?;
        *nu = (nu.affine(self.beta2, 0.)? + gradient.sqr()?.affine(1. - self.beta2, 0.)?)?;
        let correction = |beta: f64| 1. - beta.powf(f64::from(step));
        // The corrections go into factors that are applied anyway: √(nu / c) is √nu / √c.
        let divisor = nu.sqrt()?.affine(1. / correction(self.beta2).sqrt(), self.epsilon)?;
        let mut change = (&*mu / divisor)?.affine(self.learning_rate / correction(self.beta1), 0.)?;
        if self.weight_decay != 0. {
            // Part of the change, not a factor on the parameter: in f32, 1 - 1e-8 is 1.
            change = (change + parameter.affine(self.learning_rate * self.weight_decay, 0.)?)?;
        }
        Ok((parameter - change)?)
    }

    fn fused(&self, step: u32) -> Option<UpdateFormula> {
        let Self { learning_rate, beta1, beta2, epsilon, weight_decay } = *self;
        Some(UpdateFormula::AdamW { step, learning_rate, beta1, beta2, epsilon, weight_decay })
    }
}
