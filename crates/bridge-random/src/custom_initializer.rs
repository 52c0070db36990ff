//! Initializers that are code.

use std::any::{TypeId, type_name};
use std::fmt;
use std::sync::Arc;

use candle_core::{DType, Device, Shape, Tensor};
use serde::{Deserialize, Serialize};

use crate::{Error, Key, Result};

type Function = dyn Fn(Key, &Shape, DType, &Device) -> Result<Tensor> + Send + Sync;

/// An initializer that is a function or closure: what [`Initializer::from_fn`](crate::Initializer::from_fn) makes.
///
/// Two are equal if their functions have the same type. It prints and serialises as the name of that type; read back from
/// a file it has no function, and says so when it is asked for a tensor.
#[derive(Clone, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct CustomInitializer {
    type_name: String,
    function: Option<(TypeId, Arc<Function>)>,
}

impl CustomInitializer {
    pub(crate) fn new<F>(function: F) -> Self
    where
        F: Fn(Key, &Shape, DType, &Device) -> Result<Tensor> + Send + Sync + 'static,
    {
        let function: (_, Arc<Function>) = (TypeId::of::<F>(), Arc::new(function));
        Self { type_name: type_name::<F>().to_owned(), function: Some(function) }
    }

    /// The name of the function's type.
    pub fn type_name(&self) -> &str {
        &self.type_name
    }

    pub(crate) fn init(&self, key: Key, shape: Shape, dtype: DType, device: &Device) -> Result<Tensor> {
        let type_name = || self.type_name.clone();
        let Some((_, function)) = &self.function else {
            return Err(Error::AbsentInitializer { type_name: type_name() });
        };
        let tensor = function(key, &shape, dtype, device)?;
        if tensor.shape() == &shape && tensor.dtype() == dtype {
            return Ok(tensor);
        }
        Err(Error::InitializerResult {
            type_name: type_name(),
            expected: (shape, dtype),
            found: (tensor.shape().clone(), tensor.dtype()),
        })
    }
}

impl PartialEq for CustomInitializer {
    fn eq(&self, other: &Self) -> bool {
        match (&self.function, &other.function) {
            (Some((own, _)), Some((others, _))) => own == others,
            _ => self.type_name == other.type_name,
        }
    }
}

impl fmt::Debug for CustomInitializer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.type_name)
    }
}

impl From<String> for CustomInitializer {
    fn from(type_name: String) -> Self {
        Self { type_name, function: None }
    }
}

impl From<CustomInitializer> for String {
    fn from(custom: CustomInitializer) -> Self {
        custom.type_name
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Initializer, key};

    fn diagonal(_: Key, shape: &Shape, dtype: DType, device: &Device) -> Result<Tensor> {
        Ok(Tensor::eye(shape.dims()[0], dtype, device)?)
    }

    #[test]
    fn a_function_makes_the_tensor() {
        let initializer = Initializer::from_fn(diagonal);
        let x = initializer.init(key(0), (2, 2), DType::F32, &Device::Cpu).unwrap();
        assert_eq!(x.to_vec2::<f32>().unwrap(), [[1., 0.], [0., 1.]]);
        let error = initializer.init(key(0), (2, 3), DType::F32, &Device::Cpu).unwrap_err();
        let text = error.to_string();
        assert!(text.ends_with("diagonal` made [2, 2] of F32: expected [2, 3] of F32"), "{text}");
    }

    #[test]
    fn compares_by_type_and_is_absent_after_a_file() {
        let first = Initializer::from_fn(diagonal);
        let other = Initializer::from_fn(|_, shape, dtype, device| Ok(Tensor::ones(shape, dtype, device)?));
        assert_eq!(first, first.clone());
        assert_ne!(first, other);
        let json = serde_json::to_string(&first).unwrap();
        assert!(json.starts_with(r#"{"Custom":"bridge_random"#), "{json}");
        let read: Initializer = serde_json::from_str(&json).unwrap();
        assert_eq!(read, first);
        assert_ne!(read, other);
        let error = read.init(key(0), 2, DType::F32, &Device::Cpu).unwrap_err();
        assert!(error.to_string().contains("diagonal` is a closure, which a file does not hold"), "{error}");
    }
}
