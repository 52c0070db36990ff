use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bridge_graph::SummaryRow;
use bridge_random::{Key, key};
use bridge_vars::{
    CollectionFilter, Leaf, Name, Path, PathKey, Result, Tree, Value, VariableType, Variables,
};
use rustc_hash::FxHashMap;

use crate::error::ScopeError;
use crate::intercept::Interceptor;
use crate::module_calls::CaptureFilter;
use crate::scope_variable::ScopeVariable;
use crate::{Keys, Mode, ScopeRngs};

/// What a functional module sees during a call: its parameters, variables, keys and children.
///
/// A clone is the same scope.
#[doc(alias("linen.Scope", "flax.core.Scope"))]
#[derive(Clone)]
pub struct Scope {
    pub(crate) root: Arc<Root>,
    pub(crate) local: Arc<Mutex<Local>>,
    pub(crate) rngs: ScopeRngs,
    pub(crate) mode: Option<Mode>,
}

pub(crate) struct Root {
    variables: Mutex<Tree<Leaf>>,
    pub(crate) plan: Plan,
    /// Whether anyone looks at the calls of modules.
    pub(crate) watched: bool,
    /// What a summary has so far.
    pub(crate) rows: Option<Mutex<Vec<SummaryRow>>>,
    /// The lists that were sown in this call, where each call begins them anew.
    pub(crate) sown: Option<Mutex<BTreeSet<Path>>>,
    /// The call is over, and what is stored from here on would be lost.
    ended: AtomicBool,
}

/// How a call is run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) mutable: CollectionFilter,
    pub(crate) initializing: bool,
    /// Variables that are made are only described.
    pub(crate) describing: bool,
    pub(crate) interceptors: Vec<Interceptor>,
    pub(crate) capture: Option<CaptureFilter>,
    pub(crate) summarizing: bool,
    /// Lists of sown values begin anew, instead of going on from those that were passed in.
    pub(crate) sows_anew: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            mutable: CollectionFilter::none(),
            initializing: false,
            describing: false,
            interceptors: Vec::new(),
            capture: None,
            summarizing: false,
            sows_anew: false,
        }
    }
}

/// What belongs to one module in one call.
#[derive(Default)]
pub(crate) struct Local {
    /// How many children of each class were named.
    pub(crate) classes: Vec<(Name, usize)>,
    names: FxHashMap<Name, Taken>,
    pub(crate) children: FxHashMap<Name, Arc<Mutex<Local>>>,
}

/// What has a name.
enum Taken {
    Child,
    /// Variables of this collection, and of these.
    Variables(Name, Vec<Name>),
}

pub(crate) static PARAMS: Name = Name::from_static(&"params");

impl Scope {
    pub(crate) fn root(variables: Variables, keys: Keys, mode: Option<Mode>, plan: Plan) -> Self {
        let watched = !plan.interceptors.is_empty() || plan.capture.is_some() || plan.summarizing;
        let root = Root {
            variables: Mutex::new(variables.into()),
            watched,
            rows: plan.summarizing.then(Mutex::default),
            sown: plan.sows_anew.then(Mutex::default),
            plan,
            ended: AtomicBool::new(false),
        };
        Self { root: Arc::new(root), local: Arc::default(), rngs: ScopeRngs::new(keys), mode }
    }

    /// Ends the call: what is stored afterwards is an error.
    pub(crate) fn end(&self) {
        self.root.ended.store(true, Ordering::Release);
    }

    /// Where the module is in the tree of modules.
    pub fn path(&self) -> &Path {
        self.rngs.path()
    }

    /// Training or evaluation, if the call said which.
    pub fn mode(&self) -> Option<Mode> {
        self.mode
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
            // Shapes are the same in both.
            .or(self.is_describing().then_some(true))
            .ok_or_else(|| ScopeError::ModeUnknown { path: self.path().clone(), module, setting }.into())
    }

    /// True during `init`.
    pub fn is_initializing(&self) -> bool {
        self.root.plan.initializing
    }

    /// True if variables are described, not made: see [`FunctionalModule::describe`](crate::FunctionalModule::describe).
    pub fn is_describing(&self) -> bool {
        self.root.plan.describing
    }

    /// True if the call may change the collection.
    pub fn is_mutable_collection(&self, collection: &str) -> bool {
        self.root.plan.mutable.contains(collection)
    }

