use std::fmt;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::error::VarsError;
use crate::{Path, PathKey, Result};

/// An ordered tree: either a leaf, or a node with children by key.
///
/// A clone is one reference count; a change to a clone copies only the nodes on the way. Children come in
/// order of their keys, whatever order they were put in: names by text, indices by number.
///
/// ```
/// use bridge_vars::{Path, Tree};
/// let mut tree = Tree::default();
/// tree.insert(&Path::from("layers.10"), 'b')?;
/// tree.insert(&Path::from("layers.9"), 'a')?;
/// assert_eq!(tree.iter().map(|(path, _)| path.to_string()).collect::<Vec<_>>(), ["layers.9", "layers.10"]);
/// # Ok::<(), bridge_vars::Error>(())
/// ```
#[derive(PartialEq)]
pub enum Tree<T> {
    /// A value.
    Leaf(T),
    /// Children by key.
    Node(Node<T>),
}

/// The children of a [`Tree`]'s node, in order of their keys.
#[derive(PartialEq)]
pub struct Node<T>(Option<Arc<Children<T>>>);

/// Most nodes are layers, of a kernel and a bias: those take one allocation.
pub(crate) type Children<T> = SmallVec<[(PathKey, Tree<T>); 2]>;

impl<T> Default for Tree<T> {
    /// A node without children.
    fn default() -> Self {
        Self::Node(Node::default())
    }
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Clone> Clone for Tree<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Leaf(leaf) => Self::Leaf(leaf.clone()),
            Self::Node(node) => Self::Node(node.clone()),
        }
    }
}

impl<T> Clone for Node<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Node<T> {
    /// A node of children that are in order of their keys already.
    #[doc(hidden)]
    pub fn from_sorted(children: impl IntoIterator<Item = (PathKey, Tree<T>)>) -> Self {
        let children: Children<T> = children.into_iter().collect();
        debug_assert!(children.windows(2).all(|pair| pair[0].0 < pair[1].0));
        Self((!children.is_empty()).then(|| Arc::new(children)))
    }

    /// The children, in order.
    pub fn children(&self) -> &[(PathKey, Tree<T>)] {
        self.0.as_ref().map_or(&[], |children| children)
    }

    /// The child under a key.
    pub fn get(&self, key: &PathKey) -> Option<&Tree<T>> {
        let children = self.children();
        let at = children.binary_search_by(|(other, _)| other.cmp(key)).ok()?;
        children.get(at).map(|(_, child)| child)
    }

    /// True without children.
    pub fn is_empty(&self) -> bool {
        self.children().is_empty()
    }
}

impl<T: Clone> Node<T> {
    fn children_mut(&mut self) -> &mut Children<T> {
        Arc::make_mut(self.0.get_or_insert_default())
    }

    /// The child under a key, which is an empty node if it was not there.
    pub(crate) fn entry(&mut self, key: &PathKey) -> &mut Tree<T> {
        let children = self.children_mut();
        let at = match children.binary_search_by(|(other, _)| other.cmp(key)) {
            Ok(at) => at,
            Err(at) => {
                children.insert(at, (key.clone(), Tree::default()));
                at
            }
        };
        &mut children[at].1
    }

    /// Takes the child under a key away.
    pub(crate) fn take(&mut self, key: &PathKey) -> Option<Tree<T>> {
        let at = self.children().binary_search_by(|(other, _)| other.cmp(key)).ok()?;
        let taken = self.children_mut().remove(at).1;
        if self.is_empty() {
            self.0 = None;
        }
        Some(taken)
    }
}

