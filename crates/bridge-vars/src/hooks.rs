use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use crate::{Metadata, Result, Value, Variable, VarsError};

/// Functions that run when a variable is made, read or set, or when a transform adds or removes an axis.
///
/// They are part of a variable's [`Metadata`], under a name. Two are equal if their names are. A file keeps the
/// name; a program that [declared](Hooks::declare) hooks of that name gets them back, and any other an error when
/// the variable is made, read or set.
///
/// Functions of one sort run in the order in which they were added, each on what the one before returned.
///
/// ```
/// use bridge_vars::{Hooks, Metadata, Param};
/// use candle_core::{Device, Tensor};
/// let positive = Hooks::new("positive").on_get(|_, value| Ok(value.tensor()?.abs()?.into()));
/// let scale = Param::new(Tensor::new(-2f32, &Device::Cpu)?);
/// scale.set_metadata(Metadata::default().with_hooks(positive));
/// assert_eq!(scale.value()?.to_scalar::<f32>()?, 2.);
/// assert_eq!(scale.raw_value()?.to_scalar::<f32>()?, -2.);
/// # Ok::<(), bridge_vars::Error>(())
/// ```
#[doc(alias("VariableMetadata", "on_get_value", "on_set_value"))]
#[derive(Clone)]
pub struct Hooks(Arc<Functions>);

type ValueHook = Arc<dyn Fn(&Variable, Value) -> Result<Value> + Send + Sync>;
type AxisHook = Arc<dyn Fn(&mut Metadata, usize, Option<&str>) -> Result<()> + Send + Sync>;

#[derive(Clone, Default)]
struct Functions {
    name: String,
    /// A file named them, and the program does not know them.
    undeclared: bool,
    get: Vec<ValueHook>,
    set: Vec<ValueHook>,
    create: Vec<ValueHook>,
    add_axis: Vec<AxisHook>,
    remove_axis: Vec<AxisHook>,
}

// Like the types of variables, what a name in a file stands for is the same for the whole process.
static DECLARED: RwLock<BTreeMap<String, Hooks>> = RwLock::new(BTreeMap::new());

impl Hooks {
    /// None yet, under a name.
    pub fn new(name: impl Into<String>) -> Self {
        Self(Arc::new(Functions { name: name.into(), ..Functions::default() }))
    }

    fn with(mut self, add: impl FnOnce(&mut Functions)) -> Self {
        add(Arc::make_mut(&mut self.0));
        self
    }

    /// With a function from the value to the one that a reader gets. It runs at every read, in a forward pass too, and
    /// outside of any lock.
    #[doc(alias = "on_get_value")]
    #[must_use]
    pub fn on_get(self, hook: impl Fn(&Variable, Value) -> Result<Value> + Send + Sync + 'static) -> Self {
        self.with(|functions| functions.get.push(Arc::new(hook)))
    }

    /// With a function from the value that is set to the one that is kept.
    #[doc(alias = "on_set_value")]
    #[must_use]
    pub fn on_set(self, hook: impl Fn(&Variable, Value) -> Result<Value> + Send + Sync + 'static) -> Self {
        self.with(|functions| functions.set.push(Arc::new(hook)))
    }

    /// With a function from the first value to the one that is kept. Runs in [`Variable::create`], not when a
    /// module is merged.
    #[doc(alias = "on_create_value")]
    #[must_use]
    pub fn on_create(self, hook: impl Fn(&Variable, Value) -> Result<Value> + Send + Sync + 'static) -> Self {
        self.with(|functions| functions.create.push(Arc::new(hook)))
    }

    /// With a function that changes the metadata when an axis is added: it gets the axis' index and name. It runs
    /// after the axis was put into the sharding.
    #[must_use]
    pub fn on_add_axis(
        self,
        hook: impl Fn(&mut Metadata, usize, Option<&str>) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        self.with(|functions| functions.add_axis.push(Arc::new(hook)))
    }

    /// With a function that changes the metadata when an axis is removed.
    #[must_use]
    pub fn on_remove_axis(
        self,
        hook: impl Fn(&mut Metadata, usize, Option<&str>) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        self.with(|functions| functions.remove_axis.push(Arc::new(hook)))
    }

    /// Makes these the hooks that a file means by their name, for the whole process; the last declaration counts.
    #[must_use]
    pub fn declare(self) -> Self {
        let mut declared = DECLARED.write().unwrap_or_else(PoisonError::into_inner);
        declared.insert(self.name().to_owned(), self.clone());
        self
    }

