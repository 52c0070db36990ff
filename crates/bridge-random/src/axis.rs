//! Axes that may be counted from the end.

use candle_core::{Shape, Tensor};

use crate::{Error, Result};

/// The axis as an index of the shape's dimensions.
pub(crate) fn checked_axis(name: &'static str, axis: isize, shape: &Shape) -> Result<usize> {
    let index = if axis < 0 { shape.rank().checked_add_signed(axis) } else { axis.try_into().ok() };
    index.filter(|index| *index < shape.rank()).ok_or_else(|| Error::Axis {
        name,
        axis,
        shape: shape.clone(),
    })
}

/// A view with an axis moved to the end, the others in their order.
pub(crate) fn axis_to_last(tensor: &Tensor, axis: usize) -> candle_core::Result<Tensor> {
    let order: Vec<usize> = (0..tensor.rank()).filter(|other| *other != axis).chain([axis]).collect();
    tensor.permute(order)
}

/// A view with the last axis moved to a place, the others in their order.
pub(crate) fn last_to_axis(tensor: &Tensor, axis: usize) -> candle_core::Result<Tensor> {
    let last = tensor.rank().saturating_sub(1);
    let mut order: Vec<usize> = (0..last).collect();
    order.insert(axis, last);
    tensor.permute(order)
}
