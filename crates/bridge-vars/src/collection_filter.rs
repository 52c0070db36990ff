use std::collections::BTreeSet;
use std::fmt;
use std::ops::{BitAnd, BitOr, Not, Sub};

use serde::{Deserialize, Serialize};

use crate::Name;

/// Which collections: all, none, some by name, or all but some. Used for what a call may change.
///
/// ```
/// use bridge_vars::CollectionFilter;
/// let mutable: CollectionFilter = "batch_stats".into();
/// assert!(mutable.contains("batch_stats") && !mutable.contains("params"));
/// let mutable = (mutable | "cache") & CollectionFilter::all_but(["params"]);
/// assert_eq!(mutable, ["batch_stats", "cache"].into());
/// assert_eq!((mutable - "cache").to_string(), "batch_stats");
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

    /// Every collection that one of the two contains.
    #[doc(alias = "union_filters")]
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Only(a), Self::Only(b)) => Self::Only(a | b),
            (Self::AllBut(a), Self::AllBut(b)) => Self::AllBut(a & b),
            (Self::AllBut(but), Self::Only(only)) | (Self::Only(only), Self::AllBut(but)) => {
                Self::AllBut(but - only)
            }
        }
    }

    /// Every collection that both contain.
    #[doc(alias = "intersect_filters")]
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Only(a), Self::Only(b)) => Self::Only(a & b),
            (Self::AllBut(a), Self::AllBut(b)) => Self::AllBut(a | b),
            (Self::AllBut(but), Self::Only(only)) | (Self::Only(only), Self::AllBut(but)) => {
                Self::Only(only - but)
            }
        }
    }

    /// Every collection that this one does not contain.
    #[must_use]
    pub fn complement(&self) -> Self {
        match self {
            Self::Only(names) => Self::AllBut(names.clone()),
            Self::AllBut(names) => Self::Only(names.clone()),
        }
    }

    /// Every collection that this one contains and the other does not.
    #[doc(alias = "subtract_filters")]
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        self.intersection(&other.complement())
    }

    /// True if no collection is.
    pub fn is_none(&self) -> bool {
        matches!(self, Self::Only(names) if names.is_empty())
    }
}

impl<F: Into<CollectionFilter>> BitOr<F> for CollectionFilter {
    type Output = Self;
    fn bitor(self, other: F) -> Self {
        self.union(&other.into())
    }
}
impl<F: Into<CollectionFilter>> BitAnd<F> for CollectionFilter {
    type Output = Self;
    fn bitand(self, other: F) -> Self {
        self.intersection(&other.into())
    }
}
impl<F: Into<CollectionFilter>> Sub<F> for CollectionFilter {
    type Output = Self;
    fn sub(self, other: F) -> Self {
        self.difference(&other.into())
    }
}
impl Not for CollectionFilter {
    type Output = Self;
    fn not(self) -> Self {
        self.complement()
    }
}

/// Every collection, or none.
impl From<bool> for CollectionFilter {
    fn from(all: bool) -> Self {
        if all { Self::all() } else { Self::none() }
    }
}
impl From<&CollectionFilter> for CollectionFilter {
    fn from(filter: &CollectionFilter) -> Self {
        filter.clone()
    }
}
impl From<Vec<String>> for CollectionFilter {
    fn from(names: Vec<String>) -> Self {
        Self::Only(names.into_iter().map(|name| Name::from(name.as_str())).collect())
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NAMES: [&str; 4] = ["params", "batch_stats", "cache", "intermediates"];

    fn filters() -> impl Strategy<Value = CollectionFilter> {
        let names = proptest::sample::subsequence(&NAMES[..3], 0..=3);
        (names, any::<bool>()).prop_map(|(names, but)| {
            let only = CollectionFilter::from(&names[..]);
            if but { !only } else { only }
        })
    }

    proptest! {
        /// `flax.core.scope.{union,intersect,subtract}_filters`: set algebra, whatever the forms.
        #[test]
        fn is_an_algebra_of_sets(a in filters(), b in filters()) {
            for name in NAMES {
                let (in_a, in_b) = (a.contains(name), b.contains(name));
                prop_assert_eq!(a.union(&b).contains(name), in_a || in_b);
                prop_assert_eq!(a.intersection(&b).contains(name), in_a && in_b);
                prop_assert_eq!(a.difference(&b).contains(name), in_a && !in_b);
                prop_assert_eq!(a.complement().contains(name), !in_a);
            }
            prop_assert_eq!(a.is_none(), a == CollectionFilter::none());
        }
    }

    #[test]
    fn is_made_of_what_flax_takes() {
        assert_eq!(CollectionFilter::from(true), CollectionFilter::all());
        assert!(CollectionFilter::from(false).is_none());
        assert_eq!(CollectionFilter::from(vec!["cache".to_owned()]), "cache".into());
        assert_eq!((CollectionFilter::all() - "params").to_string(), "all but params");
    }
}
