use bridge_graph::Mode;
use bridge_random::{Initializer, Key, key};
use bridge_vars::{Described, Initialize, Leaf, Name, Param, Path, PathKey, Result, Value};
use candle_core::{DType, Device, Shape, Tensor};

use crate::Scope;
use crate::error::ScopeError;
use crate::scope::PARAMS;

impl Scope {
    /// A parameter of this shape and dtype: the one that is there, or, where `params` is mutable, a new one.
    ///
    /// A new one is made by the initializer from the next key of the stream `params`, and has the initializer's metadata.
    ///
    /// # Errors
    /// [`ScopeError::ParamNotFound`], [`ScopeError::CollectionNotFound`], [`ScopeError::ParamShape`],
    /// [`ScopeError::ParamDtype`], [`ScopeError::NameInUse`], [`ScopeError::StreamNotFound`].
    pub fn param(
        &self,
        name: impl Into<Name>,
        initializer: &impl Initialize,
        shape: impl Into<Shape>,
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor> {
        let (name, shape) = (name.into(), shape.into());
        let tensor = self.param_leaf(name.clone(), |scope| {
            let value = match scope.is_describing() {
                true => {
                    let key = scope.has_rng(&PARAMS).then(|| scope.make_rng(&PARAMS)).transpose()?;
                    initializer.described(key, &shape, dtype, device).into()
                }
                false => initializer.value(scope.make_rng(&PARAMS)?, &shape, dtype, device)?,
            };
            Ok(initializer.leaf(Param::variable_type(), value))
        })?;
        self.check_shape(&name, &tensor, &shape)?;
        match tensor.dtype() == dtype {
            true => Ok(tensor),
            false => Err(ScopeError::ParamDtype {
                path: self.path().join(name),
                expected: dtype.as_str(),
                found: tensor.dtype().as_str(),
            }
            .into()),
        }
    }

    /// A parameter made by a function of a key. A shape, if one is given, is checked.
    ///
    /// # Errors
    /// Those of [`Scope::param`], and what `make` returns.
    pub fn param_with(
        &self,
        name: impl Into<Name>,
        shape: Option<&Shape>,
        make: impl FnOnce(Key) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let name = name.into();
        let tensor =
            self.param_leaf(name.clone(), |scope| Ok(Param::leaf(make(scope.make_rng(&PARAMS)?)?)))?;
        if let Some(shape) = shape {
            self.check_shape(&name, &tensor, shape)?;
        }
        Ok(tensor)
    }

    fn param_leaf(&self, name: Name, make: impl FnOnce(&Self) -> Result<Leaf>) -> Result<Tensor> {
        self.reserve(&name, Some(&PARAMS))?;
        let leaf = match self.find(&PARAMS, &name) {
            Some(leaf) => leaf,
            None if self.is_mutable_collection(&PARAMS) => {
                let leaf = make(self)?;
                self.store(&Path::from(PathKey::Name(name.clone())), leaf.clone())?;
                leaf
            }
            None => return Err(self.not_found(&PARAMS, &name)),
        };
        self.tensor_of(&leaf, || self.path().join(name.clone()))
    }

    fn check_shape(&self, name: &Name, tensor: &Tensor, shape: &Shape) -> Result<()> {
        match tensor.shape() == shape {
            true => Ok(()),
            false => Err(ScopeError::ParamShape {
                path: self.path().join(name.clone()),
                expected: shape.dims().to_vec(),
                found: tensor.dims().to_vec(),
            }
            .into()),
        }
    }

    /// What was made of an input that only stands in for one is no value, but has a shape.
    pub(crate) fn only_described(&self, value: Value) -> Value {
        match &value {
            Value::Tensor(tensor) if self.is_describing() => {
                Described::new(tensor.shape(), tensor.dtype(), tensor.device()).into()
            }
            _ => value,
        }
    }

    /// The tensor of a leaf; where shapes alone matter, one that stands in for it.
    pub(crate) fn tensor_of(&self, leaf: &Leaf, path: impl Fn() -> Path) -> Result<Tensor> {
        match &leaf.value {
            Value::Described(described) if self.is_describing() => described.stand_in(),
            value => Ok(value.tensor().map_err(|error| error.at(&path()))?.clone()),
        }
    }

    /// A value full of one number: how a running statistic starts. No key is drawn.
    ///
    /// # Errors
    /// If candle can not make it.
    pub fn full(&self, number: f64, shape: impl Into<Shape>, dtype: DType, device: &Device) -> Result<Value> {
        let (initializer, shape) = (Initializer::Constant(number), shape.into());
        // A constant is the same from every key.
        match self.is_describing() {
            true => Ok(initializer.described(Some(key(0)), &shape, dtype, device).into()),
            false => initializer.value(key(0), &shape, dtype, device),
        }
    }

    /// The same scope in another mode, for children that are to be called in it.
    #[must_use]
    pub fn with_mode(&self, mode: Mode) -> Self {
        Self { mode: Some(mode), ..self.clone() }
    }
}
