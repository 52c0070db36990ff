use bridge_graph::{Flag, RngStream, Rngs, StatefulModule, observe};
use bridge_random::Key;
use bridge_vars::Result;
use candle_core::Tensor;

use super::candle_module;

/// How a [`Dropout`] is made.
#[derive(Clone, Debug, PartialEq)]
pub struct DropoutConfig {
    /// Dimensions along which all elements are dropped or kept together; negative ones count from the end.
    pub broadcast_dims: Vec<isize>,
    /// The random stream that it forks.
    pub rng_collection: String,
}

impl Default for DropoutConfig {
    /// Every element for itself, keys from the stream `dropout`.
    fn default() -> Self {
        Self { broadcast_dims: Vec::new(), rng_collection: "dropout".into() }
    }
}

/// Sets elements to zero at random during training, and scales the others up by `1 / (1 - rate)`.
///
/// The mask is Flax's for the same key. It forks a random stream when it is made, and draws from its own.
///
/// ```
/// use bridge_graph::{Rngs, eval};
/// use bridge_stateful::Dropout;
/// use candle_core::{DType, Device, Tensor};
/// let dropout = Dropout::new(0.5, &Rngs::new(0))?;
/// let x = Tensor::ones(8, DType::F32, &Device::Cpu)?;
/// assert!(dropout.forward(&x)?.to_vec1::<f32>()?.iter().all(|y| [0., 2.].contains(y)));
/// eval(&dropout)?;
/// assert_eq!(dropout.forward(&x)?.to_vec1::<f32>()?, [1.; 8]);
/// # Ok::<(), bridge_vars::Error>(())
/// ```
#[doc(alias = "nnx.Dropout")]
#[derive(Debug, StatefulModule)]
#[module(crate = "bridge_graph")]
pub struct Dropout {
    /// The probability that an element is dropped.
    pub rate: f64,
    /// Dimensions along which all elements are dropped or kept together; negative ones count from the end.
    #[module(static)]
    pub broadcast_dims: Vec<isize>,
    /// On for no dropout.
    pub deterministic: Flag,
    /// Where the keys come from.
    pub rngs: RngStream,
}

impl Dropout {
    /// With this rate, dropping until it is switched to evaluation.
    ///
    /// # Errors
    /// If the streams have neither `dropout` nor `default`.
    pub fn new(rate: f64, rngs: &Rngs) -> Result<Self> {
        Self::with_config(rate, &DropoutConfig::default(), rngs)
    }

    /// As configured.
    ///
    /// # Errors
    /// Those of [`Dropout::new`].
    pub fn with_config(rate: f64, config: &DropoutConfig, rngs: &Rngs) -> Result<Self> {
        let DropoutConfig { broadcast_dims, rng_collection } = config.clone();
        let rngs = rngs.stream(&rng_collection)?.fork()?;
        Ok(Self { rate, broadcast_dims, deterministic: Flag::new(false), rngs })
    }

    /// `x` of any shape; the result has the same.
    ///
    /// # Errors
    /// If the rate is not between 0 and 1, or `x` is not a float tensor.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.apply_mask(x, || self.rngs.draw())
    }

    /// [`Dropout::forward`] with a key that is given, not drawn.
    ///
    /// # Errors
    /// Those of [`Dropout::forward`].
    pub fn forward_with_key(&self, x: &Tensor, key: Key) -> Result<Tensor> {
        self.apply_mask(x, || Ok(key))
    }

    fn apply_mask(&self, x: &Tensor, key: impl FnOnce() -> Result<Key>) -> Result<Tensor> {
        observe(self, x, || self.drop(x, key))
    }

    fn drop(&self, x: &Tensor, key: impl FnOnce() -> Result<Key>) -> Result<Tensor> {
        if self.deterministic.get() || self.rate == 0. {
            return Ok(x.clone());
        }
        // Nothing is drawn where nothing is left to chance.
        if self.rate == 1. {
            return Ok(bridge_ops::dropout_with_key(
                x,
                self.rate,
                bridge_random::key(0),
                &self.broadcast_dims,
            )?);
        }
        Ok(bridge_ops::dropout_with_key(x, self.rate, key()?, &self.broadcast_dims)?)
    }
}

candle_module!(Dropout);
