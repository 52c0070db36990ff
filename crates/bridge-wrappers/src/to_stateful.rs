use std::cell::Cell;
use std::ops::Range;
use std::sync::{Mutex, PoisonError, RwLock};

use bridge_functional::{Call, FunctionalModule, Keys, Mode, Pytree, Scope, ScopeError, class_name};
use bridge_graph::{
    CallContext, EVALUATING, Field, Flag, Initialization, Rngs, Source, StatefulModule, Static, Structure,
    Visit, Visitor, visit_static,
};
use bridge_ops::is_shapes_only;
use bridge_random::{Key, Separator};
use bridge_vars::{
    CollectionFilter, Error, Intermediate, Leaf, Name, Path, PathKey, Result, Tree, Value, Variable,
    Variables, VarsError,
};
use candle_core::{Module, Tensor};

use crate::{StatefulCall, WrapperError, watched};

/// A functional module as a stateful one: it owns the variables that `init` makes.
///
/// Its variables are at the paths that they have in the functional module, whatever their collection; the
/// collection gives the type. The module has to be serialisable (serde's `Serialize` and `Deserialize`), because its
/// configuration is part of what a checkpoint holds. A call draws one key of each of its random streams, as in Flax. In the state, the
/// wrapper's own streams are under `<rngs>`, a name that nothing else can have: what wrappers inside the functional
/// module have in angle brackets stands there with one pair more.
///
/// ```
/// use bridge_functional::BatchNorm;
/// use bridge_graph::{Rngs, eval};
/// use bridge_wrappers::ToStateful;
/// use candle_core::{DType, Device, Tensor};
/// let x = Tensor::ones((4, 2), DType::F32, &Device::Cpu)?;
/// let norm = ToStateful::new(BatchNorm::new(), &Rngs::new(0))?.mutable("batch_stats").lazy_init(&x)?;
/// norm.call(&x)?;
/// assert!((norm.variable("mean")?.value()?.to_vec1::<f32>()?[0] - 0.01).abs() < 1e-6);
/// eval(&norm)?;
/// # Ok::<(), bridge_vars::Error>(())
/// ```
#[doc(alias("ToNNX", "bridge.ToNNX"))]
#[derive(Debug)]
pub struct ToStateful<F> {
    module: F,
    rngs: Rngs,
    attributes: RwLock<Tree<Variable>>,
    evaluating: Flag,
    mutable: Option<CollectionFilter>,
    separator: Option<Separator>,
    context: CallContext,
    initialized: Mutex<Option<Initialization>>,
}

/// What a [`ToStateful`]'s random streams start from.
#[derive(Debug)]
pub enum RngSource<'a> {
    /// A fork of these.
    Fork(&'a Rngs),
    /// These keys.
    Keys(Keys),
}

impl<'a> From<&'a Rngs> for RngSource<'a> {
    fn from(rngs: &'a Rngs) -> Self {
        Self::Fork(rngs)
    }
}
impl From<Key> for RngSource<'_> {
    fn from(key: Key) -> Self {
        Self::Keys(key.into())
    }
}
impl From<Keys> for RngSource<'_> {
    fn from(keys: Keys) -> Self {
        Self::Keys(keys)
    }
}

