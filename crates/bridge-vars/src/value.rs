use std::any::Any;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use bridge_ops::{Collected, Home};
use bridge_random::{CountArray, Key, KeyArray};
use candle_core::{DType, Device, Shape, Tensor, Var};
use serde_json::Value as Json;

use crate::serial::EncodedOpaque;
use crate::{Described, Result, TensorForm, VarsError};

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
    /// A tensor that is not made yet. Reading it is an error.
    Described(Described),
    /// Nothing yet: what a partial merge leaves where the state has no value that fits. Reading it is an error.
    Absent,
}

/// A tensor in a [`Value`].
#[derive(Clone)]
pub struct TensorValue(Arc<Buffer>);

// A tensor that is part of a graph (inside a differentiated call) is kept as it is: detaching it would
// cut gradients.
struct Buffer {
    form: TensorForm,
    tensor: Tensor,
    leaf: OnceLock<Tensor>,
    /// Whether the leaf has the storage of the tensor, rather than a copy.
    leaf_is_tensor: bool,
    /// Whether a plain tensor with this storage may be elsewhere: candle does not count who holds one. Who holds
    /// the `Buffer` is counted by its `Arc`.
    exposed: AtomicBool,
    /// Where the memory goes if no one else has it in the end.
    home: Option<Home>,
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(home) = self.home.take()
            && !*self.exposed.get_mut()
        {
            home.give_back(&self.tensor);
        }
    }
}

/// A leaf whose type a higher layer knows, such as the description of a module.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can not be the value of a variable",
    note = "store a tensor, a `Key` or a `u32`, or write `impl Opaque for {Self}`"
)]
pub trait Opaque: Any + Send + Sync + fmt::Debug {
    /// What it is, for messages and files.
    fn type_name(&self) -> &'static str;
    /// For a file.
    fn encode(&self) -> Result<Json>;
    /// From a file.
    ///
    /// # Errors
    /// If it is not what [`Opaque::encode`] wrote.
    fn decode(json: &Json) -> Result<Self>
    where
        Self: Sized;
    /// True if the other is the same.
    fn equals(&self, other: &dyn Opaque) -> bool;
}

impl TensorValue {
    fn new(tensor: Tensor, exposed: bool) -> Self {
        let form = TensorForm::from(&tensor);
        let (leaf, exposed) = (OnceLock::new(), exposed.into());
        Self(Arc::new(Buffer { form, tensor, leaf, leaf_is_tensor: false, exposed, home: None }))
    }

    /// Of a variable of candle's, which becomes the leaf of the value.
    fn with_leaf(leaf: Tensor) -> Self {
        let tensor = leaf.detach();
        let (form, exposed) = (TensorForm::from(&tensor), false.into());
        Self(Arc::new(Buffer { form, tensor, leaf: leaf.into(), leaf_is_tensor: true, exposed, home: None }))
    }

    /// Calls `read` with the tensor, of which it keeps no handle: changes in place may follow without a copy, and the
    /// elements of a gradient go back where they came from when the last value of it is dropped.
    pub fn read<R>(&self, read: impl FnOnce(&Tensor) -> R) -> R {
        read(&self.0.tensor)
    }

    /// The tensor. From here on it may be held elsewhere, so that a change in place copies it first.
    pub fn get(&self) -> &Tensor {
        if !self.0.exposed.load(Ordering::Relaxed) {
            self.0.exposed.store(true, Ordering::Release);
        }
        &self.0.tensor
    }

    /// The dtype and the shape.
    pub fn form(&self) -> &TensorForm {
        &self.0.form
    }

    /// The dtype.
    pub fn dtype(&self) -> DType {
        self.0.form.dtype()
    }

    /// The shape.
    pub fn shape(&self) -> &Shape {
        self.0.tensor.shape()
    }

    /// The sizes of the dimensions.
    pub fn dims(&self) -> &[usize] {
        self.0.tensor.dims()
    }

    /// The device.
    pub fn device(&self) -> &Device {
        self.0.tensor.device()
    }

    /// The number of elements.
    pub fn element_count(&self) -> usize {
        self.0.tensor.elem_count()
    }

