use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bridge_random::{Initializer, Key};
use bridge_vars::{
    CollectionFilter, Leaf, Name, Param, Path, PathKey, Result, Tree, Value, VariableType, Variables,
};
use candle_core::{DType, Device, Shape, Tensor};
use rustc_hash::FxHashMap;

use crate::error::ScopeError;
use crate::{Child, FunctionalModule, Keys, Mode, ScopeRngs, class_name};

/// What a functional module sees during a call: its parameters, variables, keys and children.
///
/// A clone is the same scope.
#[doc(alias("linen.Scope", "flax.core.Scope"))]
#[derive(Clone)]
pub struct Scope {
    root: Arc<Root>,
    local: Arc<Mutex<Local>>,
    rngs: ScopeRngs,
    mode: Option<Mode>,
}

struct Root {
    variables: Mutex<Tree<Leaf>>,
    mutable: CollectionFilter,
    initializing: bool,
}

/// What belongs to one module in one call.
#[derive(Default)]
struct Local {
    /// How many children of each class were named.
    classes: Vec<(Name, usize)>,
    names: FxHashMap<Name, Taken>,
    children: FxHashMap<Name, Arc<Mutex<Local>>>,
}

/// What has a name.
enum Taken {
    Child,
    /// Variables of this collection, and of these.
    Variables(Name, Vec<Name>),
}

static PARAMS: Name = Name::from_static(&"params");

impl Scope {
    pub(crate) fn root(
        variables: Variables,
        keys: Keys,
        mutable: CollectionFilter,
        mode: Option<Mode>,
        initializing: bool,
    ) -> Self {
        let variables = Mutex::new(variables.into());
        let root = Root { variables, mutable, initializing };
        let rngs = ScopeRngs::new(keys);
        Self { root: Arc::new(root), local: Arc::default(), rngs, mode }
    }

    /// Where the module is in the tree of modules.
    pub fn path(&self) -> &Path {
        self.rngs.path()
    }

    /// Training or evaluation, if the call said which.
    pub fn mode(&self) -> Option<Mode> {
        self.mode
    }

    /// The same scope in another mode, for children that are to be called in it.
    #[must_use]
    pub fn with_mode(&self, mode: Mode) -> Self {
        Self { mode: Some(mode), ..self.clone() }
    }

    /// Whether this is evaluation: what the module was told, or else the call's mode.
    ///
    /// # Errors
    /// [`ScopeError::ModeUnknown`] if neither says so.
    #[doc(alias = "merge_param")]
    pub fn evaluating(
        &self,
        told: Option<bool>,
        module: &'static str,
        setting: &'static str,
    ) -> Result<bool> {
        told.or_else(|| self.mode.map(|mode| mode == Mode::Eval))
            .ok_or_else(|| ScopeError::ModeUnknown { path: self.path().clone(), module, setting }.into())
    }

    /// True during `init`.
    pub fn is_initializing(&self) -> bool {
        self.root.initializing
    }

    /// True if the call may change the collection.
    pub fn is_mutable_collection(&self, collection: &str) -> bool {
        self.root.mutable.contains(collection)
    }

    /// The collections that the call may change.
    pub fn mutable(&self) -> &CollectionFilter {
        &self.root.mutable
    }

