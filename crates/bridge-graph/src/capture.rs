use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use bridge_vars::{
    CollectionFilter, Filter, IsKind, Leaf, Name, Path, PathKey, Perturbation, Result, State, Tree, Value,
    Variable, VariableKind, VariableType, VarsError,
};
use candle_core::Tensor;

use crate::observe::{Observed, Places, capture_of, capturing, identity_of};
use crate::visit::goes_inside;
use crate::{Field, ModuleFilter, Source, StatefulModule, Visit, Visitor};

/// Under which name the output of a module's call is captured, as in Flax.
pub const CALL: &str = "__call__";

/// A call in which what modules [`sow`](Sow::sow), [`perturb`](Sow::perturb) and give is captured. The modules stay as
/// they are.
///
/// It holds in the thread that runs the call.
///
/// ```
/// use bridge_graph::{Capture, Sow, StatefulModule};
/// use bridge_vars::{Intermediate, Param, Result};
/// use candle_core::{Device, Tensor};
///
/// #[derive(StatefulModule)]
/// struct Model { factor: Param }
///
/// impl Model {
///     fn forward(&self, x: &Tensor) -> Result<Tensor> {
///         let hidden = (x * self.factor.value()?)?;
///         self.sow::<Intermediate>("hidden", &hidden)?;
///         Ok(hidden.sqr()?)
///     }
/// }
///
/// let model = Model { factor: Param::new(Tensor::new(3f32, &Device::Cpu)?) };
/// let x = Tensor::new(2f32, &Device::Cpu)?;
/// let (y, captured) = Capture::of::<Intermediate>().run(&model, |model| model.forward(&x))?;
/// assert_eq!(y.to_scalar::<f32>()?, 36.);
/// assert_eq!(captured.get("hidden.0")?.tensor()?.to_scalar::<f32>()?, 6.);
/// # Ok::<(), bridge_vars::Error>(())
/// ```
#[doc(alias = "nnx.capture")]
#[must_use = "it does nothing until `run` is called on it"]
#[derive(Clone, Debug)]
pub struct Capture {
    kinds: Vec<VariableType>,
    /// Collections whose types are captured too.
    collections: CollectionFilter,
    outputs: Option<(VariableType, ModuleFilter)>,
    init: State,
}

impl Capture {
    /// Of what is sown as variables of this type; not of its descendants.
    pub fn of<K: IsKind>() -> Self {
        let kinds = vec![K::Kind::variable_type()];
        Self { kinds, collections: CollectionFilter::none(), outputs: None, init: State::default() }
    }

    /// And of another type.
    pub fn and<K: IsKind>(mut self) -> Self {
        self.kinds.push(K::Kind::variable_type());
        self
    }

    /// And of the types whose collections a filter contains.
    #[doc(hidden)]
    pub fn in_collections(mut self, collections: CollectionFilter) -> Self {
        self.collections = collections;
        self
    }

    /// And of what every [observed](crate::observe()) module gives, as variables of this type under the module's path and the
    /// method's name, [`CALL`] for the call itself: a list with an item a call.
    #[doc(alias("method_outputs", "capture_intermediates"))]
    pub fn outputs<K: IsKind>(self) -> Self {
        self.outputs_of::<K>(ModuleFilter::all())
    }

    /// [`Capture::outputs`] of the modules that a filter matches: one activation, or those of a type.
    ///
    /// ```
    /// use bridge_graph::{Capture, ModuleFilter, Rngs, StatefulModule, observe};
    /// use bridge_vars::{Intermediate, Result};
    /// use candle_core::{Device, Tensor};
    ///
    /// #[derive(StatefulModule)]
    /// struct Scale { by: f64 }
    ///
    /// impl Scale {
    ///     fn forward(&self, x: &Tensor) -> Result<Tensor> {
    ///         observe(self, x, || Ok((x * self.by)?))
    ///     }
    /// }
    ///
    /// let model = vec![Scale { by: 2. }, Scale { by: 3. }];
    /// let x = Tensor::new(1f32, &Device::Cpu)?;
    /// let second = Capture::of::<Intermediate>().outputs_of::<Intermediate>(ModuleFilter::at("1"));
    /// let (_, seen) = second.run(&model, |model| model[1].forward(&model[0].forward(&x)?))?;
    /// assert_eq!(seen.len(), 1);
    /// assert_eq!(seen.get("1.__call__.0")?.tensor()?.to_scalar::<f32>()?, 6.);
    /// # Ok::<(), bridge_vars::Error>(())
    /// ```
    #[doc(alias = "register_forward_hook")]
    pub fn outputs_of<K: IsKind>(mut self, only: ModuleFilter) -> Self {
        self.outputs = Some((K::Kind::variable_type(), only));
        self
    }

