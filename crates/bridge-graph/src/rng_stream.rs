use std::sync::atomic::{AtomicBool, Ordering};

use bridge_random::{CountArray, Key, KeyArray, KeyRng, key};
use bridge_vars::{Metadata, Name, PathKey, Result, RngCount, RngKey, Value};
use candle_core::Shape;

use crate::error::GraphError;
use crate::{Field, Source, StatefulModule, Structure, Visit, Visitor};

/// A random stream: a key, and how often it was drawn from. Each draw gives a new key.
///
/// Both are variables on the host, so a saved module goes on where it stopped, and drawing never waits for a device. The keys
/// are Flax's: the `n`th draw is `fold_in(key, n)`. A stream may hold a batch of keys and counts, of which each lane is drawn
/// from by itself.
///
/// ```
/// use bridge_graph::RngStream;
/// use bridge_random::key;
/// let stream = RngStream::new("dropout", 0);
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
    pub fn new(name: impl Into<Name>, seed: impl Into<RngSeed>) -> Self {
        let RngSeed(keys) = seed.into();
        let counts = keys.map(|_| 0);
        Self::with_counts(name.into(), keys, counts, false)
    }

    fn with_counts(name: Name, keys: KeyArray, counts: CountArray, sealed: bool) -> Self {
        let tag = Metadata::from_iter([(Metadata::TAG, name.to_string())]);
        let (key, count) = (RngKey::new(keys), RngCount::new(counts));
        key.set_metadata(tag.clone());
        count.set_metadata(tag);
        Self { key, count, sealed: AtomicBool::new(sealed) }
    }

    /// The stream's name.
    #[doc(alias = "tag")]
    pub fn name(&self) -> Name {
        self.key.metadata().tag().unwrap_or_default().into()
    }

    /// The variable that holds the key, or the batch of keys.
    pub fn key(&self) -> &RngKey {
        &self.key
    }

    /// The variable that holds the count, or the batch of counts.
    pub fn count(&self) -> &RngCount {
        &self.count
    }

    /// What the stream starts from: its key or keys, to start another stream with. Counts are no part of it.
    ///
    /// ```
    /// use bridge_graph::RngStream;
    /// let stream = RngStream::new("params", 3);
    /// let first = stream.draw()?;
    /// let again = RngStream::new("params", stream.seed()?);
    /// assert_eq!(again.draw()?, first);
    /// # Ok::<(), bridge_vars::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`GraphError::StreamSealed`] for a sealed stream; if something else than a key was put in its place.
    pub fn seed(&self) -> Result<RngSeed> {
        self.check_open()?;
        Ok(RngSeed(self.keys()?))
    }

    fn keys(&self) -> Result<KeyArray> {
        match &self.key.leaf()?.value {
            Value::Keys(keys) => Ok(KeyArray::clone(keys)),
            key => Ok(key.key()?.into()),
        }
    }

    fn check_open(&self) -> Result<()> {
        match self.is_sealed() {
            true => Err(GraphError::StreamSealed { stream: self.name().to_string() }.into()),
            false => Ok(()),
        }
    }

    /// The shape of the batch of keys; no dimensions for a single key, or if there is none yet.
    ///
    /// # Errors
    /// If something else than a key was put in its place.
    pub fn shape(&self) -> Result<Shape> {
        match &self.key.leaf()?.value {
            Value::Keys(keys) => Ok(keys.dims().into()),
            Value::Absent => Ok(().into()),
            key => key.key().map(|_| ().into()),
        }
    }

    /// A new key.
    ///
    /// # Errors
    /// [`GraphError::StreamSealed`] inside a functional call that was given no key for this stream;
    /// [`GraphError::StreamBatched`] for a stream that holds a batch of keys.
    #[doc(alias = "__call__")]
    pub fn draw(&self) -> Result<Key> {
        self.check_open()?;
        match self.key.key() {
            Ok(key) => Ok(key.fold_in(self.count.next_count()?)),
            Err(error) => match self.key.leaf()?.value {
                Value::Keys(keys) => {
                    let (stream, shape) = (self.name().to_string(), keys.dims().to_vec());
                    Err(GraphError::StreamBatched { stream, shape }.into())
                }
                _ => Err(error),
            },
        }
    }

    /// Another handle to this stream.
    pub(crate) fn same(&self) -> Self {
        let sealed = AtomicBool::new(self.is_sealed());
        Self { key: self.key.clone(), count: self.count.clone(), sealed }
    }

    /// A stream of the same name that starts from a new key of this one.
    ///
    /// # Errors
    /// Those of [`RngStream::draw`].
    pub fn fork(&self) -> Result<Self> {
        Ok(Self::new(self.name(), self.draw()?))
    }

    /// A stream of the same name that holds a batch of keys, split from a new key of this one.
    ///
    /// # Errors
    /// Those of [`RngStream::draw`], and a shape beyond memory.
    pub fn split(&self, shape: impl Into<Shape>) -> Result<Self> {
        Ok(Self::new(self.name(), self.draw()?.split_array(shape)?))
    }

    /// A stream of the same name that holds a new key of this one in every place of a batch.
    ///
    /// # Errors
    /// Those of [`RngStream::draw`], and a shape beyond memory.
    pub fn broadcast(&self, shape: impl Into<Shape>) -> Result<Self> {
        Ok(Self::new(self.name(), KeyArray::filled(shape, self.draw()?)?))
    }

    /// The lanes of a batch along its first dimension: streams of their own, with the keys and counts that stand there.
    ///
    /// What is drawn from a lane is not counted in the batch: asked for again, it gives the same lanes, until
    /// [`continue_from`](RngStream::continue_from) takes the lanes' counts back.
    ///
    /// ```
    /// use bridge_graph::RngStream;
    /// use bridge_random::key;
    /// let lanes = RngStream::new("params", 0).split(3)?.lanes()?;
    /// assert_eq!(lanes[2].draw()?, key(0).fold_in(0).fold_in(2).fold_in(0));
    /// # Ok::<(), bridge_vars::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`GraphError::StreamLanes`] for a stream that holds a single key.
    pub fn lanes(&self) -> Result<Vec<Self>> {
        let (keys, counts) = self.batch()?;
        let lane = |index| keys.lane(index).zip(counts.lane(index));
        let name = self.name();
        match keys.dims().first() {
            Some(lanes) => Ok((0..*lanes)
                .filter_map(lane)
                .map(|(keys, counts)| Self::with_counts(name.clone(), keys, counts, self.is_sealed()))
                .collect()),
            None => {
                let (stream, shape) = (name.to_string(), Vec::new());
                Err(GraphError::StreamLanes { stream, shape, expected: "any number of".into() }.into())
            }
        }
    }

    /// Takes the counts of lanes that were made of this batch, so that it goes on where they stand.
    ///
    /// ```
    /// use bridge_graph::RngStream;
    /// let batch = RngStream::new("params", 0).split(2)?;
    /// let lanes = batch.lanes()?;
    /// let first = lanes[1].draw()?;
    /// batch.continue_from(&lanes)?;
    /// assert_ne!(batch.lanes()?[1].draw()?, first);
    /// # Ok::<(), bridge_vars::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`GraphError::StreamLanes`] if these are not as many lanes as it has, or of another shape. Nothing is changed then.
    pub fn continue_from(&self, lanes: &[Self]) -> Result<()> {
        let (keys, _) = self.batch()?;
        let mut counts = Vec::with_capacity(keys.len());
        for lane in lanes {
            counts.extend_from_slice(lane.batch()?.1.elements());
        }
        if keys.dims().first() != Some(&lanes.len()) || counts.len() != keys.len() {
            let (stream, shape) = (self.name().to_string(), keys.dims().to_vec());
            return Err(GraphError::StreamLanes { stream, shape, expected: lanes.len().to_string() }.into());
        }
        self.count.set_raw(CountArray::new(keys.dims(), counts)?);
        Ok(())
    }

    /// A stream of its own that goes on where this one stands.
    pub(crate) fn copy(&self) -> Result<Self> {
        let (keys, counts) = self.batch()?;
        Ok(Self::with_counts(self.name(), keys, counts, self.is_sealed()))
    }

    /// A stream of its own that starts as this one did.
    pub(crate) fn copy_from_start(&self) -> Result<Self> {
        let keys = self.keys()?;
        let counts = keys.map(|_| 0);
        Ok(Self::with_counts(self.name(), keys, counts, self.is_sealed()))
    }

    /// Keys and counts, of one shape.
    fn batch(&self) -> Result<(KeyArray, CountArray)> {
        let (key, count) = (self.key.leaf()?.value, self.count.leaf()?.value);
        match (&key, &count) {
            (Value::Key(key), Value::Count(count)) => Ok(((*key).into(), (*count).into())),
            (Value::Keys(keys), Value::Counts(counts)) if keys.dims() == counts.dims() => {
                Ok((KeyArray::clone(keys), CountArray::clone(counts)))
            }
            _ => {
                let (stream, key, count) =
                    (self.name().to_string(), format!("{key:?}"), format!("{count:?}"));
                Err(GraphError::StreamForm { stream, key, count }.into())
            }
        }
    }

    /// A generator for the `rand` crate, from a new key.
    ///
    /// ```
    /// use bridge_graph::Rngs;
    /// use rand::seq::SliceRandom;
    /// let rngs = Rngs::new(0);
    /// let mut files = ["a", "b", "c", "d"];
    /// files.shuffle(&mut rngs.stream("shuffle")?.rng()?);
    /// # Ok::<(), bridge_vars::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`RngStream::draw`].
    #[doc(alias = "rand")]
    pub fn rng(&self) -> Result<KeyRng> {
        Ok(self.draw()?.into_rng())
    }

    /// Starts again from another key, or batch of keys.
    pub fn restart(&self, seed: impl Into<RngSeed>) {
        let RngSeed(keys) = seed.into();
        self.count.set_raw(keys.map(|_| 0));
        self.key.set_raw(keys);
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
        visitor.enter(Structure::Module(Name::from_static(&"RngStream")), Some(self))?;
        visitor.child(&PathKey::from_static(&"count"), &self.count)?;
        visitor.child(&PathKey::from_static(&"key"), &self.key)?;
        visitor.exit()
    }
}
impl Field for RngStream {
    fn rebuild(source: &mut Source<'_>) -> Result<Self> {
        source.enter(&Structure::Module(Name::from_static(&"RngStream")))?;
        let count = source.child(&PathKey::from_static(&"count"))?;
        let key = source.child(&PathKey::from_static(&"key"))?;
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

/// What a random stream can start from: a seed, a key, or a batch of keys.
#[derive(Clone, Debug, PartialEq)]
pub struct RngSeed(pub(crate) KeyArray);

impl From<i64> for RngSeed {
    fn from(seed: i64) -> Self {
        key(seed).into()
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
impl From<u64> for RngSeed {
    /// As JAX takes it: the low 32 bits count.
    fn from(seed: u64) -> Self {
        seed.cast_signed().into()
    }
}
impl From<Key> for RngSeed {
    fn from(key: Key) -> Self {
        Self(key.into())
    }
}
impl From<KeyArray> for RngSeed {
    fn from(keys: KeyArray) -> Self {
        Self(keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{merge, split, state, update};

    fn error_of<T>(result: Result<T>) -> String {
        result.err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_batch_is_drawn_from_by_lanes() {
        let batch = RngStream::new("params", 1).split((2, 2)).unwrap();
        assert_eq!(batch.shape().unwrap().dims(), [2, 2]);
        assert!(
            error_of(batch.draw())
                .starts_with("the random stream `params` holds a batch of keys of shape [2, 2]")
        );
        let lane = batch.lanes().unwrap().remove(1).lanes().unwrap().remove(0);
        assert_eq!(lane.draw().unwrap(), key(1).fold_in(0).fold_in(2).fold_in(0));
        assert_eq!(lane.draw().unwrap(), key(1).fold_in(0).fold_in(2).fold_in(1));
        assert!(error_of(lane.lanes()).contains("expected a batch of any number of lanes"));
        let same = RngStream::new("params", 1).broadcast(2).unwrap();
        let keys: Vec<Key> = same.lanes().unwrap().iter().map(|lane| lane.draw().unwrap()).collect();
        assert_eq!(keys, [key(1).fold_in(0).fold_in(0); 2]);
    }

    #[test]
    fn a_batch_is_state_like_any_other() {
        let batch = RngStream::new("params", 1).split(3).unwrap();
        let (graphdef, state_of_batch) = split(&batch).unwrap();
        let merged = merge(&graphdef, &state_of_batch).unwrap();
        assert!(state(&merged).unwrap().identical(&state_of_batch).unwrap());
        let other = RngStream::new("params", 1).split(4).unwrap();
        assert!(error_of(update(&batch, &state(&other).unwrap())).contains("key"));
    }

    #[test]
    fn a_stream_that_is_none_is_an_error() {
        let stream = RngStream::new("params", 1);
        stream.count().set_raw(CountArray::from(vec![1, 2]));
        assert!(error_of(stream.draw()).starts_with("expected a count, found a batch of counts"));
        let text = error_of(stream.lanes());
        assert!(text.contains("`params` has Key(00000000:00000001) with Counts([2][1, 2])"), "{text}");
        stream.key().set_raw(3);
        assert!(error_of(stream.draw()).starts_with("expected a random key, found a count"));
        assert!(error_of(stream.seed()).starts_with("expected a random key, found a count"));
    }

    #[test]
    fn what_is_made_of_a_sealed_stream_is_sealed() {
        let batch = RngStream::new("params", 1).split(2).unwrap();
        batch.seal();
        assert!(error_of(batch.seed()).starts_with("the call gave no key for the random stream `params`"));
        for lane in batch.lanes().unwrap() {
            assert!(error_of(lane.draw()).starts_with("the call gave no key"));
        }
        let single = batch.lanes().unwrap().remove(0);
        for copy in [single.copy().unwrap(), single.copy_from_start().unwrap()] {
            assert!(error_of(copy.draw()).starts_with("the call gave no key"));
        }
    }

    #[test]
    fn lanes_give_their_counts_back() {
        let batch = RngStream::new("params", 1).split((2, 2)).unwrap();
        let lanes = batch.lanes().unwrap();
        lanes[1].continue_from(&[RngStream::new("params", 0), RngStream::new("params", 0)]).unwrap();
        let inner = lanes[1].lanes().unwrap();
        inner[0].draw().unwrap();
        lanes[1].continue_from(&inner).unwrap();
        batch.continue_from(&lanes).unwrap();
        assert_eq!(batch.count().leaf().unwrap().value.counts().unwrap().elements(), [0, 0, 1, 0]);
        assert!(error_of(batch.continue_from(&lanes[..1])).contains("expected a batch of 1 lanes"));
        assert!(error_of(batch.continue_from(&inner)).contains("[2, 2]"));
    }

    #[test]
    fn a_generator_of_rand_starts_from_a_new_key() {
        use rand::RngCore;
        let stream = RngStream::new("shuffle", 1);
        let mut rng = stream.rng().unwrap();
        assert_eq!(rng.next_u32(), key(1).fold_in(0).bits_u32(1)[0]);
        assert_eq!(stream.draw().unwrap(), key(1).fold_in(1));
    }
}
