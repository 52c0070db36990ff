//! What is asked of all gradients together, and done to them.

use bridge_vars::{Leaf, Path, Result, State, Tree, Value, Variables};
use candle_core::Tensor;

use crate::OptimizerError;
use crate::parameter::compute_dtype;

/// Gradients by path: a [`State`] or [`Variables`].
pub trait Gradients: Clone + From<Tree<Leaf>> + sealed::Sealed {
    /// The tree.
    fn tree(&self) -> &Tree<Leaf>;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for bridge_vars::State {}
    impl Sealed for bridge_vars::Variables {}
}

impl Gradients for State {
    fn tree(&self) -> &Tree<Leaf> {
        self.tree()
    }
}

impl Gradients for Variables {
    fn tree(&self) -> &Tree<Leaf> {
        self.tree()
    }
}

/// The square root of the sum of the squares of all elements of all gradients, summed in f64.
///
/// ```
/// use bridge_train::{clip_by_global_norm, global_norm};
/// use bridge_vars::{Param, Path, State};
/// use candle_core::{Device, Tensor};
/// let mut gradients = State::default();
/// gradients.insert(&Path::from("a"), Param::leaf(Tensor::new(&[3f32], &Device::Cpu)?))?;
/// gradients.insert(&Path::from("b"), Param::leaf(Tensor::new(&[0f32, 4.], &Device::Cpu)?))?;
/// assert_eq!(global_norm(&gradients)?, 5.);
/// assert_eq!(global_norm(&clip_by_global_norm(&gradients, 2.5)?)?, 2.5);
/// # Ok::<(), bridge_vars::Error>(())
/// ```
///
/// # Errors
/// If a gradient is not a tensor of bf16, f16, f32 or f64; and if candle fails.
#[doc(alias("optax.global_norm", "clip_grad_norm_"))]
pub fn global_norm<G: Gradients>(gradients: &G) -> Result<f64> {
    Ok(bridge_ops::global_norm(&tensors(gradients.tree())?.1)?)
}

/// Gradients whose [global norm](global_norm) is at most `max_norm`: those of a larger one are multiplied by
/// `max_norm / norm`, others come back as they are.
///
/// Half-precision gradients are rounded once. If the norm is not a number, no gradient is either afterwards: see
/// [`check_finite`].
///
/// # Errors
/// [`OptimizerError::MaxNorm`] if `max_norm` is not above 0; those of [`global_norm`].
#[doc(alias("optax.clip_by_global_norm", "clip_grad_norm_"))]
pub fn clip_by_global_norm<G: Gradients>(gradients: &G, max_norm: f64) -> Result<G> {
    let factor = clipping(global_norm(gradients)?, checked(max_norm)?);
    if factor == 1. {
        return Ok(gradients.clone());
    }
    let clipped = |_: &Path, leaf: &Leaf| {
        let Value::Tensor(value) = &leaf.value else { return Ok(leaf.clone()) };
        let dtype = value.dtype();
        let scaled = value.read(|tensor| {
            tensor.detach().to_dtype(compute_dtype(dtype))?.affine(factor, 0.)?.to_dtype(dtype)
        });
        Ok::<_, bridge_vars::Error>(leaf.with_value(Value::owned(scaled?)))
    };
    gradients.tree().try_map(clipped).map(G::from)
}

/// Refuses gradients that hold NaN or an infinity.
///
/// # Errors
/// [`OptimizerError::NotFinite`] with the paths of all that do; those of [`global_norm`].
#[doc(alias("optax.apply_if_finite", "isfinite", "error_if_nonfinite"))]
pub fn check_finite<G: Gradients>(gradients: &G) -> Result<()> {
    let (paths, tensors) = tensors(gradients.tree())?;
    let finite = bridge_ops::all_finite(&tensors)?;
    let bad: Vec<Path> =
        paths.into_iter().zip(finite).filter_map(|(path, finite)| (!finite).then_some(path)).collect();
    match bad.is_empty() {
        true => Ok(()),
        false => Err(OptimizerError::NotFinite(bad).into()),
    }
}

fn tensors(tree: &Tree<Leaf>) -> Result<(Vec<Path>, Vec<Tensor>)> {
    let (mut paths, mut tensors) = (Vec::new(), Vec::new());
    tree.try_for_each(|path, leaf| {
        match &leaf.value {
            // A handle for the moment: changes in place may follow without a copy.
            Value::Tensor(value) => tensors.push(value.read(Tensor::clone)),
            other => tensors.push(other.tensor().map_err(|error| error.at(path))?.clone()),
        }
        paths.push(path.clone());
        Ok::<_, bridge_vars::Error>(())
    })?;
    Ok((paths, tensors))
}

/// A norm that gradients can be clipped to.
pub(crate) fn checked(max_norm: f64) -> Result<f64, OptimizerError> {
    match max_norm > 0. {
        true => Ok(max_norm),
        false => Err(OptimizerError::MaxNorm(max_norm)),
    }
}

/// What gradients of a norm are multiplied by.
pub(crate) fn clipping(norm: f64, max_norm: f64) -> f64 {
    if norm < max_norm { 1. } else { max_norm / norm }
}
