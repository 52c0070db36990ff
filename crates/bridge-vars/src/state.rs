use crate::error::VarsError;
use crate::{Filter, Leaf, Node, Path, PathKey, Result, Tree, Value, Variable, Variables};

/// A snapshot of variables: a tree from path to type, value and metadata.
///
/// A clone is one reference count. Nothing that happens to the variables later changes it.
///
/// ```
/// use bridge_vars::{BatchStat, Filter, Param, Path, State};
/// use candle_core::{Device, Tensor};
/// let mut state = State::default();
/// state.insert(&Path::from("norm.scale"), Param::leaf(Tensor::new(1f32, &Device::Cpu)?))?;
/// state.insert(&Path::from("norm.mean"), BatchStat::leaf(Tensor::new(0f32, &Device::Cpu)?))?;
/// let [params, rest] = state.split([Filter::of::<Param>(), Filter::Everything])?;
/// assert_eq!((params.len(), rest.len()), (1, 1));
/// assert!(State::merge([params, rest])?.identical(&state)?);
/// # Ok::<(), bridge_vars::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct State(Tree<Leaf>);

impl State {
    /// The tree.
    pub fn tree(&self) -> &Tree<Leaf> {
        &self.0
    }

    /// The tree, for changes.
    pub fn tree_mut(&mut self) -> &mut Tree<Leaf> {
        &mut self.0
    }

    /// The number of leaves.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True without leaves.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Every leaf with its path, in order of the paths.
    #[doc(alias("to_flat_state", "flatten"))]
    pub fn iter(&self) -> impl Iterator<Item = (Path, &Leaf)> {
        self.0.iter()
    }

    /// The leaf at a path.
    ///
    /// # Errors
    /// [`VarsError::PathNotFound`], with paths that look like it.
    pub fn get(&self, path: impl Into<Path>) -> Result<&Leaf> {
        let path = path.into();
        self.0.get(&path).ok_or_else(|| {
            let close = path.similar(self.iter().map(|(path, _)| path));
            VarsError::PathNotFound { path, close }.into()
        })
    }

    /// The leaf at a path, for changes.
    ///
    /// # Errors
    /// [`VarsError::PathNotFound`], with paths that look like it.
    pub fn get_mut(&mut self, path: impl Into<Path>) -> Result<&mut Leaf> {
        let path = path.into();
        self.get(&path)?;
        let close = Vec::new();
        self.0.get_mut(&path).ok_or_else(|| VarsError::PathNotFound { path, close }.into())
    }

    /// What is at a path and below it, as a state of its own.
    ///
    /// # Errors
    /// [`VarsError::PathNotFound`], with paths that look like it.
    pub fn subtree(&self, path: impl Into<Path>) -> Result<Self> {
        let path = path.into();
        match self.0.subtree(&path) {
            Some(tree) => Ok(Self(tree.clone())),
            None => {
                let groups =
                    self.iter().map(|(other, _)| other.keys().iter().take(path.len()).cloned().collect());
                let mut groups: Vec<Path> = groups.collect();
                groups.dedup();
                let close = path.similar(groups);
                Err(VarsError::PathNotFound { path, close }.into())
            }
        }
    }

    /// Puts a leaf at a path; gives back the one that was there.
    ///
    /// # Errors
    /// [`VarsError::PathConflict`].
    pub fn insert(&mut self, path: &Path, leaf: Leaf) -> Result<Option<Leaf>> {
        self.0.insert(path, leaf)
    }

    /// Takes the leaf at a path away.
    ///
    /// # Errors
    /// [`VarsError::PathNotFound`], with paths that look like it.
    pub fn remove(&mut self, path: impl Into<Path>) -> Result<Leaf> {
        let path = path.into();
        self.get(&path)?;
        match self.0.remove(&path) {
            Some(Tree::Leaf(leaf)) => Ok(leaf),
            _ => Err(VarsError::PathNotFound { path, close: Vec::new() }.into()),
        }
    }

    /// Takes the leaves that a filter matches away: they come back, and the others stay.
    pub fn pop(&mut self, filter: impl Into<Filter>) -> Self {
        let filter = filter.into();
        let popped = keep(&self.0, |path, leaf| filter.matches(path, leaf));
        self.0 = keep(&self.0, |path, leaf| !filter.matches(path, leaf));
        Self(popped)
    }

    /// Every leaf with its path, in order of the paths.
    #[doc(alias("to_flat_state", "flatten_dict", "FlatState"))]
    pub fn flatten(&self) -> Vec<(Path, Leaf)> {
        self.iter().map(|(path, leaf)| (path, leaf.clone())).collect()
    }

