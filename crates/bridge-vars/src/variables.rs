use std::collections::BTreeSet;

use crate::error::VarsError;
use crate::state::identical;
use crate::{Filter, Leaf, Name, Node, Path, PathKey, Result, State, Tree, VariableType};

/// What a functional module's `init` returns and its `apply` takes: from collection and path to leaf.
///
/// A leaf is in the collection of its type. A clone is one reference count.
///
/// ```
/// use bridge_vars::{Param, Path, Variables};
/// use candle_core::{Device, Tensor};
/// let mut variables = Variables::default();
/// let kernel = Param::leaf(Tensor::new(1f32, &Device::Cpu)?);
/// variables.insert(&Path::from("Dense_0.kernel"), kernel)?;
/// assert_eq!(variables.collections().collect::<Vec<_>>(), ["params"]);
/// assert_eq!(variables.get("params", "Dense_0.kernel")?.tensor()?.to_scalar::<f32>()?, 1.);
/// # Ok::<(), bridge_vars::Error>(())
/// ```
#[doc(alias("FrozenDict", "VariableDict"))]
#[derive(Clone, Debug, Default)]
pub struct Variables(Tree<Leaf>);

impl Variables {
    /// The tree; its first keys are the collections' names.
    pub fn tree(&self) -> &Tree<Leaf> {
        &self.0
    }

    /// The leaves of a tree grouped by their types' collections, one walk a collection.
    #[doc(hidden)]
    pub fn grouped<T>(tree: &Tree<T>, kind: impl Fn(&T) -> VariableType, leaf: impl Fn(&T) -> Leaf) -> Self {
        // Many trees are of one collection: that is found out on the way.
        if let Some(first) = first_leaf(tree) {
            let first = kind(first);
            let one = map_all(tree, &|value: &T| {
                let kind = kind(value);
                (kind == first || kind.collection() == first.collection()).then(|| leaf(value))
            });
            if let Some(one) = one {
                let collection = PathKey::Name(first.collection_name());
                return Self(Tree::Node(Node::from_sorted([(collection, one)])));
            }
        }
        let mut collections: Vec<Name> = Vec::new();
        let Ok(()) = tree.try_for_each::<std::convert::Infallible>(|_, value| {
            let collection = kind(value).collection_name();
            if let Err(at) = collections.binary_search(&collection) {
                collections.insert(at, collection);
            }
            Ok(())
        });
        let group = |collection: Name| {
            let group =
                |_: &Path, value: &T| Ok((kind(value).collection() == &*collection).then(|| leaf(value)));
            let Ok(tree) = tree.try_filter_map::<_, std::convert::Infallible>(group);
            (PathKey::Name(collection.clone()), tree)
        };
        Self(Tree::Node(Node::from_sorted(collections.into_iter().map(group))))
    }

    /// The names of the collections, in order.
    pub fn collections(&self) -> impl Iterator<Item = &str> {
        let children = match &self.0 {
            Tree::Node(node) => node.children(),
            Tree::Leaf(_) => &[],
        };
        children.iter().filter_map(|(key, _)| match key {
            PathKey::Name(name) => Some(name.as_str()),
            PathKey::Index(_) => None,
        })
    }

    /// What a collection holds.
    pub fn collection(&self, name: &Name) -> Option<&Tree<Leaf>> {
        self.0.child(&PathKey::Name(name.clone()))
    }

    /// What is below a path in each collection that has something there: the variables of a part, for the part alone.
    ///
    /// # Errors
    /// [`VarsError::PathNotFound`] if no collection has anything there.
    #[doc(alias = "unbind")]
    pub fn subtree(&self, path: impl Into<Path>) -> Result<Self> {
        let path = path.into();
        let mut part = Self::default();
        for collection in self.collections() {
            if let Some(tree @ Tree::Node(_)) = self.0.subtree(&in_collection(collection, &path)) {
                part.0.insert_tree(&Path::from(PathKey::from(collection)), tree.clone())?;
            }
        }
        match part.is_empty() {
            false => Ok(part),
            true => {
                let below = |path: Path| path.keys().iter().skip(1).cloned().collect::<Path>();
                let parts = self.iter().filter_map(|(leaf, _)| {
                    let mut path = below(leaf);
                    path.pop().map(|_| path)
                });
                let close = path.similar(parts.collect::<BTreeSet<_>>());
                Err(VarsError::PathNotFound { path, close }.into())
            }
        }
    }

