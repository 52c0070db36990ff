use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bridge_random::{Initializer, Key, key};
#[cfg(doc)]
use bridge_vars::Described;
use bridge_vars::{Filter, Initialize, Name, Param, Path, PathKey, Result, Value, VariableKind, VariableOf};
use candle_core::{DType, Device, Shape, Tensor};
use indexmap::IndexMap;

use crate::error::GraphError;
use crate::split_rngs::matches;
use crate::{Field, RngSeed, RngStream, Source, StatefulModule, Structure, Visit, Visitor, visit_static};

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
    /// On while the model that is constructed is only described; shared by all that came from one.
    describing: Option<Arc<AtomicBool>>,
}

impl Rngs {
    const DEFAULT: Name = Name::from_static(&"default");

    /// Streams that all come from one, called `default`.
    pub fn new(seed: impl Into<RngSeed>) -> Self {
        Self::empty().with_stream(Self::DEFAULT, seed)
    }

    /// No stream yet; tensors go to the CPU as f32.
    pub fn empty() -> Self {
        Self { streams: IndexMap::new(), device: Device::Cpu, dtype: DType::F32, describing: None }
    }

    /// Streams of these names, without a `default`.
    pub fn from_streams<N: Into<Name>, S: Into<RngSeed>>(streams: impl IntoIterator<Item = (N, S)>) -> Self {
        streams.into_iter().fold(Self::empty(), |rngs, (name, seed)| rngs.with_stream(name, seed))
    }

    /// With one more stream, or another in place of the one of that name. To start it as another stream did, give it that
    /// one's [`seed`](RngStream::seed).
    #[must_use]
    pub fn with_stream(mut self, name: impl Into<Name>, seed: impl Into<RngSeed>) -> Self {
        let name = name.into();
        let stream = RngStream::new(name.clone(), seed);
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
        self.streams
            .get(name)
            .or_else(|| self.streams.get(&Self::DEFAULT))
            .ok_or_else(|| GraphError::StreamNotFound { stream: name.into(), available: self.names() }.into())
    }

    fn names(&self) -> Vec<String> {
        self.streams.keys().map(Name::to_string).collect()
    }

    /// A new key of the stream of a name, or else of `default`.
    ///
    /// # Errors
    /// [`GraphError::StreamNotFound`] and [`GraphError::StreamSealed`].
    pub fn draw(&self, name: &str) -> Result<Key> {
        self.stream(name)?.draw()
    }

    /// What a sampler makes of a new key of a stream, the dtype and the device.
    ///
    /// ```
    /// use bridge_graph::Rngs;
    /// use bridge_random::{key, normal};
    /// use candle_core::{DType, Device};
    /// let rngs = Rngs::new(0);
    /// let noise = rngs.sample("noise", |key, dtype, device| normal(key, (2, 3), dtype, device))?;
    /// let same = normal(key(0).fold_in(0), (2, 3), DType::F32, &Device::Cpu)?;
    /// assert_eq!(noise.to_vec2::<f32>()?, same.to_vec2::<f32>()?);
    /// # Ok::<(), bridge_vars::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`Rngs::draw`], and what the sampler returns.
    #[doc(alias("nnx.Rngs.normal", "nnx.Rngs.uniform"))]
    pub fn sample(
        &self,
        stream: &str,
        sampler: impl FnOnce(Key, DType, &Device) -> bridge_random::Result<Tensor>,
    ) -> Result<Tensor> {
        Ok(sampler(self.draw(stream)?, self.dtype, &self.device)?)
    }

    /// The same streams for a model that is only described: [`describe`](crate::describe).
    #[must_use]
    pub(crate) fn describing(&self, while_on: &Arc<AtomicBool>) -> Self {
        let streams = self.streams.iter().map(|(name, stream)| (name.clone(), stream.same()));
        let describing = Some(Arc::clone(while_on));
        Self { streams: streams.collect(), describing, ..self.without_streams() }
    }

    /// True if what is made with these is only described: inside of [`describe`](crate::describe()).
    pub fn is_describing(&self) -> bool {
        self.describing.as_ref().is_some_and(|on| on.load(Ordering::Acquire))
    }

    /// An initializer's value, from a new key of a stream: a tensor, or one that is [`Described`] inside of
    /// [`describe`](crate::describe).
    ///
    /// # Errors
    /// Those of [`Rngs::draw`] and of [`Initializer::init`](bridge_random::Initializer::init).
    #[doc(alias = "nnx.Rngs.lecun_normal")]
    pub fn init(
        &self,
        stream: &str,
        initializer: &impl Initialize,
        shape: impl Into<Shape>,
    ) -> Result<Value> {
        let (key, shape) = (self.draw(stream)?, shape.into());
        match self.is_describing() {
            true => Ok(initializer.described(Some(key), &shape, self.dtype, &self.device).into()),
            false => initializer.value(key, &shape, self.dtype, &self.device),
        }
    }