    /// A state of leaves with their paths, in any order.
    ///
    /// # Errors
    /// [`VarsError::DuplicatePath`] and [`VarsError::PathConflict`].
    #[doc(alias("from_flat_state", "unflatten_dict"))]
    pub fn unflatten(leaves: impl IntoIterator<Item = (Path, Leaf)>) -> Result<Self> {
        let mut state = Self::default();
        for (path, leaf) in leaves {
            state.insert_new(&path, leaf)?;
        }
        Ok(state)
    }

    /// The leaves whose paths a pattern covers, `encoder.*.kernel`: see [`Filter::path_matches`].
    #[doc(alias = "glob")]
    #[must_use]
    pub fn select(&self, pattern: &str) -> Self {
        self.filter(Filter::path_matches(pattern))
    }

    /// The leaves that a filter matches.
    #[doc(alias = "filter_state")]
    #[must_use]
    pub fn filter(&self, filter: impl Into<Filter>) -> Self {
        let filter = filter.into();
        Self(keep(&self.0, |path, leaf| filter.matches(path, leaf)))
    }

    /// Splits by filters: a leaf goes to the first that matches it.
    ///
    /// # Errors
    /// [`VarsError::Unmatched`] if a leaf goes nowhere.
    #[doc(alias = "split_state")]
    pub fn split<const N: usize>(&self, filters: [Filter; N]) -> Result<[Self; N]> {
        let mut unmatched = Vec::new();
        let parts = divide(&self.0, &mut Path::root(), &mut |path, leaf| {
            let first = filters.iter().position(|filter| filter.matches(path, leaf));
            if first.is_none() {
                unmatched.push(path.clone());
            }
            first
        });
        match unmatched.is_empty() {
            true => Ok(parts.map(|part| Self(part.unwrap_or_default()))),
            false => Err(VarsError::Unmatched { paths: unmatched }.into()),
        }
    }

    /// One state of several that have no path in common.
    ///
    /// # Errors
    /// [`VarsError::DuplicatePath`] and [`VarsError::PathConflict`].
    #[doc(alias = "merge_state")]
    pub fn merge(states: impl IntoIterator<Item = Self>) -> Result<Self> {
        let mut states = states.into_iter();
        let mut merged = states.next().unwrap_or_default();
        for state in states {
            state.0.try_for_each(|path, leaf| merged.insert_new(path, leaf.clone()))?;
        }
        Ok(merged)
    }

    /// Puts a leaf at a path where there is none yet.
    ///
    /// # Errors
    /// [`VarsError::DuplicatePath`], [`VarsError::PathConflict`].
    pub fn insert_new(&mut self, path: &Path, leaf: Leaf) -> Result<()> {
        let second = leaf.kind.name();
        match self.0.insert(path, leaf)? {
            None => Ok(()),
            Some(first) => {
                let first = first.kind.name();
                Err(VarsError::DuplicatePath { path: path.clone(), first, second }.into())
            }
        }
    }

    /// What is in this state at paths that are not in the other.
    #[doc(alias = "diff")]
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        Self(keep(&self.0, |path, _| other.0.get(path).is_none()))
    }

    /// This state with the other's leaves put over it: a leaf that both hold comes from the other.
    ///
    /// # Errors
    /// [`VarsError::PathConflict`].
    #[doc(alias = "merge_state")]
    pub fn updated(&self, other: &Self) -> Result<Self> {
        let mut updated = self.clone();
        other.0.try_for_each(|path, leaf| updated.insert(path, leaf.clone()).map(|_| ()))?;
        Ok(updated)
    }

    /// A state of the leaves of two states with the same paths, put together.
    ///
    /// ```
    /// use bridge_vars::{Param, Path, State};
    /// let state = |count: u32| State::unflatten([(Path::from("a.b"), Param::leaf(count))]);
    /// let sum = state(1)?.zip(&state(2)?, |_, a, b| Ok(a.with_value(a.value.count()? + b.value.count()?)))?;
    /// assert_eq!(sum.get("a.b")?.value.count()?, 3);
    /// # Ok::<(), bridge_vars::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`VarsError::DifferentPaths`] with every path that only one of them has; the first that `f` returns.
    #[doc(alias("tree_map", "jax.tree.map"))]
    pub fn zip(&self, other: &Self, f: impl FnMut(&Path, &Leaf, &Leaf) -> Result<Leaf>) -> Result<Self> {
        self.0.try_zip(&other.0, f).map(Self)
    }

    /// The same paths with other leaves.
    ///
    /// # Errors
    /// The first that `f` returns.
    #[doc(alias = "map_state")]
    pub fn map(&self, f: impl FnMut(&Path, &Leaf) -> Result<Leaf>) -> Result<Self> {
        self.0.try_map(f).map(Self)
    }

    /// A new variable for each leaf: a module of its own, whose paths are these.
    pub fn to_variable_tree(&self) -> Tree<Variable> {
        self.0.map(|_, leaf| Variable::from(leaf.clone()))
    }

    /// The same leaves, with those made that were only described, as variables are: see [`Variable::materialize`].
    ///
    /// # Errors
    /// The first of [`Variable::materialize`], with its path.
    #[doc(alias = "materialise")]
    pub fn materialize(&self) -> Result<Self> {
        self.map(|path, leaf| match &leaf.value {
            Value::Described(_) => {
                let variable = Variable::from(leaf.clone());
                variable.materialize().map_err(|error| error.at(path))?;
                variable.leaf()
            }
            _ => Ok(leaf.clone()),
        })
    }

    /// The same leaves grouped by their types' collections.
    #[doc(alias = "nnx_attrs_to_linen_vars")]
    #[must_use]
    pub fn to_variables(&self) -> Variables {
        Variables::grouped(&self.0, |leaf| leaf.kind, Leaf::clone)
    }

    /// True if both have the same paths, types, metadata and values, the values to the bit.
    ///
    /// # Errors
    /// If a tensor can not be read.
    pub fn identical(&self, other: &Self) -> Result<bool> {
        identical(&self.0, &other.0)
    }
}