    /// The number of leaves.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True without leaves.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Every leaf with its path, which starts with the collection's name; in order.
    pub fn iter(&self) -> impl Iterator<Item = (Path, &Leaf)> {
        self.0.iter()
    }

    /// The leaf at a path in a collection.
    ///
    /// # Errors
    /// [`VarsError::PathNotFound`], with paths that look like it.
    pub fn get(&self, collection: &str, path: impl Into<Path>) -> Result<&Leaf> {
        let path = in_collection(collection, &path.into());
        self.0.get(&path).ok_or_else(|| {
            let close = path.similar(self.iter().map(|(path, _)| path));
            VarsError::PathNotFound { path, close }.into()
        })
    }

    /// Puts a leaf at a path in its type's collection; gives back the one that was there.
    ///
    /// # Errors
    /// [`VarsError::PathConflict`].
    pub fn insert(&mut self, path: &Path, leaf: Leaf) -> Result<Option<Leaf>> {
        self.0.insert(&in_collection(leaf.kind.collection(), path), leaf)
    }

    /// Takes the leaf at a path in a collection away.
    ///
    /// # Errors
    /// [`VarsError::PathNotFound`], with paths that look like it.
    pub fn remove(&mut self, collection: &str, path: impl Into<Path>) -> Result<Leaf> {
        let path = path.into();
        self.get(collection, &path)?;
        let path = in_collection(collection, &path);
        match self.0.remove(&path) {
            Some(Tree::Leaf(leaf)) => Ok(leaf),
            _ => Err(VarsError::PathNotFound { path, close: Vec::new() }.into()),
        }
    }

    /// The leaves that a filter matches; paths begin with the collection's name.
    #[must_use]
    pub fn filter(&self, filter: impl Into<Filter>) -> Self {
        Self(State::from(self.0.clone()).filter(filter).into())
    }

    /// Only these collections.
    #[must_use]
    pub fn filter_collections(&self, keep: impl Fn(&str) -> bool) -> Self {
        let mut kept = self.clone();
        for collection in self.collections().filter(|name| !keep(name)) {
            kept.0.remove(&in_collection(collection, &Path::root()));
        }
        kept
    }

    /// These variables with the other's put over them: a leaf that both hold comes from the other.
    ///
    /// # Errors
    /// [`VarsError::PathConflict`].
    #[doc(alias("update", "merge"))]
    pub fn updated(&self, other: &Variables) -> Result<Self> {
        let mut updated = self.clone();
        other.0.try_for_each(|path, leaf| updated.0.insert(path, leaf.clone()).map(|_| ()))?;
        Ok(updated)
    }

    /// All collections in one state, by path; the types keep them apart.
    ///
    /// # Errors
    /// [`VarsError::DuplicatePath`] if two collections hold the same path.
    #[doc(alias = "linen_vars_to_nnx_attrs")]
    pub fn to_state(&self) -> Result<State> {
        let mut state = State::default();
        self.0.try_for_each(|path, leaf| {
            let below = path.keys().get(1..).unwrap_or_default().iter().cloned().collect();
            state.insert_new(&below, leaf.clone())
        })?;
        Ok(state)
    }

    /// The same paths with other leaves.
    ///
    /// # Errors
    /// The first that `f` returns.
    pub fn map(&self, f: impl FnMut(&Path, &Leaf) -> Result<Leaf>) -> Result<Self> {
        self.0.try_map(f).map(Self)
    }

    /// The same variables, with those made that were only described.
    ///
    /// # Errors
    /// The first of [`Described::make`](crate::Described::make), with its path.
    #[doc(alias = "materialise")]
    pub fn materialize(&self) -> Result<Self> {
        self.map(|path, leaf| match leaf.value.materialized() {
            Ok(value) => Ok(leaf.with_value(value)),
            Err(error) => Err(error.at(path)),
        })
    }

