use std::borrow::Cow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::sync::Arc;

use bridge_vars::{Leaf, Metadata, PathKey, Value, VariableType};
use candle_core::{DType, Device, Shape};

use crate::{Attribute, Structure};

/// The static half of a module: its types, static values, structure and sharing, without any value.
///
/// Two are equal if they would build the same module: types, static values, the variables' types and
/// metadata, the order of an `IndexMap`'s entries, and what is shared with what. Values, shapes and dtypes do
/// not count; shapes and dtypes are recorded for the checks of [`merge`](crate::merge) alone. A clone is one
/// reference count.
#[doc(alias = "nnx.GraphDef")]
pub struct GraphDef<M> {
    pub(crate) program: Arc<Program>,
    module: PhantomData<fn() -> M>,
}

/// A [`GraphDef`] of whatever type: a flat list, so that depth is no limit for what reads it.
#[derive(Debug, Default, PartialEq)]
pub struct Program {
    pub(crate) entries: Vec<Entry>,
}

#[derive(Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: PathKey,
    pub(crate) def: Def,
}

/// One step of the walk over a module.
#[derive(Debug)]
pub(crate) enum Def {
    Enter(Structure),
    Exit,
    Some,
    None,
    Attribute(Attribute),
    Flag(bool),
    Device(Device),
    Variable { kind: VariableType, metadata: Metadata, spec: Spec },
    VariableRef(usize),
    Tensor(Spec),
    Shared,
    SharedRef(usize),
}

/// Of what kind a value is, and, for a tensor, of which shape and dtype.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Spec {
    Tensor(DType, Shape),
    Other(Cow<'static, str>),
}

impl Spec {
    pub(crate) fn of(value: &Value) -> Self {
        match value {
            Value::Tensor(tensor) => Self::Tensor(tensor.get().dtype(), tensor.get().shape().clone()),
            other => Self::Other(other.kind().into()),
        }
    }

    pub(crate) fn fits(&self, leaf: &Leaf) -> bool {
        match (self, &leaf.value) {
            (Self::Tensor(dtype, shape), Value::Tensor(tensor)) => {
                tensor.get().dtype() == *dtype && tensor.get().shape() == shape
            }
            (Self::Other(kind), value) => *kind == value.kind(),
            _ => false,
        }
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tensor(dtype, shape) => write!(f, "{}{:?}", dtype.as_str(), shape.dims()),
            Self::Other(kind) => f.write_str(kind),
        }
    }
}

impl fmt::Display for Structure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Module(name) => write!(f, "a `{name}`"),
            Self::List => f.write_str("a list"),
            Self::Tuple => f.write_str("a tuple"),
            Self::Map => f.write_str("a map"),
            Self::OrderedMap(_) => f.write_str("an ordered map"),
        }
    }
}

impl fmt::Display for Def {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Enter(structure) => structure.fmt(f),
            Self::Exit => f.write_str("nothing more"),
            Self::Some => f.write_str("an optional part"),
            Self::None => f.write_str("an absent part"),
            Self::Attribute(attribute) => write!(f, "the static value {attribute:?}"),
            Self::Flag(on) => write!(f, "a flag ({on})"),
            Self::Device(device) => write!(f, "a device ({:?})", device.location()),
            Self::Variable { kind, spec, .. } => write!(f, "a variable {kind} {spec}"),
            Self::VariableRef(_) => f.write_str("a shared variable"),
            Self::Tensor(spec) => write!(f, "a bare tensor {spec}"),
            Self::Shared | Self::SharedRef(_) => f.write_str("a shared part"),
        }
    }
}

impl PartialEq for Def {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Enter(a), Self::Enter(b)) => a == b,
            (Self::Attribute(a), Self::Attribute(b)) => a == b,
            (Self::Flag(a), Self::Flag(b)) => a == b,
            (Self::Device(a), Self::Device(b)) => a.location() == b.location(),
            (
                Self::Variable { kind, metadata, .. },
                Self::Variable { kind: other_kind, metadata: other, .. },
            ) => kind == other_kind && metadata == other,
            (Self::VariableRef(a), Self::VariableRef(b)) | (Self::SharedRef(a), Self::SharedRef(b)) => a == b,
            (Self::Exit, Self::Exit)
            | (Self::Some, Self::Some)
            | (Self::None, Self::None)
            | (Self::Tensor(_), Self::Tensor(_))
            | (Self::Shared, Self::Shared) => true,
            _ => false,
        }
    }
}

impl Program {
    /// The name of the module that this describes, if it is one.
    pub fn module_name(&self) -> Option<&str> {
        match self.entries.iter().find(|entry| !matches!(entry.def, Def::Shared | Def::Some)) {
            Some(Entry { def: Def::Enter(Structure::Module(name)), .. }) => Some(name),
            _ => None,
        }
    }
}

impl<M> GraphDef<M> {
    pub(crate) fn new(program: Arc<Program>) -> Self {
        Self { program, module: PhantomData }
    }

    /// What it consists of, without the type.
    pub fn program(&self) -> &Arc<Program> {
        &self.program
    }

    /// The description of an `M` that a file or a wrapper kept without its type.
    ///
    /// That it fits is checked when it is [merged](crate::merge).
    pub fn from_program(program: Arc<Program>) -> Self {
        Self::new(program)
    }
}

impl<M> Clone for GraphDef<M> {
    fn clone(&self) -> Self {
        Self::new(self.program.clone())
    }
}
impl<M> PartialEq for GraphDef<M> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.program, &other.program) || self.program == other.program
    }
}
impl<M> Hash for GraphDef<M> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for entry in &self.program.entries {
            entry.key.hash(state);
            match &entry.def {
                Def::Variable { kind, .. } => kind.hash(state),
                Def::VariableRef(index) | Def::SharedRef(index) => index.hash(state),
                Def::Flag(on) => on.hash(state),
                Def::Enter(structure) => structure.hash(state),
                // Equal values of other types need not have anything in common that could be hashed.
                _ => {}
            }
        }
    }
}
impl<M> fmt::Debug for GraphDef<M> {
    /// The tree, a line an entry.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut depth = 0usize;
        writeln!(f, "GraphDef {{")?;
        for Entry { key, def } in &self.program.entries {
            if matches!(def, Def::Exit) {
                depth = depth.saturating_sub(1);
                continue;
            }
            let indent = depth * 2 + 2;
            match depth {
                0 => writeln!(f, "{:indent$}{def}", "")?,
                _ => writeln!(f, "{:indent$}{key}: {def}", "")?,
            }
            if matches!(def, Def::Enter(_)) {
                depth += 1;
            }
        }
        f.write_str("}")
    }
}
