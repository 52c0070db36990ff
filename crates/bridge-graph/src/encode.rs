use bridge_vars::{Metadata, Opaque, Path, PathKey, Result, TensorForm, VariableType};
use candle_core::{DType, Device, DeviceLocation};
use rustc_hash::FxHashSet;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::dynamic::DynamicType;
use crate::error::GraphError;
use crate::program::{Def, Entry, Program, Spec};
use crate::{Attribute, Structure};

/// So deep may the nodes of a description from a file be nested.
const MAX_DEPTH: usize = 256;
/// What a file says of a variable that had no value.
const ABSENT: &str = "no value";

/// An entry of a [`Program`] as files have it.
#[derive(Serialize, Deserialize)]
struct FileEntry {
    key: Path,
    #[serde(flatten)]
    def: FileDef,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
enum FileDef {
    Module {
        name: String,
    },
    Variant {
        name: String,
        variant: String,
    },
    List,
    Tuple,
    Map,
    OrderedMap {
        keys: Vec<Path>,
    },
    End,
    Some,
    None,
    Bool {
        value: bool,
    },
    Int {
        value: i64,
    },
    UInt {
        value: u64,
    },
    /// By its bits, because JSON has no infinities; the value is there to be read by people.
    Float {
        value: Option<f64>,
        bits: u64,
    },
    Text {
        value: String,
    },
    /// JSON in a text: only the value's own type knows how much of it is too much.
    Value {
        value: String,
    },
    Flag {
        on: bool,
    },
    Device {
        location: String,
    },
    Variable {
        #[serde(rename = "type")]
        kind: String,
        collection: String,
        #[serde(default, skip_serializing_if = "Metadata::is_empty")]
        metadata: Metadata,
        #[serde(flatten)]
        spec: FileSpec,
    },
    SharedVariable {
        number: usize,
    },
    Tensor {
        #[serde(flatten)]
        spec: FileSpec,
    },
    Shared,
    SharedAgain {
        number: usize,
    },
    /// Refers to the shared part of this number, or to none.
    Weak {
        number: Option<usize>,
    },
    Boxed {
        name: String,
    },
}

#[derive(Serialize, Deserialize)]
struct FileSpec {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dtype: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shape: Option<Vec<usize>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    host: Option<String>,
}

impl Program {
    /// The flat serde form.
    ///
    /// # Errors
    /// [`GraphError::Static`] for a static value that its serde form does not keep.
    pub fn encode(&self) -> Result<Json> {
        let mut defs = Vec::with_capacity(self.entries.len());
        self.try_for_each(|path, def| {
            defs.push(encode_def(def, || path.clone())?);
            Ok::<_, bridge_vars::Error>(())
        })?;
        let mut defs = defs.into_iter();
        let entries: Vec<_> = self
            .entries
            .iter()
            .map(|entry| {
                let def = match &entry.def {
                    Def::Exit => FileDef::End,
                    _ => defs.next().unwrap_or(FileDef::End),
                };
                FileEntry { key: entry.key.clone().into(), def }
            })
            .collect();
        serde_json::to_value(entries).map_err(bridge_vars::Error::new)
    }

