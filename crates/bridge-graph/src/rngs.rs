use std::sync::atomic::{AtomicBool, Ordering};

use bridge_random::{Key, key};
use bridge_vars::{Metadata, Name, PathKey, Result, RngCount, RngKey};
use candle_core::{DType, Device};
use indexmap::IndexMap;

use crate::error::GraphError;
use crate::{Field, GraphNode, Source, StatefulModule, Structure, Visit, Visitor, iter_graph, visit_static};

/// A random stream: a key, and how often it was drawn from. Each draw gives a new key.
///
/// Both are variables, so a saved module goes on where it stopped. The keys are Flax's: the `n`th draw is
/// `fold_in(key, n)`.
///
/// ```
/// use bridge_graph::RngStream;
/// use bridge_random::key;
/// let stream = RngStream::new("dropout", key(0));
/// assert_eq!(stream.draw()?, key(0).fold_in(0));
/// assert_eq!(stream.draw()?, key(0).fold_in(1));
/// # Ok::<(), bridge_vars::Error>(())
/// ```
#[doc(alias = "nnx.RngStream")]
#[derive(Debug)]
pub struct RngStream {
    key: RngKey,
    count: RngCount,
    sealed: AtomicBool,
}

impl RngStream {
    /// A stream that nothing was drawn from yet. Its name is the tag of its variables.
    pub fn new(name: impl Into<Name>, key: Key) -> Self {
        let tag = Metadata::from_iter([(Metadata::TAG, name.into().to_string())]);
        let (key, count) = (RngKey::new(key), RngCount::new(0));
        key.set_metadata(tag.clone());
        count.set_metadata(tag);
        Self { key, count, sealed: AtomicBool::new(false) }
    }

    /// The stream's name.
    #[doc(alias = "tag")]
    pub fn name(&self) -> Name {
        self.key.metadata().tag().unwrap_or_default().into()
    }

    /// A new key.
    ///
    /// # Errors
    /// [`GraphError::StreamSealed`] inside a functional call that was given no key for this stream.
    #[doc(alias = "__call__")]
    pub fn draw(&self) -> Result<Key> {
        if self.is_sealed() {
            return Err(GraphError::StreamSealed { stream: self.name().to_string() }.into());
        }
        Ok(self.key.key()?.fold_in(self.count.next_count()?))
    }

    /// A stream of the same name that starts from a new key of this one.
    ///
    /// # Errors
    /// Those of [`RngStream::draw`].
    pub fn fork(&self) -> Result<Self> {
        Ok(Self::new(self.name(), self.draw()?))
    }

    /// Starts again from another key.
    pub fn restart(&self, key: Key) {
        self.key.set(key);
        self.count.set(0);
        self.sealed.store(false, Ordering::Relaxed);
    }

    /// Makes every further draw an error, until the stream is restarted.
    pub fn seal(&self) {
        self.sealed.store(true, Ordering::Relaxed);
    }

    /// True if draws are errors.
    pub fn is_sealed(&self) -> bool {
        self.sealed.load(Ordering::Relaxed)
    }
}

impl Visit for RngStream {
    fn visit(&self, visitor: &mut dyn Visitor) -> Result<()> {
        visitor.enter(Structure::Module(Name::from_static("RngStream")), Some(self))?;
        visitor.child(&PathKey::from_static("count"), &self.count)?;
        visitor.child(&PathKey::from_static("key"), &self.key)?;
        visitor.exit()
    }
}
impl Field for RngStream {
    fn rebuild(source: &mut Source<'_>) -> Result<Self> {
        source.enter(&Structure::Module(Name::from_static("RngStream")))?;
        let count = source.child(&PathKey::from_static("count"))?;
        let key = source.child(&PathKey::from_static("key"))?;
        source.exit()?;
        Ok(Self { key, count, sealed: AtomicBool::new(false) })
    }
}
impl StatefulModule for RngStream {
    fn type_name(&self) -> &'static str {
        Self::static_type_name()
    }
    fn static_type_name() -> &'static str {
        "RngStream"
    }
}

/// What a random stream can start from: a seed or a key.
#[derive(Clone, Copy, Debug)]
pub struct RngSeed(Key);

impl From<i64> for RngSeed {
    fn from(seed: i64) -> Self {
        Self(key(seed))
    }
}
impl From<i32> for RngSeed {
    fn from(seed: i32) -> Self {
        i64::from(seed).into()
    }
}
impl From<u32> for RngSeed {
    fn from(seed: u32) -> Self {
        i64::from(seed).into()
    }
}
impl From<Key> for RngSeed {
    fn from(key: Key) -> Self {
        Self(key)
    }
}
impl From<RngSeed> for Key {
    fn from(seed: RngSeed) -> Self {
        seed.0
    }
}

