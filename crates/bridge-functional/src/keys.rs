use bridge_random::{Key, Separator};
use bridge_vars::Name;

/// The keys that a call's random streams start from, by the streams' names.
///
/// A key alone is that of `params`, to which every other stream of functional modules falls back. The streams of a
/// stateful module inside, wrapped by `to_functional`, do not fall back, as in Flax: give each its own key.
///
/// ```
/// use bridge_functional::Keys;
/// use bridge_random::key;
/// let keys = Keys::from([("params", key(0)), ("dropout", key(1))]);
/// assert_eq!(keys.get("dropout"), Some(key(1)));
/// assert_eq!(Keys::from(key(0)).get("params"), Some(key(0)));
/// ```
#[doc(alias = "rngs")]
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Keys {
    keys: Vec<(Name, Key)>,
    separator: Option<Separator>,
}

impl Keys {
    /// No key: nothing random may happen.
    pub fn none() -> Self {
        Self::default()
    }

    /// The key of a stream.
    pub fn get(&self, stream: &str) -> Option<Key> {
        self.keys.iter().find(|(name, _)| name == stream).map(|(_, key)| *key)
    }

    /// Sets the key of a stream.
    pub fn set(&mut self, stream: impl Into<Name>, key: Key) {
        let stream = stream.into();
        match self.keys.iter_mut().find(|(name, _)| *name == stream) {
            Some((_, old)) => *old = key,
            None => self.keys.push((stream, key)),
        }
    }

    /// With what keeps the names of a path apart where a key is derived from it: `flax_fix_rng_separator` of Flax.
    ///
    /// ```
    /// use bridge_functional::{Call, Keys};
    /// use bridge_random::{Separator, key};
    /// use bridge_vars::Variables;
    /// let keys = Keys::from(key(0)).with_separator(Separator::ZeroByte);
    /// let drawn = |keys: &Keys| Call::new().keys(keys).apply(&Variables::default(), |scope| scope.make_rng("params"));
    /// assert_ne!(drawn(&keys)?.0, drawn(&key(0).into())?.0);
    /// # Ok::<(), bridge_vars::Error>(())
    /// ```
    #[doc(alias = "flax_fix_rng_separator")]
    #[must_use]
    pub fn with_separator(self, separator: Separator) -> Self {
        Self { separator: Some(separator), ..self }
    }

    /// What keeps the names of a path apart, if that was said; otherwise it is what the call around, or Flax, has.
    pub fn separator(&self) -> Option<Separator> {
        self.separator
    }

    /// Streams and keys, in the order in which they were given.
    pub fn iter(&self) -> impl Iterator<Item = (&Name, Key)> {
        self.keys.iter().map(|(name, key)| (name, *key))
    }
}

impl<N: Into<Name>> FromIterator<(N, Key)> for Keys {
    fn from_iter<I: IntoIterator<Item = (N, Key)>>(keys: I) -> Self {
        let mut collected = Self::default();
        for (stream, key) in keys {
            collected.set(stream, key);
        }
        collected
    }
}
impl From<Vec<(Name, Key)>> for Keys {
    fn from(keys: Vec<(Name, Key)>) -> Self {
        let is_new =
            |(at, (name, _)): (usize, &(Name, Key))| !keys.iter().take(at).any(|(other, _)| other == name);
        match keys.iter().enumerate().all(is_new) {
            true => Self { keys, separator: None },
            false => keys.into_iter().collect(),
        }
    }
}
impl From<Key> for Keys {
    fn from(key: Key) -> Self {
        Self::from_iter([(Name::from_static(&"params"), key)])
    }
}
impl<N: Into<Name>, const K: usize> From<[(N, Key); K]> for Keys {
    fn from(keys: [(N, Key); K]) -> Self {
        keys.into_iter().collect()
    }
}
impl From<&Keys> for Keys {
    fn from(keys: &Keys) -> Self {
        keys.clone()
    }
}
