use crate::error::VarsError;
use crate::{Filter, Leaf, Path, Result, Tree, Variables};

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
            let close = close_paths(&path, self.iter().map(|(path, _)| path));
            VarsError::PathNotFound { path, close }.into()
        })
    }

    /// Puts a leaf at a path; gives back the one that was there.
    ///
    /// # Errors
    /// [`VarsError::PathConflict`].
    pub fn insert(&mut self, path: &Path, leaf: Leaf) -> Result<Option<Leaf>> {
        self.0.insert(path, leaf)
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
        let first = |path: &Path, leaf: &Leaf| filters.iter().position(|filter| filter.matches(path, leaf));
        let parts =
            std::array::from_fn(|part| Self(keep(&self.0, |path, leaf| first(path, leaf) == Some(part))));
        if parts.iter().map(Self::len).sum::<usize>() < self.len() {
            let unmatched = self.iter().filter(|(path, leaf)| first(path, leaf).is_none());
            return Err(VarsError::Unmatched { paths: unmatched.map(|(path, _)| path).collect() }.into());
        }
        Ok(parts)
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

    pub(crate) fn insert_new(&mut self, path: &Path, leaf: Leaf) -> Result<()> {
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

    /// The same paths with other leaves.
    ///
    /// # Errors
    /// The first that `f` returns.
    #[doc(alias = "map_state")]
    pub fn map(&self, f: impl FnMut(&Path, &Leaf) -> Result<Leaf>) -> Result<Self> {
        self.0.try_map(f).map(Self)
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

/// Up to three of the paths that share their last step, or all steps but one, with the one asked for.
pub(crate) fn close_paths(path: &Path, paths: impl Iterator<Item = Path>) -> Vec<Path> {
    let close = |other: &Path| {
        let same = path.keys().iter().zip(other.keys()).filter(|(a, b)| a == b).count();
        let longest = path.len().max(other.len());
        (path.last().is_some() && path.last() == other.last()) || (longest > 1 && same + 1 == longest)
    };
    paths.filter(close).take(3).collect()
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
        let close = "did you mean `encoder.layers.0.kernel`?";
        assert_eq!(text, format!("nothing at `encoder.layer.0.kernel`, {close}"));
        let text = state.split([Filter::path_contains("bias")]).unwrap_err().to_string();
        assert!(text.starts_with("no filter matches `encoder.layers.0.kernel`: add"), "{text}");
        let text = State::merge([state.clone(), state]).unwrap_err().to_string();
        assert!(text.contains("`encoder.layers.0.bias` is there twice, as `Param` and as `Param`"), "{text}");
    }
}
