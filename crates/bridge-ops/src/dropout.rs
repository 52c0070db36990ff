//! Dropout: random elements set to zero, the others scaled up to keep the expectation.

use crate::precision::require_float;
use crate::shapes_only::like;
use crate::{Error, Result, composition, is_shapes_only, kernels};
use bridge_random::{Key, Scheme};
use candle_core::{DType, Tensor};

/// `x / keep` where `mask` is not 0, else 0.
///
/// `mask` is u8 and broadcasts to the shape of `x`; `keep` is the probability of a 1 in it, above 0 and at most 1. The
/// division is in the dtype of `x` (any float), as in Flax. The gradient of `x` is that of the result under the same
/// mask and division; a dropped NaN or infinity gives 0 in both directions.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[[1f32, 2.0], [3.0, 4.0]], &Device::Cpu)?;
/// let mask = Tensor::new(&[0u8, 1], &Device::Cpu)?;
/// assert_eq!(bridge_ops::dropout(&x, 0.5, &mask)?.to_vec2::<f32>()?, [[0.0, 4.0], [0.0, 8.0]]);
/// # Ok::<(), bridge_ops::Error>(())
/// ```
///
/// # Errors
///
/// When `keep` is out of range, the shapes do not fit, `mask` is not u8, or `x` is not a float tensor.
pub fn dropout(x: &Tensor, keep: f64, mask: &Tensor) -> Result<Tensor> {
    let operator = "dropout";
    require_float(operator, "x", x)?;
    if !(keep > 0.0 && keep <= 1.0) {
        return Err(Error::Probability {
            operator,
            argument: "keep",
            expected: "above 0 and at most 1",
            found: keep,
        });
    }
    if mask.dtype() != DType::U8 {
        return Err(Error::DType {
            operator,
            argument: "mask",
            expected: "dtype u8 (0 drops, 1 keeps)",
            found: mask.dtype(),
        });
    }
    // candle would walk into the graph of a mask that was computed from what is tracked, and find no gradient there.
    let mask = mask.detach().broadcast_as(x.shape()).map_err(|_| Error::Shape {
        operator,
        argument: "mask",
        expected: format!("a shape that broadcasts to that of `x`, {:?}", x.shape()),
        found: mask.shape().clone(),
    })?;
    let compute = match kernels::run_for(x) {
        true => kernels::dropout::with_mask,
        false => composition::dropout,
    };
    like(x).unwrap_or_else(|| Ok(compute(x, keep, &mask)?))
}

/// [`dropout`] with a mask drawn from a key, the one that Flax draws from the same key.
///
/// `rate`, from 0 to 1, is the probability of dropping. Along `broadcast_dims` (negative ones count from the end) one
/// decision holds for all elements. Rate 0 returns the input and rate 1 zeros, both without drawing. On the CPU, without
/// `broadcast_dims`, the mask is drawn again for the gradient instead of kept.
///
/// ```
/// # use candle_core::{DType, Device, Tensor};
/// let x = Tensor::ones((4, 8), DType::F32, &Device::Cpu)?;
/// let y = bridge_ops::dropout_with_key(&x, 0.5, bridge_random::key(0), &[-1])?;
/// for row in y.to_vec2::<f32>()? {
///     assert!(row == [0.0; 8] || row == [2.0; 8]);
/// }
/// # Ok::<(), bridge_ops::Error>(())
/// ```
///
/// # Errors
///
/// When `rate` is not from 0 to 1, a dimension is out of range, or `x` is not a float tensor.
#[doc(alias = "Dropout")]
pub fn dropout_with_key(x: &Tensor, rate: f64, key: Key, broadcast_dims: &[isize]) -> Result<Tensor> {
    let operator = "dropout_with_key";
    require_float(operator, "x", x)?;
    if !(0.0..=1.0).contains(&rate) {
        return Err(Error::Probability { operator, argument: "rate", expected: "from 0 to 1", found: rate });
    }
    let mut dims = x.dims().to_vec();
    for &axis in broadcast_dims {
        let index = if axis < 0 { dims.len().checked_add_signed(axis) } else { usize::try_from(axis).ok() };
        *index.and_then(|index| dims.get_mut(index)).ok_or_else(|| Error::Shape {
            operator,
            argument: "x",
            expected: format!("a dimension {axis}, which `broadcast_dims` names"),
            found: x.shape().clone(),
        })? = 1;
    }
    if rate == 0.0 || is_shapes_only() {
        return like(x).unwrap_or_else(|| Ok(x.clone()));
    }
    if rate == 1.0 {
        // Zeros that stay in the graph, so that the parameters below receive a gradient.
        return dropout(x, 1.0, &Tensor::zeros((), DType::U8, x.device())?);
    }
    let keep = 1.0 - rate;
    // A part of the mask can be drawn without the rest, but with keys of the old scheme.
    if kernels::run_for(x) && dims == x.dims() && key.scheme() != Scheme::Legacy {
        return Ok(kernels::dropout::with_key(x, keep, key)?);
    }
    let mask = bridge_random::bernoulli(key, keep, dims, x.device())?;
    dropout(x, keep, &mask)
}