    /// True if it is part of a graph.
    pub fn is_in_graph(&self) -> bool {
        self.0.tensor.track_op()
    }

    /// True if it is this tensor, not one with equal elements.
    pub fn is_tensor(&self, tensor: &Tensor) -> bool {
        self.0.tensor.id() == tensor.id()
    }

    /// True if a plain tensor with this storage may be elsewhere: it was [got](TensorValue::get), came from elsewhere, or is
    /// part of a graph.
    pub fn is_handed_out(&self) -> bool {
        self.0.exposed.load(Ordering::Acquire) || self.0.tensor.track_op()
    }

    /// True if no one else has this value or its storage, so that [`TensorValue::change_in_place`] makes no copy.
    pub fn is_alone(&mut self) -> bool {
        Arc::get_mut(&mut self.0).is_some() && !self.is_handed_out()
    }

    /// Calls `change` on a tensor whose storage no one else has, with its elements; a copy if need be.
    pub fn change_in_place(&mut self, change: impl FnOnce(&Tensor) -> Result<()>) -> Result<()> {
        if !self.is_alone() {
            let tensor = self.0.tensor.detach().force_contiguous()?;
            *self = Self::new(tensor, false);
        }
        if let Some(buffer) = Arc::get_mut(&mut self.0)
            && !buffer.leaf_is_tensor
        {
            // A graph that began at it keeps the old elements. A leaf with its storage was never handed out.
            buffer.leaf.take();
        }
        change(&self.0.tensor)
    }

    /// A leaf of the graph with this value: what gradients are taken with respect to. Made once.
    pub(crate) fn graph_leaf(&self) -> Result<Tensor> {
        if self.0.tensor.track_op() {
            return Ok(self.0.tensor.clone());
        }
        if let Some(leaf) = self.0.leaf.get() {
            if self.0.leaf_is_tensor {
                self.0.exposed.store(true, Ordering::Release);
            }
            return Ok(leaf.clone());
        }
        let made = Var::from_tensor(&self.0.tensor)?.as_tensor().clone();
        Ok(self.0.leaf.get_or_init(|| made).clone())
    }
}

impl Value {
    /// A tensor with a storage that no one else has. Changes in place do not copy it.
    ///
    /// Whoever keeps a handle to the tensor, or to another with its storage, sees such changes. A
    /// [variable](Tensor::is_variable) of candle's becomes the leaf that gradients are taken with respect to, which is a copy
    /// otherwise.
    pub fn owned(tensor: Tensor) -> Self {
        Self::Tensor(match tensor.is_variable() {
            true => TensorValue::with_leaf(tensor),
            false => TensorValue::new(tensor, false),
        })
    }

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

    /// A higher layer's leaf, if it is a `T`; read now if it comes from serde.
    ///
    /// # Errors
    /// If it is anything else.
    pub fn opaque<T: Opaque>(&self) -> Result<&T> {
        let found = self.opaque_leaf::<T>().and_then(|leaf| {
            let leaf: &dyn Any = &**leaf;
            leaf.downcast_ref()
        });
        found.ok_or_else(|| self.is_not(std::any::type_name::<T>()).into())
    }

    /// [`Value::opaque`] as a shared pointer.
    ///
    /// # Errors
    /// If it is anything else.
    pub fn opaque_arc<T: Opaque>(&self) -> Result<Arc<T>> {
        let found = self.opaque_leaf::<T>().and_then(|leaf| {
            let leaf: Arc<dyn Any + Send + Sync> = leaf.clone();
            leaf.downcast().ok()
        });
        found.ok_or_else(|| self.is_not(std::any::type_name::<T>()).into())
    }

    fn opaque_leaf<T: Opaque>(&self) -> Option<&Arc<dyn Opaque>> {
        let Self::Opaque(leaf) = self else { return None };
        let any: &dyn Any = &**leaf;
        match any.downcast_ref::<EncodedOpaque>() {
            Some(encoded) => encoded.decoded::<T>(),
            None => Some(leaf),
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
            Self::Described(_) => {
                "a tensor that was described and is not made yet: `materialize` it, or load its value"
            }
            Self::Absent => "no value: `update` it, or merge with a state that has it",
        }
    }

