use bridge_vars::{Error, Path};

/// What can go wrong in a functional call.
#[doc(alias = "flax.errors")]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScopeError {
    /// A parameter that the call needs is not among the variables.
    #[doc(alias = "ScopeParamNotFoundError")]
    #[error(
        "parameter `{path}` is not in the collection `params`{}: give `apply` the variables that `init` of the same module \
         returned", close_names(.close)
    )]
    ParamNotFound {
        /// The parameter's path.
        path: Path,
        /// Paths that look like it.
        close: Vec<Path>,
    },
    /// A variable that the call needs is not there.
    #[doc(alias = "ScopeVariableNotFoundError")]
    #[error(
        "variable `{path}` is not in the collection `{collection}`{}: it is made by `init`, or where \
         `{collection}` is mutable", close_names(.close)
    )]
    VariableNotFound {
        /// The collection.
        collection: String,
        /// The variable's path.
        path: Path,
        /// Paths that look like it.
        close: Vec<Path>,
    },
    /// A whole collection that the call needs is not there.
    #[doc(alias = "ScopeCollectionNotFound")]
    #[error(
        "`{path}` was looked for in the collection `{collection}`, which is not there; the variables have \
         {}: was it dropped, or was `init` never called?", names(.available)
    )]
    CollectionNotFound {
        /// The collection.
        collection: String,
        /// The path that was looked for.
        path: Path,
        /// The collections that are there.
        available: Vec<String>,
    },
    /// A parameter has another shape than the module gives it.
    #[doc(alias = "ScopeParamShapeError")]
    #[error(
        "parameter `{path}`: the module makes it {expected:?}, the variables hold {found:?}: they belong to another \
         configuration or input"
    )]
    ParamShape {
        /// The parameter's path.
        path: Path,
        /// The shape that the module gives it.
        expected: Vec<usize>,
        /// The shape that the variables hold.
        found: Vec<usize>,
    },
    /// A parameter has another dtype than the module gives it.
    #[error(
        "parameter `{path}`: the module makes it {expected}, the variables hold {found}: convert them, or set the module's \
         `param_dtype`"
    )]
    ParamDtype {
        /// The parameter's path.
        path: Path,
        /// The dtype that the module gives it.
        expected: &'static str,
        /// The dtype that the variables hold.
        found: &'static str,
    },
    /// A collection stands inside of itself, as when `{"params": variables}` is made of what `init` returned.
    #[doc(alias = "ApplyScopeInvalidVariablesStructureError")]
    #[error(
        "`{path}` is in the collection `{collection}` below another `{collection}`: pass the variables as `init` returned \
         them, or `Variables::from` a tree whose first keys are the collections"
    )]
    NestedCollection {
        /// The collection.
        collection: String,
        /// The path that was looked for.
        path: Path,
    },
    /// A scope was used after its call had returned.
    #[doc(alias = "InvalidScopeError")]
    #[error("{}the call of this scope is over, and what it would store is lost: use it inside of the call", at(.path))]
    CallEnded {
        /// The scope's path.
        path: Path,
    },
    /// A module has no method of this name.
    #[doc(alias = "ApplyModuleInvalidMethodError")]
    #[error(
        "{}`{class}` has no method `{method}` to call by name, found {}: name it in `FunctionalModule::methods`, or call it in \
         a closure", at(.path), names(.available)
    )]
    MethodNotFound {
        /// The module's path.
        path: Path,
        /// The module's type.
        class: String,
        /// The name that was called.
        method: String,
        /// The names that it has.
        available: Vec<String>,
    },
    /// An interceptor gave something of another type than the module takes or gives.
    #[error("{}an interceptor set {what} of type {found}, which is not the module's", at(.path))]
    Intercepted {
        /// The module's path.
        path: Path,
        /// Input or output.
        what: &'static str,
        /// The type that was given.
        found: &'static str,
    },
    /// An interceptor neither ran the module nor gave an output.
    #[error("{}no interceptor ran `{class}` or set an output: end it with `call.run()`", at(.path))]
    NoOutput {
        /// The module's path.
        path: Path,
        /// The module's type.
        class: String,
    },
    /// A name is used twice in one module.
    #[doc(alias = "NameInUseError")]
    #[error("`{path}` is there twice: give one another name, or keep the first in a handle and use it again")]
    NameInUse {
        /// The path.
        path: Path,
    },
    /// A name that only wrappers may use.
    #[error("`{path}`: names in angle brackets belong to wrappers; use another")]
    ReservedName {
        /// The path.
        path: Path,
    },
    /// A variable was to be changed in a collection that the call may not change.
    #[doc(alias = "ModifyScopeVariableError")]
    #[error(
        "`{path}` can not change: the collection `{collection}` is not mutable in this call, mutable: \
         {mutable}; use `apply_mut` with \"{collection}\", or `.mutable(\"{collection}\")` where it is wrapped"
    )]
    NotMutable {
        /// The collection.
        collection: String,
        /// The variable's path.
        path: Path,
        /// What is mutable.
        mutable: String,
    },
    /// The call was given no key for a random stream, and none for `params`.
    #[doc(alias = "InvalidRngError")]
    #[error(
        "{}no key for the random stream `{stream}`, found {}: pass `[(\"{stream}\", key)]`",
        at(.path), names(.available)
    )]
    StreamNotFound {
        /// The module that wanted a key.
        path: Path,
        /// The stream.
        stream: String,
        /// The streams that have a key.
        available: Vec<String>,
    },
    /// A module behaves differently in training and evaluation, and nothing says which it is.
    #[error(
        "{}{module} needs to know whether this is training: call `model.train()` or `model.eval()` first, as in \
         `model.eval().apply(..)`, or set `{setting}`", at(.path)
    )]
    ModeUnknown {
        /// The module that wanted to know.
        path: Path,
        /// Its type.
        module: &'static str,
        /// The setting of its own that would say so.
        setting: &'static str,
    },
}

impl ScopeError {
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::ParamNotFound { path, .. }
            | Self::VariableNotFound { path, .. }
            | Self::CollectionNotFound { path, .. }
            | Self::ParamShape { path, .. }
            | Self::ParamDtype { path, .. }
            | Self::NestedCollection { path, .. }
            | Self::CallEnded { path }
            | Self::MethodNotFound { path, .. }
            | Self::Intercepted { path, .. }
            | Self::NoOutput { path, .. }
            | Self::NameInUse { path }
            | Self::ReservedName { path }
            | Self::NotMutable { path, .. }
            | Self::StreamNotFound { path, .. }
            | Self::ModeUnknown { path, .. } => path,
        }
    }
}

impl From<ScopeError> for Error {
    fn from(error: ScopeError) -> Self {
        Error::new(error)
    }
}

fn at(path: &Path) -> String {
    if path.is_empty() { String::new() } else { format!("at `{path}`: ") }
}

fn close_names(close: &[Path]) -> String {
    match close {
        [] => String::new(),
        close => {
            let close: Vec<_> = close.iter().map(|path| format!("`{path}`")).collect();
            format!(", did you mean {}?", close.join(", "))
        }
    }
}

fn names(names: &[String]) -> String {
    match names {
        [] => "none".into(),
        names => names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
    }
}
