use bridge_random::{Initializer, Key};
use candle_core::{DType, Device, Shape};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Described, Leaf, Metadata, Result, Sharding, Value, VariableType};

/// How a variable starts: what makes its first value, and the metadata that it gets.
///
/// Every [`Initializer`] is one without metadata. Its serde form is the initializer's own where there is no metadata.
///
/// ```
/// use bridge_random::Initializer;
/// use bridge_vars::{VariableInitializer, with_partitioning};
/// let plain: VariableInitializer = Initializer::Zeros.into();
/// assert!(plain.metadata.is_empty());
/// let partitioned = with_partitioning(Initializer::lecun_normal(), ["embed", "mlp"]);
/// assert_eq!(partitioned.metadata.sharding()?.unwrap().names.len(), 2);
/// # Ok::<(), bridge_vars::Error>(())
/// ```
#[doc(alias = "VariableMetadata")]
#[derive(Clone, Debug, PartialEq)]
pub struct VariableInitializer {
    /// What makes the value.
    pub initializer: Initializer,
    /// What the variable says about it.
    pub metadata: Metadata,
}

/// What a variable can be started with: an [`Initializer`], or a [`VariableInitializer`].
pub trait Initialize {
    /// What makes the value.
    fn initializer(&self) -> &Initializer;
    /// The metadata.
    fn metadata(&self) -> Metadata;

    /// The value: a tensor of a key, a shape, a dtype and a device.
    ///
    /// # Errors
    /// Those of [`Initializer::init`].
    fn value(&self, key: Key, shape: &Shape, dtype: DType, device: &Device) -> Result<Value> {
        Ok(self.initializer().init(key, shape, dtype, device)?.into())
    }

    /// The value, not made yet. Without a key it can be loaded, but not made.
    #[doc(alias = "eval_shape")]
    fn described(&self, key: Option<Key>, shape: &Shape, dtype: DType, device: &Device) -> Described {
        let described = Described::new(shape, dtype, device);
        let Some(key) = key else { return described };
        let (initializer, shape, device) = (self.initializer().clone(), shape.clone(), device.clone());
        described.made_by(move || Ok(initializer.init(key, &shape, dtype, &device)?))
    }

    /// A leaf of this type with a value and the metadata.
    fn leaf(&self, kind: VariableType, value: impl Into<Value>) -> Leaf
    where
        Self: Sized,
    {
        Leaf { kind, value: value.into(), metadata: self.metadata() }
    }
}

impl Initialize for Initializer {
    fn initializer(&self) -> &Initializer {
        self
    }
    fn metadata(&self) -> Metadata {
        Metadata::default()
    }
}
impl Initialize for VariableInitializer {
    fn initializer(&self) -> &Initializer {
        &self.initializer
    }
    fn metadata(&self) -> Metadata {
        self.metadata.clone()
    }
}

impl From<Initializer> for VariableInitializer {
    fn from(initializer: Initializer) -> Self {
        Self { initializer, metadata: Metadata::default() }
    }
}
impl From<&Initializer> for VariableInitializer {
    fn from(initializer: &Initializer) -> Self {
        initializer.clone().into()
    }
}

/// An initializer whose variables get this metadata, over what it says already.
///
/// ```
/// use bridge_random::Initializer;
/// use bridge_vars::{Metadata, with_metadata};
/// let frozen = with_metadata(Initializer::Ones, Metadata::default().with("frozen", true));
/// assert_eq!(frozen.metadata.get("frozen").unwrap(), true);
/// ```
#[doc(alias = "nnx.with_metadata")]
pub fn with_metadata(initializer: impl Into<VariableInitializer>, metadata: Metadata) -> VariableInitializer {
    let mut initializer: VariableInitializer = initializer.into();
    for (name, value) in metadata.iter() {
        initializer.metadata.set(name, value.clone());
    }
    if let Some(hooks) = metadata.hooks() {
        initializer.metadata.set_hooks(Some(hooks.clone()));
    }
    initializer
}

