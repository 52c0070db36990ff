use std::collections::BTreeMap;

use bridge_vars::{Name, PathKey, Result, Tree, Variable, VariableKind, VariableOf};
use candle_core::Tensor;
use indexmap::IndexMap;

use crate::error::GraphError;
use crate::{Field, Source, Structure, Visit, Visitor};

impl Visit for Variable {
    fn visit(&self, visitor: &mut dyn Visitor) -> Result<()> {
        visitor.variable(self)
    }
}
impl Field for Variable {
    fn rebuild(source: &mut Source<'_>) -> Result<Self> {
        source.variable()
    }
}

impl<K: VariableKind> Visit for VariableOf<K> {
    fn visit(&self, visitor: &mut dyn Visitor) -> Result<()> {
        visitor.variable(self)
    }
}
impl<K: VariableKind> Field for VariableOf<K> {
    fn rebuild(source: &mut Source<'_>) -> Result<Self> {
        source.variable_of()
    }
}

impl Visit for Tensor {
    fn visit(&self, visitor: &mut dyn Visitor) -> Result<()> {
        visitor.tensor(self)
    }
}
impl Field for Tensor {
    fn rebuild(source: &mut Source<'_>) -> Result<Self> {
        source.tensor()
    }
}

impl<T: Visit> Visit for Option<T> {
    fn visit(&self, visitor: &mut dyn Visitor) -> Result<()> {
        visitor.optional(self.as_ref().map(|part| part as &dyn Visit))
    }
}
impl<T: Field> Field for Option<T> {
    fn rebuild(source: &mut Source<'_>) -> Result<Self> {
        Ok(if source.is_some()? { Some(T::rebuild(source)?) } else { None })
    }
}

impl<T: Visit + ?Sized> Visit for &T {
    fn visit(&self, visitor: &mut dyn Visitor) -> Result<()> {
        (**self).visit(visitor)
    }
}

impl<T: Visit> Visit for Box<T> {
    fn visit(&self, visitor: &mut dyn Visitor) -> Result<()> {
        (**self).visit(visitor)
    }
}
impl<T: Field> Field for Box<T> {
    fn rebuild(source: &mut Source<'_>) -> Result<Self> {
        T::rebuild(source).map(Box::new)
    }
}

fn visit_items<'a, T: Visit + 'a>(
    items: impl Iterator<Item = &'a T>,
    visitor: &mut dyn Visitor,
) -> Result<()> {
    visitor.enter(Structure::List, None)?;
    for (index, item) in items.enumerate() {
        visitor.child(&PathKey::Index(index), item)?;
    }
    visitor.exit()
}

impl<T: Visit> Visit for Vec<T> {
    fn visit(&self, visitor: &mut dyn Visitor) -> Result<()> {
        visit_items(self.iter(), visitor)
    }
}
impl<T: Field> Field for Vec<T> {
    fn rebuild(source: &mut Source<'_>) -> Result<Self> {
        source.enter(&Structure::List)?;
        let mut items = Vec::new();
        while source.peek_child().is_some() {
            items.push(source.child(&PathKey::Index(items.len()))?);
        }
        source.exit()?;
        Ok(items)
    }
}

impl<T: Visit, const N: usize> Visit for [T; N] {
    fn visit(&self, visitor: &mut dyn Visitor) -> Result<()> {
        visit_items(self.iter(), visitor)
    }
}
impl<T: Field, const N: usize> Field for [T; N] {
    fn rebuild(source: &mut Source<'_>) -> Result<Self> {
        let items = Vec::<T>::rebuild(source)?;
        let found = items.len();
        Self::try_from(items).map_err(|_| source.unexpected(&format!("{N} items"), format!("{found}")))
    }
}

