use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};

use bridge_random::{CountArray, Key, KeyArray};
use candle_core::{Tensor, Var};
use serde_json::Value as Json;

use crate::{Result, VarsError};

/// What a variable holds: a tensor, small data that lives on the host, or a leaf of a higher layer.
///
/// Random keys and counts live on the host, so that drawing never waits for a device. A clone is cheap.
#[derive(Clone)]
#[non_exhaustive]
pub enum Value {
    /// A tensor.
    Tensor(TensorValue),
    /// A random key.
    Key(Key),
    /// A count.
    Count(u32),
    /// A batch of random keys.
    Keys(Arc<KeyArray>),
    /// A batch of counts.
    Counts(Arc<CountArray>),
    /// Something that a higher layer knows.
    Opaque(Arc<dyn Opaque>),
}

/// A tensor in a [`Value`].
#[derive(Clone)]
pub struct TensorValue(Arc<Buffer>);

// A tensor that is part of a graph (inside a differentiated call) is kept as it is: detaching it would
// cut gradients.
struct Buffer {
    tensor: Tensor,
    leaf: OnceLock<Tensor>,
}

/// A leaf whose type a higher layer knows, such as the description of a module.
pub trait Opaque: Any + Send + Sync + fmt::Debug {
    /// What it is, for messages and files.
    fn type_name(&self) -> &'static str;
    /// For a file.
    fn encode(&self) -> Result<Json>;
    /// True if the other is the same.
    fn equals(&self, other: &dyn Opaque) -> bool;
}

impl TensorValue {
    /// The tensor.
    pub fn get(&self) -> &Tensor {
        &self.0.tensor
    }

    /// A leaf of the graph with this value: what gradients are taken with respect to. Made once.
    pub(crate) fn graph_leaf(&self) -> Result<Tensor> {
        if self.0.tensor.track_op() {
            return Ok(self.0.tensor.clone());
        }
        if let Some(leaf) = self.0.leaf.get() {
            return Ok(leaf.clone());
        }
        let made = Var::from_tensor(&self.0.tensor)?.as_tensor().clone();
        Ok(self.0.leaf.get_or_init(|| made).clone())
    }
}

impl Value {
    /// The tensor.
    ///
    /// # Errors
    /// If it is not a tensor.
    pub fn tensor(&self) -> Result<&Tensor> {
        match self {
            Self::Tensor(tensor) => Ok(tensor.get()),
            other => Err(other.is_not("a tensor").into()),
        }
    }

    /// The random key.
    ///
    /// # Errors
    /// If it is not a random key.
    pub fn key(&self) -> Result<Key> {
        match self {
            Self::Key(key) => Ok(*key),
            other => Err(other.is_not("a random key").into()),
        }
    }

    /// The count.
    ///
    /// # Errors
    /// If it is not a count.
    pub fn count(&self) -> Result<u32> {
        match self {
            Self::Count(count) => Ok(*count),
            other => Err(other.is_not("a count").into()),
        }
    }

    /// The batch of random keys.
    ///
    /// # Errors
    /// If it is not a batch of random keys.
    pub fn keys(&self) -> Result<&KeyArray> {
        match self {
            Self::Keys(keys) => Ok(keys),
            other => Err(other.is_not("a batch of random keys").into()),
        }
    }

    /// The batch of counts.
    ///
    /// # Errors
    /// If it is not a batch of counts.
    pub fn counts(&self) -> Result<&CountArray> {
        match self {
            Self::Counts(counts) => Ok(counts),
            other => Err(other.is_not("a batch of counts").into()),
        }
    }

    /// A higher layer's leaf, if it is a `T`.
    ///
    /// # Errors
    /// If it is anything else.
    pub fn opaque<T: Opaque>(&self) -> Result<&T> {
        match self {
            Self::Opaque(leaf) => {
                let leaf: &dyn Any = &**leaf;
                leaf.downcast_ref().ok_or_else(|| self.is_not(std::any::type_name::<T>()).into())
            }
            other => Err(other.is_not(std::any::type_name::<T>()).into()),
        }
    }

    /// [`Value::opaque`] as a shared pointer.
    ///
    /// # Errors
    /// If it is anything else.
    pub fn opaque_arc<T: Opaque>(&self) -> Result<Arc<T>> {
        let expected = std::any::type_name::<T>();
        match self {
            Self::Opaque(leaf) => {
                let leaf: Arc<dyn Any + Send + Sync> = leaf.clone();
                leaf.downcast().map_err(|_| self.is_not(expected).into())
            }
            other => Err(other.is_not(expected).into()),
        }
    }

