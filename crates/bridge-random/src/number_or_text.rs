//! Serde's form of a number that may be infinite, which JSON has no number for: `"inf"`, `"-inf"`, `"NaN"`.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Form {
    Number(f64),
    Text(String),
}

pub(crate) fn serialize<S: Serializer>(number: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    let form = if number.is_finite() { Form::Number(*number) } else { Form::Text(number.to_string()) };
    form.serialize(serializer)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    match Form::deserialize(deserializer)? {
        Form::Number(number) => Ok(number),
        Form::Text(text) => text.parse().map_err(|_| D::Error::custom(format!("`{text}` is not a number"))),
    }
}