    /// With values that are there already: perturbations, which are added where modules [`perturb`](Sow::perturb), and
    /// what sown values go on from. Those of the captured types come back too.
    pub fn init(mut self, state: &State) -> Self {
        self.init = state.clone();
        self
    }

    /// Runs `f`; gives what it returned, and what was captured, under the modules' paths.
    ///
    /// # Errors
    /// What `f` returns; values that are captured under one path as different types.
    pub fn run<M: Visit + ?Sized, T>(self, model: &M, f: impl FnOnce(&M) -> Result<T>) -> Result<(T, State)> {
        self.run_apart(model, f).map(|(output, captured, _)| (output, captured))
    }

    /// [`Capture::run`] that also gives the paths of the lists that are outputs.
    #[doc(hidden)]
    pub fn run_apart<M: Visit + ?Sized, T>(
        self,
        model: &M,
        f: impl FnOnce(&M) -> Result<T>,
    ) -> Result<(T, State, Vec<Path>)> {
        let asked = self.clone();
        let begun = self.init.filter(Filter::new(move |_, leaf| asked.wants(leaf.kind)));
        let places = Rc::new(Places::of(model)?);
        let captured =
            Rc::new(Captured { state: RefCell::new(begun), calls: RefCell::default(), asked: self });
        let output = capturing(places, Rc::clone(&captured), || f(model))?;
        let outputs = captured.calls.take().into_keys().collect();
        Ok((output, captured.state.take(), outputs))
    }

    fn wants(&self, kind: VariableType) -> bool {
        self.kinds.contains(&kind) || self.collections.contains(kind.collection())
    }
}

/// What a capture has so far.
pub(crate) struct Captured {
    asked: Capture,
    state: RefCell<State>,
    /// How many calls each list of outputs has, of which one that gave no tensor left nothing.
    calls: RefCell<BTreeMap<Path, usize>>,
}

impl Captured {
    fn wants(&self, kind: VariableType) -> bool {
        self.asked.wants(kind)
    }

    /// Appends to the list at a path.
    fn append(&self, path: Path, kind: VariableType, value: Value) -> Result<()> {
        let mut state = self.state.borrow_mut();
        let index = items(&state, &path);
        if index > 0
            && let Some(first) = state.tree().get(&path.join(0))
        {
            check_kind(&path, first.kind, kind)?;
        }
        state.insert_new(&path.join(index), Leaf::new(kind, value))
    }

    pub(crate) fn output(&self, path: &Path, module: &dyn StatefulModule, call: &Observed<'_>) -> Result<()> {
        let kind = match &self.asked.outputs {
            Some((kind, only)) if only.matches(path, module) => *kind,
            _ => return Ok(()),
        };
        let path = path.join(Name::from(call.method));
        let index = {
            let mut calls = self.calls.borrow_mut();
            let next = calls.entry(path.clone()).or_insert_with(|| items(&self.state.borrow(), &path));
            *next += 1;
            *next - 1
        };
        for (below, tensor) in tensors(call.output.as_visit())? {
            let path = path.join(index).concat(&below);
            self.state.borrow_mut().insert_new(&path, Leaf::new(kind, tensor))?;
        }
        Ok(())
    }
}

/// A name holds values of one type.
fn check_kind(path: &Path, first: VariableType, second: VariableType) -> Result<()> {
    match first == second {
        true => Ok(()),
        false => {
            let (first, second) = (first.name(), second.name());
            Err(VarsError::DuplicatePath { path: path.clone(), first, second }.into())
        }
    }
}

/// How many items the list at a path has.
fn items(state: &State, path: &Path) -> usize {
    match state.tree().subtree(path) {
        // Parts of a module may have the same name.
        Some(Tree::Node(node)) => {
            node.children().iter().filter(|(key, _)| matches!(key, PathKey::Index(_))).count()
        }
        _ => 0,
    }
}