impl<T> Tree<T> {
    /// True if it holds no leaf.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Leaf(_) => false,
            Self::Node(node) => node.children().iter().all(|(_, child)| child.is_empty()),
        }
    }

    /// The number of leaves.
    pub fn len(&self) -> usize {
        match self {
            Self::Leaf(_) => 1,
            Self::Node(node) => node.children().iter().map(|(_, child)| child.len()).sum(),
        }
    }

    /// The child under a key.
    pub fn child(&self, key: &PathKey) -> Option<&Tree<T>> {
        match self {
            Self::Leaf(_) => None,
            Self::Node(node) => node.get(key),
        }
    }

    /// What is at a path, a leaf or a subtree.
    pub fn subtree(&self, path: &Path) -> Option<&Tree<T>> {
        path.keys().iter().try_fold(self, |tree, key| tree.child(key))
    }

    /// The leaf at a path.
    pub fn get(&self, path: &Path) -> Option<&T> {
        match self.subtree(path)? {
            Self::Leaf(leaf) => Some(leaf),
            Self::Node(_) => None,
        }
    }

    /// Calls `f` on every leaf and its path, in order, until one fails. Faster than [`Tree::iter`],
    /// because one path serves all.
    pub fn try_for_each<'a, E>(&'a self, mut f: impl FnMut(&Path, &'a T) -> Result<(), E>) -> Result<(), E> {
        fn walk<'a, T, E>(
            tree: &'a Tree<T>,
            path: &mut Path,
            f: &mut dyn FnMut(&Path, &'a T) -> Result<(), E>,
        ) -> Result<(), E> {
            match tree {
                Tree::Leaf(leaf) => f(path, leaf),
                Tree::Node(node) => node.children().iter().try_for_each(|(key, child)| {
                    path.push(key.clone());
                    walk(child, path, f)?;
                    path.pop();
                    Ok(())
                }),
            }
        }
        walk(self, &mut Path::root(), &mut f)
    }

    /// Every leaf with its path, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Path, &T)> {
        let mut leaves = Vec::new();
        let Ok(()) = self.try_for_each(|path, leaf| -> Result<(), std::convert::Infallible> {
            leaves.push((path.clone(), leaf));
            Ok(())
        });
        leaves.into_iter()
    }

    /// A tree of the same structure, with every leaf replaced.
    #[must_use]
    pub fn map<U>(&self, mut f: impl FnMut(&Path, &T) -> U) -> Tree<U> {
        let Ok(tree) = self.try_map::<U, std::convert::Infallible>(|path, leaf| Ok(f(path, leaf)));
        tree
    }

    /// A tree of the same structure, with every leaf replaced.
    ///
    /// # Errors
    /// The first that `f` returns.
    pub fn try_map<U, E>(&self, mut f: impl FnMut(&Path, &T) -> Result<U, E>) -> Result<Tree<U>, E> {
        fn walk<T, U, E>(
            tree: &Tree<T>,
            path: &mut Path,
            f: &mut dyn FnMut(&Path, &T) -> Result<U, E>,
        ) -> Result<Tree<U>, E> {
            Ok(match tree {
                Tree::Leaf(leaf) => Tree::Leaf(f(path, leaf)?),
                Tree::Node(node) => {
                    let mut children = Vec::with_capacity(node.children().len());
                    for (key, child) in node.children() {
                        path.push(key.clone());
                        children.push((key.clone(), walk(child, path, f)?));
                        path.pop();
                    }
                    Tree::Node(Node::from_sorted(children))
                }
            })
        }
        walk(self, &mut Path::root(), &mut f)
    }

    /// A tree of the leaves of two trees with the same paths, put together.
    ///
    /// # Errors
    /// [`VarsError::DifferentPaths`] with every path that only one of them has; the first that `f` returns.
    pub fn try_zip<U, V>(
        &self,
        other: &Tree<U>,
        mut f: impl FnMut(&Path, &T, &U) -> Result<V>,
    ) -> Result<Tree<V>> {
        let (mut first, mut second) = (Vec::new(), Vec::new());
        let zipped = self.try_filter_map(|path, leaf| match other.get(path) {
            Some(partner) => f(path, leaf, partner).map(Some),
            None => {
                first.push(path.clone());
                Ok(None)
            }
        })?;
        if zipped.len() < other.len() {
            second = other.iter().map(|(path, _)| path).filter(|path| self.get(path).is_none()).collect();
        }
        match first.is_empty() && second.is_empty() {
            true => Ok(zipped),
            false => Err(VarsError::DifferentPaths { first, second }.into()),
        }
    }

    /// The leaves for which `f` gives something, under their paths.
    ///
    /// # Errors
    /// The first that `f` returns.
    pub fn try_filter_map<U, E>(
        &self,
        mut f: impl FnMut(&Path, &T) -> Result<Option<U>, E>,
    ) -> Result<Tree<U>, E> {
        fn walk<T, U, E>(
            tree: &Tree<T>,
            path: &mut Path,
            f: &mut dyn FnMut(&Path, &T) -> Result<Option<U>, E>,
        ) -> Result<Option<Tree<U>>, E> {
            Ok(match tree {
                Tree::Leaf(leaf) => f(path, leaf)?.map(Tree::Leaf),
                Tree::Node(node) => {
                    let mut children = Vec::new();
                    for (key, child) in node.children() {
                        path.push(key.clone());
                        if let Some(child) = walk(child, path, f)? {
                            children.push((key.clone(), child));
                        }
                        path.pop();
                    }
                    (!children.is_empty()).then(|| Tree::Node(Node::from_sorted(children)))
                }
            })
        }
        Ok(walk(self, &mut Path::root(), &mut f)?.unwrap_or_default())
    }
}

