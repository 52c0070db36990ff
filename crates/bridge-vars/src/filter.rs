use std::fmt;
use std::ops::{BitAnd, BitOr, Not};
use std::sync::Arc;

use crate::{Leaf, Path, PathKey, VariableKind, VariableOf, VariableType};

/// Which variables: by type, by path, by tag or by a closure, composed with `!`, `&` and `|`.
///
/// ```
/// use bridge_vars::{Filter, Param};
/// let adapters = Filter::of::<Param>() & Filter::path_contains("adapter");
/// assert_eq!(adapters.to_string(), "Param & path contains adapter");
/// assert_eq!((!Filter::path_starts_with("encoder")).to_string(), "not path starts with encoder");
/// ```
#[derive(Clone)]
pub struct Filter(Form);

#[derive(Clone)]
enum Form {
    Everything,
    Nothing,
    Kind(VariableType),
    Tag(Arc<str>),
    PathContains(PathKey),
    PathStartsWith(Path),
    PathIn(Arc<[Path]>),
    Closure(Arc<dyn Fn(&Path, &Leaf) -> bool + Send + Sync>),
    Any(Arc<[Filter]>),
    All(Arc<[Filter]>),
    Not(Arc<Filter>),
}

impl Filter {
    /// Every variable.
    #[allow(non_upper_case_globals, reason = "it reads as the variant that it stands for")]
    pub const Everything: Self = Self(Form::Everything);
    /// No variable.
    #[allow(non_upper_case_globals, reason = "it reads as the variant that it stands for")]
    pub const Nothing: Self = Self(Form::Nothing);

    /// Variables of a type or its descendants: `Filter::of::<Param>()`.
    #[doc(alias = "OfType")]
    pub fn of<V: IsKind>() -> Self {
        V::Kind::variable_type().into()
    }

    /// Variables of a random stream with this name.
    #[doc(alias = "WithTag")]
    pub fn tag(tag: &str) -> Self {
        Self(Form::Tag(tag.into()))
    }

    /// Variables whose path has this name or index as one of its steps.
    ///
    /// A number is the index of an item, a text is a name, even one of digits: `path_contains(3)` is item 3 of a
    /// list, `path_contains("3")` the entry of a map that is named `3`.
    #[doc(alias = "PathContains")]
    pub fn path_contains(key: impl Into<PathKey>) -> Self {
        Self(Form::PathContains(key.into()))
    }

    /// Variables at a path or below it.
    pub fn path_starts_with(path: impl Into<Path>) -> Self {
        Self(Form::PathStartsWith(path.into()))
    }

    /// Variables at exactly these paths.
    #[doc(alias = "PathIn")]
    pub fn path_in<P: Into<Path>>(paths: impl IntoIterator<Item = P>) -> Self {
        Self(Form::PathIn(paths.into_iter().map(Into::into).collect()))
    }

    /// Variables for which a closure says yes.
    pub fn new(closure: impl Fn(&Path, &Leaf) -> bool + Send + Sync + 'static) -> Self {
        Self(Form::Closure(Arc::new(closure)))
    }

    /// Variables that any of the filters matches.
    pub fn any(filters: impl IntoIterator<Item = Filter>) -> Self {
        Self(Form::Any(filters.into_iter().collect()))
    }

    /// Variables that all of the filters match.
    pub fn all(filters: impl IntoIterator<Item = Filter>) -> Self {
        Self(Form::All(filters.into_iter().collect()))
    }

    /// True if the variable at `path` with this type, value and metadata is one of those.
    pub fn matches(&self, path: &Path, leaf: &Leaf) -> bool {
        match &self.0 {
            Form::Everything => true,
            Form::Nothing => false,
            Form::Kind(kind) => leaf.kind.is(*kind),
            Form::Tag(tag) => leaf.metadata.tag() == Some(tag),
            Form::PathContains(key) => path.keys().contains(key),
            Form::PathStartsWith(prefix) => path.starts_with(prefix),
            Form::PathIn(paths) => paths.contains(path),
            Form::Closure(closure) => closure(path, leaf),
            Form::Any(filters) => filters.iter().any(|filter| filter.matches(path, leaf)),
            Form::All(filters) => filters.iter().all(|filter| filter.matches(path, leaf)),
            Form::Not(filter) => !filter.matches(path, leaf),
        }
    }
}

