//! The serde form of snapshots: a flat list of leaves with their paths, so that depth is no limit for what reads it.

use std::fmt;
use std::sync::{Arc, OnceLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bridge_random::{CountArray, Key, KeyArray};
use candle_core::{DType, Device, Tensor};
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value as Json;

use crate::{Leaf, Metadata, Opaque, Path, PathKey, Result, State, Tree, Value, VariableType, Variables};

/// A path with more steps is not read: what goes through a tree calls itself once a step.
const MAX_DEPTH: usize = 4096;

#[derive(Serialize, Deserialize)]
struct Entry {
    path: Path,
    #[serde(rename = "type")]
    kind: String,
    collection: String,
    #[serde(default, skip_serializing_if = "Metadata::is_empty")]
    metadata: Metadata,
    value: Form,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Form {
    Tensor { dtype: String, shape: Vec<usize>, data: Bytes },
    Key(Key),
    Count(u32),
    Keys { shape: Vec<usize>, keys: Vec<Key> },
    Counts { shape: Vec<usize>, counts: Vec<u32> },
    Opaque { name: String, value: Json },
    Absent,
}

/// Bytes; text in base64 where the format is one that people read.
struct Bytes(Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match serializer.is_human_readable() {
            true => serializer.serialize_str(&BASE64.encode(&self.0)),
            false => serializer.serialize_bytes(&self.0),
        }
    }
}
impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Bytes;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes, or text in base64")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Bytes, E> {
                BASE64.decode(text).map(Bytes).map_err(E::custom)
            }
            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.to_vec()))
            }
            fn visit_byte_buf<E: serde::de::Error>(self, bytes: Vec<u8>) -> Result<Bytes, E> {
                Ok(Bytes(bytes))
            }
        }
        match deserializer.is_human_readable() {
            true => deserializer.deserialize_str(Visitor),
            false => deserializer.deserialize_byte_buf(Visitor),
        }
    }
}

impl Form {
    fn of(value: &Value) -> Result<Self> {
        Ok(match value {
            Value::Tensor(tensor) => {
                let mut data = Vec::new();
                tensor.get().write_bytes(&mut data)?;
                let dtype = tensor.dtype().as_str().to_owned();
                Self::Tensor { dtype, shape: tensor.dims().to_vec(), data: Bytes(data) }
            }
            Value::Key(key) => Self::Key(*key),
            Value::Count(count) => Self::Count(*count),
            Value::Keys(keys) => Self::Keys { shape: keys.dims().to_vec(), keys: keys.elements().to_vec() },
            Value::Counts(counts) => {
                Self::Counts { shape: counts.dims().to_vec(), counts: counts.elements().to_vec() }
            }
            Value::Opaque(leaf) => Self::Opaque { name: leaf.type_name().into(), value: leaf.encode()? },
            Value::Described(described) => {
                return Err(crate::VarsError::NotMade { form: described.form().to_string() }.into());
            }
            Value::Absent => Self::Absent,
        })
    }

    fn value(self) -> Result<Value, String> {
        Ok(match self {
            Self::Tensor { dtype, shape, data: Bytes(data) } => {
                let dtype: DType = dtype.parse().map_err(|_| format!("no dtype `{dtype}` is known"))?;
                let elements = shape.iter().try_fold(1usize, |product, size| product.checked_mul(*size));
                let expected = elements.and_then(|elements| elements.checked_mul(dtype.size_in_bytes()));
                if expected != Some(data.len()) {
                    return Err(format!("{shape:?} of {} do not take {} bytes", dtype.as_str(), data.len()));
                }
                let tensor = Tensor::from_raw_buffer(&data, dtype, &shape, &Device::Cpu);
                tensor.map_err(|error| error.to_string())?.into()
            }
            Self::Key(key) => key.into(),
            Self::Count(count) => count.into(),
            Self::Keys { shape, keys } => {
                KeyArray::new(shape, keys).map_err(|error| error.to_string())?.into()
            }
            Self::Counts { shape, counts } => {
                CountArray::new(shape, counts).map_err(|error| error.to_string())?.into()
            }
            Self::Opaque { name, value } => {
                let encoded: Arc<dyn Opaque> =
                    Arc::new(EncodedOpaque { name: String::leak(name), value, decoded: OnceLock::new() });
                encoded.into()
            }
            Self::Absent => Value::Absent,
        })
    }
}