impl<F> ToStateful<F> {
    /// A module without variables yet: they are made by [`ToStateful::lazy_init`] or
    /// [`lazy_init`](crate::lazy_init).
    ///
    /// Streams given as [`Rngs`] are forked, which draws a key of each; a key is that of `params`.
    ///
    /// # Errors
    /// If a stream can not be drawn from.
    pub fn new<'a>(module: F, rngs: impl Into<RngSource<'a>>) -> Result<Self> {
        let (rngs, separator) = match rngs.into() {
            RngSource::Fork(rngs) => (rngs.fork()?, None),
            RngSource::Keys(keys) => {
                (Rngs::from_streams(keys.iter().map(|(name, key)| (name.clone(), key))), keys.separator())
            }
        };
        Ok(Self {
            module,
            rngs,
            attributes: RwLock::default(),
            evaluating: Flag::new(false),
            mutable: None,
            separator,
            context: CallContext::default(),
            initialized: Mutex::new(None),
        })
    }

    /// With what keeps the names of a path apart where the functional module's keys are derived from it.
    ///
    /// Without it, it is what the keys that it was made with say, or else an enclosing functional call, or else Flax's
    /// default. Keys that are given for one call may say otherwise for that call.
    #[doc(alias = "flax_fix_rng_separator")]
    #[must_use]
    pub fn separator(self, separator: Separator) -> Self {
        Self { separator: Some(separator), ..self }
    }

    /// With the collections that every call may change, unless the call says otherwise.
    ///
    /// Without it, it is what an enclosing functional call may change, or else nothing.
    #[must_use]
    pub fn mutable(self, mutable: impl Into<CollectionFilter>) -> Self {
        Self { mutable: Some(mutable.into()), ..self }
    }

    /// The functional module.
    pub fn module(&self) -> &F {
        &self.module
    }

    /// The variable at a path.
    ///
    /// # Errors
    /// [`WrapperError::VariableNotFound`].
    pub fn variable(&self, path: impl Into<Path>) -> Result<Variable> {
        let path = path.into();
        let attributes = self.attributes();
        attributes.get(&path).cloned().ok_or_else(|| {
            let initialized = !attributes.is_empty();
            WrapperError::VariableNotFound { path, initialized }.into()
        })
    }

    /// A snapshot of the variables, as the functional module has them.
    ///
    /// # Errors
    /// If a variable can not be read.
    pub fn variables(&self) -> Result<Variables> {
        let failed = Cell::new(None);
        let leaf = |variable: &Variable| {
            variable.leaf().unwrap_or_else(|error| {
                failed.set(Some(error));
                Leaf::new(variable.kind(), Value::Absent)
            })
        };
        let variables = Variables::grouped(&self.attributes(), Variable::kind, leaf);
        failed.into_inner().map_or(Ok(variables), Err)
    }

    /// Creates the variables by a call with a sample input.
    ///
    /// # Errors
    /// [`WrapperError::AlreadyInitialized`]: see [`reinitialize`](crate::reinitialize); what the module returns.
    pub fn lazy_init<In: Pytree>(self, input: &In) -> Result<Self>
    where
        F: FunctionalModule<In>,
    {
        self.check_uninitialized()?;
        self.initialize(self.separated(self.draw_keys()?), false, |module, scope| scope.run(module, input))?;
        Ok(self)
    }

    fn check_uninitialized(&self) -> Result<()> {
        match self.attributes().iter().next() {
            None => Ok(()),
            Some((path, _)) => {
                Err(WrapperError::AlreadyInitialized { class: class_name::<F>().to_string(), path }.into())
            }
        }
    }

    /// Calls the module.
    ///
    /// # Errors
    /// What the module returns.
    #[doc(alias = "__call__")]
    pub fn call<In: Pytree>(&self, input: &In) -> Result<F::Output>
    where
        F: FunctionalModule<In>,
    {
        self.options().call(input)
    }

    /// Calls any method of the module, with its scope.
    ///
    /// # Errors
    /// What `method` returns.
    pub fn with<T>(&self, method: impl FnOnce(&F, &Scope) -> Result<T>) -> Result<T>
    where
        F: 'static,
    {
        self.options().with(method)
    }

    /// A call with keys or mutable collections of its own.
    pub fn options(&self) -> StatefulCall<'_, F> {
        StatefulCall { wrapper: self, keys: None, mutable: None }
    }

    fn attributes(&self) -> Tree<Variable> {
        self.attributes.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn mode(&self) -> Mode {
        if self.evaluating.get() { Mode::Eval } else { Mode::Train }
    }

    /// One key of each stream that can be drawn from; `default` is `params` where there is none of that name, as in Flax.
    fn draw_keys(&self) -> Result<Keys> {
        let own = |name: &Name| self.rngs.iter().any(|(own, _)| own == name);
        let mut keys = Vec::new();
        // A functional call has no key for what is sealed; only what wants one is missing it.
        for (name, stream) in self.rngs.iter().filter(|(_, stream)| !stream.is_sealed()) {
            keys.push((name.clone(), stream.draw()?));
        }
        keys.extend(self.context.draw(|name| !own(name))?);
        if !keys.iter().any(|(name, _)| name == "params")
            && let Some((default, _)) = keys.iter_mut().find(|(name, _)| name == "default")
        {
            *default = Name::from_static(&"params");
        }
        Ok(keys.into())
    }

    /// The keys with the separator that is set for them, for this, or for the call around it.
    fn separated(&self, keys: Keys) -> Keys {
        match keys.separator().or(self.separator).or_else(|| self.context.separator()) {
            Some(separator) => keys.with_separator(separator),
            None => keys,
        }
    }

    pub(crate) fn run<T>(
        &self,
        keys: Option<Keys>,
        mutable: Option<CollectionFilter>,
        method: impl FnOnce(&F, &Scope) -> Result<T>,
    ) -> Result<T>
    where
        F: 'static,
    {
        let keys = self.separated(keys.map_or_else(|| self.draw_keys(), Ok)?);
        if let Some(pass) = self.context.initializing() {
            let mut last = self.initialized.lock().unwrap_or_else(PoisonError::into_inner);
            // Called twice in one pass, it makes only what the first call did not.
            let again = *last == Some(pass);
            let in_vain = self.context.is_made_in_vain();
            if !again && !in_vain && !pass.is_completing() && !pass.is_replacing() {
                self.check_uninitialized()?;
            }
            *last = Some(pass);
            drop(last);
            let keeping = again || (pass.is_completing() && !in_vain && !self.attributes().is_empty());
            if !keeping {
                self.context.set_made_by(pass);
            }
            return self.initialize(keys, keeping, method);
        }
        let mutable = mutable.or_else(|| self.mutable.clone()).or_else(|| self.context.mutable());
        let mutable = mutable.unwrap_or_else(CollectionFilter::none);
        let call = Call::new().keys(keys).mode(self.mode()).sow_anew();
        let all = self.variables()?;
        let before = without_sown(&all);
        let called = watched::run(self, call, &mutable, &before, |scope| method(&self.module, scope));
        let (output, after) = called.map_err(|error| match error.downcast_ref() {
            Some(ScopeError::CollectionNotFound { path, .. }) if before.is_empty() => {
                WrapperError::NotLazilyInitialized { missing: path.clone() }.into()
            }
            _ => error,
        })?;
        if !mutable.is_none() {
            self.write_back(&all, &after, &mutable)?;
        }
        Ok(output)
    }

    fn initialize<T>(
        &self,
        keys: Keys,
        keeping: bool,
        method: impl FnOnce(&F, &Scope) -> Result<T>,
    ) -> Result<T> {
        let call = Call::new().keys(keys).mode(self.mode());
        let before = if keeping { self.variables()? } else { Variables::default() };
        let describing = is_shapes_only() || self.rngs.is_describing();
        let (output, after) = match describing {
            true => call.describe_from(&before, |scope| method(&self.module, scope))?,
            false => call.init_from(&before, |scope| method(&self.module, scope))?,
        };
        if keeping {
            self.write_back(&before, &after, &CollectionFilter::none())?;
        } else {
            let made = after.to_state()?.tree().map(|_, leaf| Variable::from(leaf.clone()));
            *self.attributes.write().unwrap_or_else(PoisonError::into_inner) = made;
        }
        Ok(output)
    }

    /// Changes the variables that the call changed, in place, adds the ones that it made, and takes away those that collections
    /// which could change have no longer.
    fn write_back(&self, before: &Variables, after: &Variables, mutable: &CollectionFilter) -> Result<()> {
        let below = |path: &Path| path.keys().iter().skip(1).cloned().collect::<Path>();
        let may_change = |path: &Path| match path.keys().first() {
            Some(PathKey::Name(collection)) => mutable.contains(collection),
            _ => false,
        };
        let mut gone: Vec<Path> = Vec::new();
        before.tree().try_for_each(|path, _| {
            if may_change(path) && after.tree().get(path).is_none() {
                gone.push(below(path));
            }
            Ok::<_, Error>(())
        })?;
        let mut new: Vec<(Path, &Leaf)> = Vec::new();
        after.tree().try_for_each(|path, leaf| {
            let same = |before: &Leaf| before.value.is_same(&leaf.value) && before.metadata == leaf.metadata;
            if !before.tree().get(path).is_some_and(same) {
                new.push((below(path), leaf));
            }
            Ok::<_, Error>(())
        })?;
        if gone.is_empty() && new.is_empty() {
            return Ok(());
        }
        // Nothing is changed before everything is known to fit; two threads may be here at once.
        let mut attributes = self.attributes.write().unwrap_or_else(PoisonError::into_inner);
        let mut grown = attributes.clone();
        gone.iter().for_each(|path| drop(grown.remove(path)));
        let mut changed: Vec<(Variable, &Leaf)> = Vec::new();
        for (path, leaf) in new {
            match grown.get(&path) {
                Some(variable) if variable.kind() == leaf.kind => changed.push((variable.clone(), leaf)),
                Some(variable) => {
                    let (first, second) = (variable.kind().name(), leaf.kind.name());
                    return Err(VarsError::DuplicatePath { path, first, second }.into());
                }
                None => drop(grown.insert(&path, Variable::from(leaf.clone()))?),
            }
        }
        changed.into_iter().for_each(|(variable, leaf)| variable.assign(leaf));
        *attributes = grown;
        Ok(())
    }
}

