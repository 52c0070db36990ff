use bridge_vars::{Filter, Metadata, Path, Result, State};

use crate::{Field, GraphDef, GraphNode, Visit, iter_graph, merge, split};

/// Merges a module, calls `f` with it, and splits it again: what `f` returns, and the two halves as it left them.
///
/// The halves that are given do not change.
///
/// ```
/// use bridge_graph::{StatefulModule, call, split};
/// use bridge_vars::{Param, RngCount};
///
/// #[derive(StatefulModule)]
/// struct Counter { count: RngCount }
///
/// let (graphdef, state) = split(&Counter { count: RngCount::new(3) })?;
/// let (before, (_, after)) = call(&graphdef, &state, |counter| counter.count.next_count())?;
/// assert_eq!((before, after.get("count")?.value.count()?), (3, 4));
/// assert_eq!(state.get("count")?.value.count()?, 3);
/// # Ok::<(), bridge_vars::Error>(())
/// ```
///
/// # Errors
/// Those of [`merge`], of `f`, and of [`split`](crate::split()).
#[doc(alias("nnx.call", "CallableProxy"))]
pub fn call<M: Field, T>(
    graphdef: &GraphDef<M>,
    state: &State,
    f: impl FnOnce(&M) -> Result<T>,
) -> Result<(T, (GraphDef<M>, State))> {
    let module = merge(graphdef, state)?;
    let returned = f(&module)?;
    Ok((returned, split(&module)?))
}

impl<M: Field> GraphDef<M> {
    /// [`call`] as a method.
    ///
    /// # Errors
    /// Those of [`call`].
    pub fn apply<T>(
        &self,
        state: &State,
        f: impl FnOnce(&M) -> Result<T>,
    ) -> Result<(T, (GraphDef<M>, State))> {
        call(self, state, f)
    }
}

/// Changes the metadata of a module's variables that a filter matches, in place.
///
/// ```
/// use bridge_graph::set_metadata;
/// use bridge_vars::{Filter, Param};
/// let params = vec![Param::new(0), Param::new(0)];
/// set_metadata(&params, Filter::path("1"), |_, metadata| metadata.set("frozen", true))?;
/// assert!(params[0].metadata().is_empty());
/// assert_eq!(params[1].metadata().get("frozen").unwrap(), true);
/// # Ok::<(), bridge_vars::Error>(())
/// ```
///
/// # Errors
/// If a variable can not be read.
#[doc(alias = "nnx.set_metadata")]
pub fn set_metadata<M: Visit + ?Sized>(
    module: &M,
    only: impl Into<Filter>,
    mut change: impl FnMut(&Path, &mut Metadata),
) -> Result<()> {
    let only = only.into();
    iter_graph(module, |path, node| {
        if let GraphNode::Variable(variable) = node
            && only.matches(path, &variable.leaf()?)
        {
            let mut metadata = variable.metadata();
            change(path, &mut metadata);
            variable.set_metadata(metadata);
        }
        Ok(())
    })
}