/// Named random streams, and where new tensors go: what a stateful module is constructed with.
///
/// A stream that is not there is drawn from the `default` stream instead.
///
/// ```
/// use bridge_graph::Rngs;
/// use bridge_random::key;
/// let rngs = Rngs::new(0).with_stream("dropout", 1);
/// assert_eq!(rngs.draw("params")?, key(0).fold_in(0));
/// assert_eq!(rngs.draw("dropout")?, key(1).fold_in(0));
/// # Ok::<(), bridge_vars::Error>(())
/// ```
#[doc(alias = "nnx.Rngs")]
#[derive(Debug)]
pub struct Rngs {
    streams: IndexMap<Name, RngStream>,
    device: Device,
    dtype: DType,
}

impl Rngs {
    const DEFAULT: Name = Name::from_static("default");

    /// Streams that all come from one, called `default`.
    pub fn new(seed: impl Into<RngSeed>) -> Self {
        Self::empty().with_stream(Self::DEFAULT, seed)
    }

    /// No stream yet; tensors go to the CPU as f32.
    pub fn empty() -> Self {
        Self { streams: IndexMap::new(), device: Device::Cpu, dtype: DType::F32 }
    }

    /// Streams of these names, without a `default`.
    pub fn from_streams<N: Into<Name>, S: Into<RngSeed>>(streams: impl IntoIterator<Item = (N, S)>) -> Self {
        streams.into_iter().fold(Self::empty(), |rngs, (name, seed)| rngs.with_stream(name, seed))
    }

    /// With one more stream, or another in place of the one of that name.
    #[must_use]
    pub fn with_stream(mut self, name: impl Into<Name>, seed: impl Into<RngSeed>) -> Self {
        let name = name.into();
        let stream = RngStream::new(name.clone(), seed.into().into());
        self.streams.insert(name, stream);
        // `default` comes last, as in Flax.
        if let Some(default) = self.streams.shift_remove(&Self::DEFAULT) {
            self.streams.insert(Self::DEFAULT, default);
        }
        self
    }

    /// With the device that new tensors go to.
    #[must_use]
    pub fn with_device(mut self, device: &Device) -> Self {
        self.device = device.clone();
        self
    }

    /// With the dtype that new parameters have.
    #[must_use]
    pub fn with_dtype(mut self, dtype: DType) -> Self {
        self.dtype = dtype;
        self
    }

    /// The device that new tensors go to.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The dtype that new parameters have.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The stream of a name, or else `default`.
    ///
    /// # Errors
    /// [`GraphError::StreamNotFound`].
    pub fn stream(&self, name: &str) -> Result<&RngStream> {
        self.streams.get(name).or_else(|| self.streams.get(&Self::DEFAULT)).ok_or_else(|| {
            let available = self.streams.keys().map(Name::to_string).collect();
            GraphError::StreamNotFound { stream: name.into(), available }.into()
        })
    }

    /// A new key of the stream of a name, or else of `default`.
    ///
    /// # Errors
    /// [`GraphError::StreamNotFound`] and [`GraphError::StreamSealed`].
    pub fn draw(&self, name: &str) -> Result<Key> {
        self.stream(name)?.draw()
    }

    /// The names and streams, in order of their making, `default` last.
    pub fn iter(&self) -> impl Iterator<Item = (&Name, &RngStream)> {
        self.streams.iter()
    }

    /// The same streams, each starting from a new key of the one here.
    ///
    /// # Errors
    /// Those of [`RngStream::draw`].
    pub fn fork(&self) -> Result<Self> {
        let fork = |(name, stream): (&Name, &RngStream)| Ok((name.clone(), stream.fork()?));
        let streams = self.streams.iter().map(fork).collect::<Result<_>>()?;
        Ok(Self { streams, device: self.device.clone(), dtype: self.dtype })
    }
}

impl Visit for Rngs {
    fn visit(&self, visitor: &mut dyn Visitor) -> Result<()> {
        visitor.enter(Structure::Module(Name::from_static("Rngs")), Some(self))?;
        // The names of fields that are no streams can't be names of streams: those have no angle brackets.
        visitor.child(&PathKey::from_static("<device>"), &self.device)?;
        visitor.child(&PathKey::from_static("<dtype>"), &self.dtype)?;
        let order: Vec<Name> = self.streams.keys().cloned().collect();
        visit_static(visitor, &PathKey::from_static("<order>"), &order)?;
        let mut sorted: Vec<_> = self.streams.iter().collect();
        sorted.sort_by_key(|(name, _)| *name);
        for (name, stream) in sorted {
            visitor.child(&name.clone().into(), stream)?;
        }
        visitor.exit()
    }
}
impl Field for Rngs {
    fn rebuild(source: &mut Source<'_>) -> Result<Self> {
        source.enter(&Structure::Module(Name::from_static("Rngs")))?;
        let device = source.child(&PathKey::from_static("<device>"))?;
        let dtype = source.child(&PathKey::from_static("<dtype>"))?;
        let order: Vec<Name> = source.static_child(&PathKey::from_static("<order>"))?;
        let mut sorted: IndexMap<Name, RngStream> = IndexMap::new();
        while let Some(PathKey::Name(name)) = source.peek_child() {
            sorted.insert(name.clone(), source.child(&name.clone().into())?);
        }
        source.exit()?;
        let mut streams = IndexMap::with_capacity(order.len());
        for name in order {
            if let Some(stream) = sorted.swap_remove(&name) {
                streams.insert(name, stream);
            }
        }
        streams.extend(sorted);
        Ok(Self { streams, device, dtype })
    }
}
impl StatefulModule for Rngs {
    fn type_name(&self) -> &'static str {
        Self::static_type_name()
    }
    fn static_type_name() -> &'static str {
        "Rngs"
    }
}