/// The variables that a call starts with: each call sows anew, so that lists do not grow from call to call.
fn without_sown(variables: &Variables) -> Variables {
    let sown = Intermediate::variable_type().collection();
    let has_sown = variables.collections().any(|collection| collection == sown);
    match has_sown {
        true => variables.filter_collections(|collection| collection != sown),
        false => variables.clone(),
    }
}

impl<F: FunctionalModule<Output = Tensor>> Module for ToStateful<F> {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        Ok(self.call(x)?)
    }
}

pub(crate) static CLASS_KEY: PathKey = PathKey::from_static(&"<class>");
static MODULE_KEY: PathKey = PathKey::from_static(&"<module>");
static MUTABLE_KEY: PathKey = PathKey::from_static(&"<mutable>");
static EVALUATING_KEY: PathKey = PathKey::from_static(&EVALUATING);
static SEPARATOR_KEY: PathKey = PathKey::from_static(&"<separator>");
static RNGS_KEY: PathKey = PathKey::from_static(&"<rngs>");

impl<F: Static> Visit for ToStateful<F> {
    fn visit(&self, visitor: &mut dyn Visitor) -> Result<()> {
        visitor.enter(Structure::Module(Name::from_static(&"ToStateful")), Some(self))?;
        visitor.context(&self.context)?;
        visitor.child(&CLASS_KEY, &class_name::<F>().to_string())?;
        visit_static(visitor, &MODULE_KEY, &self.module)?;
        visit_static(visitor, &MUTABLE_KEY, &self.mutable)?;
        visit_static(visitor, &SEPARATOR_KEY, &self.separator)?;
        visitor.child(&EVALUATING_KEY, &self.evaluating)?;
        // In order of the keys, among which the wrapper's own streams have their place.
        let attributes = self.attributes();
        let children = match &attributes {
            Tree::Node(node) => node.children(),
            Tree::Leaf(_) => &[],
        };
        let (first, others) = children.split_at(children.partition_point(|(key, _)| *key < RESERVED.start));
        let (reserved, last) = others.split_at(others.partition_point(|(key, _)| *key < RESERVED.end));
        for (key, child) in first {
            visitor.child(key, child)?;
        }
        // Those of wrapped wrappers come before `<rngs>`, because they have more brackets.
        let mut reserved: Vec<_> = reserved.iter().map(|(key, child)| (bracketed(key), child)).collect();
        reserved.sort_by(|(a, _), (b, _)| a.cmp(b));
        for (key, child) in reserved {
            visitor.child(&key, child)?;
        }
        visitor.child(&RNGS_KEY, &self.rngs)?;
        for (key, child) in last {
            visitor.child(key, child)?;
        }
        visitor.exit()
    }
}

