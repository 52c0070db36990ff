use std::borrow::Cow;
use std::fmt;
use std::hash::{Hash, Hasher};

use bridge_vars::{Leaf, Metadata, Path, PathKey, TensorForm, Value, VariableType};
use candle_core::{DType, Device};

use crate::dynamic::DynamicType;
use crate::{Attribute, Structure};

/// A [`GraphDef`](crate::GraphDef) of whatever type: a flat list, so that depth is no limit for what reads it.
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
#[derive(Clone, Debug)]
pub(crate) enum Def {
    Enter(Structure),
    Exit,
    /// An optional part is there: what it is follows under the same key.
    Some,
    None,
    Attribute(Attribute),
    Flag(bool),
    Device(Box<Device>),
    Variable {
        kind: VariableType,
        metadata: Metadata,
        spec: Spec,
    },
    VariableRef(usize),
    Tensor(Spec),
    /// A shared part, which follows under the same key.
    Shared,
    SharedRef(usize),
    /// A reference to a shared part that may come later; none if it refers to nothing.
    Weak(Option<usize>),
    /// A boxed module of this type, which follows under the same key.
    Dynamic(DynamicType),
}

/// Of what kind a value is, and, for a tensor, of which shape and dtype.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Spec {
    Tensor(TensorForm),
    Other(Box<Cow<'static, str>>),
    /// Not looked at, or there is no value yet: anything fits.
    Unknown,
}

impl Spec {
    pub(crate) fn of(value: &Value) -> Self {
        match value {
            Value::Tensor(tensor) => Self::Tensor(tensor.form().clone()),
            Value::Described(described) => Self::Tensor(described.form().clone()),
            Value::Absent => Self::Unknown,
            other => Self::Other(Box::new(other.kind().into())),
        }
    }

    pub(crate) fn fits(&self, leaf: &Leaf) -> bool {
        match (self, &leaf.value) {
            (Self::Tensor(form), value) => value.tensor_form() == Some(form),
            (Self::Other(kind), value) => **kind == value.kind(),
            (Self::Unknown, _) => true,
        }
    }
}

/// A leaf in words: its type, and the shape and dtype or kind of its value.
pub(crate) fn described(leaf: &Leaf) -> String {
    match &leaf.value {
        Value::Absent => format!("{} without a value", leaf.kind),
        Value::Described(_) => format!("{}{}, not made yet", leaf.kind, Spec::of(&leaf.value)),
        value => format!("{}{}", leaf.kind, Spec::of(value)),
    }
}

impl fmt::Display for Spec {
    /// What follows the type's name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tensor(form) => write!(f, " {form}"),
            Self::Other(kind) => write!(f, " {kind}"),
            Self::Unknown => Ok(()),
        }
    }
}

impl fmt::Display for Structure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Module(name) => write!(f, "a `{name}`"),
            Self::Variant(names) => write!(f, "a `{}::{}`", names.0, names.1),
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
            Self::Variable { kind, spec, .. } => write!(f, "a variable {kind}{spec}"),
            Self::VariableRef(_) => f.write_str("a shared variable"),
            Self::Tensor(spec) => write!(f, "a bare tensor{spec}"),
            Self::Shared | Self::SharedRef(_) => f.write_str("a shared part"),
            Self::Weak(_) => f.write_str("a weak reference"),
            Self::Dynamic(module) => write!(f, "a boxed `{}`", module.name()),
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
            (Self::Weak(a), Self::Weak(b)) => a == b,
            (Self::Dynamic(a), Self::Dynamic(b)) => a.name() == b.name(),
            (Self::Exit, Self::Exit)
            | (Self::Some, Self::Some)
            | (Self::None, Self::None)
            | (Self::Tensor(_), Self::Tensor(_))
            | (Self::Shared, Self::Shared) => true,
            _ => false,
        }
    }
}