/// Starts a module's random streams again from these keys.
///
/// The streams whose name is given are met in sorted order of their paths; the `i`th of a name starts from
/// `fold_in(key, i)`, as in Flax. Names that no stream has are ignored.
///
/// ```
/// use bridge_graph::{RngStream, reseed};
/// use bridge_random::key;
/// let streams = vec![RngStream::new("dropout", key(7)), RngStream::new("dropout", key(8))];
/// reseed(&streams, [("dropout", 0)])?;
/// assert_eq!(streams[1].draw()?, key(0).fold_in(1).fold_in(0));
/// # Ok::<(), bridge_vars::Error>(())
/// ```
///
/// # Errors
/// None that a derived module causes.
#[doc(alias = "nnx.reseed")]
pub fn reseed<M: Visit + ?Sized, N: Into<Name>, S: Into<RngSeed>>(
    module: &M,
    keys: impl IntoIterator<Item = (N, S)>,
) -> Result<()> {
    let keys: IndexMap<Name, Key> =
        keys.into_iter().map(|(name, seed)| (name.into(), seed.into().into())).collect();
    restart_streams(module, &Vec::from_iter(keys), false).map(|_| ())
}

/// [`reseed`] that can seal the streams whose name is not given, so that every further draw from them is an error
/// until they are reseeded; says how many streams of each name there are.
///
/// # Errors
/// None that a derived module causes.
pub fn restart_streams<M: Visit + ?Sized>(
    module: &M,
    keys: &[(Name, Key)],
    seal_others: bool,
) -> Result<Vec<u32>> {
    let mut met = vec![0; keys.len()];
    iter_graph(module, |_, node| {
        let GraphNode::Module(module) = node else { return Ok(()) };
        let module: &dyn std::any::Any = module;
        let Some(stream) = module.downcast_ref::<RngStream>() else { return Ok(()) };
        let name = stream.name();
        match keys.iter().zip(&mut met).find(|((given, _), _)| *given == name) {
            Some(((_, key), met)) => {
                stream.restart(key.fold_in(*met));
                *met += 1;
            }
            None if seal_others => stream.seal(),
            None => {}
        }
        Ok(())
    })?;
    Ok(met)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{merge, split};

    #[test]
    fn falls_back_to_default_and_says_what_there_is() {
        let rngs = Rngs::new(3).with_stream("params", 4);
        assert_eq!(rngs.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["params", "default"]);
        assert_eq!(rngs.draw("dropout").unwrap(), key(3).fold_in(0));
        assert_eq!(rngs.draw("carry").unwrap(), key(3).fold_in(1));
        let error = Rngs::from_streams([("params", 0)]).draw("dropout").unwrap_err();
        assert!(
            error.to_string().starts_with("no random stream `dropout`, found `params`: add it"),
            "{error}"
        );
    }

    #[test]
    fn a_merged_one_goes_on_where_it_stopped() {
        let rngs = Rngs::new(0).with_stream("b", 1).with_stream("a", 2).with_dtype(DType::BF16);
        rngs.draw("b").unwrap();
        let (graphdef, state) = split(&rngs).unwrap();
        assert_eq!(state.len(), 6);
        let merged = merge(&graphdef, &state).unwrap();
        assert_eq!(merged.draw("b").unwrap(), rngs.draw("b").unwrap());
        assert_eq!(merged.dtype(), DType::BF16);
        assert!(merged.iter().map(|(name, _)| name).eq(rngs.iter().map(|(name, _)| name)));
    }

    #[test]
    fn a_sealed_stream_is_opened_by_reseeding() {
        let stream = RngStream::new("dropout", key(0));
        restart_streams(&stream, &[], true).unwrap();
        let error = stream.draw().unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(GraphError::StreamSealed { .. })), "{error}");
        reseed(&stream, [("params", 1), ("dropout", 2)]).unwrap();
        assert_eq!(stream.draw().unwrap(), key(2).fold_in(0).fold_in(0));
    }
}
