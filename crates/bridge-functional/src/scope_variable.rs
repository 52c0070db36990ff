use bridge_vars::{Leaf, Name, Path, PathKey, Result, Value};
use candle_core::Tensor;

use crate::Scope;
#[cfg(doc)]
use crate::ScopeError;

/// A variable of a functional module, to be read and, where its collection is mutable, set.
#[derive(Clone, Debug)]
pub struct ScopeVariable {
    pub(crate) scope: Scope,
    pub(crate) collection: Name,
    pub(crate) name: Name,
}

impl ScopeVariable {
    /// Type, value and metadata.
    ///
    /// # Errors
    /// [`ScopeError::VariableNotFound`] if it was taken away.
    pub fn leaf(&self) -> Result<Leaf> {
        self.scope
            .find(&self.collection, &self.name)
            .ok_or_else(|| self.scope.not_found(&self.collection, &self.name))
    }

    /// The tensor.
    ///
    /// # Errors
    /// If the value is not a tensor.
    pub fn get(&self) -> Result<Tensor> {
        self.scope.tensor_of(&self.leaf()?, || self.path())
    }

    /// The count, of a variable that holds one.
    ///
    /// # Errors
    /// If the value is not a count.
    pub fn count(&self) -> Result<u32> {
        self.leaf()?.value.count().map_err(|error| error.at(&self.path()))
    }

    /// True if the call may change it.
    pub fn is_mutable(&self) -> bool {
        self.scope.is_mutable_collection(&self.collection)
    }

    fn path(&self) -> Path {
        self.scope.path().join(self.name.clone())
    }

    /// Sets the value, keeping type and metadata.
    ///
    /// # Errors
    /// [`ScopeError::NotMutable`].
    pub fn set(&self, value: impl Into<Value>) -> Result<()> {
        self.scope.put(&Path::from(PathKey::Name(self.name.clone())), self.leaf()?.with_value(value))
    }
}