macro_rules! tuples {
    ($(($($name:ident $index:tt),+))+) => {$(
        impl<$($name: Visit),+> Visit for ($($name,)+) {
            fn visit(&self, visitor: &mut dyn Visitor) -> Result<()> {
                visitor.enter(Structure::Tuple, None)?;
                $(visitor.child(&PathKey::Index($index), &self.$index)?;)+
                visitor.exit()
            }
        }
        impl<$($name: Field),+> Field for ($($name,)+) {
            fn rebuild(source: &mut Source<'_>) -> Result<Self> {
                source.enter(&Structure::Tuple)?;
                let parts = ($(source.child::<$name>(&PathKey::Index($index))?,)+);
                source.exit()?;
                Ok(parts)
            }
        }
    )+};
}
tuples! {
    (A 0)
    (A 0, B 1)
    (A 0, B 1, C 2)
    (A 0, B 1, C 2, D 3)
    (A 0, B 1, C 2, D 3, E 4)
    (A 0, B 1, C 2, D 3, E 4, F 5)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11)
}

impl Visit for () {
    fn visit(&self, visitor: &mut dyn Visitor) -> Result<()> {
        visitor.enter(Structure::Tuple, None)?;
        visitor.exit()
    }
}
impl Field for () {
    fn rebuild(source: &mut Source<'_>) -> Result<Self> {
        source.enter(&Structure::Tuple)?;
        source.exit()
    }
}

