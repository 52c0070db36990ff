use bridge_vars::{Error, Path};

/// What can go wrong between the two kinds of module.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WrapperError {
    /// A `Functional` was applied before it was initialised.
    #[error("this `Functional` has no `GraphDef` yet: call `init` before `apply`")]
    NotInitialized,
    /// The variables lack the description of the stateful module.
    #[error(
        "the collection `nnx`, which holds the `GraphDef` of the wrapped module, is not there; it was \
         dropped on the way from `init`, perhaps by passing `params` alone: pass it along with the others"
    )]
    GraphDefMissing {
        /// The wrapper.
        path: Path,
    },
    /// A call made or removed variables, or gave one another shape, while the description of the module can not
    /// change.
    #[error(
        "the call changed the structure of the wrapped module ({}), and `nnx` is not mutable: use \
         `apply_mut` with \"nnx\" among the mutable collections", list(.changed)
    )]
    StructureChanged {
        /// The wrapper.
        path: Path,
        /// The variables that came, went or have another shape.
        changed: Vec<Path>,
    },
    /// The wrapped module has variables in collections that `init` does not return.
    #[error(
        "the wrapped module has variables in {}, which this `init` does not return, so that `apply` would lack \
         them: run it with `Call::new().keys(..).mutable(CollectionFilter::all()).init(..)`", names(.collections)
    )]
    NotStored {
        /// The wrapper.
        path: Path,
        /// The collections.
        collections: Vec<String>,
    },
    /// The wrapper came from a file, which does not hold how its module is constructed.
    #[error(
        "the constructor of this `ToFunctional` is not here, because it came from a file: it can `apply`, but not \
         `init`; make it with `to_functional`"
    )]
    ConstructorMissing,
    /// A wrapped functional module was called before its variables were made.
    #[error(
        "this `ToStateful` has no variables yet (`{missing}` was looked for): call `lazy_init` with a sample input first"
    )]
    NotLazilyInitialized {
        /// The variable that the call looked for.
        missing: Path,
    },
    /// A wrapped functional module was to be initialised that has its variables already.
    #[error(
        "this `ToStateful` of `{class}` has its variables already, among them `{path}`: leave it out of `lazy_init`, keep them \
         by `lazy_init_missing`, or make new ones by `reinitialize`"
    )]
    AlreadyInitialized {
        /// The functional module's type.
        class: String,
        /// One of the variables.
        path: Path,
    },
    /// A wrapped functional module does not have a variable.
    #[error("`{path}` is not among the wrapped module's variables{}", hint(.initialized))]
    VariableNotFound {
        /// The variable that was asked for.
        path: Path,
        /// Whether there is any variable at all.
        initialized: bool,
    },
}

impl From<WrapperError> for Error {
    fn from(error: WrapperError) -> Self {
        Error::new(error)
    }
}

fn list(paths: &[Path]) -> String {
    paths.iter().map(|path| format!("`{path}`")).collect::<Vec<_>>().join(", ")
}

fn names(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn hint(initialized: &bool) -> &'static str {
    if *initialized { "" } else { ", which has none: call `lazy_init` with a sample first" }
}
