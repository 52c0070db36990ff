use bridge_random::key;
use bridge_vars::Result;
use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::{FunctionalModule, Scope};

/// Sets elements to zero at random during training, and scales the others up by `1 / (1 - rate)`.
///
/// The mask is Flax's for the same key. Keys come from the stream `dropout`.
///
/// ```
/// use bridge_functional::{Dropout, FunctionalModule};
/// use bridge_random::key;
/// use bridge_vars::{CollectionFilter, Variables};
/// use candle_core::{DType, Device, Tensor};
/// let x = Tensor::ones(8, DType::F32, &Device::Cpu)?;
/// let dropout = Dropout::new(0.5);
/// let (variables, keys) = (Variables::default(), [("dropout", key(0))]);
/// let (y, _) = dropout.train().apply_mut(&variables, keys, CollectionFilter::none(), &x)?;
/// assert!(y.to_vec1::<f32>()?.iter().all(|y| [0., 2.].contains(y)));
/// assert_eq!(dropout.eval().apply(&variables, &x)?.to_vec1::<f32>()?, [1.; 8]);
/// # Ok::<(), bridge_vars::Error>(())
/// ```
#[doc(alias = "linen.Dropout")]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dropout {
    /// The probability that an element is dropped.
    pub rate: f64,
    /// Dimensions along which all elements are dropped or kept together; negative ones count from the end.
    pub broadcast_dims: Vec<isize>,
    /// True for no dropout, false for dropout, whatever the call's mode.
    pub deterministic: Option<bool>,
    /// The random stream.
    pub rng_collection: String,
}

impl Dropout {
    /// With this rate, in the call's mode.
    pub fn new(rate: f64) -> Self {
        Self { rate, broadcast_dims: Vec::new(), deterministic: None, rng_collection: "dropout".into() }
    }

    /// Without dropout (true) or with it (false), whatever the call's mode.
    #[must_use]
    pub fn deterministic(self, deterministic: bool) -> Self {
        Self { deterministic: Some(deterministic), ..self }
    }

    /// Drops or keeps all elements along these dimensions together.
    #[must_use]
    pub fn broadcast_dims(self, dims: impl Into<Vec<isize>>) -> Self {
        Self { broadcast_dims: dims.into(), ..self }
    }
}

impl FunctionalModule for Dropout {
    type Output = Tensor;

    /// `x` of any shape; the result has the same.
    fn call(&self, scope: &Scope, x: &Tensor) -> Result<Tensor> {
        if scope.evaluating(self.deterministic, "Dropout", "deterministic")? || self.rate == 0. {
            return Ok(x.clone());
        }
        // Nothing is drawn where nothing is left to chance.
        if self.rate == 1. {
            return Ok(bridge_ops::dropout_with_key(x, self.rate, key(0), &self.broadcast_dims)?);
        }
        let key = scope.make_rng(&self.rng_collection)?;
        Ok(bridge_ops::dropout_with_key(x, self.rate, key, &self.broadcast_dims)?)
    }
}
