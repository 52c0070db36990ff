use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// What a variable says about its value: an ordered map from names to serde values. A clone is cheap.
///
/// ```
/// use bridge_vars::Metadata;
/// let mut metadata = Metadata::default();
/// metadata.set("sharding", ["data", "model"]);
/// assert_eq!(metadata.get("sharding").unwrap()[1], "model");
/// ```
#[doc(alias = "AxisMetadata")]
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Metadata(Option<Arc<BTreeMap<String, Json>>>);

impl Metadata {
    /// The name under which a random stream's variables keep the stream's name.
    pub const TAG: &'static str = "tag";

    /// True if nothing is said.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// The value under a name.
    pub fn get(&self, name: &str) -> Option<&Json> {
        self.0.as_ref()?.get(name)
    }

    /// Sets the value under a name.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<Json>) {
        Arc::make_mut(self.0.get_or_insert_default()).insert(name.into(), value.into());
    }

    /// Takes the value under a name away.
    pub fn remove(&mut self, name: &str) -> Option<Json> {
        let map = Arc::make_mut(self.0.as_mut()?);
        let removed = map.remove(name);
        if map.is_empty() {
            self.0 = None;
        }
        removed
    }

    /// The tag: the name of the random stream that a key or count belongs to.
    pub fn tag(&self) -> Option<&str> {
        self.get(Self::TAG)?.as_str()
    }

    /// Names and values, in order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Json)> {
        self.0.iter().flat_map(|map| map.iter().map(|(name, value)| (name.as_str(), value)))
    }
}

impl std::fmt::Debug for Metadata {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K: Into<String>, V: Into<Json>> FromIterator<(K, V)> for Metadata {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut metadata = Self::default();
        for (name, value) in entries {
            metadata.set(name, value);
        }
        metadata
    }
}