impl From<Tree<Leaf>> for State {
    fn from(tree: Tree<Leaf>) -> Self {
        Self(tree)
    }
}
impl From<State> for Tree<Leaf> {
    fn from(state: State) -> Self {
        state.0
    }
}

fn keep(tree: &Tree<Leaf>, mut keep: impl FnMut(&Path, &Leaf) -> bool) -> Tree<Leaf> {
    let filter = |path: &Path, leaf: &Leaf| Ok(keep(path, leaf).then(|| leaf.clone()));
    let Ok(tree) = tree.try_filter_map::<_, std::convert::Infallible>(filter);
    tree
}

pub(crate) fn identical(a: &Tree<Leaf>, b: &Tree<Leaf>) -> Result<bool> {
    let (mut a, mut b) = (a.iter(), b.iter());
    loop {
        match (a.next(), b.next()) {
            (None, None) => return Ok(true),
            (Some((path, leaf)), Some((other_path, other))) if path == other_path => {
                if !leaf.identical(other)? {
                    return Ok(false);
                }
            }
            _ => return Ok(false),
        }
    }
}

/// The leaves of a tree in as many parts as there are places, by the place that `choose` gives each.
fn divide<const N: usize>(
    tree: &Tree<Leaf>,
    path: &mut Path,
    choose: &mut dyn FnMut(&Path, &Leaf) -> Option<usize>,
) -> [Option<Tree<Leaf>>; N] {
    let mut parts = [const { None }; N];
    match tree {
        Tree::Leaf(leaf) => {
            if let Some(part) = choose(path, leaf).and_then(|part| parts.get_mut(part)) {
                *part = Some(Tree::Leaf(leaf.clone()));
            }
        }
        Tree::Node(node) => {
            let mut children: [Vec<(PathKey, Tree<Leaf>)>; N] = [const { Vec::new() }; N];
            for (key, child) in node.children() {
                path.push(key.clone());
                for (children, part) in children.iter_mut().zip(divide::<N>(child, path, choose)) {
                    children.extend(part.map(|part| (key.clone(), part)));
                }
                path.pop();
            }
            for (part, children) in parts.iter_mut().zip(children) {
                *part = (!children.is_empty()).then(|| Tree::Node(Node::from_sorted(children)));
            }
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BatchStat, Param, RngCount};
    use proptest::prelude::*;

    fn state(paths: &[&str]) -> State {
        let mut state = State::default();
        for path in paths {
            state.insert(&Path::from(*path), Param::leaf(0u32)).unwrap();
        }
        state
    }

    fn any_state() -> impl Strategy<Value = State> {
        let leaf = (0..3u8, any::<u32>()).prop_map(|(kind, value)| match kind {
            0 => Param::leaf(value),
            1 => BatchStat::leaf(value),
            _ => RngCount::leaf(value),
        });
        let path = proptest::collection::vec("[a-d]", 3..4)
            .prop_map(|names| names.iter().map(|name| crate::PathKey::from(&**name)).collect::<Path>());
        proptest::collection::vec((path, leaf), 0..20).prop_map(|leaves| {
            let mut state = State::default();
            for (path, leaf) in leaves {
                state.insert(&path, leaf).unwrap();
            }
            state
        })
    }

    proptest! {
        #[test]
        fn split_and_merge_are_inverse(state in any_state()) {
            let filters = [Filter::path_contains("a"), Filter::of::<Param>(), Filter::Everything];
            let parts = state.split(filters).unwrap();
            prop_assert_eq!(parts.iter().map(State::len).sum::<usize>(), state.len());
            prop_assert!(State::merge(parts).unwrap().identical(&state).unwrap());
        }

        #[test]
        fn variables_and_back(state in any_state()) {
            let variables = state.to_variables();
            prop_assert!(variables.to_state().unwrap().identical(&state).unwrap());
        }

        #[test]
        fn flat_and_back(state in any_state()) {
            let mut flat = state.flatten();
            flat.reverse();
            prop_assert!(State::unflatten(flat).unwrap().identical(&state).unwrap());
        }

        #[test]
        fn what_is_popped_and_what_stays(state in any_state()) {
            let mut rest = state.clone();
            let popped = rest.pop(Filter::of::<Param>());
            prop_assert!(popped.identical(&state.filter(Filter::of::<Param>())).unwrap());
            prop_assert!(State::merge([popped, rest]).unwrap().identical(&state).unwrap());
        }

        #[test]
        fn survives_serde(state in any_state()) {
            let text = serde_json::to_string(&state).unwrap();
            let read: State = serde_json::from_str(&text).unwrap();
            prop_assert!(read.identical(&state).unwrap());
        }

        #[test]
        fn without_and_the_rest(a in any_state(), b in any_state()) {
            let only = a.without(&b);
            prop_assert!(only.iter().all(|(path, _)| b.tree().get(&path).is_none()));
            let common = a.without(&only);
            prop_assert!(common.iter().all(|(path, _)| b.tree().get(&path).is_some()));
            prop_assert_eq!(only.len() + common.len(), a.len());
        }
    }

    #[test]
    fn says_what_is_missing_unmatched_or_there_twice() {
        let state = state(&["encoder.layers.0.kernel", "encoder.layers.0.bias"]);
        let text = state.get("encoder.layer.0.kernel").unwrap_err().to_string();
        let close = "did you mean `encoder.layers.0.kernel`, `encoder.layers.0.bias`?";
        assert_eq!(text, format!("nothing at `encoder.layer.0.kernel`, {close}"));
        let text = state.split([Filter::path_contains("bias")]).unwrap_err().to_string();
        assert!(text.starts_with("no filter matches `encoder.layers.0.kernel`: add"), "{text}");
        let text = State::merge([state.clone(), state]).unwrap_err().to_string();
        assert!(text.contains("`encoder.layers.0.bias` is there twice, as `Param` and as `Param`"), "{text}");
    }
    #[test]
    fn edits_by_path() {
        let mut state = state(&["a.b", "a.c", "d"]);
        state.get_mut("a.b").unwrap().value = 7.into();
        assert_eq!(state.subtree("a").unwrap().get("b").unwrap().value.count().unwrap(), 7);
        assert_eq!(state.select("a.*").len(), 2);
        assert_eq!(state.remove("a.b").unwrap().value.count().unwrap(), 7);
        state.remove("a.c").unwrap();
        assert!(state.tree().child(&"a".into()).is_none(), "an empty group stays behind");
        for error in
            [state.remove("a.b").map(|_| ()), state.subtree("e").map(|_| ()), state.get_mut("f").map(|_| ())]
        {
            assert!(error.unwrap_err().to_string().starts_with("nothing at `"));
        }
        let mut over = State::default();
        over.insert(&Path::from("d"), Param::leaf(9u32)).unwrap();
        over.insert(&Path::from("e"), Param::leaf(1u32)).unwrap();
        let both = state.updated(&over).unwrap();
        assert_eq!((both.len(), both.get("d").unwrap().value.count().unwrap()), (2, 9));
    }

    #[test]
    fn zipping_lists_what_only_one_has() {
        let text =
            state(&["a", "b.c"]).zip(&state(&["a", "b.d"]), |_, a, _| Ok(a.clone())).unwrap_err().to_string();
        assert_eq!(text, "the two trees differ: only the first has `b.c`; only the second has `b.d`;");
        let text =
            State::unflatten([("a", 1u32), ("a", 2)].map(|(path, count)| (path.into(), Param::leaf(count))));
        assert!(text.unwrap_err().to_string().contains("`a` is there twice"));
    }
}
