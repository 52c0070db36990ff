//! The cross entropy of a yes or no whose probability is given by a logit.

use crate::kernels::pairs::BinaryCrossEntropy;
use crate::pairs::Loss;
use crate::{Result, composition};
use candle_core::Tensor;

/// The mean over all elements of `-targets * log(sigmoid(logits)) - (1 - targets) * log(sigmoid(-logits))`, a scalar.
///
/// Both have the same shape and dtype, any float; nothing is broadcast. Targets are probabilities: 0, 1, or between.
/// Large logits do not overflow. The loss of half-precision inputs is in f32. Gradients flow into both.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let logits = Tensor::new(&[0f32, 1000.0], &Device::Cpu)?;
/// let targets = Tensor::new(&[1f32, 1.0], &Device::Cpu)?;
/// let loss = bridge_ops::binary_cross_entropy_with_logits(&logits, &targets)?.to_scalar::<f32>()?;
/// assert!((loss - 2f32.ln() / 2.0).abs() < 1e-6);
/// # Ok::<(), bridge_ops::Error>(())
/// ```
///
/// # Errors
///
/// When the shapes differ, are empty, or the dtypes do not fit.
#[doc(alias = "sigmoid_binary_cross_entropy")]
#[doc(alias = "BCEWithLogitsLoss")]
pub fn binary_cross_entropy_with_logits(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let loss = Loss {
        operator: "binary_cross_entropy_with_logits",
        predictions: "logits",
        pair: BinaryCrossEntropy,
        mean: true,
        composition: composition::binary_cross_entropy_with_logits,
    };
    loss.apply(logits, targets)
}

/// `-targets * log(sigmoid(logits)) - (1 - targets) * log(sigmoid(-logits))` of each element.
///
/// As [`binary_cross_entropy_with_logits`], with the losses of all elements instead of their mean.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let logits = Tensor::new(&[-1000f32, 1000.0], &Device::Cpu)?;
/// let targets = Tensor::new(&[1f32, 1.0], &Device::Cpu)?;
/// let losses = bridge_ops::binary_cross_entropy_with_logits_per_element(&logits, &targets)?;
/// assert_eq!(losses.to_vec1::<f32>()?, [1000.0, 0.0]);
/// # Ok::<(), bridge_ops::Error>(())
/// ```
///
/// # Errors
///
/// As [`binary_cross_entropy_with_logits`], except that no elements give no losses.
#[doc(alias = "sigmoid_binary_cross_entropy")]
pub fn binary_cross_entropy_with_logits_per_element(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let loss = Loss {
        operator: "binary_cross_entropy_with_logits_per_element",
        predictions: "logits",
        pair: BinaryCrossEntropy,
        mean: false,
        composition: composition::binary_cross_entropy_with_logits_per_element,
    };
    loss.apply(logits, targets)
}