/// What a capture wants of a module that runs something of another kind inside, and where it goes.
#[doc(hidden)]
pub struct CaptureInside {
    path: Path,
    captured: Rc<Captured>,
}

/// The capture that a module's call is in.
#[doc(hidden)]
pub fn capture_inside<M: 'static>(module: &M) -> Option<CaptureInside> {
    capture_of(identity_of(module)).map(|(path, captured)| CaptureInside { path, captured })
}

impl CaptureInside {
    /// The collections of the types that are captured by name.
    pub fn collections(&self) -> CollectionFilter {
        let kinds = self.captured.asked.kinds.iter();
        kinds.fold(CollectionFilter::none(), |all, kind| all | kind.collection())
    }

    /// Whether values of this type are captured: any, or items of lists alone.
    pub fn wants(&self, kind: VariableType, is_item: bool) -> bool {
        self.captured.asked.kinds.contains(&kind) || (is_item && self.captured.wants(kind))
    }

    /// Whether outputs are captured.
    pub fn has_outputs(&self) -> bool {
        self.captured.asked.outputs.is_some()
    }

    /// The type that the output of what is at a path inside is captured as, if it is. A filter by type knows nothing of it.
    pub fn output(&self, of: &Path) -> Option<VariableType> {
        let (kind, only) = self.captured.asked.outputs.as_ref()?;
        only.matches(&self.path.concat(of), &Inside).then_some(*kind)
    }

    /// What was given for the module.
    pub fn given(&self) -> Option<Tree<Leaf>> {
        self.captured.asked.init.tree().subtree(&self.path).cloned()
    }

    /// How many items the list at a path below the module has.
    pub fn items(&self, below: &Path) -> usize {
        items(&self.captured.state.borrow(), &self.path.concat(below))
    }

    /// Captures a leaf below the module.
    ///
    /// # Errors
    /// If something of another form is there.
    pub fn put(&self, below: &Path, leaf: Leaf) -> Result<()> {
        self.captured.state.borrow_mut().insert(&self.path.concat(below), leaf).map(|_| ())
    }
}

/// What stands for a part of a module of another kind where a filter wants a module.
struct Inside;

impl Visit for Inside {
    fn visit(&self, _visitor: &mut dyn Visitor) -> Result<()> {
        Ok(())
    }
}
impl Field for Inside {
    fn rebuild(_source: &mut Source<'_>) -> Result<Self> {
        Ok(Self)
    }
}
impl StatefulModule for Inside {
    fn type_name(&self) -> &'static str {
        Self::static_type_name()
    }
    fn static_type_name() -> &'static str {
        "Inside"
    }
}

impl std::fmt::Debug for CaptureInside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CaptureInside").field("path", &self.path).finish_non_exhaustive()
    }
}

/// The tensors in what a call takes or gives, each with where it is.
#[doc(alias = "tree_leaves")]
pub fn tensors<T: Visit + ?Sized>(value: &T) -> Result<Vec<(Path, Tensor)>> {
    let mut finder = Tensors { path: Path::root(), found: Vec::new() };
    value.visit(&mut finder)?;
    Ok(finder.found)
}

/// Finds every tensor, one that is there twice too.
struct Tensors {
    path: Path,
    found: Vec<(Path, Tensor)>,
}

impl Visitor for Tensors {
    fn child(&mut self, key: &PathKey, child: &dyn Visit) -> Result<()> {
        self.path.push(key.clone());
        child.visit(self)?;
        self.path.pop();
        Ok(())
    }
    goes_inside!(always);
    fn variable(&mut self, variable: &Variable) -> Result<()> {
        match &variable.leaf()?.value {
            Value::Tensor(tensor) => self.tensor(tensor.get()),
            _ => Ok(()),
        }
    }
    fn tensor(&mut self, tensor: &Tensor) -> Result<()> {
        self.found.push((self.path.clone(), tensor.clone()));
        Ok(())
    }
}

