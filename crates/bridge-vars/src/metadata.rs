use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value as Json;

use crate::{Hooks, Result, Sharding, VarsError};

/// What a variable says about its value: an ordered map from names to serde values, and [`Hooks`]. A clone is cheap.
///
/// ```
/// use bridge_vars::Metadata;
/// let mut metadata = Metadata::default();
/// metadata.set("frozen", true);
/// assert_eq!(metadata.get("frozen").unwrap(), true);
/// ```
#[doc(alias = "AxisMetadata")]
#[derive(Clone, Default)]
pub struct Metadata(Option<Arc<Content>>);

#[derive(Clone, Default, PartialEq, Eq)]
struct Content {
    entries: BTreeMap<String, Json>,
    hooks: Option<Hooks>,
}

/// The entry that stands for the hooks in a file. No other name can be in angle brackets and mean something else.
const HOOKS: &str = "<hooks>";

impl Metadata {
    /// The name under which a random stream's variables keep the stream's name.
    pub const TAG: &'static str = "tag";
    /// The name under which the [`Sharding`] is kept.
    #[doc(alias("out_sharding", "sharding_names", "sharding_rules", "mesh"))]
    pub const SHARDING: &'static str = "sharding";

    /// True if nothing is said.
    pub fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(|content| content.entries.is_empty() && content.hooks.is_none())
    }

    /// The value under a name.
    pub fn get(&self, name: &str) -> Option<&Json> {
        self.0.as_ref()?.entries.get(name)
    }

    /// Sets the value under a name.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<Json>) {
        self.content().entries.insert(name.into(), value.into());
    }

    /// The same with a value under a name.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<Json>) -> Self {
        self.set(name, value);
        self
    }

    /// Takes the value under a name away.
    pub fn remove(&mut self, name: &str) -> Option<Json> {
        let content = Arc::make_mut(self.0.as_mut()?);
        let removed = content.entries.remove(name);
        if self.is_empty() {
            self.0 = None;
        }
        removed
    }

    fn content(&mut self) -> &mut Content {
        Arc::make_mut(self.0.get_or_insert_default())
    }

    /// The tag: the name of the random stream that a key or count belongs to.
    pub fn tag(&self) -> Option<&str> {
        self.get(Self::TAG)?.as_str()
    }

    /// The hooks.
    pub fn hooks(&self) -> Option<&Hooks> {
        self.0.as_ref()?.hooks.as_ref()
    }

    /// Sets the hooks, or takes them away.
    pub fn set_hooks(&mut self, hooks: Option<Hooks>) {
        self.content().hooks = hooks;
        if self.is_empty() {
            self.0 = None;
        }
    }

    /// The same with hooks.
    #[must_use]
    pub fn with_hooks(mut self, hooks: Hooks) -> Self {
        self.set_hooks(Some(hooks));
        self
    }

    /// How the value is to be spread over devices.
    ///
    /// # Errors
    /// [`VarsError::Sharding`] if something else is kept under its name.
    pub fn sharding(&self) -> Result<Option<Sharding>> {
        let Some(json) = self.get(Self::SHARDING) else { return Ok(None) };
        match Sharding::deserialize(json) {
            Ok(sharding) => Ok(Some(sharding)),
            Err(error) => {
                Err(VarsError::Sharding { found: json.to_string(), reason: error.to_string() }.into())
            }
        }
    }

    /// Sets how the value is to be spread over devices.
    pub fn set_sharding(&mut self, Sharding { names, rules, mesh }: &Sharding) {
        self.set(Self::SHARDING, serde_json::json!({ "names": names, "rules": rules, "mesh": mesh }));
    }

    /// The same with a sharding.
    #[must_use]
    pub fn with_sharding(mut self, sharding: &Sharding) -> Self {
        self.set_sharding(sharding);
        self
    }

    /// What is said once the value has one more axis: the sharding gets it, and the hooks are told.
    ///
    /// # Errors
    /// Those of [`Metadata::sharding`] and of the hooks.
    pub fn add_axis(&mut self, index: usize, name: Option<&str>) -> Result<()> {
        if let Some(mut sharding) = self.sharding()? {
            sharding.add_axis(index, name);
            self.set_sharding(&sharding);
        }
        match self.hooks().cloned() {
            Some(hooks) => hooks.add_axis(self, index, name),
            None => Ok(()),
        }
    }

    /// What is said once the value has one axis less: the sharding loses it, and the hooks are told.
    ///
    /// # Errors
    /// Those of [`Metadata::sharding`], [`Sharding::remove_axis`] and of the hooks.
    pub fn remove_axis(&mut self, index: usize, name: Option<&str>) -> Result<()> {
        if let Some(mut sharding) = self.sharding()? {
            sharding.remove_axis(index, name)?;
            self.set_sharding(&sharding);
        }
        match self.hooks().cloned() {
            Some(hooks) => hooks.remove_axis(self, index, name),
            None => Ok(()),
        }
    }

    /// Names and values, in order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Json)> {
        self.0.iter().flat_map(|content| content.entries.iter().map(|(name, value)| (name.as_str(), value)))
    }
}

impl PartialEq for Metadata {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (None, None) => true,
            (Some(a), Some(b)) => Arc::ptr_eq(a, b) || a == b,
            _ => self.is_empty() && other.is_empty(),
        }
    }
}
impl Eq for Metadata {}
impl Hash for Metadata {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for (name, value) in self.iter() {
            name.hash(state);
            value.hash(state);
        }
        if let Some(hooks) = self.hooks() {
            hooks.name().hash(state);
        }
    }
}

impl std::fmt::Debug for Metadata {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.iter()).entries(self.hooks().map(|hooks| (HOOKS, hooks.name()))).finish()
    }
}

impl<K: Into<String>, V: Into<Json>> FromIterator<(K, V)> for Metadata {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        entries.into_iter().fold(Self::default(), |metadata, (name, value)| metadata.with(name, value))
    }
}

impl Serialize for Metadata {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let hooks = self.hooks().map(|hooks| (HOOKS, Json::from(hooks.name())));
        serializer.collect_map(self.iter().chain(hooks.iter().map(|(name, value)| (*name, value))))
    }
}
impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut entries = BTreeMap::<String, Json>::deserialize(deserializer)?;
        let hooks = match entries.remove(HOOKS) {
            None => None,
            Some(Json::String(name)) => Some(Hooks::named(&name)),
            Some(_) => return Err(D::Error::custom(format!("expected a name under {HOOKS:?}"))),
        };
        let content = Content { entries, hooks };
        Ok(Self((content != Content::default()).then(|| Arc::new(content))))
    }
}
