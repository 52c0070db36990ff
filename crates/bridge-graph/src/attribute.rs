use std::any::Any;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, OnceLock};

use bridge_vars::{PathKey, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use crate::{Field, Source, Visit, Visitor};

/// A static value of a module: part of its [`GraphDef`](crate::GraphDef), never of its state.
#[derive(Clone, Debug)]
pub enum Attribute {
    /// A truth value.
    Bool(bool),
    /// A signed number.
    Int(i64),
    /// An unsigned number.
    UInt(u64),
    /// A floating point number, equal by its bits.
    Float(f64),
    /// A text.
    Text(Arc<str>),
    /// Any other value.
    Typed(Arc<dyn StaticValue>),
    /// A value as a file has it, until a type that can read it asks for it.
    Encoded(Arc<EncodedValue>),
}

/// A static value as a file has it, and as the type that asked for it reads it.
pub struct EncodedValue {
    json: String,
    read: OnceLock<Box<dyn StaticValue>>,
}

impl EncodedValue {
    /// What a file has: JSON.
    pub fn json(&self) -> &str {
        &self.json
    }

    fn parsed(&self) -> Option<Json> {
        serde_json::from_str(&self.json).ok()
    }

    /// The value as a `T`; read once for the first type that asks.
    fn get<T: Static>(&self) -> Result<T, serde_json::Error> {
        let read: Option<&dyn Any> = self.read.get().map(|read| &**read as &dyn Any);
        if let Some(read) = read.and_then(<dyn Any>::downcast_ref::<T>) {
            return Ok(read.clone());
        }
        let value: T = serde_json::from_str(&self.json)?;
        self.read.get_or_init(|| Box::new(value.clone()));
        Ok(value)
    }
}

impl fmt::Debug for EncodedValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.json)
    }
}

/// A value that can be static: it compares, prints, and has a serde form. Every [`Static`] is one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can not be a static value",
    note = "derive `Clone`, `Debug`, `PartialEq`, serde's `Serialize` and `Deserialize` for `{Self}`"
)]
pub trait StaticValue: Any + Send + Sync + fmt::Debug {
    /// True if the other is of the same type and equal.
    fn equals(&self, other: &dyn StaticValue) -> bool;
    /// The serde form; an error says why there is none.
    fn encode(&self) -> Result<Json, String>;
}

/// What a field marked `#[module(static)]` must be able to do.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can not be a static field",
    note = "a static field is part of the model's description: derive `Clone`, `Debug`, `PartialEq`, serde's `Serialize` \
            and `Deserialize` for `{Self}`"
)]
pub trait Static:
    Clone + fmt::Debug + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static
{
}
impl<T: Clone + fmt::Debug + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static> Static for T {}

impl<T: Static> StaticValue for T {
    fn equals(&self, other: &dyn StaticValue) -> bool {
        let other: &dyn Any = other;
        other.downcast_ref::<T>().is_some_and(|other| self == other)
    }

    fn encode(&self) -> Result<Json, String> {
        let json = serde_json::to_value(self).map_err(|error| error.to_string())?;
        // An infinity becomes `null`, and a type may skip a field: neither may be lost unnoticed.
        match serde_json::from_str::<T>(&json.to_string()) {
            Ok(back) if &back == self => Ok(json),
            Ok(back) => Err(format!("it would read back as {back:?}")),
            Err(error) => Err(format!("it would not read back: {error}")),
        }
    }
}

impl PartialEq for Attribute {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Int(a), Self::Int(b)) => a == b,
            (Self::UInt(a), Self::UInt(b)) => a == b,
            (Self::Float(a), Self::Float(b)) => a.to_bits() == b.to_bits(),
            (Self::Text(a), Self::Text(b)) => a == b,
            (Self::Typed(a), Self::Typed(b)) => a.equals(&**b),
            (Self::Encoded(a), Self::Encoded(b)) => {
                a.json == b.json || a.parsed().is_some_and(|parsed| Some(parsed) == b.parsed())
            }
            (Self::Typed(typed), Self::Encoded(file)) | (Self::Encoded(file), Self::Typed(typed)) => {
                typed.encode().is_ok_and(|encoded| Some(encoded) == file.parsed())
            }
            _ => false,
        }
    }
}

impl Attribute {
    /// Hashes a plain value; one of a type of its own need not have a hash.
    pub(crate) fn hash_plain<H: Hasher>(&self, state: &mut H) {
        match self {
            Self::Bool(value) => value.hash(state),
            Self::Int(value) => value.hash(state),
            Self::UInt(value) => value.hash(state),
            Self::Float(value) => value.to_bits().hash(state),
            Self::Text(value) => value.hash(state),
            Self::Typed(_) | Self::Encoded(_) => {}
        }
    }

    /// A value that is none of the plain ones.
    pub fn typed<T: Static>(value: &T) -> Self {
        Self::Typed(Arc::new(value.clone()))
    }

