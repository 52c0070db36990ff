use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Name;

/// Which collections: all, none, some by name, or all but some. Used for what a call may change.
///
/// ```
/// use bridge_vars::CollectionFilter;
/// let mutable: CollectionFilter = "batch_stats".into();
/// assert!(mutable.contains("batch_stats") && !mutable.contains("params"));
/// assert!(CollectionFilter::all_but(["params"]).contains("cache"));
/// ```
#[doc(alias("DenyList", "mutable"))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CollectionFilter {
    /// These.
    Only(BTreeSet<Name>),
    /// All but these.
    AllBut(BTreeSet<Name>),
}

impl CollectionFilter {
    /// Every collection.
    pub fn all() -> Self {
        Self::AllBut(BTreeSet::new())
    }

    /// No collection.
    pub fn none() -> Self {
        Self::Only(BTreeSet::new())
    }

    /// Every collection but these.
    pub fn all_but<N: Into<Name>>(names: impl IntoIterator<Item = N>) -> Self {
        Self::AllBut(names.into_iter().map(Into::into).collect())
    }

    /// True if the collection is one of those.
    pub fn contains(&self, collection: &str) -> bool {
        match self {
            Self::Only(names) => names.contains(collection),
            Self::AllBut(names) => !names.contains(collection),
        }
    }

    /// True if no collection is.
    pub fn is_none(&self) -> bool {
        matches!(self, Self::Only(names) if names.is_empty())
    }
}

impl From<&str> for CollectionFilter {
    fn from(name: &str) -> Self {
        Self::Only([name.into()].into())
    }
}
impl<const N: usize> From<[&str; N]> for CollectionFilter {
    fn from(names: [&str; N]) -> Self {
        Self::Only(names.into_iter().map(Name::from).collect())
    }
}
impl From<&[&str]> for CollectionFilter {
    fn from(names: &[&str]) -> Self {
        Self::Only(names.iter().copied().map(Name::from).collect())
    }
}

impl fmt::Display for CollectionFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (before, names) = match self {
            Self::Only(names) if names.is_empty() => return f.write_str("none"),
            Self::AllBut(names) if names.is_empty() => return f.write_str("all"),
            Self::Only(names) => ("", names),
            Self::AllBut(names) => ("all but ", names),
        };
        let names: Vec<&str> = names.iter().map(Name::as_str).collect();
        write!(f, "{before}{}", names.join(", "))
    }
}