impl Hash for Def {
    /// As much as equality looks at, but for static values of a type of their own: equal ones need not have anything in
    /// common that could be hashed.
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::mem::discriminant(self).hash(state);
        match self {
            Self::Enter(structure) => structure.hash(state),
            Self::Attribute(attribute) => attribute.hash_plain(state),
            Self::Flag(on) => on.hash(state),
            Self::Variable { kind, metadata, .. } => {
                kind.hash(state);
                if !metadata.is_empty() {
                    metadata.hash(state);
                }
            }
            Self::VariableRef(number) | Self::SharedRef(number) => number.hash(state),
            Self::Weak(number) => number.hash(state),
            Self::Dynamic(module) => module.name().hash(state),
            Self::Exit | Self::Some | Self::None | Self::Tensor(_) | Self::Shared | Self::Device(_) => {}
        }
    }
}

impl Def {
    /// True if another entry under the same key follows, which says what it is.
    pub(crate) fn goes_on(&self) -> bool {
        matches!(self, Self::Some | Self::Shared | Self::Dynamic(_))
    }
}

impl Program {
    /// The name of the module that this describes, if it is one.
    pub fn module_name(&self) -> Option<&str> {
        match &self.entries.iter().find(|entry| !entry.def.goes_on())?.def {
            Def::Enter(Structure::Module(name)) => Some(name),
            Def::Enter(Structure::Variant(names)) => Some(&names.0),
            _ => None,
        }
    }

    /// The same with another dtype for floating point variables and bare tensors: what describes a module whose values are
    /// converted.
    #[must_use]
    pub fn with_float_dtype(mut self, dtype: DType) -> Self {
        for entry in &mut self.entries {
            if let Def::Variable { spec: Spec::Tensor(form), .. } | Def::Tensor(Spec::Tensor(form)) =
                &mut entry.def
                && form.dtype().is_float()
            {
                *form = TensorForm::new(dtype, &form.dims());
            }
        }
        self
    }

    /// Calls `f` with every entry but the ends of nodes, and its path.
    pub(crate) fn try_for_each<'a, E>(
        &'a self,
        mut f: impl FnMut(&Path, &'a Def) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut path = Path::root();
        let mut depth = 0usize;
        for Entry { key, def } in &self.entries {
            if matches!(def, Def::Exit) {
                path.pop();
                depth = depth.saturating_sub(1);
                continue;
            }
            // The whole has a key too, which says nothing.
            if depth > 0 {
                path.push(key.clone());
            }
            f(&path, def)?;
            if matches!(def, Def::Enter(_)) {
                depth += 1;
            } else if depth > 0 {
                path.pop();
            }
        }
        Ok(())
    }

    /// [`Program::try_for_each`] of what does not fail.
    pub(crate) fn for_each<'a>(&'a self, mut f: impl FnMut(&Path, &'a Def)) {
        let Ok(()) = self.try_for_each(|path, def| {
            f(path, def);
            Ok::<_, std::convert::Infallible>(())
        });
    }

    /// The same with values of whatever shape and dtype.
    pub(crate) fn without_specs(&self) -> Self {
        let entries = self.entries.iter().map(|entry| {
            let def = match &entry.def {
                Def::Variable { kind, metadata, .. } => {
                    Def::Variable { kind: *kind, metadata: metadata.clone(), spec: Spec::Unknown }
                }
                Def::Tensor(_) => Def::Tensor(Spec::Unknown),
                other => other.clone(),
            };
            Entry { key: entry.key.clone(), def }
        });
        Self { entries: entries.collect() }
    }

    /// The paths of all values, in order.
    pub(crate) fn value_paths(&self) -> Vec<Path> {
        let mut paths = Vec::new();
        self.for_each(|path, def| {
            if matches!(def, Def::Variable { .. } | Def::Tensor(_)) {
                paths.push(path.clone());
            }
        });
        paths.sort();
        paths
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_small() {
        // A large model has many: memory is what a split costs most.
        assert!(size_of::<Entry>() <= 64, "{}", size_of::<Entry>());
    }
}
