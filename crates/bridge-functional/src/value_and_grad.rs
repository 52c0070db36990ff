use bridge_graph::{Detach, gradients};
use bridge_vars::{Filter, Leaf, Path, Result, Tree, Variables};
use candle_core::Tensor;

/// A loss of variables, and its gradient with respect to those that a filter matches.
///
/// Paths are as [`Variables::iter`] has them, the collection first. What the filter does not match is not
/// tracked.
///
/// ```
/// use bridge_functional::{Dense, FunctionalModule, value_and_grad};
/// use bridge_random::key;
/// use bridge_vars::{Filter, Param};
/// use candle_core::{DType, Device, Tensor};
/// let x = Tensor::ones((1, 2), DType::F32, &Device::Cpu)?;
/// let dense = Dense::new(1);
/// let variables = dense.init(key(0), &x)?;
/// let (_, gradients) = value_and_grad(&variables, Filter::of::<Param>(), |variables| {
///     Ok(dense.apply(variables, &x)?.sum_all()?)
/// })?;
/// assert_eq!(gradients.get("params", "bias")?.tensor()?.to_vec1::<f32>()?, [1.]);
/// # Ok::<(), bridge_vars::Error>(())
/// ```
///
/// # Errors
/// What `loss` returns, and those of `bridge_graph::value_and_grad`.
#[doc(alias("jax.value_and_grad", "linen.value_and_grad"))]
pub fn value_and_grad(
    variables: &Variables,
    wrt: impl Into<Filter>,
    loss: impl FnOnce(&Variables) -> Result<Tensor>,
) -> Result<(Tensor, Variables)> {
    let (loss, (), gradients) = value_and_grad_with(variables, wrt, |variables| Ok((loss(variables)?, ())))?;
    Ok((loss, gradients))
}

/// [`value_and_grad`] of a function that returns something beside the loss, such as updated statistics,
/// which are cut off from the graph.
///
/// # Errors
/// Those of [`value_and_grad`].
#[doc(alias = "has_aux")]
pub fn value_and_grad_with<A: Detach>(
    variables: &Variables,
    wrt: impl Into<Filter>,
    loss: impl FnOnce(&Variables) -> Result<(Tensor, A)>,
) -> Result<(Tensor, A, Variables)> {
    let wrt = wrt.into();
    let mut tracked: Vec<(Path, Leaf)> = Vec::new();
    let variables = variables.map(|path, leaf| match wrt.matches(path, leaf) {
        true => {
            let leaf = leaf.tracked().map_err(|error| error.at(path))?;
            tracked.push((path.clone(), leaf.clone()));
            Ok(leaf)
        }
        false => Ok(leaf.clone()),
    })?;
    let (loss, aux) = loss(&variables)?;
    let leaves = tracked.iter().map(|(path, leaf)| Ok((path, leaf, leaf.tensor()?)));
    let leaves: Vec<_> = leaves.collect::<Result<_>>()?;
    let gradients = gradients(&loss, &wrt, leaves.into_iter())?;
    Ok((loss.detach(), aux.detached(), Tree::from(gradients).into()))
}
