use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{PoisonError, RwLock};

/// The type of a variable: a name, a collection, and perhaps a parent type.
///
/// Types form a hierarchy: `LoraParam` [is a](VariableType::is) `Param`. Flax uses subclasses of
/// `nnx.Variable` for this. A copy is one pointer.
///
/// Declare one with [`kinds!`](crate::kinds), or look one up, and make it if need be, from a collection's
/// name:
///
/// ```
/// use bridge_vars::{Param, VariableType};
/// assert_eq!(VariableType::from_collection("params"), Param::variable_type());
/// assert_eq!(VariableType::from_collection("memory").collection(), "memory");
/// ```
#[doc(alias = "variable_type_from_name")]
#[derive(Clone, Copy)]
pub struct VariableType(&'static Info);

struct Info {
    name: &'static str,
    collection: &'static str,
    parent: Option<VariableType>,
    declared: bool,
}

// The one global: types are the same for the whole process, and there are only as many as names.
static REGISTRY: RwLock<Vec<VariableType>> = RwLock::new(Vec::new());

impl VariableType {
    /// The type with this name, collection and parent; made on the first call.
    pub fn declare(name: &'static str, collection: &'static str, parent: Option<VariableType>) -> Self {
        let same = |known: &VariableType| {
            known.0.declared
                && known.name() == name
                && known.collection() == collection
                && known.parent() == parent
        };
        Self::find_or_add(same, || Info { name, collection, parent, declared: true })
    }

    /// The type of a collection; an unknown one gets a type of its own, named like the collection.
    #[doc(alias = "variable_type_from_name")]
    pub fn from_collection(collection: &str) -> Self {
        crate::kind::declare_built_in();
        Self::find_or_add(
            |known| known.collection() == collection,
            || {
                let collection: &'static str = Box::leak(collection.into());
                Info { name: collection, collection, parent: None, declared: false }
            },
        )
    }

    /// The type with this name in this collection, as a file names it; made if it is unknown.
    pub fn from_name_and_collection(name: &str, collection: &str) -> Self {
        crate::kind::declare_built_in();
        Self::find_or_add(
            |known| known.name() == name && known.collection() == collection,
            || Info {
                name: Box::leak(name.into()),
                collection: Box::leak(collection.into()),
                parent: None,
                declared: false,
            },
        )
    }

    fn find_or_add(matches: impl Fn(&VariableType) -> bool, make: impl FnOnce() -> Info) -> Self {
        // A declared type wins over one that was made up from a collection's name before.
        let find = |known: &[VariableType]| {
            let mut found = known.iter().copied().filter(|known| matches(known));
            let first = found.next();
            first.filter(|first| first.0.declared).or_else(|| found.find(|other| other.0.declared)).or(first)
        };
        if let Some(known) = find(&REGISTRY.read().unwrap_or_else(PoisonError::into_inner)) {
            return known;
        }
        let mut registry = REGISTRY.write().unwrap_or_else(PoisonError::into_inner);
        find(&registry).unwrap_or_else(|| {
            let made = Self(Box::leak(Box::new(make())));
            registry.push(made);
            made
        })
    }

    /// The name: `Param`.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// The collection that variables of exactly this type live in: `params`.
    #[doc(alias = "variable_name_from_type")]
    pub fn collection(self) -> &'static str {
        self.0.collection
    }

    /// The type that this one is a special case of.
    pub fn parent(self) -> Option<VariableType> {
        self.0.parent
    }

    /// True if this type is `other` or descends from it.
    pub fn is(self, other: VariableType) -> bool {
        let same = |kind: VariableType| {
            kind == other || (!kind.0.declared && kind.collection() == other.collection())
        };
        std::iter::successors(Some(self), |kind| kind.parent()).any(same)
    }

    /// The number of ancestors: a more derived type has more.
    pub fn depth(self) -> usize {
        std::iter::successors(self.parent(), |kind| kind.parent()).count()
    }
}

impl PartialEq for VariableType {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.0, other.0)
    }
}
impl Eq for VariableType {}
impl Hash for VariableType {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name().hash(state);
        self.collection().hash(state);
    }
}
impl fmt::Display for VariableType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
impl fmt::Debug for VariableType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        BatchStat, Intermediate, LoraParam, Param, Perturbation, RngKey, RngState, VariableType, kinds,
    };

    kinds! {
        /// A memory.
        Memory(MemoryKind) in "test_memories";
        /// A short one.
        ShortMemory(ShortMemoryKind) in "test_short_memories": Memory;
    }

    #[test]
    fn descends_from_its_parents() {
        let is = VariableType::is;
        assert!(is(LoraParam::variable_type(), Param::variable_type()));
        assert!(!is(Param::variable_type(), LoraParam::variable_type()));
        assert!(is(Perturbation::variable_type(), Intermediate::variable_type()));
        assert!(is(RngKey::variable_type(), RngState::variable_type()));
        assert!(!is(BatchStat::variable_type(), Param::variable_type()));
        assert!(is(ShortMemory::variable_type(), Memory::variable_type()));
        assert_eq!(ShortMemory::variable_type().depth(), 1);
    }

    #[test]
    fn a_collection_has_one_type_whichever_came_first() {
        let made_up = VariableType::from_collection("test_memories");
        assert!(made_up.is(Memory::variable_type()));
        assert_eq!(VariableType::from_collection("test_memories"), Memory::variable_type());
        assert_eq!(VariableType::from_collection("batch_stats"), BatchStat::variable_type());
        assert_eq!(VariableType::from_collection("x1"), VariableType::from_collection("x1"));
    }
}
