use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{OnceLock, PoisonError, RwLock};

use crate::Name;
use crate::kind::built_in;

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
    collection: &'static str,
    /// As a declaration or, until there is one, a file has it; unset while only the collection is known.
    name: OnceLock<&'static str>,
    /// Set once the type is declared, perhaps after a file or a collection's name made it known.
    parent: OnceLock<Option<VariableType>>,
}

/// The types of one collection.
#[derive(Default)]
struct Types {
    named: BTreeMap<&'static str, Vec<VariableType>>,
    /// What the collection's name stands for.
    main: Option<VariableType>,
}

// The one global: types are the same for the whole process, and there are only as many as names.
static REGISTRY: RwLock<BTreeMap<&'static str, Types>> = RwLock::new(BTreeMap::new());

impl VariableType {
    /// The type with this name, collection and parent; made on the first call.
    ///
    /// A type that is known so far by this name from a file, or by its collection alone, becomes this one.
    pub fn declare(name: &'static str, collection: &'static str, parent: Option<VariableType>) -> Self {
        let mut registry = REGISTRY.write().unwrap_or_else(PoisonError::into_inner);
        let types = registry.entry(collection).or_default();
        let of_name = types.named.get(name).map_or(&[][..], Vec::as_slice);
        let known = of_name.iter().find(|known| *known.0.parent.get_or_init(|| parent) == parent).copied();
        let declared = known.unwrap_or_else(|| {
            let made = types.add(name, collection);
            made.0.parent.get_or_init(|| parent);
            made
        });
        let among_its_own =
            |kind: VariableType| kind.ancestors().any(|ancestor| ancestor.collection() == collection);
        if types.main.is_none_or(|main| {
            main.0.parent.get().is_none() || among_its_own(main) && !among_its_own(declared)
        }) {
            types.main = Some(declared);
        }
        declared
    }

    /// The type that a collection's name stands for.
    ///
    /// That is the built-in type of the collection; else the type declared for it, of several the first
    /// that descends from none of the others; else, until one is declared, the first that a file named; else
    /// a type of its own, named like the collection, which the first declaration for the collection, or the
    /// first name in a file, makes its own.
    #[doc(alias = "variable_type_from_name")]
    pub fn from_collection(collection: &str) -> Self {
        if let Some(built_in) = built_in().iter().find(|kind| kind.collection() == collection) {
            return *built_in;
        }
        let registry = REGISTRY.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(main) = registry.get(collection).and_then(|types| types.main) {
            return main;
        }
        drop(registry);
        let mut registry = REGISTRY.write().unwrap_or_else(PoisonError::into_inner);
        let (collection, types) = entry(&mut registry, collection);
        *types.main.get_or_insert_with(|| Self::unnamed(collection))
    }

    /// The type with this name in this collection, as a file names it; made if it is unknown.
    ///
    /// A name like the collection's, which no type of it has, is [the collection's
    /// type](VariableType::from_collection).
    pub fn from_name_and_collection(name: &str, collection: &str) -> Self {
        // A file may come before anything of the built-in types was made.
        built_in();
        let find = |types: &Types| types.named.get(name)?.first().copied();
        let registry = REGISTRY.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = registry.get(collection).and_then(find) {
            return known;
        }
        drop(registry);
        if name == collection {
            return Self::from_collection(collection);
        }
        let mut registry = REGISTRY.write().unwrap_or_else(PoisonError::into_inner);
        let (collection, types) = entry(&mut registry, collection);
        // Another thread may have been first.
        find(types).unwrap_or_else(|| types.add(String::leak(name.into()), collection))
    }

    fn unnamed(collection: &'static str) -> Self {
        Self(Box::leak(Box::new(Info { collection, name: OnceLock::new(), parent: OnceLock::new() })))
    }

    fn ancestors(self) -> impl Iterator<Item = VariableType> {
        std::iter::successors(self.parent(), |kind| kind.parent())
    }

    /// The name: `Param`.
    pub fn name(self) -> &'static str {
        self.0.name.get().copied().unwrap_or(self.0.collection)
    }

    /// The collection that variables of exactly this type live in: `params`.
    #[doc(alias = "variable_name_from_type")]
    pub fn collection(self) -> &'static str {
        self.0.collection
    }

    /// The collection's name, for a path.
    pub fn collection_name(self) -> Name {
        Name::from_static(&self.0.collection)
    }

    /// The type that this one is a special case of.
    pub fn parent(self) -> Option<VariableType> {
        *self.0.parent.get()?
    }

    /// True if this type is `other` or descends from it.
    pub fn is(self, other: VariableType) -> bool {
        self == other || self.ancestors().any(|kind| kind == other)
    }

    /// The number of ancestors: a more derived type has more.
    pub fn depth(self) -> usize {
        self.ancestors().count()
    }
}