/// The typed handles (`Param`, ..), for [`Filter::of`].
pub trait IsKind {
    /// The kind.
    type Kind: VariableKind;
}
impl<K: VariableKind> IsKind for VariableOf<K> {
    type Kind = K;
}

impl From<VariableType> for Filter {
    fn from(kind: VariableType) -> Self {
        Self(Form::Kind(kind))
    }
}
impl<F: Fn(&Path, &Leaf) -> bool + Send + Sync + 'static> From<F> for Filter {
    fn from(closure: F) -> Self {
        Self::new(closure)
    }
}
impl Not for Filter {
    type Output = Self;
    fn not(self) -> Self {
        Self(Form::Not(Arc::new(self)))
    }
}
impl BitAnd for Filter {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self::all([self, other])
    }
}
impl BitOr for Filter {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self::any([self, other])
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Form::Everything => f.write_str("everything"),
            Form::Nothing => f.write_str("nothing"),
            Form::Kind(kind) => write!(f, "{kind}"),
            Form::Tag(tag) => write!(f, "tag {tag}"),
            Form::PathContains(key) => write!(f, "path contains {key}"),
            Form::PathStartsWith(path) => write!(f, "path starts with {path}"),
            Form::PathIn(paths) => {
                let paths: Vec<_> = paths.iter().map(Path::to_string).collect();
                write!(f, "path in [{}]", paths.join(", "))
            }
            Form::Closure(_) => f.write_str("a closure"),
            Form::Any(filters) => joined(filters, " | ", f),
            Form::All(filters) => joined(filters, " & ", f),
            Form::Not(filter) => write!(f, "not {}", Inner(filter)),
        }
    }
}

fn joined(filters: &[Filter], between: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (position, filter) in filters.iter().enumerate() {
        if position > 0 {
            f.write_str(between)?;
        }
        write!(f, "{}", Inner(filter))?;
    }
    Ok(())
}

struct Inner<'a>(&'a Filter);
impl fmt::Display for Inner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.0 {
            Form::Any(filters) | Form::All(filters) if filters.len() > 1 => write!(f, "({})", self.0),
            _ => write!(f, "{}", self.0),
        }
    }
}
impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Filter({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BatchStat, LoraParam, Metadata, Param, RngKey};
    use bridge_random::key;

    #[test]
    fn matches_by_type_path_tag_and_closure() {
        let mut stream = RngKey::leaf(key(0));
        stream.metadata = Metadata::from_iter([(Metadata::TAG, "dropout")]);
        let check = |filter: Filter, path: &str, leaf: &Leaf, expected: bool| {
            assert_eq!(filter.matches(&Path::from(path), leaf), expected, "{filter} on {path}");
        };
        let leaf = |kind: VariableType| Leaf::new(kind, 0u32);
        let (param, lora) = (leaf(Param::variable_type()), leaf(LoraParam::variable_type()));
        check(Filter::of::<Param>(), "a", &lora, true);
        check(Filter::of::<LoraParam>(), "a", &param, false);
        check(!Filter::of::<BatchStat>(), "a", &param, true);
        check(Filter::tag("dropout"), "a", &stream, true);
        check(Filter::tag("dropout"), "a", &param, false);
        check(Filter::path_contains("b"), "a.b.c", &param, true);
        check(Filter::path_contains(1), "a.1", &param, true);
        check(Filter::path_contains("1"), "a.1", &param, false);
        check(Filter::path_contains("1"), "a.\\1", &param, true);
        check(Filter::path_starts_with("a.b"), "a.bc", &param, false);
        check(Filter::path_in(["a.b", "c"]), "c", &param, true);
        check((|path: &Path, _: &Leaf| path.len() == 2).into(), "a.b", &param, true);
        check(Filter::of::<Param>() & Filter::path_contains("x"), "a", &param, false);
        check(Filter::of::<BatchStat>() | Filter::Everything, "a", &param, true);
        check(Filter::Nothing, "a", &param, false);
    }

    #[test]
    fn prints_as_it_reads() {
        let filter = !(Filter::of::<Param>() | Filter::tag("dropout")) & Filter::path_in(["a.b"]);
        assert_eq!(filter.to_string(), "not (Param | tag dropout) & path in [a.b]");
    }
}