    /// The collections that the call may change.
    pub fn mutable(&self) -> &CollectionFilter {
        &self.root.plan.mutable
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
    pub fn get(&self, collection: impl Into<Name>, name: impl Into<Name>) -> Option<Leaf> {
        self.find(&collection.into(), &name.into())
    }

    /// True if this module has the variable, a list of sown values of the name, or a child of the name that has variables in
    /// the collection.
    pub fn has_variable(&self, collection: impl Into<Name>, name: impl Into<Name>) -> bool {
        let path = self.path_in(&collection.into()).join(name.into());
        self.variables().subtree(&path).is_some()
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
                mutable: self.root.plan.mutable.to_string(),
            }
            .into());
        }
        self.store(path, leaf)
    }

    /// What a collection holds for this module: its own variables and those of everything below it.
    pub fn subtree(&self, collection: &Name) -> Option<Tree<Leaf>> {
        let variables = self.variables();
        let collection = variables.child(&PathKey::Name(collection.clone()))?;
        self.path().keys().iter().try_fold(collection, |place, key| place.child(key)).cloned()
    }

    /// The names of the collections.
    pub fn collections(&self) -> Vec<Name> {
        let variables = self.variables();
        let Tree::Node(node) = &*variables else { return Vec::new() };
        let name = |(key, _): &(PathKey, Tree<Leaf>)| match key {
            PathKey::Name(name) => Some(name.clone()),
            PathKey::Index(_) => None,
        };
        node.children().iter().filter_map(name).collect()
    }

    /// A new key of a random stream, or of `params` if the call has no key for it.
    ///
    /// The key is Flax's: `fold_static(key of the stream, names on the path and the number of the draw)`. See [`ScopeRngs`].
    ///
    /// # Errors
    /// [`ScopeError::StreamNotFound`].
    pub fn make_rng(&self, stream: &str) -> Result<Key> {
        self.check_running()?;
        if self.is_describing() && !self.rngs.can_make(stream) {
            // Nothing is drawn where shapes alone matter.
            return Ok(key(0));
        }
        self.rngs.make_rng(stream)
    }

    /// True if the call has a key for the stream itself; without one, [`Scope::make_rng`] takes that of `params`.
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

    /// Runs a call of this scope's module: children and variables are named from the start, random streams go on, and an
    /// error says where it was. A call that is going on, which this one is inside of, has its names again afterwards.
    pub(crate) fn enter<T>(&self, f: impl FnOnce(&Scope) -> Result<T>) -> Result<T> {
        self.check_running()?;
        let around = {
            let mut local = self.local();
            (std::mem::take(&mut local.classes), std::mem::take(&mut local.names))
        };
        let output = f(self);
        {
            let mut local = self.local();
            (local.classes, local.names) = around;
        }
        output.map_err(|error| self.located(error))
    }

    /// An error that says where it was.
    pub(crate) fn located(&self, error: bridge_vars::Error) -> bridge_vars::Error {
        match error.downcast_ref::<ScopeError>() {
            // It says so itself.
            Some(scope_error) if scope_error.path().starts_with(self.path()) => error,
            _ => error.at(self.path()),
        }
    }

    /// A name is free for a child if nothing has it, and for a variable if no child and no variable of its
    /// collection has it.
    pub(crate) fn reserve(&self, name: &Name, collection: Option<&Name>) -> Result<()> {
        self.check_running()?;
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

    /// True if in this call a variable of the collection has the name.
    pub(crate) fn is_variable_of(&self, collection: &Name, name: &Name) -> bool {
        match self.local().names.get(name) {
            Some(Taken::Variables(first, others)) => first == collection || others.contains(collection),
            _ => false,
        }
    }

    /// True if the call has the collection, be it empty.
    #[doc(hidden)]
    pub fn has_collection(&self, collection: &Name) -> bool {
        self.variables().child(&PathKey::Name(collection.clone())).is_some()
    }

    pub(crate) fn find(&self, collection: &Name, name: &Name) -> Option<Leaf> {
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

    fn check_running(&self) -> Result<()> {
        match self.root.ended.load(Ordering::Acquire) {
            false => Ok(()),
            true => Err(ScopeError::CallEnded { path: self.path().clone() }.into()),
        }
    }

    pub(crate) fn store(&self, path: &Path, leaf: Leaf) -> Result<()> {
        self.check_running()?;
        let leaf = Leaf { value: self.only_described(leaf.value), ..leaf };
        let path = self.path_in(&leaf.kind.collection_name()).concat(path);
        self.variables().insert(&path, leaf)?;
        Ok(())
    }

    /// Takes away what earlier calls sowed under a name, if each call is to begin anew and this one has not yet.
    pub(crate) fn begin_list(&self, collection: &Name, list: &Path) {
        let Some(sown) = &self.root.sown else { return };
        let path = self.path_in(collection).concat(list);
        if sown.lock().unwrap_or_else(PoisonError::into_inner).insert(path.clone()) {
            let mut variables = self.variables();
            if matches!(variables.subtree(&path), Some(Tree::Node(_))) {
                variables.remove(&path);
            }
        }
    }

    /// How many items the list at a path below this module has.
    #[doc(hidden)]
    pub fn items(&self, collection: &Name, list: &Path) -> usize {
        match self.variables().subtree(&self.path_in(collection).concat(list)) {
            Some(Tree::Node(node)) => {
                node.children().iter().filter(|(key, _)| matches!(key, PathKey::Index(_))).count()
            }
            _ => 0,
        }
    }

    pub(crate) fn path_in(&self, collection: &Name) -> Path {
        Path::from(PathKey::Name(collection.clone())).concat(self.path())
    }

    pub(crate) fn not_found(&self, collection: &Name, name: &Name) -> bridge_vars::Error {
        let path = self.path().join(name.clone());
        let variables = Variables::from(self.variables().clone());
        let nested = Path::from(PathKey::Name(collection.clone())).concat(&path);
        if variables.get(collection, &nested).is_ok() {
            return ScopeError::NestedCollection { collection: collection.to_string(), path }.into();
        }
        if variables.collection(collection).is_none_or(Tree::is_empty) {
            let filled =
                |name: &&str| variables.collection(&Name::from(*name)).is_some_and(|tree| !tree.is_empty());
            let available = variables.collections().filter(filled).map(String::from).collect();
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

    pub(crate) fn take_rows(&self) -> Vec<SummaryRow> {
        let rows = self.root.rows.as_ref();
        rows.map(|rows| std::mem::take(&mut *rows.lock().unwrap_or_else(PoisonError::into_inner)))
            .unwrap_or_default()
    }

    pub(crate) fn all_variables(&self) -> Variables {
        self.variables().clone().into()
    }

    pub(crate) fn mutable_variables(&self) -> Variables {
        let variables = Variables::from(self.variables().clone());
        variables.filter_collections(|collection| self.root.plan.mutable.contains(collection))
    }

    pub(crate) fn variables(&self) -> MutexGuard<'_, Tree<Leaf>> {
        self.root.variables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn local(&self) -> MutexGuard<'_, Local> {
        self.local.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope")
            .field("path", self.path())
            .field("mutable", &self.root.plan.mutable)
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}
