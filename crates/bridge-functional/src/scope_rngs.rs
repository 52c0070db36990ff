use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bridge_random::{Key, PathItem, Separator, fold_static};
use bridge_vars::{CollectionFilter, Name, Path, PathKey, Result};

use crate::Keys;
use crate::error::ScopeError;

static PARAMS: Name = Name::from_static(&"params");

/// The random streams of one scope of a functional call, and how keys are derived from them: as in Linen.
///
/// A scope's `n`th key of a stream is `fold_static(key of the stream, names on the path, n)`, counted from 1 for as long as
/// the call lasts. The other methods say what becomes of the streams under each lifted transform. Under most, the stream's
/// key alone changes, while path and counts go on:
///
/// | transform | inside |
/// |---|---|
/// | `vmap` | [`lanes`](ScopeRngs::lanes) |
/// | `scan` | [`steps`](ScopeRngs::steps), as its body is traced twice; `lanes` with `check_constancy_invariants=False` |
/// | `remat`, `checkpoint` | the same streams |
/// | `jit`, `fold_rngs` | [`folded`](ScopeRngs::folded) |
/// | `cond`, `switch` | the same streams, drawn from by all branches in their order |
/// | `while_loop` | [`iteration`](ScopeRngs::iteration) for the body, [`condition`](ScopeRngs::condition) |
///
/// A lifted module is named after the transform, which its path and keys depend on: [`lifted_name`].
///
/// ```
/// use bridge_functional::ScopeRngs;
/// use bridge_random::key;
/// let rngs = ScopeRngs::new(key(0));
/// let first = rngs.make_rng("params")?;
/// assert_ne!(rngs.make_rng("params")?, first);
/// // Three layers that are stacked, each with a key of its own.
/// let lanes = rngs.child("layers").lanes([("params", true)], 3);
/// assert_ne!(lanes[0].make_rng("params")?, lanes[1].make_rng("params")?);
/// # Ok::<(), bridge_vars::Error>(())
/// ```
#[doc(alias("LazyRng", "make_rng"))]
#[derive(Clone)]
pub struct ScopeRngs {
    /// What streams start from, where the part of the path begins that keys depend on.
    keys: Arc<Keys>,
    separator: Separator,
    path: Path,
    /// How many steps of the path keys do not depend on.
    folded: usize,
    counters: Arc<Mutex<Counters>>,
}

/// How often each stream was drawn from, in a scope and in those below it.
#[derive(Default)]
struct Counters {
    counts: Vec<(Name, u32)>,
    children: BTreeMap<Name, Arc<Mutex<Counters>>>,
}

impl ScopeRngs {
    /// Those of a call's root, with the keys that it was given.
    pub fn new(keys: impl Into<Keys>) -> Self {
        let keys = keys.into();
        let separator = keys.separator().unwrap_or_default();
        Self { keys: Arc::new(keys), separator, path: Path::root(), folded: 0, counters: Arc::default() }
    }

    /// Where the scope is in the tree of modules.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What keeps the names of a path apart where keys are derived from it.
    pub fn separator(&self) -> Separator {
        self.separator
    }

    /// Those of a child. Asked for twice, its counts go on.
    #[must_use]
    pub fn child(&self, name: impl Into<Name>) -> Self {
        let name = name.into();
        let counters = Arc::clone(lock(&self.counters).children.entry(name.clone()).or_default());
        let (keys, path) = (self.keys.clone(), self.path.join(name));
        Self { keys, separator: self.separator, path, folded: self.folded, counters }
    }

    /// A new key of a stream, or of `params` if there is no key for it.
    ///
    /// # Errors
    /// [`ScopeError::StreamNotFound`].
    pub fn make_rng(&self, stream: &str) -> Result<Key> {
        let (stream, key) = match (self.keys.get(stream), self.keys.get(&PARAMS)) {
            (Some(key), _) => (stream, key),
            (None, Some(key)) => (PARAMS.as_str(), key),
            (None, None) => {
                return Err(ScopeError::StreamNotFound {
                    path: self.path.clone(),
                    stream: stream.into(),
                    available: self.streams().map(Name::to_string).collect(),
                }
                .into());
            }
        };
        Ok(self.derive(key, stream))
    }

    /// The next key of a stream.
    fn derive(&self, key: Key, stream: &str) -> Key {
        let count = {
            let counts = &mut lock(&self.counters).counts;
            match counts.iter_mut().find(|(name, _)| name == stream) {
                Some((_, count)) => {
                    *count += 1;
                    *count
                }
                None => {
                    counts.push((stream.into(), 1));
                    1
                }
            }
        };
        // The path of a scope is of names alone.
        let names = self.path.keys().iter().skip(self.folded).filter_map(|key| match key {
            PathKey::Name(name) => Some(PathItem::Name(name)),
            PathKey::Index(_) => None,
        });
        fold_static(key, names.chain([PathItem::Count(count)]), self.separator)
    }