/// What a module can leave behind for a [`Capture`]. Outside of one, neither does anything.
pub trait Sow: StatefulModule + Sized {
    /// Appends a value to the list under a name, as a variable of this type. False if no one captures the type.
    ///
    /// # Errors
    /// If something of another form has the name.
    #[doc(alias = "nnx.Module.sow")]
    fn sow<K: IsKind>(&self, name: impl Into<Name>, value: impl Into<Value>) -> Result<bool> {
        let kind = K::Kind::variable_type();
        match capture_of(identity_of(self)).filter(|(_, captured)| captured.wants(kind)) {
            Some((path, captured)) => {
                captured.append(path.join(name.into()), kind, value.into()).map(|()| true)
            }
            None => Ok(false),
        }
    }

    /// Puts a value together with the one under a name, which starts as `init`. False if no one captures the type.
    ///
    /// # Errors
    /// What `reduce` returns; a value of another type under the name.
    #[doc(alias("reduce_fn", "init_fn"))]
    fn sow_with<K: IsKind>(
        &self,
        name: impl Into<Name>,
        value: &Tensor,
        init: impl FnOnce() -> Result<Tensor>,
        reduce: impl FnOnce(&Tensor, &Tensor) -> Result<Tensor>,
    ) -> Result<bool> {
        let kind = K::Kind::variable_type();
        let Some((path, captured)) =
            capture_of(identity_of(self)).filter(|(_, captured)| captured.wants(kind))
        else {
            return Ok(false);
        };
        let path = path.join(name.into());
        let before = captured.state.borrow().tree().get(&path).cloned();
        let before = match &before {
            Some(leaf) => {
                check_kind(&path, leaf.kind, kind)?;
                leaf.tensor().map_err(|error| error.at(&path))?.clone()
            }
            None => init()?,
        };
        let leaf = Leaf::new(kind, reduce(&before, value)?);
        captured.state.borrow_mut().insert(&path, leaf)?;
        Ok(true)
    }

    /// The value plus the perturbation under a name: zeros that the capture makes, or what it was given. The gradient of
    /// the perturbation is that of the value.
    ///
    /// ```
    /// use bridge_graph::{Capture, Sow, StatefulModule, value_and_grad};
    /// use bridge_vars::{Param, Perturbation, Result};
    /// use candle_core::{Device, Tensor};
    ///
    /// #[derive(StatefulModule)]
    /// struct Model { factor: Param }
    ///
    /// impl Model {
    ///     fn forward(&self, x: &Tensor) -> Result<Tensor> {
    ///         let hidden = self.perturb("hidden", &(x * self.factor.value()?)?)?;
    ///         Ok(hidden.sqr()?)
    ///     }
    /// }
    ///
    /// let model = Model { factor: Param::new(Tensor::new(3f32, &Device::Cpu)?) };
    /// let x = Tensor::new(2f32, &Device::Cpu)?;
    /// let capture = Capture::of::<Perturbation>();
    /// let (_, perturbations) = capture.clone().run(&model, |model| model.forward(&x))?;
    /// let variables = perturbations.to_variable_tree();
    /// let (_, gradients) = value_and_grad(&variables, Perturbation::variable_type(), |variables| {
    ///     let given = bridge_graph::state(variables)?;
    ///     Ok(capture.init(&given).run(&model, |model| model.forward(&x))?.0)
    /// })?;
    /// assert_eq!(gradients.get("hidden")?.tensor()?.to_scalar::<f32>()?, 12.);
    /// # Ok::<(), bridge_vars::Error>(())
    /// ```
    ///
    /// # Errors
    /// If a perturbation of another shape was given.
    #[doc(alias = "nnx.Module.perturb")]
    fn perturb(&self, name: impl Into<Name>, value: &Tensor) -> Result<Tensor> {
        let Some((path, captured)) = capture_of(identity_of(self)) else { return Ok(value.clone()) };
        let path = path.join(name.into());
        let kind = Perturbation::variable_type();
        let given = captured.asked.init.tree().get(&path).cloned();
        let made = || captured.state.borrow().tree().get(&path).cloned();
        if let Some(leaf) = given.or_else(made) {
            check_kind(&path, leaf.kind, kind)?;
            return leaf.perturb(value).map_err(|error| error.at(&path));
        }
        if captured.wants(kind) {
            let zeros = Leaf::new(kind, value.zeros_like()?.detach());
            captured.state.borrow_mut().insert_new(&path, zeros)?;
        }
        Ok(value.clone())
    }
}

impl<M: StatefulModule> Sow for M {}
