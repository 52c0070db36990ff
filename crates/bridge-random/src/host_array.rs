//! Arrays of keys and counts on the host.

use std::fmt;

use candle_core::{Shape, Tensor};
use serde::{Deserialize, Serialize};

use crate::{Error, Key, Result};

/// An array on the host, laid out row by row: a batch of keys or counts.
///
/// ```
/// use bridge_random::key;
///
/// let keys = key(0).split_array((2, 3))?;
/// assert_eq!(keys.dims(), [2, 3]);
/// assert_eq!(keys.lane(1).and_then(|keys| keys.lane(2)), key(0).split_vec(6).pop().map(Into::into));
/// # Ok::<(), bridge_random::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Parts<T>")]
pub struct HostArray<T> {
    dims: Vec<usize>,
    elements: Vec<T>,
}

/// A batch of keys, each of which draws for itself.
#[doc(alias = "PRNGKeyArray")]
pub type KeyArray = HostArray<Key>;

/// A batch of counts.
pub type CountArray = HostArray<u32>;

/// What a file holds; checked before it is an array.
#[derive(Deserialize)]
struct Parts<T> {
    dims: Vec<usize>,
    elements: Vec<T>,
}

impl<T> TryFrom<Parts<T>> for HostArray<T> {
    type Error = Error;

    fn try_from(parts: Parts<T>) -> Result<Self> {
        Self::new(parts.dims, parts.elements)
    }
}

impl<T> HostArray<T> {
    /// An array of a shape, from its elements row by row.
    ///
    /// # Errors
    ///
    /// More or fewer elements than the shape has.
    pub fn new(shape: impl Into<Shape>, elements: Vec<T>) -> Result<Self> {
        let shape = shape.into();
        let count = crate::fill::element_count::<T>(&shape)?;
        if count != elements.len() {
            return Err(Error::ElementCount { shape, expected: count, found: elements.len() });
        }
        Ok(Self { dims: shape.into_dims(), elements })
    }

    /// The sizes of the dimensions.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.elements.len()
    }

    /// True if there is no element.
    pub fn is_empty(&self) -> bool {
        self.elements.is_empty()
    }

    /// The elements, row by row.
    pub fn elements(&self) -> &[T] {
        &self.elements
    }

    /// The only element of an array without dimensions.
    pub fn scalar(&self) -> Option<&T> {
        if self.dims.is_empty() { self.elements.first() } else { None }
    }

    /// Applies a function to each element.
    #[must_use]
    pub fn map<U>(&self, f: impl FnMut(&T) -> U) -> HostArray<U> {
        HostArray { dims: self.dims.clone(), elements: self.elements.iter().map(f).collect() }
    }
}

impl<T: Clone> HostArray<T> {
    /// The same element everywhere.
    ///
    /// # Errors
    ///
    /// A shape of more elements than memory can address.
    pub fn filled(shape: impl Into<Shape>, element: T) -> Result<Self> {
        let shape = shape.into();
        let elements = vec![element; crate::fill::element_count::<T>(&shape)?];
        Ok(Self { dims: shape.into_dims(), elements })
    }

    /// What stands at `index` of the first dimension: an array of one dimension less, if there is such a lane.
    #[must_use]
    pub fn lane(&self, index: usize) -> Option<Self> {
        let (lanes, dims) = self.dims.split_first()?;
        if index >= *lanes {
            return None;
        }
        let size = self.elements.len() / lanes;
        let elements = self.elements.get(index * size..(index + 1) * size)?.to_vec();
        Some(Self { dims: dims.to_vec(), elements })
    }
}

