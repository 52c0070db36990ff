use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smallvec::SmallVec;

/// A name: of a field, a child, a stream or a collection. Cheap to clone and to compare.
#[derive(Clone)]
pub struct Name(Text);

// Thin pointers, so that a name and a step of a path are two words: they are copied all the time.
#[derive(Clone)]
enum Text {
    Static(&'static &'static str),
    Shared(Arc<Box<str>>),
}

impl Name {
    /// A name from a literal, without an allocation: `Name::from_static(&"kernel")`.
    pub const fn from_static(name: &'static &'static str) -> Self {
        Self(Text::Static(name))
    }

    /// The name's text.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Text::Static(text) => text,
            Text::Shared(text) => text,
        }
    }
}

impl std::ops::Deref for Name {
    type Target = str;
    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        let (a, b) = (self.as_str(), other.as_str());
        std::ptr::eq(a, b) || a == b
    }
}
impl Eq for Name {}
impl PartialEq<str> for Name {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}
impl PartialEq<&str> for Name {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}
impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Name {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}
impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}
impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}
impl From<&str> for Name {
    fn from(name: &str) -> Self {
        Self(Text::Shared(Arc::new(name.into())))
    }
}
impl From<String> for Name {
    fn from(name: String) -> Self {
        Self(Text::Shared(Arc::new(name.into())))
    }
}
impl From<&Name> for Name {
    fn from(name: &Name) -> Self {
        name.clone()
    }
}
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}
impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}
impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

/// One step of a [`Path`]: the name of a field or child, or the index of an item.
///
/// Indices come before names, and sort by number: `2` before `10`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PathKey {
    /// An item of a list or a tuple.
    Index(usize),
    /// A field, a child, an entry of a map.
    Name(Name),
}

impl PathKey {
    /// A name from a literal, without an allocation: `PathKey::from_static(&"kernel")`.
    pub const fn from_static(name: &'static &'static str) -> Self {
        Self::Name(Name::from_static(name))
    }
}

impl From<usize> for PathKey {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}
impl From<Name> for PathKey {
    fn from(name: Name) -> Self {
        Self::Name(name)
    }
}
impl From<&str> for PathKey {
    fn from(name: &str) -> Self {
        Self::Name(name.into())
    }
}
impl fmt::Display for PathKey {
    /// A name that would read as an index or that holds a dot or a backslash is marked with backslashes, and
    /// an empty one is `\\_`, so that what is printed reads back as what it was.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index(index) => write!(f, "{index}"),
            Self::Name(name) => {
                if name.is_empty() {
                    return f.write_str("\\_");
                }
                if name.bytes().all(|byte| byte.is_ascii_digit()) {
                    f.write_str("\\")?;
                }
                if !name.contains(['.', '\\']) {
                    return f.write_str(name);
                }
                for c in name.chars() {
                    if matches!(c, '.' | '\\') {
                        f.write_str("\\")?;
                    }
                    fmt::Write::write_char(f, c)?;
                }
                Ok(())
            }
        }
    }
}

/// Where something is in a tree; prints as `encoder.layers.3.kernel`.
///
/// ```
/// use bridge_vars::{Path, PathKey};
/// let path = Path::from("layers.3.kernel");
/// assert_eq!(path.keys()[1], PathKey::Index(3));
/// assert_eq!(path.to_string(), "layers.3.kernel");
/// assert!(Path::from("layers.10") > Path::from("layers.9"));
/// ```
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path(SmallVec<[PathKey; 4]>);

impl Path {
    /// The root.
    pub fn root() -> Self {
        Self::default()
    }

    /// The steps, from the root.
    pub fn keys(&self) -> &[PathKey] {
        &self.0
    }

    /// True at the root.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The number of steps.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The last step.
    pub fn last(&self) -> Option<&PathKey> {
        self.0.last()
    }

    /// Goes one step down.
    pub fn push(&mut self, key: impl Into<PathKey>) {
        self.0.push(key.into());
    }

    /// Goes one step up.
    pub fn pop(&mut self) -> Option<PathKey> {
        self.0.pop()
    }

    /// The path one step below.
    #[must_use]
    pub fn join(&self, key: impl Into<PathKey>) -> Self {
        let mut path = self.clone();
        path.push(key);
        path
    }

    /// The path of `below` as seen from the root, where `below` is relative to this one.
    #[must_use]
    pub fn concat(&self, below: &Path) -> Self {
        self.0.iter().chain(&below.0).cloned().collect()
    }

    /// Up to three of the others that look like this path, the likeliest first: what may have been meant.
    #[must_use]
    pub fn similar(&self, others: impl IntoIterator<Item = Path>) -> Vec<Path> {
        let text = self.to_string();
        let score = |other: &Path| {
            let other_text = other.to_string();
            let (short, long) = match text.len() < other_text.len() {
                true => (text.len(), other_text.len()),
                false => (other_text.len(), text.len()),
            };
            // Too unlike to be worth a comparison, which takes the product of both lengths.
            if long > LONGEST_COMPARED || long > 10 * short {
                return 0.;
            }
            let likeness = strsim::normalized_damerau_levenshtein(&text, &other_text);
            // The last step says what a value is, the others where.
            let same_end = !self.is_empty() && self.last() == other.last();
            likeness + if same_end { 0.5 } else { 0. }
        };
        let mut close: Vec<_> = others.into_iter().map(|other| (score(&other), other)).collect();
        close.retain(|(score, _)| *score > 0.6);
        close.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        close.into_iter().take(3).map(|(_, other)| other).collect()
    }

