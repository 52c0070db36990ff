use bridge_vars::Result;
use candle_core::Tensor;

use crate::Average;

/// The share of right predictions, over many batches of any size.
///
/// ```
/// use bridge_train::Accuracy;
/// use candle_core::{Device, Tensor};
/// let mut accuracy = Accuracy::default();
/// let logits = Tensor::new(&[[0f32, 1.], [2., 1.], [0., 3.]], &Device::Cpu)?;
/// accuracy.update(&logits, &Tensor::new(&[1u32, 1, 1], &Device::Cpu)?)?;
/// accuracy.update(&logits.narrow(0, 1, 1)?, &Tensor::new(&[0u32], &Device::Cpu)?)?;
/// assert_eq!(accuracy.share(), Some(0.75));
/// # Ok::<(), bridge_vars::Error>(())
/// ```
#[doc(alias("nnx.metrics.Accuracy", "compute"))]
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Accuracy(Average);

impl Accuracy {
    /// Adds a batch: `logits` of shape `[..., classes]`, of any float; `labels` of shape `[...]`, u32 or
    /// i64. Waits for the device.
    ///
    /// # Errors
    /// Those of [`bridge_ops::accuracy`].
    pub fn update(&mut self, logits: &Tensor, labels: &Tensor) -> Result<()> {
        let share = bridge_ops::accuracy(logits, labels)?;
        self.0.update_weighted(share, labels.elem_count() as f64);
        Ok(())
    }

    /// The share, between 0 and 1; nothing, if nothing was added.
    pub fn share(&self) -> Option<f64> {
        self.0.mean()
    }

    /// Begins anew.
    pub fn reset(&mut self) {
        self.0.reset();
    }
}