    /// Reads what [`Program::encode`] wrote. `device` takes the place of devices that this machine may not
    /// have.
    ///
    /// # Errors
    /// If it is not what was written.
    pub fn decode(json: &Json, device: &Device) -> Result<Self> {
        // One by one: the form that files have takes several times the room.
        let Json::Array(listed) = json else {
            return Err(foreign(&Path::root(), "a list", "no list".into()));
        };
        let entries = listed.iter().map(|entry| {
            let entry = FileEntry::deserialize(entry).map_err(bridge_vars::Error::new)?;
            Ok(Entry { key: decode_key(&entry.key)?, def: decode_def(entry.def, &entry.key, device)? })
        });
        let entries = entries.collect::<Result<Vec<_>>>()?;
        refuse_repeated_keys(&entries)?;
        Ok(Self { entries })
    }
}

/// A node has one child under a key: of two in a map, one would be lost.
fn refuse_repeated_keys(entries: &[Entry]) -> Result<()> {
    let mut path = Path::root();
    let mut nodes: Vec<FxHashSet<&PathKey>> = Vec::new();
    // An optional or shared part is two entries under one key.
    let mut goes_on = false;
    for Entry { key, def } in entries {
        match def {
            Def::Exit => {
                nodes.pop();
                path.pop();
            }
            _ => {
                let siblings = nodes.last_mut().filter(|_| !goes_on);
                if siblings.is_some_and(|siblings| !siblings.insert(key)) {
                    return Err(foreign(&path, "one child under a key", format!("two under `{key}`")));
                }
                if matches!(def, Def::Enter(_)) {
                    if !nodes.is_empty() {
                        path.push(key.clone());
                    }
                    nodes.push(FxHashSet::default());
                    // What reads a description goes down by recursion.
                    if nodes.len() > MAX_DEPTH {
                        return Err(foreign(&Path::root(), "nodes that are not so deep", "more".into()));
                    }
                }
            }
        }
        goes_on = def.goes_on();
    }
    Ok(())
}

fn decode_key(key: &Path) -> Result<PathKey> {
    match key.keys() {
        [step] => Ok(step.clone()),
        _ => Err(foreign(key, "one step of a path", key.to_string())),
    }
}

/// A description among the variables of a functional module: what wraps a stateful one keeps there.
impl Opaque for Program {
    fn type_name(&self) -> &'static str {
        "a GraphDef"
    }
    fn encode(&self) -> Result<Json> {
        Program::encode(self)
    }
    fn decode(json: &Json) -> Result<Self> {
        Program::decode(json, &Device::Cpu)
    }
    fn equals(&self, other: &dyn Opaque) -> bool {
        let other: &dyn std::any::Any = other;
        other.downcast_ref::<Self>().is_some_and(|other| self == other)
    }
}

fn encode_def(def: &Def, path: impl Fn() -> Path) -> Result<FileDef> {
    Ok(match def {
        Def::Enter(Structure::Module(name)) => FileDef::Module { name: name.to_string() },
        Def::Enter(Structure::Variant(names)) => {
            FileDef::Variant { name: names.0.to_string(), variant: names.1.to_string() }
        }
        Def::Enter(Structure::List) => FileDef::List,
        Def::Enter(Structure::Tuple) => FileDef::Tuple,
        Def::Enter(Structure::Map) => FileDef::Map,
        Def::Enter(Structure::OrderedMap(keys)) => {
            FileDef::OrderedMap { keys: keys.iter().cloned().map(Path::from).collect() }
        }
        Def::Exit => FileDef::End,
        Def::Some => FileDef::Some,
        Def::None => FileDef::None,
        Def::Attribute(attribute) => match attribute {
            Attribute::Bool(value) => FileDef::Bool { value: *value },
            Attribute::Int(value) => FileDef::Int { value: *value },
            Attribute::UInt(value) => FileDef::UInt { value: *value },
            Attribute::Float(value) => FileDef::Float { value: Some(*value), bits: value.to_bits() },
            Attribute::Text(value) => FileDef::Text { value: value.to_string() },
            Attribute::Encoded(value) => FileDef::Value { value: value.json().into() },
            Attribute::Typed(value) => FileDef::Value {
                value: value
                    .encode()
                    .map_err(|reason| GraphError::Static {
                        path: path(),
                        value: format!("{value:?}"),
                        reason,
                    })?
                    .to_string(),
            },
        },
        Def::Flag(on) => FileDef::Flag { on: *on },
        Def::Device(device) => FileDef::Device { location: format!("{:?}", device.location()) },
        Def::Variable { kind, metadata, spec } => FileDef::Variable {
            kind: kind.name().into(),
            collection: kind.collection().into(),
            metadata: metadata.clone(),
            spec: encode_spec(spec),
        },
        Def::VariableRef(number) => FileDef::SharedVariable { number: *number },
        Def::Tensor(spec) => FileDef::Tensor { spec: encode_spec(spec) },
        Def::Shared => FileDef::Shared,
        Def::SharedRef(number) => FileDef::SharedAgain { number: *number },
        Def::Weak(number) => FileDef::Weak { number: *number },
        Def::Dynamic(module) => FileDef::Boxed { name: module.name().to_string() },
    })
}