    /// True if there is a key for the stream itself.
    pub fn has_rng(&self, stream: &str) -> bool {
        self.keys.get(stream).is_some()
    }

    /// True if there is a key for the stream, or for `params`.
    pub(crate) fn can_make(&self, stream: &str) -> bool {
        self.has_rng(stream) || self.has_rng(&PARAMS)
    }

    /// The names of the streams that there are keys for.
    pub fn streams(&self) -> impl Iterator<Item = &Name> {
        self.keys.iter().map(|(name, _)| name)
    }

    /// The streams of each of `count` lanes.
    ///
    /// What a filter splits has a key for each lane; what one names without splitting has the same in all; what none names
    /// is not there. Counts go on from here in every lane; [`continue_from`](ScopeRngs::continue_from) goes on from there.
    ///
    /// ```
    /// use bridge_functional::ScopeRngs;
    /// use bridge_random::key;
    /// let rngs = ScopeRngs::new([("params", key(0)), ("dropout", key(1)), ("noise", key(2))]);
    /// let lanes = rngs.lanes([("params", false), ("dropout", true)], 2);
    /// assert_eq!(lanes[0].make_rng("params")?, lanes[1].make_rng("params")?);
    /// assert_ne!(lanes[0].make_rng("dropout")?, lanes[1].make_rng("dropout")?);
    /// assert!(!lanes[0].streams().any(|stream| stream == "noise"));
    /// rngs.continue_from(&lanes[0]);
    /// # Ok::<(), bridge_vars::Error>(())
    /// ```
    #[doc(alias("split_rngs", "vmap"))]
    pub fn lanes<F: Into<CollectionFilter>>(
        &self,
        split_rngs: impl IntoIterator<Item = (F, bool)>,
        count: usize,
    ) -> Vec<Self> {
        let rules = rules(split_rngs);
        // All children at once, as those of a legacy key depend on how many there are.
        let split = self.keys.iter().map(|(name, key)| (name.clone(), key.split_vec(count)));
        let split: BTreeMap<Name, Vec<Key>> = split.collect();
        let lane = |index: usize| {
            self.with_keys(&rules, |name, key| {
                split.get(name).and_then(|lanes| lanes.get(index)).copied().unwrap_or(key)
            })
        };
        (0..count).map(lane).collect()
    }

    /// The streams of each of `length` steps of a scan, and what `first_trace` returned.
    ///
    /// JAX traces the body twice to find what does not change from step to step: variables that all steps share are made in
    /// the first trace, and what a step draws has the counts of the second. `first_trace` is the body, run with the streams of
    /// the first step; all but the variables to be shared is to be dropped. Afterwards,
    /// [`continue_from`](ScopeRngs::continue_from) one of the steps.
    ///
    /// # Errors
    /// What `first_trace` returns.
    #[doc(alias("scan", "check_constancy_invariants"))]
    pub fn steps<F: Into<CollectionFilter>, T>(
        &self,
        split_rngs: impl IntoIterator<Item = (F, bool)>,
        length: usize,
        first_trace: impl FnOnce(&Self) -> Result<T>,
    ) -> Result<(T, Vec<Self>)> {
        let mut steps = self.lanes(split_rngs, length.max(1));
        // There is at least one, to be traced even if none is run.
        let (first, others) = steps.split_at(1);
        let traced = first_trace(&first[0])?;
        others.iter().for_each(|step| step.continue_from(&first[0]));
        steps.truncate(length);
        Ok((traced, steps))
    }

    /// The streams that start from a new key of each of these, as if this scope were a call's root; its counts go on.
    #[doc(alias("fold_rngs", "jit"))]
    #[must_use]
    pub fn folded(&self) -> Self {
        let folded = self.keys.iter().map(|(name, key)| (name.clone(), self.derive(key, name)));
        Self { keys: Arc::new(folded.collect()), folded: self.path.len(), ..self.clone() }
    }

    /// The streams of the body of a while loop, in iteration `index` counted from 0. Filters and counts are those of
    /// [`lanes`](ScopeRngs::lanes).
    #[doc(alias = "while_loop")]
    #[must_use]
    pub fn iteration<F: Into<CollectionFilter>>(
        &self,
        split_rngs: impl IntoIterator<Item = (F, bool)>,
        index: u32,
    ) -> Self {
        self.with_keys(&rules(split_rngs), |_, key| key.fold_in(index))
    }

    /// The streams of a while loop's condition, before iteration `index`.
    #[doc(alias = "while_loop")]
    #[must_use]
    pub fn condition<F: Into<CollectionFilter>>(
        &self,
        split_rngs: impl IntoIterator<Item = (F, bool)>,
        index: u32,
    ) -> Self {
        self.with_keys(&rules(split_rngs), |_, key| key.fold_in(index.wrapping_neg()))
    }

    /// Goes on from the counts of another, such as one of the lanes made of this.
    pub fn continue_from(&self, other: &Self) {
        let counters = lock(&other.counters).copy();
        lock(&self.counters).take(counters);
    }

