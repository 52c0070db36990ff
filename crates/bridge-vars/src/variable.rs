use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bridge_random::Key;
use candle_core::Tensor;

#[cfg(doc)]
use crate::Hooks;
use crate::{Leaf, Metadata, Result, Value, VariableType};

/// A shared, mutable reference to one value, with a type and metadata.
///
/// A clone is another handle to the same variable. Reading waits for no code of yours but a change in place
/// ([`Variable::change_in_place`]); [`Hooks`] of the variable run in the reader's own time.
///
/// ```
/// use bridge_vars::{Param, Variable, VariableType};
/// use candle_core::{Device, Tensor};
/// let scale = Variable::new(Param::variable_type(), Tensor::new(1f32, &Device::Cpu)?);
/// let same = scale.clone();
/// same.set(Tensor::new(2f32, &Device::Cpu)?)?;
/// assert_eq!(scale.value()?.to_scalar::<f32>()?, 2.);
/// # Ok::<(), bridge_vars::Error>(())
/// ```
#[derive(Clone)]
pub struct Variable(Arc<Cell>);

struct Cell {
    kind: VariableType,
    tracked: AtomicU32,
    content: RwLock<Content>,
}

struct Content {
    value: Value,
    metadata: Metadata,
    version: u64,
}

impl Variable {
    /// A variable of a type with a value.
    ///
    /// A tensor that is part of a graph stays part of it, so that gradients flow through modules that are
    /// built inside a differentiated call.
    pub fn new(kind: VariableType, value: impl Into<Value>) -> Self {
        Leaf::new(kind, value).into()
    }

    /// A variable of a type with a value and metadata, made through the metadata's [`Hooks::on_create`].
    ///
    /// # Errors
    /// Those of the hooks.
    #[doc(alias("create_value", "on_create_value"))]
    pub fn create(kind: VariableType, value: impl Into<Value>, metadata: Metadata) -> Result<Self> {
        let variable = Self::from(Leaf { kind, value: value.into(), metadata });
        let (value, hooks) = {
            let content = variable.read();
            (content.value.clone(), content.metadata.hooks().cloned())
        };
        if let Some(hooks) = hooks {
            let created = hooks.create(&variable, value)?;
            variable.write().value = created;
        }
        Ok(variable)
    }

    /// The type.
    pub fn kind(&self) -> VariableType {
        self.0.kind
    }

    /// The tensor, through the hooks. While gradients are taken with respect to this variable, it is a leaf of
    /// their graph, or made of it by the hooks.
    ///
    /// # Errors
    /// If the value is not a tensor; those of the hooks.
    #[doc(alias = "get_value")]
    pub fn value(&self) -> Result<Tensor> {
        let content = self.read();
        if let Some(hooks) = content.metadata.hooks() {
            let hooks = hooks.clone();
            let value = self.tracked_value(&content)?;
            drop(content);
            return hooks.get(self, value)?.tensor().cloned();
        }
        self.tensor(&content)
    }

    /// The tensor as it is kept, without the hooks.
    ///
    /// # Errors
    /// If the value is not a tensor.
    #[doc(alias = "get_raw_value")]
    pub fn raw_value(&self) -> Result<Tensor> {
        self.tensor(&self.read())
    }

    fn tensor(&self, content: &Content) -> Result<Tensor> {
        match &content.value {
            Value::Tensor(tensor) if self.is_tracked() => tensor.graph_leaf(),
            value => value.tensor().cloned(),
        }
    }

    fn tracked_value(&self, content: &Content) -> Result<Value> {
        match &content.value {
            Value::Tensor(tensor) if self.is_tracked() => Ok(tensor.graph_leaf()?.into()),
            value => Ok(value.clone()),
        }
    }

    /// What `read` makes of the value, as the hooks give it.
    fn with_value<T>(&self, read: impl FnOnce(&Value) -> Result<T>) -> Result<T> {
        let content = self.read();
        let Some(hooks) = content.metadata.hooks() else { return read(&content.value) };
        let (hooks, value) = (hooks.clone(), content.value.clone());
        drop(content);
        read(&hooks.get(self, value)?)
    }

    /// The random key.
    ///
    /// # Errors
    /// If the value is not a random key; those of the hooks.
    pub fn key(&self) -> Result<Key> {
        self.with_value(Value::key)
    }

    /// The count.
    ///
    /// # Errors
    /// If the value is not a count; those of the hooks.
    pub fn count(&self) -> Result<u32> {
        self.with_value(Value::count)
    }

    /// The count, which is one more from here on; after `u32::MAX` comes 0, as in Flax. Hooks do not run.
    ///
    /// # Errors
    /// If the value is not a count.
    pub fn next_count(&self) -> Result<u32> {
        let mut content = self.write();
        let count = content.value.count()?;
        content.value = Value::Count(count.wrapping_add(1));
        content.version += 1;
        Ok(count)
    }