    /// A variable that an initializer starts, from a new key of a stream, with the initializer's metadata.
    ///
    /// ```
    /// use bridge_graph::Rngs;
    /// use bridge_random::Initializer;
    /// use bridge_vars::{Param, with_partitioning};
    /// let init = with_partitioning(Initializer::lecun_normal(), ["", "model"]);
    /// let kernel: Param = Rngs::new(0).variable("params", &init, (2, 4))?;
    /// assert_eq!(kernel.leaf()?.partition_spec()?.to_string(), "P(None, model)");
    /// # Ok::<(), bridge_vars::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`Rngs::init`] and of the metadata's hooks.
    pub fn variable<K: VariableKind>(
        &self,
        stream: &str,
        initializer: &impl Initialize,
        shape: impl Into<Shape>,
    ) -> Result<VariableOf<K>> {
        let (value, metadata) = (self.init(stream, initializer, shape)?, initializer.metadata());
        match value {
            // The hooks run when it is made.
            Value::Described(_) => {
                let variable = VariableOf::new(value);
                variable.set_metadata(metadata);
                Ok(variable)
            }
            value => VariableOf::create(value, metadata),
        }
    }

    /// A parameter that an initializer starts, from a new key of the stream `params`.
    ///
    /// # Errors
    /// Those of [`Rngs::variable`].
    pub fn param(&self, initializer: &impl Initialize, shape: impl Into<Shape>) -> Result<Param> {
        self.variable("params", initializer, shape)
    }

    /// A value full of one number, for which no key is drawn: how a running statistic starts.
    ///
    /// # Errors
    /// If candle can not make it.
    pub fn full(&self, number: f64, shape: impl Into<Shape>, dtype: DType) -> Result<Value> {
        let (initializer, shape) = (Initializer::Constant(number), shape.into());
        // A constant is the same from every key.
        match self.is_describing() {
            true => Ok(initializer.described(Some(key(0)), &shape, dtype, &self.device).into()),
            false => initializer.value(key(0), &shape, dtype, &self.device),
        }
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
        self.map(RngStream::fork)
    }

    /// The same streams, each holding a batch of keys that are split from a new key of the one here.
    ///
    /// ```
    /// use bridge_graph::Rngs;
    /// let rngs = Rngs::new(0);
    /// // A random stream for each of five modules to construct.
    /// let lanes = rngs.split(5)?.lanes()?;
    /// assert_eq!(lanes.len(), 5);
    /// assert_ne!(lanes[0].draw("params")?, lanes[1].draw("params")?);
    /// # Ok::<(), bridge_vars::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`RngStream::split`].
    pub fn split(&self, shape: impl Into<Shape>) -> Result<Self> {
        let shape = shape.into();
        self.map(|stream| stream.split(shape.clone()))
    }

    /// The same streams, each split to the shape of the first filter that matches it.
    ///
    /// What no filter matches, and what matches one without a shape, starts again from its key, and the stream here is not
    /// drawn from, as in Flax.
    ///
    /// ```
    /// use bridge_graph::Rngs;
    /// use bridge_vars::Filter;
    /// let rngs = Rngs::new(0).with_stream("params", 1).with_stream("dropout", 2);
    /// let split = rngs.split_by([
    ///     (Filter::tag("params"), Some(3.into())),
    ///     (Filter::tag("dropout"), None),
    ///     (Filter::Everything, Some((2, 2).into())),
    /// ])?;
    /// assert_eq!(split.stream("params")?.shape()?.dims(), [3]);
    /// assert_eq!(split.stream("dropout")?.shape()?.rank(), 0);
    /// assert_eq!(split.stream("default")?.shape()?.dims(), [2, 2]);
    /// # Ok::<(), bridge_vars::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`RngStream::split`].
    pub fn split_by(&self, rules: impl IntoIterator<Item = (Filter, Option<Shape>)>) -> Result<Self> {
        let rules: Vec<_> = rules.into_iter().collect();
        self.map(|stream| {
            for (filter, shape) in &rules {
                if matches(filter, &Path::from(PathKey::Name(stream.name())), stream)? {
                    return match shape {
                        Some(shape) => stream.split(shape.clone()),
                        None => stream.copy_from_start(),
                    };
                }
            }
            stream.copy_from_start()
        })
    }

