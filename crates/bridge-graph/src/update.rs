use bridge_vars::{Leaf, Path, Result, State, Tree, Variable};

use crate::error::{GraphError, Misfit, Mismatch};
use crate::graphdef::Spec;
use crate::{GraphNode, Visit, iter_graph};

/// Takes a state's values over into a module's variables, in place, by path.
///
/// Variables that the state does not mention keep their values. Nothing is changed unless everything
/// fits.
///
/// ```
/// use bridge_graph::{StatefulModule, state, update};
/// use bridge_vars::Param;
/// use candle_core::{Device, Tensor};
///
/// #[derive(StatefulModule)]
/// struct Scale { factor: Param }
///
/// let scale = Scale { factor: Param::new(Tensor::new(2f32, &Device::Cpu)?) };
/// let before = state(&scale)?;
/// scale.factor.set(Tensor::new(3f32, &Device::Cpu)?)?;
/// update(&scale, &before)?;
/// assert_eq!(scale.factor.value()?.to_scalar::<f32>()?, 2.);
/// # Ok::<(), bridge_vars::Error>(())
/// ```
///
/// # Errors
/// [`GraphError::Misfit`] with every path that the module does not have or whose type, shape or dtype
/// differs, or where the state has another tensor for one that is no variable.
#[doc(alias = "nnx.update")]
pub fn update<M: Visit + ?Sized>(module: &M, state: &State) -> Result<()> {
    let mut misfit = Misfit::default();
    let mut updates: Vec<(Variable, &Leaf)> = Vec::new();
    let mut met: Vec<Path> = Vec::new();
    iter_graph(module, |path, node| {
        let leaf = match state.tree().subtree(path) {
            Some(Tree::Leaf(leaf)) => leaf,
            _ => return Ok(()),
        };
        match node {
            GraphNode::Variable(variable) => {
                let current = variable.leaf()?;
                if current.kind != leaf.kind || !current.value.has_form_of(&leaf.value) {
                    misfit.mismatched.push(Mismatch {
                        path: path.clone(),
                        expected: format!("{} {}", current.kind, Spec::of(&current.value)),
                        found: format!("{} {}", leaf.kind, Spec::of(&leaf.value)),
                    });
                }
                met.push(path.clone());
                updates.push((variable.clone(), leaf));
            }
            // Nothing has to change where the state has the very same tensor.
            GraphNode::Tensor(tensor) if leaf.tensor().is_ok_and(|other| other.id() == tensor.id()) => {
                met.push(path.clone());
            }
            GraphNode::Tensor(_) => {
                misfit.mismatched.push(Mismatch {
                    path: path.clone(),
                    expected: "the module's own bare tensor, which can only be merged (make the field a \
                               variable to update it)"
                        .into(),
                    found: format!("{} {}", leaf.kind, Spec::of(&leaf.value)),
                });
                met.push(path.clone());
            }
            _ => {}
        }
        Ok(())
    })?;
    if met.len() < state.len() {
        met.sort();
        let paths = state.iter().map(|(path, _)| path);
        misfit.unexpected = paths.filter(|path| met.binary_search(path).is_err()).collect();
    }
    if !misfit.is_empty() {
        return Err(GraphError::Misfit(misfit).into());
    }
    for (variable, leaf) in updates {
        variable.assign(leaf);
    }
    Ok(())
}