    /// Replaces the value, through the hooks.
    ///
    /// A tensor stays part of its graph, so that gradients flow through what a module remembers between two
    /// steps of one loss. `value_and_grad` cuts off what the module holds when it returns; where gradients
    /// are taken in another way, [`detach`](Variable::detach) what is to be kept, or it keeps the graph alive.
    ///
    /// # Errors
    /// Those of the hooks; without hooks, none.
    #[doc(alias = "set_value")]
    pub fn set(&self, value: impl Into<Value>) -> Result<()> {
        let hooks = self.read().metadata.hooks().cloned();
        match hooks {
            Some(hooks) => self.set_raw(hooks.set(self, value.into())?),
            None => self.set_raw(value),
        }
        Ok(())
    }

    /// Replaces the value, without the hooks.
    #[doc(alias = "set_raw_value")]
    pub fn set_raw(&self, value: impl Into<Value>) {
        let value = value.into();
        let mut content = self.write();
        // What was there is dropped after the lock is released.
        let _old = std::mem::replace(&mut content.value, value);
        content.version += 1;
        drop(content);
    }

    /// Changes the elements of the tensor where they are: `change` gets a contiguous tensor to change in place.
    ///
    /// Nothing else sees it. Where a snapshot or a tensor that [`value`](Variable::value) gave may have the same
    /// storage, the variable moves to a copy first, and graphs that began at the variable keep their elements. Hooks do
    /// not run. Readers of this variable wait for `change`, which must not read it.
    ///
    /// ```
    /// use bridge_vars::Param;
    /// use candle_core::{DType, Device, Tensor};
    /// let ones = Tensor::ones(3, DType::F32, &Device::Cpu)?;
    /// let param = Param::new(ones.clone());
    /// let snapshot = param.leaf()?;
    /// param.change_in_place(|tensor| Ok(tensor.zero_set()?))?;
    /// assert_eq!(param.value()?.to_vec1::<f32>()?, [0., 0., 0.]);
    /// assert_eq!(snapshot.tensor()?.to_vec1::<f32>()?, [1., 1., 1.]);
    /// # Ok::<(), bridge_vars::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the value is not a tensor; what `change` returns.
    pub fn change_in_place(&self, change: impl FnOnce(&Tensor) -> Result<()>) -> Result<()> {
        let mut content = self.write();
        let Value::Tensor(tensor) = &mut content.value else {
            return content.value.tensor().map(|_| ());
        };
        let changed = tensor.change_in_place(change);
        content.version += 1;
        changed
    }

    /// Makes the value where it was only [`Described`](crate::Described), through [`Hooks::on_create`].
    ///
    /// # Errors
    /// Those of [`Described::make`](crate::Described::make) and of the hooks.
    #[doc(alias = "materialise")]
    pub fn materialize(&self) -> Result<()> {
        let (value, hooks) = {
            let content = self.read();
            (content.value.clone(), content.metadata.hooks().cloned())
        };
        let Value::Described(described) = value else { return Ok(()) };
        let made = Value::from(described.make()?);
        self.set_raw(match hooks {
            Some(hooks) => hooks.create(self, made)?,
            None => made,
        });
        Ok(())
    }

    /// Cuts the value off from the graph that it is part of.
    pub fn detach(&self) {
        if matches!(&self.read().value, Value::Tensor(tensor) if tensor.is_in_graph()) {
            let mut content = self.write();
            content.value = content.value.clone().detached();
        }
    }

    /// True if a leaf's value can take the place of this variable's: it is of the same type, and of the same shape and
    /// dtype unless there is no value yet.
    pub fn accepts(&self, leaf: &Leaf) -> bool {
        let content = self.read();
        self.0.kind == leaf.kind
            && (leaf.value.can_replace(&content.value) || matches!(content.value, Value::Absent))
    }

    /// Takes over value and metadata of a leaf, keeping the type.
    #[doc(alias = "update_from_state")]
    pub fn assign(&self, leaf: &Leaf) {
        let mut content = self.write();
        content.value = leaf.value.clone();
        content.metadata = leaf.metadata.clone();
        content.version += 1;
    }

    /// A snapshot. While gradients are taken with respect to this variable, its tensor is a leaf of
    /// their graph.
    #[doc(alias = "to_state")]
    pub fn leaf(&self) -> Result<Leaf> {
        let content = self.read();
        let value = self.tracked_value(&content)?;
        Ok(Leaf { kind: self.0.kind, value, metadata: content.metadata.clone() })
    }

    /// The metadata.
    #[doc(alias = "get_metadata")]
    pub fn metadata(&self) -> Metadata {
        self.read().metadata.clone()
    }

    /// Replaces the metadata.
    pub fn set_metadata(&self, metadata: Metadata) {
        self.write().metadata = metadata;
    }