/// The entries of a map that is, or is not, in order of its keys.
fn visit_entries<'a, T: Visit + 'a>(
    entries: impl Iterator<Item = (PathKey, &'a T)>,
    structure: impl FnOnce(&[(PathKey, &'a T)]) -> Structure,
    visitor: &mut dyn Visitor,
) -> Result<()> {
    let mut entries: Vec<_> = entries.collect();
    visitor.enter(structure(&entries), None)?;
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    if let Some(key) = entries.windows(2).find_map(|two| match two {
        [(a, _), (b, _)] if a == b => Some(a),
        _ => None,
    }) {
        let (expected, found) = ("a step of its own for every key".into(), format!("two for `{key}`"));
        return Err(GraphError::Structure { path: key.clone().into(), expected, found }.into());
    }
    for (key, value) in entries {
        visitor.child(&key, value)?;
    }
    visitor.exit()
}

/// The entries of a map that was entered.
fn rebuild_entries<K: MapKey, T: Field, M: Default + Extend<(K, T)>>(source: &mut Source<'_>) -> Result<M> {
    let mut entries = M::default();
    while let Some(key) = source.peek_child() {
        let name = map_key(key, source)?;
        entries.extend([(name, source.child(key)?)]);
    }
    source.exit()?;
    Ok(entries)
}

fn map_key<K: MapKey>(key: &PathKey, source: &Source<'_>) -> Result<K> {
    K::from_path_key(key).ok_or_else(|| {
        source.unexpected(&format!("a key of type {}", std::any::type_name::<K>()), format!("`{key}`"))
    })
}

/// What can be the key of a map of modules or variables.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can not be the key of a map of modules or variables",
    note = "use `String` or an integer as the key, or write `impl MapKey for {Self}`"
)]
pub trait MapKey: Ord + std::hash::Hash + Send + Sync + 'static {
    /// The step of the path; each key has one of its own.
    fn to_path_key(&self) -> PathKey;
    /// The key of a step, if it is of this type.
    fn from_path_key(key: &PathKey) -> Option<Self>
    where
        Self: Sized;
}
impl MapKey for String {
    fn to_path_key(&self) -> PathKey {
        self.as_str().into()
    }
    fn from_path_key(key: &PathKey) -> Option<Self> {
        Name::from_path_key(key).map(|name| name.to_string())
    }
}
impl MapKey for Name {
    fn to_path_key(&self) -> PathKey {
        self.clone().into()
    }
    fn from_path_key(key: &PathKey) -> Option<Self> {
        match key {
            PathKey::Name(name) => Some(name.clone()),
            PathKey::Index(_) => None,
        }
    }
}
macro_rules! integer_keys {
    ($($type:ty),*) => {$(
        impl MapKey for $type {
            /// The index; a number that is none, such as a negative one, is a name.
            fn to_path_key(&self) -> PathKey {
                match usize::try_from(*self) {
                    Ok(index) => index.into(),
                    Err(_) => self.to_string().as_str().into(),
                }
            }
            fn from_path_key(key: &PathKey) -> Option<Self> {
                match key {
                    PathKey::Index(index) => (*index).try_into().ok(),
                    PathKey::Name(name) => {
                        name.parse().ok().filter(|number: &Self| number.to_path_key() == *key)
                    }
                }
            }
        }
    )*};
}
integer_keys!(u8, u16, u32, u64, i8, i16, i32, i64, isize);

impl MapKey for usize {
    fn to_path_key(&self) -> PathKey {
        (*self).into()
    }
    fn from_path_key(key: &PathKey) -> Option<Self> {
        match key {
            PathKey::Index(index) => Some(*index),
            PathKey::Name(_) => None,
        }
    }
}

impl<K: MapKey, T: Visit> Visit for BTreeMap<K, T> {
    fn visit(&self, visitor: &mut dyn Visitor) -> Result<()> {
        let entries = self.iter().map(|(key, value)| (key.to_path_key(), value));
        visit_entries(entries, |_| Structure::Map, visitor)
    }
}
impl<K: MapKey, T: Field> Field for BTreeMap<K, T> {
    fn rebuild(source: &mut Source<'_>) -> Result<Self> {
        source.enter(&Structure::Map)?;
        rebuild_entries(source)
    }
}

// A model may go through its parts in the order in which they were put in, so that order is a part of it.
impl<K: MapKey, T: Visit> Visit for IndexMap<K, T> {
    fn visit(&self, visitor: &mut dyn Visitor) -> Result<()> {
        let entries = self.iter().map(|(key, value)| (key.to_path_key(), value));
        let order = |entries: &[(PathKey, &T)]| entries.iter().map(|(key, _)| key.clone()).collect();
        visit_entries(entries, |entries| Structure::OrderedMap(order(entries)), visitor)
    }
}
impl<K: MapKey, T: Field> Field for IndexMap<K, T> {
    fn rebuild(source: &mut Source<'_>) -> Result<Self> {
        let order = source.enter_ordered_map()?;
        let mut sorted: IndexMap<K, T> = rebuild_entries(source)?;
        let mut entries = Self::with_capacity(sorted.len());
        for key in order.iter() {
            let (name, value) = sorted.swap_remove_entry(&map_key::<K>(key, source)?).ok_or_else(|| {
                source.unexpected(&format!("one entry `{key}`"), "none, or it twice in the order".into())
            })?;
            entries.insert(name, value);
        }
        match sorted.first() {
            None => Ok(entries),
            Some((key, _)) => Err(source.unexpected(
                "a place in the order for each entry",
                format!("none for `{}`", key.to_path_key()),
            )),
        }
    }
}

// Variables whose names are not known when a module is written, such as those of a wrapped one.
impl Visit for Tree<Variable> {
    fn visit(&self, visitor: &mut dyn Visitor) -> Result<()> {
        match self {
            Self::Leaf(variable) => visitor.variable(variable),
            Self::Node(node) => {
                visitor.enter(Structure::Map, None)?;
                for (key, child) in node.children() {
                    visitor.child(key, child)?;
                }
                visitor.exit()
            }
        }
    }
}
impl Field for Tree<Variable> {
    fn rebuild(source: &mut Source<'_>) -> Result<Self> {
        if source.peek_variable() {
            return source.variable().map(Self::Leaf);
        }
        source.enter(&Structure::Map)?;
        let mut tree = Self::default();
        while let Some(key) = source.peek_child() {
            tree.insert_tree(&key.clone().into(), source.child(key)?)?;
        }
        source.exit()?;
        Ok(tree)
    }
}