/// The names that wrappers give: those that start with `<`.
static RESERVED: Range<PathKey> = PathKey::from_static(&"<")..PathKey::from_static(&"=");

/// The name of a wrapped wrapper's part: one pair of brackets more, so that it is told apart from this one's.
fn bracketed(key: &PathKey) -> PathKey {
    match key {
        PathKey::Name(name) => Name::from(format!("<{name}>")).into(),
        PathKey::Index(_) => key.clone(),
    }
}

fn without_brackets(key: &PathKey) -> PathKey {
    match key {
        PathKey::Name(name) => match name.strip_prefix('<').and_then(|name| name.strip_suffix('>')) {
            Some(inner) if inner.starts_with('<') => inner.into(),
            _ => key.clone(),
        },
        PathKey::Index(_) => key.clone(),
    }
}

impl<F: Static> Field for ToStateful<F> {
    fn rebuild(source: &mut Source<'_>) -> Result<Self> {
        source.enter(&Structure::Module(Name::from_static(&"ToStateful")))?;
        // Two configurations may look the same in a file, those of unit structs for one.
        let class: String = source.child(&CLASS_KEY)?;
        if class_name::<F>() != *class {
            return Err(source
                .unexpected(&format!("a wrapped `{}`", class_name::<F>()), format!("a wrapped `{class}`")));
        }
        let module = source.static_child(&MODULE_KEY)?;
        let mutable = source.static_child(&MUTABLE_KEY)?;
        let separator = source.static_child(&SEPARATOR_KEY)?;
        let evaluating = source.child(&EVALUATING_KEY)?;
        let mut attributes = Tree::default();
        let mut rngs = Rngs::empty();
        while let Some(key) = source.peek_child() {
            match *key == RNGS_KEY {
                true => rngs = source.child(key)?,
                false => attributes.insert_tree(&without_brackets(key).into(), source.child(key)?)?,
            }
        }
        source.exit()?;
        Ok(Self {
            module,
            rngs,
            attributes: RwLock::new(attributes),
            evaluating,
            mutable,
            separator,
            context: CallContext::default(),
            initialized: Mutex::new(None),
        })
    }
}

impl<F: Static> StatefulModule for ToStateful<F> {
    fn type_name(&self) -> &'static str {
        Self::static_type_name()
    }
    fn static_type_name() -> &'static str {
        "ToStateful"
    }
}