impl<T: Clone> Tree<T> {
    /// Puts a leaf at a path; gives back the one that was there.
    ///
    /// # Errors
    /// [`VarsError::PathConflict`] if the path or one above it is taken by something of the other sort.
    pub fn insert(&mut self, path: &Path, leaf: T) -> Result<Option<T>> {
        let place = self.place(path)?;
        match place {
            Self::Node(node) if !node.is_empty() => Err(conflict(path, below(path, node))),
            Self::Node(_) => {
                *place = Self::Leaf(leaf);
                Ok(None)
            }
            Self::Leaf(old) => Ok(Some(std::mem::replace(old, leaf))),
        }
    }

    /// Puts a whole tree at a path, where nothing is yet.
    ///
    /// # Errors
    /// [`VarsError::PathConflict`] if something is there, or a path above it is a leaf.
    pub fn insert_tree(&mut self, path: &Path, tree: Tree<T>) -> Result<()> {
        let place = self.place(path)?;
        match place {
            Self::Node(node) if node.is_empty() => {
                *place = tree;
                Ok(())
            }
            Self::Node(node) => Err(conflict(path, below(path, node))),
            Self::Leaf(_) => Err(conflict(path, path.clone())),
        }
    }

    fn place(&mut self, path: &Path) -> Result<&mut Tree<T>> {
        let mut place = self;
        for (depth, key) in path.keys().iter().enumerate() {
            place = match place {
                Self::Node(node) => node.entry(key),
                Self::Leaf(_) => return Err(conflict(path, path.keys()[..depth].iter().cloned().collect())),
            };
        }
        Ok(place)
    }

    /// The leaf at a path, for changes.
    pub fn get_mut(&mut self, path: &Path) -> Option<&mut T> {
        self.get(path)?;
        match self.place(path) {
            Ok(Self::Leaf(leaf)) => Some(leaf),
            _ => None,
        }
    }

    /// Takes away what is at a path, a leaf or a subtree.
    pub fn remove(&mut self, path: &Path) -> Option<Tree<T>> {
        self.subtree(path)?;
        self.remove_keys(path.keys())
    }