    /// A parameter of this shape: the one that is there, or, where `params` is mutable, a new one.
    ///
    /// A new one is made by the initializer from the next key of the stream `params`.
    ///
    /// # Errors
    /// [`ScopeError::ParamNotFound`], [`ScopeError::CollectionNotFound`], [`ScopeError::ParamShape`],
    /// [`ScopeError::NameInUse`], [`ScopeError::StreamNotFound`].
    pub fn param(
        &self,
        name: impl Into<Name>,
        initializer: &Initializer,
        shape: impl Into<Shape>,
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor> {
        let shape = shape.into();
        self.param_with(name, Some(&shape), |key| Ok(initializer.init(key, &shape, dtype, device)?))
    }

    /// A parameter made by a function of a key. A shape, if one is given, is checked.
    ///
    /// # Errors
    /// Those of [`Scope::param`], and what `make` returns.
    pub fn param_with(
        &self,
        name: impl Into<Name>,
        shape: Option<&Shape>,
        make: impl FnOnce(Key) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let name = name.into();
        self.reserve(&name, Some(&PARAMS))?;
        let tensor = match self.find(&PARAMS, &name) {
            Some(leaf) => leaf.tensor().map_err(|error| error.at(self.path()))?.clone(),
            None if self.is_mutable_collection(&PARAMS) => {
                let tensor = make(self.make_rng(&PARAMS)?)?;
                self.store(&Path::from(PathKey::Name(name.clone())), Param::leaf(tensor.clone()))?;
                tensor
            }
            None => return Err(self.not_found(&PARAMS, &name)),
        };
        match shape {
            Some(shape) if tensor.shape() != shape => Err(ScopeError::ParamShape {
                path: self.path().join(name),
                expected: shape.dims().to_vec(),
                found: tensor.dims().to_vec(),
            }
            .into()),
            _ => Ok(tensor),
        }
    }

    /// A variable of any collection: the one that is there, or, where the collection is mutable, a new one.
    ///
    /// # Errors
    /// [`ScopeError::VariableNotFound`], [`ScopeError::CollectionNotFound`], [`ScopeError::NameInUse`], and what
    /// `make` returns.
    pub fn variable<V: Into<Value>>(
        &self,
        collection: &str,
        name: impl Into<Name>,
        make: impl FnOnce() -> Result<V>,
    ) -> Result<ScopeVariable> {
        let kind = VariableType::from_collection(collection);
        self.variable_of(kind, name, || Ok(Leaf::new(kind, make()?)))
    }

    /// A variable of a type, made with metadata of its own, in the type's collection.
    ///
    /// # Errors
    /// Those of [`Scope::variable`].
    pub fn variable_of(
        &self,
        kind: VariableType,
        name: impl Into<Name>,
        make: impl FnOnce() -> Result<Leaf>,
    ) -> Result<ScopeVariable> {
        let (collection, name) = (kind.collection_name(), name.into());
        self.reserve(&name, Some(&collection))?;
        if self.find(&collection, &name).is_none() {
            if !self.is_mutable_collection(&collection) {
                return Err(self.not_found(&collection, &name));
            }
            self.store(&Path::from(PathKey::Name(name.clone())), Leaf { kind, ..make()? })?;
        }
        Ok(ScopeVariable { scope: self.clone(), collection, name })
    }

    /// The value of a variable of this module, if it is there.
    #[doc(alias = "get_variable")]
    pub fn get(&self, collection: &Name, name: &Name) -> Option<Leaf> {
        self.find(collection, name)
    }

    /// True if this module has the variable.
    pub fn has_variable(&self, collection: &Name, name: &Name) -> bool {
        self.find(collection, name).is_some()
    }

    /// Sets a variable of this module or, at a longer path, of what is below it, in its type's collection.
    /// Names are not checked: this is what wrappers store by.
    ///
    /// # Errors
    /// [`ScopeError::NotMutable`].
    #[doc(alias = "put_variable")]
    pub fn put(&self, path: &Path, leaf: Leaf) -> Result<()> {
        if !self.is_mutable_collection(leaf.kind.collection()) {
            return Err(ScopeError::NotMutable {
                collection: leaf.kind.collection().to_owned(),
                path: self.path().concat(path),
                mutable: self.root.mutable.to_string(),
            }
            .into());
        }
        self.store(path, leaf)
    }

    /// What a collection holds for this module: its own variables and those of everything below it.
    pub fn subtree(&self, collection: &Name) -> Option<Tree<Leaf>> {
        self.variables().subtree(&self.path_in(collection)).cloned()
    }

    /// The names of the collections.
    pub fn collections(&self) -> Vec<Name> {
        Variables::from(self.variables().clone()).collections().map(Name::from).collect()
    }

    /// A new key of a random stream, or of `params` if the call has no key for it.
    ///
    /// The key is Flax's: `fold_static(key of the stream, names on the path and the number of the draw)`. See [`ScopeRngs`].
    ///
    /// # Errors
    /// [`ScopeError::StreamNotFound`].
    pub fn make_rng(&self, stream: &str) -> Result<Key> {
        self.rngs.make_rng(stream)
    }

    /// True if the call has a key for the stream, or for `params`.
    pub fn has_rng(&self, stream: &str) -> bool {
        self.rngs.has_rng(stream)
    }

    /// The names of the streams that the call has keys for.
    pub fn streams(&self) -> impl Iterator<Item = &Name> {
        self.rngs.streams()
    }

    /// The random streams, as lifted transforms need them.
    pub fn rngs(&self) -> &ScopeRngs {
        &self.rngs
    }

    /// Calls a child that is named after its class and number: `Dense_0`.
    ///
    /// # Errors
    /// What the child returns.
    pub fn call<F: FunctionalModule<In>, In: ?Sized>(&self, module: &F, input: &In) -> Result<F::Output> {
        self.child_scope(self.next_name::<F>())?.enter(|scope| module.call(scope, input))
    }

    /// Calls a child with a name of its own.
    ///
    /// # Errors
    /// [`ScopeError::NameInUse`], and what the child returns.
    pub fn call_named<F: FunctionalModule<In>, In: ?Sized>(
        &self,
        name: impl Into<Name>,
        module: &F,
        input: &In,
    ) -> Result<F::Output> {
        self.child_scope(name.into())?.enter(|scope| module.call(scope, input))
    }

    /// A child named after its class and number, to be called as often as needed.
    ///
    /// # Errors
    /// [`ScopeError::NameInUse`].
    pub fn child<F>(&self, module: F) -> Result<Child<F>> {
        Ok(Child::new(module, self.child_scope(self.next_name::<F>())?))
    }

    /// A child with a name of its own, to be called as often as needed.
    ///
    /// # Errors
    /// [`ScopeError::NameInUse`].
    pub fn child_named<F>(&self, name: impl Into<Name>, module: F) -> Result<Child<F>> {
        Ok(Child::new(module, self.child_scope(name.into())?))
    }

    /// Runs a call of this scope's module: children and variables are named from the start again, random
    /// streams go on, and an error says where it was.
    pub(crate) fn enter<T>(&self, f: impl FnOnce(&Scope) -> Result<T>) -> Result<T> {
        {
            let mut local = self.local();
            local.classes.clear();
            local.names.clear();
        }
        f(self).map_err(|error| match error.downcast_ref::<ScopeError>() {
            // It says itself where it was.
            Some(scope_error) if scope_error.path().starts_with(self.path()) => error,
            _ => error.at(self.path()),
        })
    }

    fn next_name<F>(&self) -> Name {
        let class = class_name::<F>();
        let mut local = self.local();
        let number = match local.classes.iter_mut().find(|(name, _)| *name == class) {
            Some((_, number)) => {
                *number += 1;
                *number
            }
            None => {
                local.classes.push((class.clone(), 0));
                0
            }
        };
        Name::from(format!("{class}_{number}"))
    }

    fn child_scope(&self, name: Name) -> Result<Self> {
        self.reserve(&name, None)?;
        let local = Arc::clone(self.local().children.entry(name.clone()).or_default());
        Ok(Self { root: self.root.clone(), local, rngs: self.rngs.child(name), mode: self.mode })
    }

    /// A name is free for a child if nothing has it, and for a variable if no child and no variable of its
    /// collection has it.
    fn reserve(&self, name: &Name, collection: Option<&Name>) -> Result<()> {
        let path = || self.path().join(name.clone());
        if name.starts_with('<') {
            return Err(ScopeError::ReservedName { path: path() }.into());
        }
        let mut local = self.local();
        let free = match (local.names.get_mut(name), collection) {
            (None, collection) => {
                let taken = collection.map_or(Taken::Child, |of| Taken::Variables(of.clone(), Vec::new()));
                local.names.insert(name.clone(), taken);
                true
            }
            (Some(Taken::Variables(first, others)), Some(collection))
                if first != collection && !others.contains(collection) =>
            {
                others.push(collection.clone());
                true
            }
            _ => false,
        };
        if free { Ok(()) } else { Err(ScopeError::NameInUse { path: path() }.into()) }
    }

    fn find(&self, collection: &Name, name: &Name) -> Option<Leaf> {
        let variables = self.variables();
        let mut place = variables.child(&PathKey::Name(collection.clone()))?;
        for key in self.path().keys() {
            place = place.child(key)?;
        }
        match place.child(&PathKey::Name(name.clone()))? {
            Tree::Leaf(leaf) => Some(leaf.clone()),
            Tree::Node(_) => None,
        }
    }

    fn store(&self, path: &Path, leaf: Leaf) -> Result<()> {
        let path = self.path_in(&leaf.kind.collection_name()).concat(path);
        self.variables().insert(&path, leaf)?;
        Ok(())
    }

    fn path_in(&self, collection: &Name) -> Path {
        Path::from(PathKey::Name(collection.clone())).concat(self.path())
    }

    fn not_found(&self, collection: &Name, name: &Name) -> bridge_vars::Error {
        let path = self.path().join(name.clone());
        let variables = Variables::from(self.variables().clone());
        if variables.collection(collection).is_none_or(Tree::is_empty) {
            let available = variables.collections().map(String::from).collect();
            return ScopeError::CollectionNotFound { collection: collection.to_string(), path, available }
                .into();
        }
        let close = match variables.get(collection, &path) {
            Err(error) => match error.downcast_ref() {
                Some(bridge_vars::VarsError::PathNotFound { close, .. }) => {
                    close.iter().map(|close| close.keys().iter().skip(1).cloned().collect()).collect()
                }
                _ => Vec::new(),
            },
            Ok(_) => Vec::new(),
        };
        match *collection == PARAMS {
            true => ScopeError::ParamNotFound { path, close }.into(),
            false => ScopeError::VariableNotFound { collection: collection.to_string(), path, close }.into(),
        }
    }

    pub(crate) fn mutable_variables(&self) -> Variables {
        let variables = Variables::from(self.variables().clone());
        variables.filter_collections(|collection| self.root.mutable.contains(collection))
    }

    fn variables(&self) -> MutexGuard<'_, Tree<Leaf>> {
        self.root.variables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn local(&self) -> MutexGuard<'_, Local> {
        self.local.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope")
            .field("path", self.path())
            .field("mutable", &self.root.mutable)
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

/// A variable of a functional module, to be read and, where its collection is mutable, set.
#[derive(Clone, Debug)]
pub struct ScopeVariable {
    scope: Scope,
    collection: Name,
    name: Name,
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
        Ok(self.leaf()?.tensor().map_err(|error| error.at(&self.path()))?.clone())
    }

    /// The count, of a variable that holds one.
    ///
    /// # Errors
    /// If the value is not a count.
    pub fn count(&self) -> Result<u32> {
        self.leaf()?.value.count().map_err(|error| error.at(&self.path()))
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