    /// A value as a file has it.
    ///
    /// # Errors
    /// If the text is no JSON.
    pub fn encoded(json: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str::<serde::de::IgnoredAny>(json)?;
        Ok(Self::Encoded(Arc::new(EncodedValue { json: json.into(), read: OnceLock::new() })))
    }

    /// The value as a `T`, if it is one.
    pub fn get<T: Static>(&self) -> Result<T, String> {
        match self {
            Self::Typed(value) => {
                let value: &dyn Any = &**value;
                value.downcast_ref::<T>().cloned().ok_or_else(|| format!("{self:?}"))
            }
            Self::Encoded(file) => file.get().map_err(|error| format!("{} ({error})", file.json)),
            other => Err(format!("{other:?}")),
        }
    }
}

/// A static field as something that can be visited.
#[derive(Debug)]
pub(crate) struct StaticField<'a, T>(pub(crate) &'a T);

impl<T: Static> Visit for StaticField<'_, T> {
    fn visit(&self, visitor: &mut dyn Visitor) -> Result<()> {
        visitor.attribute(&|| Attribute::typed(self.0))
    }
}

/// Shows a visitor a field that is marked `#[module(static)]`.
pub fn visit_static<T: Static>(visitor: &mut dyn Visitor, key: &PathKey, value: &T) -> Result<()> {
    visitor.child(key, &StaticField(value))
}

macro_rules! plain {
    ($($type:ty: $variant:ident as $wide:ty),* $(,)?) => {$(
        impl Visit for $type {
            fn visit(&self, visitor: &mut dyn Visitor) -> Result<()> {
                visitor.attribute(&|| Attribute::$variant(<$wide>::from(*self)))
            }
        }
        impl Field for $type {
            fn rebuild(source: &mut Source<'_>) -> Result<Self> {
                source.attribute(stringify!($type), |attribute| match attribute {
                    #[allow(clippy::cast_possible_truncation, clippy::float_cmp, reason = "compared with the original below")]
                    Attribute::$variant(value) => {
                        let narrow = *value as $type;
                        (Attribute::$variant(<$wide>::from(narrow)) == Attribute::$variant(*value)).then_some(narrow)
                    }
                    _ => None,
                })
            }
        }
    )*};
}

plain!(
    i8: Int as i64, i16: Int as i64, i32: Int as i64, i64: Int as i64,
    u8: UInt as u64, u16: UInt as u64, u32: UInt as u64, u64: UInt as u64,
    f32: Float as f64, f64: Float as f64,
);

impl Visit for bool {
    fn visit(&self, visitor: &mut dyn Visitor) -> Result<()> {
        visitor.attribute(&|| Attribute::Bool(*self))
    }
}
impl Field for bool {
    fn rebuild(source: &mut Source<'_>) -> Result<Self> {
        source.attribute("bool", |attribute| match attribute {
            Attribute::Bool(value) => Some(*value),
            _ => None,
        })
    }
}

macro_rules! sized {
    ($($type:ty: $variant:ident as $wide:ty),*) => {$(
        impl Visit for $type {
            fn visit(&self, visitor: &mut dyn Visitor) -> Result<()> {
                // Lossless on every platform that candle runs on.
                visitor.attribute(&|| Attribute::$variant(*self as $wide))
            }
        }
        impl Field for $type {
            fn rebuild(source: &mut Source<'_>) -> Result<Self> {
                source.attribute(stringify!($type), |attribute| match attribute {
                    Attribute::$variant(value) => <$type>::try_from(*value).ok(),
                    _ => None,
                })
            }
        }
    )*};
}
sized!(usize: UInt as u64, isize: Int as i64);

impl Visit for String {
    fn visit(&self, visitor: &mut dyn Visitor) -> Result<()> {
        visitor.attribute(&|| Attribute::Text(self.as_str().into()))
    }
}
impl Field for String {
    fn rebuild(source: &mut Source<'_>) -> Result<Self> {
        source.attribute("String", |attribute| match attribute {
            Attribute::Text(text) => Some(text.to_string()),
            _ => None,
        })
    }
}

impl Visit for bridge_random::Key {
    fn visit(&self, visitor: &mut dyn Visitor) -> Result<()> {
        visitor.attribute(&|| Attribute::typed(self))
    }
}
impl Field for bridge_random::Key {
    fn rebuild(source: &mut Source<'_>) -> Result<Self> {
        source.static_value()
    }
}

impl Visit for candle_core::DType {
    fn visit(&self, visitor: &mut dyn Visitor) -> Result<()> {
        visitor.attribute(&|| Attribute::Text(self.as_str().into()))
    }
}
impl Field for candle_core::DType {
    fn rebuild(source: &mut Source<'_>) -> Result<Self> {
        source.attribute("DType", |attribute| match attribute {
            Attribute::Text(text) => text.parse().ok(),
            _ => None,
        })
    }
}

impl Visit for candle_core::Device {
    fn visit(&self, visitor: &mut dyn Visitor) -> Result<()> {
        visitor.device(self)
    }
}
impl Field for candle_core::Device {
    fn rebuild(source: &mut Source<'_>) -> Result<Self> {
        source.device()
    }
}