    /// The same streams, each holding one new key of the one here in every place of a batch.
    ///
    /// # Errors
    /// Those of [`RngStream::broadcast`].
    pub fn broadcast(&self, shape: impl Into<Shape>) -> Result<Self> {
        let shape = shape.into();
        self.map(|stream| stream.broadcast(shape.clone()))
    }

    /// The lanes of batches along their first dimension. A stream that holds a single key goes on in each lane by itself.
    ///
    /// What is drawn from a lane is not counted here: see [`RngStream::lanes`].
    ///
    /// # Errors
    /// [`GraphError::StreamLanes`] if no stream holds a batch, or not all have as many lanes.
    pub fn lanes(&self) -> Result<Vec<Self>> {
        let mut first: Option<usize> = None;
        for stream in self.streams.values() {
            let (shape, stream) = (stream.shape()?.into_dims(), stream.name().to_string());
            match (shape.first(), first) {
                (Some(lanes), Some(expected)) if *lanes != expected => {
                    return Err(
                        GraphError::StreamLanes { stream, shape, expected: expected.to_string() }.into()
                    );
                }
                (Some(lanes), None) => first = Some(*lanes),
                _ => {}
            }
        }
        let Some(count) = first else {
            return Err(GraphError::NoLanes { available: self.names() }.into());
        };
        let mut lanes: Vec<Self> = (0..count).map(|_| self.without_streams()).collect();
        for (name, stream) in &self.streams {
            let streams = match stream.shape()?.rank() {
                0 => (0..count).map(|_| stream.copy()).collect::<Result<Vec<_>>>()?,
                _ => stream.lanes()?,
            };
            for (lane, stream) in lanes.iter_mut().zip(streams) {
                lane.streams.insert(name.clone(), stream);
            }
        }
        Ok(lanes)
    }

    fn map(&self, f: impl Fn(&RngStream) -> Result<RngStream>) -> Result<Self> {
        let each = |(name, stream): (&Name, &RngStream)| Ok((name.clone(), f(stream)?));
        let streams = self.streams.iter().map(each).collect::<Result<_>>()?;
        Ok(Self { streams, ..self.without_streams() })
    }

    fn without_streams(&self) -> Self {
        let (device, dtype) = (self.device.clone(), self.dtype);
        Self { streams: IndexMap::new(), device, dtype, describing: self.describing.clone() }
    }
}

impl Visit for Rngs {
    fn visit(&self, visitor: &mut dyn Visitor) -> Result<()> {
        visitor.enter(Structure::Module(Name::from_static(&"Rngs")), Some(self))?;
        // The names of fields that are no streams can't be names of streams: those have no angle brackets.
        visitor.child(&PathKey::from_static(&"<device>"), &self.device)?;
        visitor.child(&PathKey::from_static(&"<dtype>"), &self.dtype)?;
        let order: Vec<Name> = self.streams.keys().cloned().collect();
        visit_static(visitor, &PathKey::from_static(&"<order>"), &order)?;
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
        source.enter(&Structure::Module(Name::from_static(&"Rngs")))?;
        let device = source.child(&PathKey::from_static(&"<device>"))?;
        let dtype = source.child(&PathKey::from_static(&"<dtype>"))?;
        let order: Vec<Name> = source.static_child(&PathKey::from_static(&"<order>"))?;
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
        Ok(Self { streams, device, dtype, describing: None })
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
    fn lanes_go_by_the_batches_and_copy_the_rest() {
        let rngs = Rngs::new(0).with_stream("params", 1).with_dtype(DType::F64);
        rngs.draw("default").unwrap();
        let split = rngs.split_by([(Filter::tag("params"), Some(2.into()))]).unwrap();
        assert_eq!(rngs.draw("params").unwrap(), key(1).fold_in(1));
        split.draw("default").unwrap();
        let lanes = split.lanes().unwrap();
        assert_eq!(lanes.len(), 2);
        for (index, lane) in lanes.iter().enumerate() {
            assert_eq!(lane.draw("params").unwrap(), key(1).fold_in(0).fold_in(index as u32).fold_in(0));
            assert_eq!(lane.draw("default").unwrap(), key(0).fold_in(1));
            assert_eq!(lane.dtype(), DType::F64);
        }
        let uneven = Rngs::from_streams([
            ("a", key(0).split_array(2).unwrap()),
            ("b", key(0).split_array(3).unwrap()),
        ]);
        let error = uneven.lanes().unwrap_err().to_string();
        assert!(
            error.starts_with("the random stream `b` has keys of shape [3]: expected a batch of 2 lanes"),
            "{error}"
        );
        let error = Rngs::from_streams([("a", 0)]).lanes().unwrap_err().to_string();
        assert!(error.starts_with("no random stream holds a batch of keys, found `a`: "), "{error}");
    }
}
