use candle_core::Tensor;

use crate::{Metadata, Result, TensorForm, Value, VariableType};

/// A variable's type, value and metadata at one moment: what a [`State`](crate::State) and
/// [`Variables`](crate::Variables) hold at each path. A clone is cheap.
#[doc(alias = "VariableState")]
#[derive(Clone, Debug)]
pub struct Leaf {
    /// The variable's type.
    pub kind: VariableType,
    /// The value.
    pub value: Value,
    /// The metadata.
    pub metadata: Metadata,
}

impl Leaf {
    /// A leaf without metadata.
    pub fn new(kind: VariableType, value: impl Into<Value>) -> Self {
        Self { kind, value: value.into(), metadata: Metadata::default() }
    }

    /// The same leaf with another value.
    #[must_use]
    pub fn with_value(&self, value: impl Into<Value>) -> Self {
        Self { kind: self.kind, value: value.into(), metadata: self.metadata.clone() }
    }

    /// The tensor.
    ///
    /// # Errors
    /// If the value is not a tensor.
    pub fn tensor(&self) -> Result<&Tensor> {
        self.value.tensor()
    }

    /// A value with this perturbation added to it.
    ///
    /// # Errors
    /// [`VarsError::PerturbationForm`](crate::VarsError::PerturbationForm), or if the perturbation is not a tensor.
    #[doc(hidden)]
    pub fn perturb(&self, value: &Tensor) -> Result<Tensor> {
        let perturbation = self.tensor()?;
        let (expected, found) = (TensorForm::from(value), TensorForm::from(perturbation));
        if expected != found {
            let (expected, found) = (expected.to_string(), found.to_string());
            return Err(crate::VarsError::PerturbationForm { expected, found }.into());
        }
        Ok(value.add(perturbation)?)
    }

    /// The same leaf with its tensor as a leaf of a graph: what gradients are taken with respect to.
    ///
    /// # Errors
    /// If the value is not a tensor.
    pub fn tracked(&self) -> Result<Self> {
        match &self.value {
            Value::Tensor(tensor) => Ok(self.with_value(tensor.graph_leaf()?)),
            other => Ok(self.with_value(other.tensor()?.clone())),
        }
    }

    /// True if type, metadata and value are the same, the value to the bit.
    ///
    /// # Errors
    /// If a tensor can not be read.
    pub fn identical(&self, other: &Leaf) -> Result<bool> {
        Ok(self.kind == other.kind
            && self.metadata == other.metadata
            && self.value.identical(&other.value)?)
    }
}
