use bridge_vars::{Filter, Leaf, Path, Result, State, Value};
use candle_core::Tensor;
use rustc_hash::FxHashMap;

use crate::error::GraphError;
use crate::{Detach, Visit, variables};

/// A module's loss, and its gradient with respect to the variables that a filter matches.
///
/// Variables that the filter does not match are not tracked: they cost nothing in the backward pass.
/// Returned are the loss, cut off from its graph, and a state with the gradients at the variables' paths.
///
/// ```
/// use bridge_graph::{StatefulModule, value_and_grad};
/// use bridge_vars::{Filter, Param};
/// use candle_core::{Device, Tensor};
///
/// #[derive(StatefulModule)]
/// struct Scale { factor: Param }
///
/// let scale = Scale { factor: Param::new(Tensor::new(3f32, &Device::Cpu)?) };
/// let (loss, gradients) =
///     value_and_grad(&scale, Filter::of::<Param>(), |scale| Ok(scale.factor.value()?.sqr()?))?;
/// assert_eq!(loss.to_scalar::<f32>()?, 9.);
/// assert_eq!(gradients.get("factor")?.tensor()?.to_scalar::<f32>()?, 6.);
/// # Ok::<(), bridge_vars::Error>(())
/// ```
///
/// # Errors
/// What `loss` returns; [`GraphError::MissingGradients`] if a matched variable took no part in the loss;
/// [`GraphError::NothingToDifferentiate`] and [`GraphError::LossNotScalar`].
#[doc(alias("nnx.value_and_grad", "nnx.grad", "DiffState"))]
pub fn value_and_grad<M: Visit + ?Sized>(
    module: &M,
    wrt: impl Into<Filter>,
    loss: impl FnOnce(&M) -> Result<Tensor>,
) -> Result<(Tensor, State)> {
    let (loss, (), gradients) = value_and_grad_with(module, wrt, |module| Ok((loss(module)?, ())))?;
    Ok((loss, gradients))
}

/// [`value_and_grad`] of a function that returns something beside the loss.
///
/// What is returned beside it is cut off from the graph.
///
/// # Errors
/// Those of [`value_and_grad`].
#[doc(alias = "has_aux")]
pub fn value_and_grad_with<M: Visit + ?Sized, A: Detach>(
    module: &M,
    wrt: impl Into<Filter>,
    loss: impl FnOnce(&M) -> Result<(Tensor, A)>,
) -> Result<(Tensor, A, State)> {
    let wrt = wrt.into();
    let mut tracked = Vec::new();
    for (path, variable) in variables(module)? {
        let leaf = variable.leaf()?;
        if wrt.matches(&path, &leaf) {
            let tracking = variable.track().map_err(|error| error.at(&path))?;
            tracked.push((path, leaf, tracking));
        }
    }
    let detaching = Detaching(module);
    let (loss, aux) = loss(module)?;
    drop(detaching);
    let leaves = tracked.iter().map(|(path, leaf, tracking)| (path, leaf, tracking.leaf()));
    let gradients = gradients(&loss, &wrt, leaves)?;
    Ok((loss.detach(), aux.detached(), gradients))
}

/// Cuts what the module remembers off from the graph when the call ends. What a wrapped module changed or
/// made is part of it until then, for whoever reads it inside the call.
struct Detaching<'a, M: Visit + ?Sized>(&'a M);

impl<M: Visit + ?Sized> Drop for Detaching<'_, M> {
    fn drop(&mut self) {
        // A walk that fails here failed before the call too, and that was returned.
        for (_, variable) in variables(self.0).unwrap_or_default() {
            variable.detach();
        }
    }
}

/// The gradients of a loss with respect to tracked leaves of its graph, under their paths.
///
/// # Errors
/// Those of [`value_and_grad`].
pub fn gradients<'a>(
    loss: &Tensor,
    wrt: &Filter,
    leaves: impl Iterator<Item = (&'a Path, &'a Leaf, &'a Tensor)>,
) -> Result<State> {
    if loss.elem_count() != 1 {
        return Err(GraphError::LossNotScalar { shape: loss.dims().to_vec() }.into());
    }
    let leaves: Vec<_> = leaves.collect();
    let mut places = FxHashMap::default();
    let mut tensors = Vec::with_capacity(leaves.len());
    for (_, _, tracked) in &leaves {
        // Variables can have one leaf in common.
        places.entry(tracked.id()).or_insert_with(|| {
            tensors.push(*tracked);
            tensors.len() - 1
        });
    }
    let (mut store, collected) = bridge_ops::collect_gradients(&tensors, || loss.backward())?;
    let found =
        tensors.iter().zip(collected).map(|(leaf, collected)| match (collected, store.remove(leaf)) {
            (Some(collected), Some(rest)) => {
                let sum = (&collected.gradient + rest.detach())?;
                collected.home.give_back(&collected.gradient);
                Ok(Some(Value::owned(sum)))
            }
            (Some(collected), None) => Ok(Some(collected.into())),
            // candle's gradients can hold on to the graph.
            (None, rest) => Ok(rest.map(|gradient| gradient.detach().into())),
        });
    let found: Vec<Option<Value>> = found.collect::<Result<_>>()?;
    let mut gradients = State::default();
    let mut missing = Vec::new();
    for (path, leaf, tracked) in leaves {
        match places.get(&tracked.id()).and_then(|&place| found.get(place)?.clone()) {
            Some(gradient) => drop(gradients.insert(path, leaf.with_value(gradient))?),
            None => missing.push(path.clone()),
        }
    }
    if !missing.is_empty() {
        return Err(GraphError::MissingGradients { paths: missing }.into());
    }
    if gradients.is_empty() {
        return Err(GraphError::NothingToDifferentiate { filter: wrt.to_string() }.into());
    }
    Ok(gradients)
}