    fn is_not(&self, expected: &'static str) -> VarsError {
        VarsError::ValueKind { expected, found: self.kind() }
    }

    /// The same value cut off from the graph that it is part of.
    #[must_use]
    pub fn detached(self) -> Self {
        match self {
            Self::Tensor(tensor) if tensor.is_in_graph() => tensor.0.tensor.detach().into(),
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
            (Self::Described(a), Self::Described(b)) => a.is_same(b),
            (Self::Absent, Self::Absent) => true,
            _ => false,
        }
    }

    /// True if one can take the place of the other: tensors of one shape and dtype, batches of one shape, or other values
    /// of one kind.
    pub fn has_form_of(&self, other: &Value) -> bool {
        match (self, other) {
            (Self::Tensor(a), Self::Tensor(b)) => Arc::ptr_eq(&a.0, &b.0) || a.form() == b.form(),
            (Self::Keys(a), Self::Keys(b)) => a.dims() == b.dims(),
            (Self::Counts(a), Self::Counts(b)) => a.dims() == b.dims(),
            (Self::Tensor(_) | Self::Described(_), _) | (_, Self::Tensor(_) | Self::Described(_)) => {
                self.tensor_form().is_some_and(|form| other.tensor_form() == Some(form))
            }
            (a, b) => a.kind() == b.kind(),
        }
    }

    /// True if it can take the place of another: it has its form, and is made if the other is.
    pub fn can_replace(&self, other: &Value) -> bool {
        let unmade = matches!(self, Self::Described(_)) && !matches!(other, Self::Described(_));
        !unmade && self.has_form_of(other)
    }

    /// Dtype and shape of a tensor, described or made.
    pub fn tensor_form(&self) -> Option<&TensorForm> {
        match self {
            Self::Tensor(tensor) => Some(tensor.form()),
            Self::Described(described) => Some(described.form()),
            _ => None,
        }
    }

    /// The value, made if it was only described.
    ///
    /// # Errors
    /// Those of [`Described::make`].
    #[doc(alias = "materialise")]
    pub fn materialized(&self) -> Result<Self> {
        match self {
            Self::Described(described) => Ok(described.make()?.into()),
            other => Ok(other.clone()),
        }
    }

    /// True if the values are equal to the bit.
    ///
    /// # Errors
    /// If a tensor can not be read.
    pub fn identical(&self, other: &Value) -> Result<bool> {
        Ok(match (self, other) {
            (Self::Tensor(a), Self::Tensor(b)) => {
                Arc::ptr_eq(&a.0, &b.0) || same_bits(&a.0.tensor, &b.0.tensor)?
            }
            (Self::Key(a), Self::Key(b)) => a == b,
            (Self::Count(a), Self::Count(b)) => a == b,
            (Self::Keys(a), Self::Keys(b)) => a == b,
            (Self::Counts(a), Self::Counts(b)) => a == b,
            (Self::Opaque(a), Self::Opaque(b)) => a.equals(&**b) || b.equals(&**a),
            (Self::Described(a), Self::Described(b)) => a.is_same(b),
            (Self::Absent, Self::Absent) => true,
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
        // Whoever gives it may keep a handle to it.
        Self::Tensor(TensorValue::new(tensor, true))
    }
}
impl From<&Tensor> for Value {
    fn from(tensor: &Tensor) -> Self {
        tensor.clone().into()
    }
}
/// A gradient whose memory goes back where it came from, if no one has taken it out as a plain tensor.
impl From<Collected> for Value {
    fn from(collected: Collected) -> Self {
        let tensor = collected.gradient;
        let (form, leaf, exposed) = (TensorForm::from(&tensor), OnceLock::new(), false.into());
        let home = Some(collected.home);
        Self::Tensor(TensorValue(Arc::new(Buffer {
            form,
            tensor,
            leaf,
            leaf_is_tensor: false,
            exposed,
            home,
        })))
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
impl From<Described> for Value {
    fn from(described: Described) -> Self {
        Self::Described(described)
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
            Self::Described(described) => fmt::Debug::fmt(described, f),
            Self::Absent => f.write_str("no value"),
        }
    }
}
impl fmt::Debug for TensorValue {
    /// Dtype and shape, not the elements.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.form(), f)
    }
}
