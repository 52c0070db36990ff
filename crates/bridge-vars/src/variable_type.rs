use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{OnceLock, PoisonError, RwLock};

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
    /// The name until there is a declaration.
    name: &'static str,
    collection: &'static str,
    /// Set once, perhaps after a file or a collection's name made the type known.
    declaration: OnceLock<Declaration>,
}

#[derive(PartialEq)]
struct Declaration {
    name: &'static str,
    parent: Option<VariableType>,
}

// The one global: types are the same for the whole process, and there are only as many as names.
static REGISTRY: RwLock<Vec<VariableType>> = RwLock::new(Vec::new());

impl VariableType {
    /// The type with this name, collection and parent; made on the first call.
    ///
    /// A type that is known by its collection alone so far, from a file or a functional module, becomes this
    /// one. A collection has one type: where two are declared for it, the first is what the collection's
    /// name stands for.
    pub fn declare(name: &'static str, collection: &'static str, parent: Option<VariableType>) -> Self {
        let declaration = Declaration { name, parent };
        let mut registry = REGISTRY.write().unwrap_or_else(PoisonError::into_inner);
        for known in registry.iter().filter(|known| known.collection() == collection) {
            if *known.0.declaration.get_or_init(|| Declaration { name, parent }) == declaration {
                return *known;
            }
        }
        let info = Info { name, collection, declaration: OnceLock::from(declaration) };
        let made = Self(Box::leak(Box::new(info)));
        registry.push(made);
        made
    }

    /// The type of a collection; an unknown one gets a type of its own, named like the collection.
    #[doc(alias = "variable_type_from_name")]
    pub fn from_collection(collection: &str) -> Self {
        Self::from_name_and_collection(collection, collection)
    }

    /// The type with this name in this collection, as a file names it, or else the type of the collection;
    /// made if both are unknown.
    pub fn from_name_and_collection(name: &str, collection: &str) -> Self {
        crate::kind::declare_built_in();
        let find = |known: &[VariableType]| {
            let in_collection = || known.iter().filter(|known| known.collection() == collection);
            in_collection().find(|known| known.name() == name).or_else(|| in_collection().next()).copied()
        };
        if let Some(known) = find(&REGISTRY.read().unwrap_or_else(PoisonError::into_inner)) {
            return known;
        }
        let mut registry = REGISTRY.write().unwrap_or_else(PoisonError::into_inner);
        find(&registry).unwrap_or_else(|| {
            let (name, collection) = (Box::leak(name.into()), Box::leak(collection.into()));
            let made = Self(Box::leak(Box::new(Info { name, collection, declaration: OnceLock::new() })));
            registry.push(made);
            made
        })
    }

    /// The name: `Param`.
    pub fn name(self) -> &'static str {
        self.0.declaration.get().map_or(self.0.name, |declaration| declaration.name)
    }

    /// The collection that variables of exactly this type live in: `params`.
    #[doc(alias = "variable_name_from_type")]
    pub fn collection(self) -> &'static str {
        self.0.collection
    }

    /// The type that this one is a special case of.
    pub fn parent(self) -> Option<VariableType> {
        self.0.declaration.get()?.parent
    }

    /// True if this type is `other` or descends from it.
    pub fn is(self, other: VariableType) -> bool {
        std::iter::successors(Some(self), |kind| kind.parent()).any(|kind| kind == other)
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
        kinds! {
            Late(LateKind) in "test_late": Param;
        }
        let from_file = VariableType::from_name_and_collection("Late", "test_late");
        let made_up = VariableType::from_collection("test_late");
        assert!(!from_file.is(Param::variable_type()));
        assert_eq!(from_file, Late::variable_type());
        assert_eq!(made_up, Late::variable_type());
        assert!(from_file.is(Param::variable_type()));
        assert_eq!((made_up.name(), made_up.depth()), ("Late", 1));
        assert_eq!(VariableType::from_collection("batch_stats"), BatchStat::variable_type());
        assert_eq!(VariableType::from_collection("x1"), VariableType::from_collection("x1"));
    }

    #[test]
    fn two_declarations_for_one_collection_stay_apart() {
        let first = VariableType::declare("First", "test_twice", None);
        let second = VariableType::declare("Second", "test_twice", None);
        assert_ne!(first, second);
        assert_eq!(VariableType::from_collection("test_twice"), first);
        assert_eq!(VariableType::from_name_and_collection("Second", "test_twice"), second);
    }
}