impl Types {
    /// A type with a name that none has; it is the collection's own one while that has no name.
    fn add(&mut self, name: &'static str, collection: &'static str) -> VariableType {
        let unnamed = self.main.filter(|main| main.0.name.get().is_none());
        let added = unnamed.unwrap_or_else(|| VariableType::unnamed(collection));
        added.0.name.get_or_init(|| name);
        self.named.entry(name).or_default().push(added);
        self.main.get_or_insert(added);
        added
    }
}

fn entry<'a>(
    registry: &'a mut BTreeMap<&'static str, Types>,
    collection: &str,
) -> (&'static str, &'a mut Types) {
    let known = registry.get_key_value(collection).map(|(known, _)| *known);
    let collection = known.unwrap_or_else(|| String::leak(collection.into()));
    (collection, registry.entry(collection).or_default())
}

impl PartialEq for VariableType {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.0, other.0)
    }
}
impl Eq for VariableType {}
impl Hash for VariableType {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Not the name, which a declaration may change.
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
        assert_eq!(VariableType::from_name_and_collection("test_twice", "test_twice"), first);
        let other_second = VariableType::declare("Second", "test_twice", Some(first));
        assert_ne!(other_second, second);
        assert_eq!(VariableType::declare("Second", "test_twice", Some(first)), other_second);
    }

    #[test]
    fn a_type_from_a_file_is_no_other_of_its_collection() {
        let read = |name| VariableType::from_name_and_collection(name, "params");
        let (before, other) = (read("TestScale"), read("TestShift"));
        assert_eq!((before.name(), before.collection(), before.depth()), ("TestScale", "params", 0));
        assert!(before != Param::variable_type() && before != other);
        let declare = |name| VariableType::declare(name, "params", Some(Param::variable_type()));
        assert_eq!(declare("TestScale"), before);
        assert!(before.is(Param::variable_type()) && !other.is(Param::variable_type()));
        let gain = declare("TestGain");
        assert!(gain != other);
        assert_eq!((read("TestGain"), read("TestShift")), (gain, other));
        // A built-in type is what its collection's name stands for, whatever else lives there.
        assert_eq!(VariableType::from_collection("params"), Param::variable_type());
        assert_eq!(read("params"), Param::variable_type());
        assert_eq!(VariableType::from_name_and_collection("Param", "params"), Param::variable_type());
    }

    /// What a collection's name stands for, whichever of a file, the name and the declarations came first.
    #[test]
    fn a_collection_stands_for_the_most_general_of_its_types() {
        let check = |collection: &'static str, order: &str| {
            let name = |name| VariableType::from_name_and_collection(name, collection);
            let declare = |name, parent| VariableType::declare(name, collection, parent);
            for step in order.chars() {
                match step {
                    'c' => drop(VariableType::from_collection(collection)),
                    'g' => drop(name("General")),
                    's' => drop(name("Special")),
                    'G' => drop(declare("General", None)),
                    // The parent's name is enough to descend from it.
                    _ => drop(declare("Special", Some(name("General")))),
                }
            }
            let (general, special) = (name("General"), name("Special"));
            assert!(general != special && special.is(general), "{order}");
            assert_eq!(VariableType::from_collection(collection), general, "{order}");
            assert_eq!((general.name(), special.name()), ("General", "Special"), "{order}");
        };
        check("test_stands_1", "GS");
        check("test_stands_2", "SG");
        check("test_stands_3", "gsGS");
        check("test_stands_4", "sgSG");
        check("test_stands_5", "cGS");
        check("test_stands_6", "cgsGS");
        check("test_stands_7", "sGcS");
    }

    #[test]
    fn a_type_of_a_collection_becomes_the_first_that_is_named() {
        let made_up = VariableType::from_collection("test_made_up");
        assert_eq!(made_up.name(), "test_made_up");
        let read = |name| VariableType::from_name_and_collection(name, "test_made_up");
        assert_eq!((read("test_made_up"), read("One")), (made_up, made_up));
        assert_ne!(read("Two"), made_up);
        assert_eq!((made_up.name(), VariableType::from_collection("test_made_up")), ("One", made_up));
        assert_eq!(VariableType::declare("Two", "test_made_up", None), read("Two"));
        assert_eq!(VariableType::from_collection("test_made_up"), read("Two"));
    }
}
