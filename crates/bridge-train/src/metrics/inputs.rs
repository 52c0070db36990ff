use bridge_vars::Result;
use candle_core::Tensor;

use crate::MetricError;

/// Tensors by name: what one step gives to the metrics that are updated from it.
///
/// ```
/// use bridge_train::Inputs;
/// use candle_core::{Device, Tensor};
/// let loss = Tensor::new(0.5f32, &Device::Cpu)?;
/// let inputs = Inputs::from([("loss", &loss)]);
/// assert_eq!(inputs.get("loss")?.to_scalar::<f32>()?, 0.5);
/// assert!(inputs.get("logits").is_err());
/// # Ok::<(), bridge_vars::Error>(())
/// ```
#[doc(alias = "kwargs")]
#[derive(Clone, Debug, Default)]
pub struct Inputs<'a>(Vec<(&'a str, &'a Tensor)>);

impl<'a> Inputs<'a> {
    /// The tensor of a name; the first, if there are several.
    ///
    /// # Errors
    /// [`MetricError::Inputs`] if there is none.
    pub fn get(&self, name: &str) -> Result<&'a Tensor> {
        let found = self.0.iter().find(|(other, _)| *other == name);
        found.map(|(_, tensor)| *tensor).ok_or_else(|| {
            let (missing, unexpected, repeated) = (vec![name.to_owned()], Vec::new(), Vec::new());
            MetricError::Inputs { missing, unexpected, repeated }.into()
        })
    }

    /// The names, in the order in which they were given.
    pub fn names(&self) -> impl Iterator<Item = &'a str> {
        self.0.iter().map(|(name, _)| *name)
    }
}

impl<'a, const N: usize> From<[(&'a str, &'a Tensor); N]> for Inputs<'a> {
    fn from(inputs: [(&'a str, &'a Tensor); N]) -> Self {
        inputs.into_iter().collect()
    }
}

impl<'a> FromIterator<(&'a str, &'a Tensor)> for Inputs<'a> {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a Tensor)>>(inputs: I) -> Self {
        Self(inputs.into_iter().collect())
    }
}