    /// What it is, in words.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Tensor(_) => "a tensor",
            Self::Key(_) => "a random key",
            Self::Count(_) => "a count",
            Self::Keys(_) => "a batch of random keys",
            Self::Counts(_) => "a batch of counts",
            Self::Opaque(leaf) => leaf.type_name(),
        }
    }

    fn is_not(&self, expected: &'static str) -> VarsError {
        VarsError::ValueKind { expected, found: self.kind() }
    }

    /// The same value cut off from the graph that it is part of.
    #[must_use]
    pub fn detached(self) -> Self {
        match self {
            Self::Tensor(tensor) if tensor.get().track_op() => tensor.get().detach().into(),
            other => other,
        }
    }

    /// True if it is the very same value, which no one has to look into: the same tensor, an equal key or count.
    pub fn is_same(&self, other: &Value) -> bool {
        match (self, other) {
            (Self::Tensor(a), Self::Tensor(b)) => Arc::ptr_eq(&a.0, &b.0),
            (Self::Key(a), Self::Key(b)) => a == b,
            (Self::Count(a), Self::Count(b)) => a == b,
            (Self::Keys(a), Self::Keys(b)) => Arc::ptr_eq(a, b),
            (Self::Counts(a), Self::Counts(b)) => Arc::ptr_eq(a, b),
            (Self::Opaque(a), Self::Opaque(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }

    /// True if one can take the place of the other: tensors of one shape and dtype, batches of one shape, or other values
    /// of one kind.
    pub fn has_form_of(&self, other: &Value) -> bool {
        match (self, other) {
            (Self::Tensor(a), Self::Tensor(b)) => {
                a.get().dtype() == b.get().dtype() && a.get().shape() == b.get().shape()
            }
            (Self::Keys(a), Self::Keys(b)) => a.dims() == b.dims(),
            (Self::Counts(a), Self::Counts(b)) => a.dims() == b.dims(),
            (Self::Tensor(_), _) | (_, Self::Tensor(_)) => false,
            (a, b) => a.kind() == b.kind(),
        }
    }

    /// True if the values are equal to the bit.
    ///
    /// # Errors
    /// If a tensor can not be read.
    pub fn identical(&self, other: &Value) -> Result<bool> {
        Ok(match (self, other) {
            (Self::Tensor(a), Self::Tensor(b)) => Arc::ptr_eq(&a.0, &b.0) || same_bits(a.get(), b.get())?,
            (Self::Key(a), Self::Key(b)) => a == b,
            (Self::Count(a), Self::Count(b)) => a == b,
            (Self::Keys(a), Self::Keys(b)) => a == b,
            (Self::Counts(a), Self::Counts(b)) => a == b,
            (Self::Opaque(a), Self::Opaque(b)) => a.equals(&**b),
            _ => false,
        })
    }
}

fn same_bits(a: &Tensor, b: &Tensor) -> Result<bool> {
    if a.dtype() != b.dtype() || a.shape() != b.shape() {
        return Ok(false);
    }
    let mut bytes = [Vec::new(), Vec::new()];
    a.write_bytes(&mut bytes[0])?;
    b.write_bytes(&mut bytes[1])?;
    Ok(bytes[0] == bytes[1])
}

impl From<Tensor> for Value {
    fn from(tensor: Tensor) -> Self {
        Self::Tensor(TensorValue(Arc::new(Buffer { tensor, leaf: OnceLock::new() })))
    }
}
impl From<&Tensor> for Value {
    fn from(tensor: &Tensor) -> Self {
        tensor.clone().into()
    }
}
impl From<Key> for Value {
    fn from(key: Key) -> Self {
        Self::Key(key)
    }
}
impl From<u32> for Value {
    fn from(count: u32) -> Self {
        Self::Count(count)
    }
}
/// A batch without dimensions is its only key.
impl From<KeyArray> for Value {
    fn from(keys: KeyArray) -> Self {
        match keys.scalar() {
            Some(key) => Self::Key(*key),
            None => Self::Keys(Arc::new(keys)),
        }
    }
}
/// A batch without dimensions is its only count.
impl From<CountArray> for Value {
    fn from(counts: CountArray) -> Self {
        match counts.scalar() {
            Some(count) => Self::Count(*count),
            None => Self::Counts(Arc::new(counts)),
        }
    }
}
impl From<Arc<dyn Opaque>> for Value {
    fn from(leaf: Arc<dyn Opaque>) -> Self {
        Self::Opaque(leaf)
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tensor(tensor) => fmt::Debug::fmt(tensor, f),
            Self::Key(key) => fmt::Debug::fmt(key, f),
            Self::Count(count) => write!(f, "Count({count})"),
            Self::Keys(keys) => write!(f, "Keys({keys:?})"),
            Self::Counts(counts) => write!(f, "Counts({counts:?})"),
            Self::Opaque(leaf) => fmt::Debug::fmt(leaf, f),
        }
    }
}
impl fmt::Debug for TensorValue {
    /// Dtype and shape, not the elements.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:?}", self.get().dtype().as_str(), self.get().dims())
    }
}