    /// True if `prefix` is this path or above it.
    pub fn starts_with(&self, prefix: &Path) -> bool {
        self.0.starts_with(&prefix.0)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, key) in self.0.iter().enumerate() {
            if position > 0 {
                f.write_str(".")?;
            }
            write!(f, "{key}")?;
        }
        Ok(())
    }
}
impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl FromStr for Path {
    type Err = std::convert::Infallible;

    /// Reads what `Display` prints; every text is a path.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut path = Self::root();
        if text.is_empty() {
            return Ok(path);
        }
        let mut key = String::new();
        let mut marked = false;
        let mut chars = text.chars();
        let mut finish = |key: &mut String, marked: &mut bool| {
            let index = match *marked {
                true => None,
                false => key.parse().ok().filter(|index: &usize| index.to_string() == *key),
            };
            match index {
                Some(index) => path.push(PathKey::Index(index)),
                None => path.push(PathKey::Name(Name::from(key.as_str()))),
            }
            key.clear();
            *marked = false;
        };
        while let Some(c) = chars.next() {
            match c {
                '.' => finish(&mut key, &mut marked),
                '\\' => {
                    marked = true;
                    match chars.as_str().chars().next() {
                        Some(escaped @ ('.' | '\\')) => {
                            key.push(escaped);
                            chars.next();
                        }
                        Some('_') if key.is_empty() => {
                            chars.next();
                        }
                        _ => {}
                    }
                }
                _ => key.push(c),
            }
        }
        finish(&mut key, &mut marked);
        Ok(path)
    }
}

impl From<&str> for Path {
    fn from(text: &str) -> Self {
        match text.parse() {
            Ok(path) => path,
            Err(never) => match never {},
        }
    }
}
impl From<&Path> for Path {
    fn from(path: &Path) -> Self {
        path.clone()
    }
}
impl From<PathKey> for Path {
    fn from(key: PathKey) -> Self {
        [key].into_iter().collect()
    }
}
impl FromIterator<PathKey> for Path {
    fn from_iter<I: IntoIterator<Item = PathKey>>(keys: I) -> Self {
        Self(keys.into_iter().collect())
    }
}
impl Serialize for Path {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for Path {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.bytes().filter(|byte| *byte == b'.').count() > MAX_DOTS {
            true => Err(serde::de::Error::custom(format!("a path of more than {MAX_DOTS} steps"))),
            false => Ok(Self::from(text.as_str())),
        }
    }
}

/// Longer texts are not compared with each other.
const LONGEST_COMPARED: usize = 1000;
/// A path that something wrote may have so many dots: each step takes more room than its text.
const MAX_DOTS: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = PathKey> {
        prop_oneof![
            any::<usize>().prop_map(PathKey::Index),
            "[a-z_0-9.\\\\]{0,4}".prop_map(|name| PathKey::from(name.as_str())),
        ]
    }

    proptest! {
        #[test]
        fn prints_and_reads_back(path in proptest::collection::vec(key(), 0..5).prop_map(Path::from_iter)) {
            prop_assert_eq!(Path::from(path.to_string().as_str()), path);
        }
    }

    #[test]
    fn indices_sort_by_number_and_before_names() {
        let mut keys = [PathKey::from("a"), PathKey::from(10), PathKey::from("10"), PathKey::from(9)];
        keys.sort();
        assert_eq!(keys.map(|key| key.to_string()), ["9", "10", "\\10", "a"]);
    }

    #[test]
    fn finds_what_may_have_been_meant() {
        let check = |path: &str, others: &[&str], expected: &[&str]| {
            let found = Path::from(path).similar(others.iter().map(|other| Path::from(*other)));
            assert_eq!(found, expected.iter().map(|path| Path::from(*path)).collect::<Vec<_>>());
        };
        check(
            "encoder.kernel",
            &["decoder.bias", "encoder.kernal", "decoder.kernel"],
            &["decoder.kernel", "encoder.kernal"],
        );
        check(
            "layer.0.bias",
            &["layers.1.bias", "layers.0.bias", "embedding"],
            &["layers.0.bias", "layers.1.bias"],
        );
        check("a", &["xyz", "", "b.c"], &[]);
    }

    #[test]
    fn steps_are_small() {
        assert_eq!((size_of::<Name>(), size_of::<PathKey>()), (16, 16));
    }

    #[test]
    fn knows_its_prefixes() {
        let path = Path::from("encoder.layers.3");
        assert!(path.starts_with(&Path::from("encoder")));
        assert!(!path.starts_with(&Path::from("enc")));
        assert_eq!(Path::from("encoder").concat(&Path::from("layers.3")), path);
    }
}