impl KeyArray {
    /// Draws with each key and stacks what it gave: `vmap` of JAX over a batch of keys.
    ///
    /// The shape is that of the batch, followed by that of one draw. Any function of a key will do, so that every
    /// sampler and initializer takes batches of keys.
    ///
    /// # Errors
    ///
    /// What `draw` returns; draws of different shapes or dtypes; no keys at all, as nothing then tells the shape.
    ///
    /// ```
    /// use bridge_random::{key, normal};
    /// use candle_core::{DType, Device};
    ///
    /// let keys = key(0).split_array(4)?;
    /// let x = keys.vmap(|key| normal(key, (2, 3), DType::F32, &Device::Cpu))?;
    /// assert_eq!(x.dims(), [4, 2, 3]);
    /// # Ok::<(), bridge_random::Error>(())
    /// ```
    pub fn vmap(&self, draw: impl FnMut(Key) -> Result<Tensor>) -> Result<Tensor> {
        let drawn = self.elements.iter().copied().map(draw).collect::<Result<Vec<_>>>()?;
        let Some(first) = drawn.first() else {
            return Err(Error::NoKeys { shape: self.dims.clone().into() });
        };
        let form = |tensor: &Tensor| (tensor.shape().clone(), tensor.dtype());
        if let Some(lane) = drawn.iter().position(|tensor| form(tensor) != form(first)) {
            return Err(Error::Lanes { lane, expected: form(first), found: form(&drawn[lane]) });
        }
        let dims = [&self.dims, first.dims()].concat();
        Ok(Tensor::stack(&drawn, 0)?.reshape(dims)?)
    }
}

impl<T> From<Vec<T>> for HostArray<T> {
    fn from(elements: Vec<T>) -> Self {
        Self { dims: vec![elements.len()], elements }
    }
}

impl<T> From<T> for HostArray<T> {
    fn from(element: T) -> Self {
        Self { dims: Vec::new(), elements: vec![element] }
    }
}

/// The shape, and the elements unless they are many.
impl<T: fmt::Debug> fmt::Debug for HostArray<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 4;
        write!(f, "{:?}", self.dims)?;
        let mut list = f.debug_list();
        list.entries(self.elements.iter().take(SHOWN));
        if self.elements.len() > SHOWN { list.finish_non_exhaustive() } else { list.finish() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{key, uniform};
    use candle_core::{DType, Device};

    #[test]
    fn lanes_take_the_first_dimension_apart() {
        let array = HostArray::new((2, 3), (0..6).collect()).unwrap();
        assert_eq!(array.lane(1).unwrap(), vec![3, 4, 5].into());
        assert_eq!(array.lane(1).unwrap().lane(0).unwrap().scalar(), Some(&3));
        assert_eq!(array.lane(2), None);
        assert_eq!(HostArray::from(3).lane(0), None);
        assert_eq!(HostArray::<u32>::from(vec![]).lane(0), None);
        assert_eq!(array.scalar(), None);
    }

    #[test]
    fn a_shape_that_does_not_fit_is_an_error_from_files_too() {
        let error = HostArray::new((2, 2), vec![1, 2, 3]).unwrap_err();
        assert_eq!(error.to_string(), "shape [2, 2] has 4 elements, found 3");
        assert!(serde_json::from_str::<CountArray>(r#"{"dims": [2], "elements": [1]}"#).is_err());
        let array = CountArray::new((2, 1), vec![7, 8]).unwrap();
        let json = serde_json::to_string(&array).unwrap();
        assert_eq!(json, r#"{"dims":[2,1],"elements":[7,8]}"#);
        assert_eq!(serde_json::from_str::<CountArray>(&json).unwrap(), array);
    }

    #[test]
    fn each_key_of_a_batch_draws_for_itself() {
        let keys = key(1).split_array((2, 2)).unwrap();
        let draw = |key| uniform(key, 3, DType::F32, &Device::Cpu);
        let x = keys.vmap(draw).unwrap();
        assert_eq!(x.dims(), [2, 2, 3]);
        let alone = draw(keys.elements()[2]).unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(x.get(1).unwrap().get(0).unwrap().to_vec1::<f32>().unwrap(), alone);
        assert!(matches!(KeyArray::from(vec![]).vmap(draw).unwrap_err(), Error::NoKeys { .. }));
        let uneven =
            |drawn| uniform(drawn, usize::from(drawn == keys.elements()[1]), DType::F32, &Device::Cpu);
        let text = keys.vmap(uneven).unwrap_err().to_string();
        assert_eq!(
            text,
            "key 1 of the batch drew [1] of F32, the first one [0] of F32: expected the same of each"
        );
    }

    #[test]
    fn prints_its_shape_and_a_few_elements() {
        assert_eq!(format!("{:?}", CountArray::from(vec![1, 2])), "[2][1, 2]");
        assert_eq!(format!("{:?}", CountArray::filled(9, 0).unwrap()), "[9][0, 0, 0, 0, ..]");
    }
}