    /// Says that the value has one more axis: see [`Metadata::add_axis`]. The value itself is not changed.
    ///
    /// # Errors
    /// Those of [`Metadata::add_axis`].
    pub fn add_axis(&self, index: usize, name: Option<&str>) -> Result<()> {
        let mut metadata = self.metadata();
        metadata.add_axis(index, name)?;
        self.set_metadata(metadata);
        Ok(())
    }

    /// Says that the value has one axis less: see [`Metadata::remove_axis`]. The value itself is not changed.
    ///
    /// # Errors
    /// Those of [`Metadata::remove_axis`].
    pub fn remove_axis(&self, index: usize, name: Option<&str>) -> Result<()> {
        let mut metadata = self.metadata();
        metadata.remove_axis(index, name)?;
        self.set_metadata(metadata);
        Ok(())
    }

    /// How often the value was replaced or changed.
    pub fn version(&self) -> u64 {
        self.read().version
    }

    /// True if both are handles to one variable.
    pub fn is_same(&self, other: &Variable) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// A number that no other variable has while this one lives.
    pub fn id(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    /// False if this is the only handle.
    pub fn has_other_handles(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// Takes gradients with respect to this variable for as long as the result lives: reads give a leaf
    /// of the graph, in every thread.
    ///
    /// # Errors
    /// If the value is not a tensor.
    pub fn track(&self) -> Result<Tracking> {
        let leaf = match &self.read().value {
            Value::Tensor(tensor) => tensor.graph_leaf()?,
            value => value.tensor()?.clone(),
        };
        self.0.tracked.fetch_add(1, Ordering::AcqRel);
        Ok(Tracking { variable: self.clone(), leaf })
    }

    fn is_tracked(&self) -> bool {
        self.0.tracked.load(Ordering::Acquire) > 0
    }

    // A panic in another thread can't leave a value half written, so its poison says nothing.
    fn read(&self) -> RwLockReadGuard<'_, Content> {
        self.0.content.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Content> {
        self.0.content.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<Leaf> for Variable {
    fn from(leaf: Leaf) -> Self {
        let content = Content { value: leaf.value, metadata: leaf.metadata, version: 0 };
        Self(Arc::new(Cell { kind: leaf.kind, tracked: AtomicU32::new(0), content: RwLock::new(content) }))
    }
}

impl fmt::Debug for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({:?})", self.0.kind, self.read().value)
    }
}

/// Keeps a variable [tracked](Variable::track).
#[derive(Debug)]
pub struct Tracking {
    variable: Variable,
    leaf: Tensor,
}

impl Tracking {
    /// The leaf of the graph that reads give: what to ask candle's gradients for.
    pub fn leaf(&self) -> &Tensor {
        &self.leaf
    }
}

impl Drop for Tracking {
    fn drop(&mut self) {
        self.variable.0.tracked.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Param, RngCount};
    use candle_core::Device;

    fn scalar(value: f32) -> Tensor {
        Tensor::new(value, &Device::Cpu).unwrap()
    }

    #[test]
    fn is_a_leaf_of_the_graph_only_while_tracked() {
        let param = Param::new(scalar(3.));
        assert!(!param.value().unwrap().track_op());
        let tracking = param.track().unwrap();
        let second = param.track().unwrap();
        drop(second);
        let loss = param.value().unwrap().sqr().unwrap();
        let gradient = loss.backward().unwrap().get(tracking.leaf()).unwrap().to_scalar::<f32>();
        assert_eq!(gradient.unwrap(), 6.);
        drop(tracking);
        assert!(!param.value().unwrap().track_op());
        assert!(!param.leaf().unwrap().tensor().unwrap().track_op());
    }

    #[test]
    fn a_snapshot_stays_and_a_set_value_is_part_of_its_graph_until_it_is_detached() {
        let param = Param::new(scalar(3.));
        let before = param.leaf().unwrap();
        let tracking = param.track().unwrap();
        let memory = Param::new(scalar(0.));
        memory.set(param.value().unwrap().sqr().unwrap()).unwrap();
        let gradient = memory.value().unwrap().backward().unwrap().get(tracking.leaf()).unwrap().clone();
        assert_eq!(gradient.to_scalar::<f32>().unwrap(), 6.);
        memory.detach();
        assert!(!memory.value().unwrap().track_op());
        assert_eq!(memory.version(), 1);
        drop(tracking);
        param.set(scalar(4.)).unwrap();
        assert_eq!(before.tensor().unwrap().to_scalar::<f32>().unwrap(), 3.);
    }

    #[test]
    fn counts_on_the_host() {
        let count = RngCount::new(u32::MAX);
        assert_eq!(count.next_count().unwrap(), u32::MAX);
        assert_eq!(count.count().unwrap(), 0);
        let text = count.value().unwrap_err().to_string();
        assert_eq!(text, "expected a tensor, found a count");
    }
}