    fn remove_keys(&mut self, keys: &[PathKey]) -> Option<Tree<T>> {
        match (keys, self) {
            ([], tree) => Some(std::mem::take(tree)),
            ([last], Self::Node(node)) => node.take(last),
            ([first, rest @ ..], Self::Node(node)) => {
                let removed = node.entry(first).remove_keys(rest);
                if matches!(node.get(first), Some(Self::Node(child)) if child.is_empty()) {
                    node.take(first);
                }
                removed
            }
            (_, Self::Leaf(_)) => None,
        }
    }
}

fn conflict(path: &Path, other: Path) -> crate::Error {
    VarsError::PathConflict { path: path.clone(), other }.into()
}

fn below<T>(path: &Path, node: &Node<T>) -> Path {
    node.children().first().map_or_else(|| path.clone(), |(key, _)| path.join(key.clone()))
}

impl<T: fmt::Debug> fmt::Debug for Tree<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leaf(leaf) => leaf.fmt(f),
            Self::Node(node) => node.fmt(f),
        }
    }
}
impl<T: fmt::Debug> fmt::Debug for Node<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        struct Plain<'a>(&'a PathKey);
        impl fmt::Debug for Plain<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self.0, f)
            }
        }
        f.debug_map().entries(self.children().iter().map(|(key, child)| (Plain(key), child))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn tree(paths: &[(&str, i32)]) -> Tree<i32> {
        let mut tree = Tree::default();
        for (path, leaf) in paths {
            tree.insert(&Path::from(*path), *leaf).unwrap();
        }
        tree
    }

    fn key() -> impl Strategy<Value = PathKey> {
        prop_oneof![(0..12usize).prop_map(PathKey::Index), "[a-c]".prop_map(|name| PathKey::from(&*name))]
    }

    proptest! {
        #[test]
        fn agrees_with_a_sorted_map(
            edits in proptest::collection::vec((proptest::collection::vec(key(), 2..3), any::<i32>(), any::<bool>()), 0..40)
        ) {
            let (mut tree, mut map) = (Tree::default(), BTreeMap::new());
            for (keys, leaf, keep) in edits {
                let path = Path::from_iter(keys);
                if keep {
                    prop_assert_eq!(tree.insert(&path, leaf).unwrap(), map.insert(path, leaf));
                } else {
                    let removed = tree.remove(&path).map(|tree| tree.iter().map(|(_, leaf)| *leaf).next());
                    prop_assert_eq!(removed.flatten(), map.remove(&path));
                }
                let snapshot = tree.clone();
                prop_assert!(snapshot.iter().map(|(path, leaf)| (path, *leaf)).eq(map.clone()));
            }
            prop_assert_eq!(tree.len(), map.len());
        }
    }

    #[test]
    fn a_clone_keeps_its_leaves() {
        let mut changed = tree(&[("a.b", 1), ("a.c", 2)]);
        let kept = changed.clone();
        changed.insert(&Path::from("a.b"), 3).unwrap();
        changed.remove(&Path::from("a.c"));
        assert_eq!(kept, tree(&[("a.b", 1), ("a.c", 2)]));
        assert_eq!(changed, tree(&[("a.b", 3)]));
    }

    #[test]
    fn refuses_a_path_that_is_leaf_and_subtree() {
        let mut tree = tree(&[("a.b", 1)]);
        let text = |result: Result<Option<i32>>| result.unwrap_err().to_string();
        let expected = "`a` can not be stored beside `a.b`: a path is either a value or a group of them";
        assert_eq!(text(tree.insert(&Path::from("a"), 2)), expected);
        let expected = "`a.b.c` can not be stored beside `a.b`: a path is either a value or a group of them";
        assert_eq!(text(tree.insert(&Path::from("a.b.c"), 2)), expected);
    }

    #[test]
    fn a_leaf_alone_is_a_tree() {
        let mut tree = Tree::default();
        tree.insert(&Path::root(), 1).unwrap();
        assert_eq!((tree.len(), tree.get(&Path::root())), (1, Some(&1)));
        tree.remove(&Path::root());
        assert!(tree.is_empty());
    }
}