/// An initializer whose variables are spread over the axes of a mesh: a name for each axis of the value, an empty one for an
/// axis that is not spread.
#[doc(alias("nnx.with_partitioning", "linen.with_partitioning", "Partitioned"))]
pub fn with_partitioning<'a>(
    initializer: impl Into<VariableInitializer>,
    names: impl IntoIterator<Item = &'a str>,
) -> VariableInitializer {
    with_metadata(initializer, Metadata::default().with_sharding(&Sharding::new(names)))
}

/// [`with_partitioning`] by names of one's own, which rules lead to axes of a mesh: see [`Sharding::mesh_axes`].
///
/// ```
/// use bridge_random::Initializer;
/// use bridge_vars::with_logical_partitioning;
/// let rules = [("embed", ""), ("mlp", "model")];
/// let init = with_logical_partitioning(Initializer::lecun_normal(), ["embed", "mlp"], rules);
/// assert_eq!(init.metadata.sharding()?.unwrap().mesh_axes()?, [None, Some("model")]);
/// # Ok::<(), bridge_vars::Error>(())
/// ```
#[doc(alias("linen.with_logical_partitioning", "LogicallyPartitioned", "sharding_rules"))]
pub fn with_logical_partitioning<'a>(
    initializer: impl Into<VariableInitializer>,
    names: impl IntoIterator<Item = &'a str>,
    rules: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> VariableInitializer {
    let sharding = rules
        .into_iter()
        .fold(Sharding::new(names), |sharding, (name, mesh_axis)| sharding.with_rule(name, mesh_axis));
    with_metadata(initializer, Metadata::default().with_sharding(&sharding))
}

#[derive(Serialize, Deserialize)]
struct WithMetadata {
    initializer: Initializer,
    metadata: Metadata,
}

impl Serialize for VariableInitializer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.metadata.is_empty() {
            return self.initializer.serialize(serializer);
        }
        let (initializer, metadata) = (self.initializer.clone(), self.metadata.clone());
        WithMetadata { initializer, metadata }.serialize(serializer)
    }
}
impl<'de> Deserialize<'de> for VariableInitializer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // By hand, so that an error is about the form that is meant.
        let json = serde_json::Value::deserialize(deserializer)?;
        match json.get("initializer") {
            Some(_) => {
                let WithMetadata { initializer, metadata } =
                    serde_json::from_value(json).map_err(D::Error::custom)?;
                Ok(Self { initializer, metadata })
            }
            None => {
                let initializer: Initializer = serde_json::from_value(json).map_err(D::Error::custom)?;
                Ok(initializer.into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_with_and_without_metadata() {
        let plain = VariableInitializer::from(Initializer::lecun_normal());
        let text = serde_json::to_string(&plain).unwrap();
        assert_eq!(text, serde_json::to_string(&Initializer::lecun_normal()).unwrap());
        for initializer in [plain, with_partitioning(Initializer::Zeros, ["a", ""])] {
            let text = serde_json::to_string(&initializer).unwrap();
            let back: VariableInitializer = serde_json::from_str(&text).unwrap();
            assert_eq!(back, initializer);
        }
        let text = serde_json::from_str::<VariableInitializer>("\"zeroes\"").unwrap_err().to_string();
        assert!(text.contains("zeroes"), "{text}");
        assert!(serde_json::from_str::<VariableInitializer>("{\"initializer\": 3}").is_err());
    }

    #[test]
    fn what_is_said_later_is_added() {
        let named = with_metadata(Initializer::Zeros, Metadata::default().with("a", 1).with("b", 1));
        let both = with_partitioning(with_metadata(named, Metadata::default().with("b", 2)), ["x"]);
        let value = |name: &str| both.metadata.get(name).cloned();
        assert_eq!((value("a"), value("b")), (Some(1.into()), Some(2.into())));
        assert!(both.metadata.sharding().unwrap().is_some());
    }

    #[test]
    fn what_is_described_is_made_as_it_would_have_been() {
        let (shape, device) = (Shape::from((4, 2)), Device::Cpu);
        let (initializer, key) = (Initializer::lecun_normal(), bridge_random::key(3));
        let made = initializer.described(Some(key), &shape, DType::F32, &device).make().unwrap();
        let eager = initializer.init(key, &shape, DType::F32, &device).unwrap();
        assert!(Value::from(made).identical(&eager.into()).unwrap());
        assert!(initializer.described(None, &shape, DType::F32, &device).make().is_err());
    }
}