    /// The streams that a filter names, with keys of their own where they are split, and counts that go on by themselves.
    fn with_keys(&self, rules: &[(CollectionFilter, bool)], split: impl Fn(&Name, Key) -> Key) -> Self {
        let named = |(name, key): (&Name, Key)| {
            let (_, is_split) = rules.iter().find(|(filter, _)| filter.contains(name))?;
            Some((name.clone(), if *is_split { split(name, key) } else { key }))
        };
        let counters = Arc::new(Mutex::new(lock(&self.counters).copy()));
        Self { keys: Arc::new(self.keys.iter().filter_map(named).collect()), counters, ..self.clone() }
    }
}

/// The name of a lifted module's class: `VmapDense` of `vmap` and `Dense`.
///
/// ```
/// assert_eq!(bridge_functional::lifted_name("checkpoint", "Dense"), "CheckpointDense");
/// ```
pub fn lifted_name(transform: &str, class: &str) -> String {
    let mut letters = transform.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}{class}", letters.as_str())
}

fn rules<F: Into<CollectionFilter>>(
    split_rngs: impl IntoIterator<Item = (F, bool)>,
) -> Vec<(CollectionFilter, bool)> {
    split_rngs.into_iter().map(|(filter, split)| (filter.into(), split)).collect()
}

fn lock(counters: &Mutex<Counters>) -> MutexGuard<'_, Counters> {
    counters.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Counters {
    fn copy(&self) -> Self {
        let child = |(name, child): (&Name, &Arc<Mutex<Self>>)| {
            (name.clone(), Arc::new(Mutex::new(lock(child).copy())))
        };
        Self { counts: self.counts.clone(), children: self.children.iter().map(child).collect() }
    }

    /// Takes over other counts, in place, so that children that are held elsewhere see it.
    fn take(&mut self, other: Self) {
        self.counts = other.counts;
        for (name, child) in other.children {
            let child = std::mem::take(&mut *lock(&child));
            lock(self.children.entry(name).or_default()).take(child);
        }
    }
}

impl fmt::Debug for ScopeRngs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScopeRngs")
            .field("keys", &self.keys)
            .field("path", &self.path)
            .field("counts", &lock(&self.counters).counts)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bridge_random::{Scheme, key};

    const ALL: [(&str, bool); 1] = [("params", true)];

    #[test]
    fn a_child_that_is_held_sees_counts_that_lanes_brought() {
        let rngs = ScopeRngs::new(key(0));
        let child = rngs.child("a");
        let lanes = rngs.lanes(ALL, 2);
        lanes[0].child("a").make_rng("params").unwrap();
        lanes[0].child("b").make_rng("params").unwrap();
        rngs.continue_from(&lanes[0]);
        let fresh = ScopeRngs::new(key(0)).child("a");
        fresh.make_rng("params").unwrap();
        assert_eq!(child.make_rng("params").unwrap(), fresh.make_rng("params").unwrap());
    }

    #[test]
    fn lanes_count_by_themselves() {
        let rngs = ScopeRngs::new(key(0));
        let lanes = rngs.lanes(ALL, 2);
        let draws = lanes.iter().map(|lane| lane.make_rng("params").unwrap());
        let expected = key(0).split_vec(2);
        let count = [PathItem::Count(1)];
        let expected = expected.into_iter().map(|lane| fold_static(lane, count, Separator::None));
        assert!(draws.eq(expected));
    }

    #[test]
    fn steps_of_nothing_are_traced_once() {
        let (traced, steps) = ScopeRngs::new(key(0)).steps(ALL, 0, |rngs| rngs.make_rng("params")).unwrap();
        let [lane] = key(0).split();
        assert_eq!(traced, fold_static(lane, [PathItem::Count(1)], Separator::None));
        assert!(steps.is_empty());
    }

    #[test]
    fn errors_name_the_whole_path_after_folding() {
        let rngs = ScopeRngs::new([("dropout", key(0))]).child("a").folded().child("b");
        let error = rngs.make_rng("noise").unwrap_err().to_string();
        assert!(error.contains("a.b") && error.contains("noise") && error.contains("dropout"), "{error}");
    }

    #[test]
    fn the_first_filter_that_matches_decides_and_schemes_are_kept() {
        let rngs = ScopeRngs::new([("params", key(0).with_scheme(Scheme::Legacy)), ("dropout", key(1))]);
        let rules = [("dropout".into(), false), (CollectionFilter::all(), true)];
        let lanes = rngs.lanes(rules, 3);
        let dropout = lanes.iter().map(|lane| lane.make_rng("dropout").unwrap());
        let [first, second, third] = <[Key; 3]>::try_from(dropout.collect::<Vec<_>>()).unwrap();
        assert!(first == second && second == third);
        let legacy = key(0).with_scheme(Scheme::Legacy).split_vec(3)[2];
        let expected = fold_static(legacy, [PathItem::Count(1)], Separator::None);
        assert_eq!(lanes[2].make_rng("params").unwrap(), expected);
    }
}
