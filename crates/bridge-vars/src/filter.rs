use std::fmt;
use std::ops::{BitAnd, BitOr, Not};
use std::sync::Arc;

use crate::glob::Glob;
use crate::{Leaf, Path, PathKey, VariableKind, VariableOf, VariableType};

/// Which variables: by type, by path, by tag or by a closure, composed with `!`, `&` and `|`.
///
/// A variable that stands in several places of a module has the path of the first.
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
    PathContainsText(Arc<str>),
    PathMatches(Arc<Glob>),
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

    /// Variables whose path has this text in one of its steps, as that prints: `norm` matches `layers.0.norm_in.scale`.
    #[doc(alias("PathContains", "exact"))]
    pub fn path_contains_text(text: &str) -> Self {
        Self(Form::PathContainsText(text.into()))
    }

    /// Variables whose path a pattern covers: `encoder.*.kernel`, `**.bias`, `layers.1?.norm`.
    ///
    /// A dot in a name follows a backslash, as it prints. `*` stands for any text within a step, `?` for one character of it, and a step `**` for any number of steps, none
    /// among them.
    #[doc(alias = "glob")]
    pub fn path_matches(pattern: &str) -> Self {
        Self(Form::PathMatches(Arc::new(Glob::new(pattern))))
    }

    /// Variables at exactly this path.
    pub fn path(path: impl Into<Path>) -> Self {
        Self::path_in([path])
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
            Form::PathContainsText(text) => path.keys().iter().any(|key| match key {
                PathKey::Name(name) => name.contains(&**text),
                PathKey::Index(index) => index.to_string().contains(&**text),
            }),
            Form::PathMatches(pattern) => pattern.matches(path),
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
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a type of variable",
    note = "name a handle: `Filter::of::<Param>()`; declare one of your own by `kinds! {{ pub Scale(ScaleKind) in \"scales\"; }}`"
)]
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
/// Everything or nothing.
impl From<bool> for Filter {
    fn from(all: bool) -> Self {
        if all { Self::Everything } else { Self::Nothing }
    }
}
/// What any of them matches.
impl From<Vec<Filter>> for Filter {
    fn from(filters: Vec<Filter>) -> Self {
        Self::any(filters)
    }
}
/// What any of them matches.
impl<const N: usize> From<[Filter; N]> for Filter {
    fn from(filters: [Filter; N]) -> Self {
        Self::any(filters)
    }
}

/// Equal if they are written alike; closures if they are the same one.
impl PartialEq for Filter {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Form::Everything, Form::Everything) | (Form::Nothing, Form::Nothing) => true,
            (Form::Kind(a), Form::Kind(b)) => a == b,
            (Form::Tag(a), Form::Tag(b)) | (Form::PathContainsText(a), Form::PathContainsText(b)) => a == b,
            (Form::PathContains(a), Form::PathContains(b)) => a == b,
            (Form::PathStartsWith(a), Form::PathStartsWith(b)) => a == b,
            (Form::PathMatches(a), Form::PathMatches(b)) => a == b,
            (Form::PathIn(a), Form::PathIn(b)) => a == b,
            (Form::Closure(a), Form::Closure(b)) => Arc::ptr_eq(a, b),
            (Form::Any(a), Form::Any(b)) | (Form::All(a), Form::All(b)) => a == b,
            (Form::Not(a), Form::Not(b)) => a == b,
            _ => false,
        }
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
            Form::PathContainsText(text) => write!(f, "path contains the text {text}"),
            Form::PathMatches(pattern) => write!(f, "path matches {pattern}"),
            Form::PathStartsWith(path) => write!(f, "path starts with {path}"),
            Form::PathIn(paths) => {
                let paths: Vec<_> = paths.iter().map(Path::to_string).collect();
                write!(f, "path in [{}]", paths.join(", "))
            }
            Form::Closure(_) => f.write_str("a closure"),
            Form::Any(filters) if filters.is_empty() => f.write_str("nothing"),
            Form::All(filters) if filters.is_empty() => f.write_str("everything"),
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
        check(Filter::path("a.b"), "a.b.c", &param, false);
        check(Filter::path_matches("a.*.c"), "a.b.c", &param, true);
        check(Filter::path_contains_text("ern"), "a.kernel", &param, true);
        check(Filter::path_contains_text("1"), "a.10", &param, true);
        check(Filter::path_contains_text("a.k"), "a.kernel", &param, false);
        check(true.into(), "a", &param, true);
        check(false.into(), "a", &param, false);
        check([Filter::of::<BatchStat>(), Filter::path("a")].into(), "a", &param, true);
        check(Filter::any([]), "a", &param, false);
        check(Filter::all([]), "a", &param, true);
    }

    #[test]
    fn prints_as_it_reads() {
        let filter = !(Filter::of::<Param>() | Filter::tag("dropout")) & Filter::path_in(["a.b"]);
        assert_eq!(filter.to_string(), "not (Param | tag dropout) & path in [a.b]");
        let filter = Filter::path_matches("a.**") | Filter::path_contains_text("b") | Filter::any([]);
        assert_eq!(filter.to_string(), "(path matches a.** | path contains the text b) | nothing");
    }

    #[test]
    fn are_equal_if_they_are_written_alike() {
        let written = || !(Filter::of::<Param>() | Filter::path_matches("a.*")) & Filter::path_in(["a.b"]);
        assert_eq!(written(), written());
        assert_ne!(written(), !written());
        let closure = Filter::new(|_, _| true);
        assert_eq!(closure, closure.clone());
        assert_ne!(closure, Filter::new(|_, _| true));
    }
}
