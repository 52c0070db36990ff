use std::fmt;
use std::sync::Arc;

use candle_core::{DType, Device, Shape, Tensor};

use crate::{Result, TensorForm, VarsError};

/// A tensor that is not made yet: its shape, dtype and device, and how to make it.
///
/// What variables hold that were described instead of initialised. It takes no memory for elements; a value of this shape
/// and dtype can take its place, from a file for one, or it is made where it stands.
///
/// ```
/// use bridge_vars::{Described, Param};
/// use candle_core::{DType, Device, Tensor};
/// let ones = Described::new((1024, 1024), DType::F32, &Device::Cpu)
///     .made_by(|| Ok(Tensor::ones((1024, 1024), DType::F32, &Device::Cpu)?));
/// let param = Param::new(ones);
/// assert!(param.value().is_err());
/// param.materialize()?;
/// assert_eq!(param.value()?.dims(), &[1024, 1024]);
/// # Ok::<(), bridge_vars::Error>(())
/// ```
#[doc(alias("ShapeDtypeStruct", "eval_shape", "meta"))]
#[derive(Clone)]
pub struct Described(Arc<Description>);

struct Description {
    form: TensorForm,
    device: Device,
    make: Option<Arc<Make>>,
}

type Make = dyn Fn() -> Result<Tensor> + Send + Sync;

impl Described {
    /// Of this shape, dtype and device; how to make it is not known.
    pub fn new(shape: impl Into<Shape>, dtype: DType, device: &Device) -> Self {
        let form = TensorForm::new(dtype, shape.into().dims());
        Self(Arc::new(Description { form, device: device.clone(), make: None }))
    }

    /// The same, made by a function when it is wanted.
    #[must_use]
    pub fn made_by(self, make: impl Fn() -> Result<Tensor> + Send + Sync + 'static) -> Self {
        let (form, device) = (self.0.form.clone(), self.0.device.clone());
        Self(Arc::new(Description { form, device, make: Some(Arc::new(make)) }))
    }

    /// Dtype and shape.
    pub fn form(&self) -> &TensorForm {
        &self.0.form
    }

    /// The device that it is to be on.
    pub fn device(&self) -> &Device {
        &self.0.device
    }

    /// The number of elements; `usize::MAX`, if there are more.
    pub fn element_count(&self) -> usize {
        self.form().element_count()
    }

    /// Makes the tensor.
    ///
    /// # Errors
    /// [`VarsError::NotMade`] if how is not known, [`VarsError::MadeOtherwise`] if it is of another shape or dtype than
    /// described, and what the function returns.
    pub fn make(&self) -> Result<Tensor> {
        let Some(make) = &self.0.make else {
            return Err(VarsError::NotMade { form: self.form().to_string() }.into());
        };
        let tensor = make()?;
        let found = TensorForm::from(&tensor);
        match found == *self.form() {
            true => Ok(tensor),
            false => {
                let (expected, found) = (self.form().to_string(), found.to_string());
                Err(VarsError::MadeOtherwise { expected, found }.into())
            }
        }
    }

    /// A tensor of zeros of this shape that takes the memory of one element: for calls where shapes alone matter.
    ///
    /// # Errors
    /// If candle can not make a zero of the dtype on the device.
    pub fn stand_in(&self) -> Result<Tensor> {
        let zero = Tensor::zeros((), self.form().dtype(), self.device())?;
        Ok(zero.broadcast_as(self.form().dims())?)
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for Described {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} not made yet", self.form())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Param, State, Value};

    #[test]
    fn what_is_made_must_be_what_was_described() {
        let described = Described::new((2, 3), DType::F32, &Device::Cpu);
        let text = described.make().unwrap_err().to_string();
        assert!(text.contains("f32[2, 3]") && text.contains("load"), "{text}");
        let other = described.made_by(|| Ok(Tensor::zeros(3, DType::F32, &Device::Cpu)?));
        let text = other.make().unwrap_err().to_string();
        assert!(text.contains("f32[2, 3]") && text.contains("f32[3]"), "{text}");
    }

    #[test]
    fn takes_no_memory_and_can_be_replaced_by_its_like() {
        // More than any machine has.
        let described = Described::new((1 << 20, 1 << 20), DType::F32, &Device::Cpu);
        assert_eq!(described.stand_in().unwrap().dims(), &[1 << 20, 1 << 20]);
        assert_eq!(described.element_count(), 1 << 40);
        let small = Param::new(Described::new(2, DType::F32, &Device::Cpu));
        let zeros = |size: usize| Param::leaf(Tensor::zeros(size, DType::F32, &Device::Cpu).unwrap());
        assert!(small.accepts(&zeros(2)) && !small.accepts(&zeros(3)));
        assert!(small.leaf().unwrap().value.has_form_of(&zeros(2).value));
        assert!(small.value().unwrap_err().to_string().contains("not made yet"));
    }

    #[test]
    fn a_state_is_made_whole_or_not_at_all() {
        let ones = || Ok(Tensor::ones(2, DType::F32, &Device::Cpu)?);
        let described = Described::new(2, DType::F32, &Device::Cpu);
        let mut state = State::default();
        state.insert(&"a".into(), Param::leaf(described.clone().made_by(ones))).unwrap();
        assert_eq!(state.materialize().unwrap().get("a").unwrap().tensor().unwrap().dims(), &[2]);
        assert!(serde_json::to_string(&state).unwrap_err().to_string().contains("not made yet"));
        state.insert(&"b.c".into(), Param::leaf(described)).unwrap();
        let text = state.materialize().unwrap_err().to_string();
        assert!(text.contains("b.c"), "{text}");
        assert!(matches!(state.get("a").unwrap().value, Value::Described(_)));
    }
}