    /// What a file means by a name: the hooks declared under it, or ones that only say that they are not.
    pub(crate) fn named(name: &str) -> Self {
        let declared = DECLARED.read().unwrap_or_else(PoisonError::into_inner);
        declared.get(name).cloned().unwrap_or_else(|| {
            Self(Arc::new(Functions { name: name.into(), undeclared: true, ..Functions::default() }))
        })
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    fn known(&self) -> Result<&Functions> {
        match self.0.undeclared {
            true => Err(VarsError::HooksUndeclared { name: self.0.name.clone() }.into()),
            false => Ok(&self.0),
        }
    }

    pub(crate) fn get(&self, variable: &Variable, value: Value) -> Result<Value> {
        self.known()?.get.iter().try_fold(value, |value, hook| hook(variable, value))
    }

    pub(crate) fn set(&self, variable: &Variable, value: Value) -> Result<Value> {
        self.known()?.set.iter().try_fold(value, |value, hook| hook(variable, value))
    }

    pub(crate) fn create(&self, variable: &Variable, value: Value) -> Result<Value> {
        self.known()?.create.iter().try_fold(value, |value, hook| hook(variable, value))
    }

    pub(crate) fn add_axis(&self, metadata: &mut Metadata, index: usize, name: Option<&str>) -> Result<()> {
        self.known()?.add_axis.iter().try_for_each(|hook| hook(metadata, index, name))
    }

    pub(crate) fn remove_axis(
        &self,
        metadata: &mut Metadata,
        index: usize,
        name: Option<&str>,
    ) -> Result<()> {
        self.known()?.remove_axis.iter().try_for_each(|hook| hook(metadata, index, name))
    }
}

impl PartialEq for Hooks {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}
impl Eq for Hooks {}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hooks({})", self.0.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Param, RngCount};
    use candle_core::{Device, Tensor};

    fn scalar(value: f32) -> Value {
        Tensor::new(value, &Device::Cpu).unwrap().into()
    }

    fn times(factor: f64) -> impl Fn(&Variable, Value) -> Result<Value> + Send + Sync + 'static {
        move |_, value| Ok(value.tensor()?.affine(factor, 0.)?.into())
    }

    fn read(variable: &Variable) -> f32 {
        variable.value().unwrap().to_scalar().unwrap()
    }

    #[test]
    fn run_in_order_where_they_belong() {
        let hooks = Hooks::new("test_order")
            .on_create(times(2.))
            .on_set(times(3.))
            .on_set(|_, value| Ok((value.tensor()? + 1.)?.into()))
            .on_get(times(10.));
        let metadata = Metadata::default().with_hooks(hooks);
        let param = Param::create(scalar(1.), metadata).unwrap();
        assert_eq!(read(&param), 20.);
        param.set(scalar(1.)).unwrap();
        assert_eq!((read(&param), param.raw_value().unwrap().to_scalar::<f32>().unwrap()), (40., 4.));
        param.set_raw(scalar(5.));
        assert_eq!(read(&param), 50.);
        // A snapshot holds what is kept, and takes the hooks along.
        let copy = Variable::from(param.leaf().unwrap());
        assert_eq!(read(&copy), 50.);
    }

    #[test]
    fn gradients_flow_through_what_is_read() {
        let square = Hooks::new("test_square").on_get(|_, value| Ok(value.tensor()?.sqr()?.into()));
        let param = Param::new(scalar(3.));
        param.set_metadata(Metadata::default().with_hooks(square));
        let tracking = param.track().unwrap();
        let gradients = param.value().unwrap().backward().unwrap();
        assert_eq!(gradients.get(tracking.leaf()).unwrap().to_scalar::<f32>().unwrap(), 6.);
    }

    #[test]
    fn a_hook_may_use_its_variable_and_may_fail() {
        let hooks = Hooks::new("test_refuse").on_set(|variable, value| match variable.count()? {
            0 => Ok(value),
            _ => Err(VarsError::ValueKind { expected: "an untouched count", found: "another" }.into()),
        });
        let count = RngCount::create(0, Metadata::default().with_hooks(hooks)).unwrap();
        count.set(3).unwrap();
        let text = count.set(4).unwrap_err().to_string();
        assert_eq!(text, "expected an untouched count, found another");
        assert_eq!(count.count().unwrap(), 3);
    }

    #[test]
    fn a_file_keeps_the_name() {
        let file = |name: &str| {
            let metadata =
                Metadata::from_iter([("a", 1)]).with_hooks(Hooks::new(name).on_get(|_, _| Ok(7.into())));
            serde_json::to_string(&metadata).unwrap()
        };
        let _ = Hooks::new("test_declared").on_get(|_, _| Ok(7.into())).declare();
        let read = |name: &str| {
            let count = RngCount::new(0);
            count.set_metadata(serde_json::from_str(&file(name)).unwrap());
            assert_eq!(count.metadata().get("a").unwrap(), 1);
            assert_eq!(count.metadata().hooks().unwrap().name(), name);
            (count.count().map_err(|error| error.to_string()), count.set(1).is_ok())
        };
        assert_eq!(read("test_declared"), (Ok(7), true));
        let text = "the hooks `test_undeclared` of a file are not known: declare them before they are used, \
                    `Hooks::new(\"test_undeclared\").on_get(..).declare()`";
        assert_eq!(read("test_undeclared"), (Err(text.to_owned()), false));
    }
}
