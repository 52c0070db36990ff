use std::collections::BTreeMap;

use bridge_vars::{Path, PathKey};

/// Moves the items of lists that were made apart behind those that are there already.
#[derive(Default)]
pub(crate) struct Lists(BTreeMap<Path, usize>);

impl Lists {
    /// The path of an item of a list, or of a part of one, behind the items that `count` says are there; `at` is the number of
    /// steps to the list.
    pub(crate) fn behind(&mut self, path: &Path, at: usize, count: impl Fn(&Path) -> usize) -> Path {
        let steps = path.keys();
        let list: Path = steps.iter().take(at).cloned().collect();
        let Some(PathKey::Index(index)) = steps.get(at) else { return path.clone() };
        let before = *self.0.entry(list.clone()).or_insert_with(|| count(&list));
        list.join(before + index).concat(&steps.iter().skip(at + 1).cloned().collect())
    }
}

/// True for an item of a list of sown values.
pub(crate) fn is_item(path: &Path) -> bool {
    matches!(path.last(), Some(PathKey::Index(_)))
}