/// A leaf of a higher layer as a file has it, until the layer asks for it: see [`Value::opaque`].
pub(crate) struct EncodedOpaque {
    name: &'static str,
    value: Json,
    decoded: OnceLock<Arc<dyn Opaque>>,
}

impl EncodedOpaque {
    /// The leaf, if it is a `T`; read once.
    pub(crate) fn decoded<T: Opaque>(&self) -> Option<&Arc<dyn Opaque>> {
        if self.decoded.get().is_none() {
            let decoded: Arc<dyn Opaque> = Arc::new(T::decode(&self.value).ok()?);
            self.decoded.get_or_init(|| decoded);
        }
        self.decoded.get()
    }
}

impl fmt::Debug for EncodedOpaque {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} as a file has it", self.name)
    }
}

impl Opaque for EncodedOpaque {
    fn type_name(&self) -> &'static str {
        self.name
    }
    fn encode(&self) -> Result<Json> {
        Ok(self.value.clone())
    }
    fn decode(_: &Json) -> Result<Self> {
        Err(crate::VarsError::ValueKind { expected: "a leaf of a higher layer", found: "any" }.into())
    }
    fn equals(&self, other: &dyn Opaque) -> bool {
        self.name == other.type_name() && other.encode().is_ok_and(|other| other == self.value)
    }
}

fn serialize<S: Serializer>(tree: &Tree<Leaf>, serializer: S) -> Result<S::Ok, S::Error> {
    let entry = |(path, leaf): (Path, &Leaf)| {
        let value = Form::of(&leaf.value).map_err(|error| S::Error::custom(error.at(&path)))?;
        let (kind, collection) = (leaf.kind.name().to_owned(), leaf.kind.collection().to_owned());
        Ok(Entry { path, kind, collection, metadata: leaf.metadata.clone(), value })
    };
    let entries = tree.iter().map(entry).collect::<Result<Vec<_>, S::Error>>()?;
    serializer.collect_seq(entries)
}

fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<State, D::Error> {
    let mut state = State::default();
    for Entry { path, kind, collection, metadata, value } in Vec::<Entry>::deserialize(deserializer)? {
        if path.len() > MAX_DEPTH {
            return Err(D::Error::custom(format!("a path has {} steps, more than {MAX_DEPTH}", path.len())));
        }
        let value = value.value().map_err(|reason| D::Error::custom(format!("at `{path}`: {reason}")))?;
        let kind = VariableType::from_name_and_collection(&kind, &collection);
        state.insert_new(&path, Leaf { kind, value, metadata }).map_err(D::Error::custom)?;
    }
    Ok(state)
}

/// A list of leaves with their paths. Tensors are written as their bytes, little-endian, and come back on the CPU.
impl Serialize for State {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize(self.tree(), serializer)
    }
}
impl<'de> Deserialize<'de> for State {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize(deserializer)
    }
}
/// A list of leaves with their paths, which begin with the collection.
impl Serialize for Variables {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize(self.tree(), serializer)
    }
}
impl<'de> Deserialize<'de> for Variables {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let tree: Tree<Leaf> = deserialize(deserializer)?.into();
        tree.try_for_each(|path, leaf| match path.keys().first() {
            Some(PathKey::Name(name)) if name.as_str() == leaf.kind.collection() => Ok(()),
            _ => Err(D::Error::custom(format!(
                "`{path}` is a {} of the collection `{}`: the path must begin with it",
                leaf.kind,
                leaf.kind.collection()
            ))),
        })?;
        Ok(tree.into())
    }
}