    /// True if both have the same collections, paths, types, metadata and values, the values to the bit.
    ///
    /// # Errors
    /// If a tensor can not be read.
    pub fn identical(&self, other: &Self) -> Result<bool> {
        identical(&self.0, &other.0)
    }
}

impl From<Tree<Leaf>> for Variables {
    /// From a tree whose first keys are the names of the collections of the leaves' types.
    fn from(tree: Tree<Leaf>) -> Self {
        Self(tree)
    }
}
impl From<Variables> for Tree<Leaf> {
    fn from(variables: Variables) -> Self {
        variables.0
    }
}

/// The same tree of other leaves; nothing, if one leaf has none.
fn map_all<T, U>(tree: &Tree<T>, f: &impl Fn(&T) -> Option<U>) -> Option<Tree<U>> {
    Some(match tree {
        Tree::Leaf(leaf) => Tree::Leaf(f(leaf)?),
        Tree::Node(node) => {
            let mut children = Vec::with_capacity(node.children().len());
            for (key, child) in node.children() {
                children.push((key.clone(), map_all(child, f)?));
            }
            Tree::Node(Node::from_sorted(children))
        }
    })
}

fn first_leaf<T>(tree: &Tree<T>) -> Option<&T> {
    match tree {
        Tree::Leaf(leaf) => Some(leaf),
        Tree::Node(node) => node.children().iter().find_map(|(_, child)| first_leaf(child)),
    }
}

fn in_collection(collection: &str, path: &Path) -> Path {
    Path::from(PathKey::from(collection)).concat(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BatchStat, Param};

    #[test]
    fn a_path_in_two_collections_has_no_state() {
        let mut variables = Variables::default();
        let path = Path::from("norm.mean");
        variables.insert(&path, Param::leaf(0u32)).unwrap();
        variables.insert(&path, BatchStat::leaf(0u32)).unwrap();
        let text = variables.to_state().unwrap_err().to_string();
        assert!(text.contains("`norm.mean` is there twice, as `BatchStat` and as `Param`"), "{text}");
        let one = variables.filter_collections(|name| name == "params");
        assert_eq!(one.to_state().unwrap().len(), 1);
    }

    #[test]
    fn collections_of_any_name_read_back() {
        let mut variables = Variables::default();
        for name in ["my.stats", "0", "a\\b"] {
            let kind = VariableType::from_collection(name);
            variables.insert(&Path::from("w"), crate::Leaf::new(kind, 1u32)).unwrap();
        }
        let text = serde_json::to_string(&variables).unwrap();
        let read: Variables = serde_json::from_str(&text).unwrap();
        assert!(read.identical(&variables).unwrap());
        assert_eq!(read.collections().collect::<Vec<_>>(), ["0", "a\\b", "my.stats"]);
    }

    #[test]
    fn a_part_has_variables_of_its_own() {
        let mut variables = Variables::default();
        variables.insert(&Path::from("encoder.norm.scale"), Param::leaf(1u32)).unwrap();
        variables.insert(&Path::from("encoder.norm.mean"), BatchStat::leaf(2u32)).unwrap();
        variables.insert(&Path::from("head"), Param::leaf(3u32)).unwrap();
        let norm = variables.subtree("encoder.norm").unwrap();
        assert_eq!(norm.len(), 2);
        assert_eq!(norm.get("batch_stats", "mean").unwrap().value.count().unwrap(), 2);
        let text = variables.subtree("encoder.nrm").unwrap_err().to_string();
        assert!(text.contains("encoder.norm"), "{text}");
        assert!(variables.subtree("head").is_err());
    }

    #[test]
    fn the_second_wins_where_both_hold_a_leaf() {
        let mut first = Variables::default();
        first.insert(&Path::from("a"), Param::leaf(1u32)).unwrap();
        first.insert(&Path::from("b"), Param::leaf(2u32)).unwrap();
        let mut second = Variables::default();
        second.insert(&Path::from("a"), Param::leaf(3u32)).unwrap();
        let both = first.updated(&second).unwrap();
        let count = |path: &str| both.get("params", path).unwrap().value.count().unwrap();
        assert_eq!((count("a"), count("b")), (3, 2));
    }
}