fn decode_def(def: FileDef, path: &Path, device: &Device) -> Result<Def> {
    Ok(match def {
        FileDef::Module { name } => Def::Enter(Structure::Module(name.into())),
        FileDef::Variant { name, variant } => {
            Def::Enter(Structure::Variant(std::sync::Arc::new((name.into(), variant.into()))))
        }
        FileDef::List => Def::Enter(Structure::List),
        FileDef::Tuple => Def::Enter(Structure::Tuple),
        FileDef::Map => Def::Enter(Structure::Map),
        FileDef::OrderedMap { keys } => {
            Def::Enter(Structure::OrderedMap(keys.iter().map(decode_key).collect::<Result<_>>()?))
        }
        FileDef::End => Def::Exit,
        FileDef::Some => Def::Some,
        FileDef::None => Def::None,
        FileDef::Bool { value } => Def::Attribute(Attribute::Bool(value)),
        FileDef::Int { value } => Def::Attribute(Attribute::Int(value)),
        FileDef::UInt { value } => Def::Attribute(Attribute::UInt(value)),
        FileDef::Float { bits, .. } => Def::Attribute(Attribute::Float(f64::from_bits(bits))),
        FileDef::Text { value } => Def::Attribute(Attribute::Text(value.into())),
        FileDef::Value { value } => {
            Def::Attribute(Attribute::encoded(&value).map_err(bridge_vars::Error::new)?)
        }
        FileDef::Flag { on } => Def::Flag(on),
        FileDef::Device { location } => {
            Def::Device(Box::new(match location == format!("{:?}", DeviceLocation::Cpu) {
                true => Device::Cpu,
                false => device.clone(),
            }))
        }
        FileDef::Variable { kind, collection, metadata, spec } => Def::Variable {
            kind: VariableType::from_name_and_collection(&kind, &collection),
            metadata,
            spec: decode_spec(spec, path)?,
        },
        FileDef::SharedVariable { number } => Def::VariableRef(number),
        FileDef::Tensor { spec } => Def::Tensor(decode_spec(spec, path)?),
        FileDef::Shared => Def::Shared,
        FileDef::SharedAgain { number } => Def::SharedRef(number),
        FileDef::Weak { number } => Def::Weak(number),
        FileDef::Boxed { name } => Def::Dynamic(DynamicType::named(name.into())),
    })
}

fn encode_spec(spec: &Spec) -> FileSpec {
    match spec {
        Spec::Tensor(form) => {
            FileSpec { dtype: Some(form.dtype().as_str().into()), shape: Some(form.dims()), host: None }
        }
        Spec::Other(kind) => FileSpec { dtype: None, shape: None, host: Some(kind.to_string()) },
        Spec::Unknown => FileSpec { dtype: None, shape: None, host: Some(ABSENT.into()) },
    }
}

fn decode_spec(spec: FileSpec, path: &Path) -> Result<Spec> {
    let FileSpec { dtype, shape, host } = spec;
    match (dtype, shape, host) {
        (Some(dtype), Some(shape), None) => {
            let known: DType = dtype.parse().map_err(|_| foreign(path, "a dtype", dtype))?;
            Ok(Spec::Tensor(TensorForm::new(known, &shape)))
        }
        (None, None, Some(host)) if host == ABSENT => Ok(Spec::Unknown),
        (None, None, Some(host)) => Ok(Spec::Other(Box::new(host.into()))),
        _ => Err(foreign(path, "a dtype and a shape, or a host value", "something else".into())),
    }
}

fn foreign(path: &Path, expected: &str, found: String) -> bridge_vars::Error {
    GraphError::Structure { path: path.clone(), expected: expected.into(), found }.into()
}
