use bridge_vars::{Leaf, Path, Result, State};

use crate::alias::Aliases;
use crate::error::{GraphError, Misfit};
use crate::program::Program;
use crate::source::Source;
use crate::split::Splitter;
use crate::{Field, GraphDef, Policy, Registry, split};

/// Builds a module from its two halves. Its variables are new; their tensors are shared with the state,
/// and changing one never changes the other.
///
/// Values are found by path, or by one of the other paths of what is shared, and their types, shapes and dtypes are
/// checked.
///
/// # Errors
/// [`GraphError::Misfit`](crate::GraphError::Misfit) with every path that is missing, unexpected or different;
/// [`GraphError::Structure`](crate::GraphError::Structure) if the `GraphDef` is not one of an `M`.
#[doc(alias = "nnx.merge")]
pub fn merge<M: Field>(graphdef: &GraphDef<M>, state: &State) -> Result<M> {
    merge_with(graphdef, state, Policy::Strict).map(|(module, _)| module)
}

/// [`merge`] under a policy, and what did not fit.
///
/// Variables for which the state has no value that fits are made without one under [`Policy::Subset`],
/// [`Policy::Partial`] and [`Policy::Warn`]: reading them is an error until [`update`](crate::update) gives them one. A
/// bare tensor must have a value under every policy.
///
/// ```
/// use bridge_graph::{Policy, StatefulModule, merge_with, split};
/// use bridge_vars::{Filter, Param};
/// use candle_core::{Device, Tensor};
///
/// #[derive(StatefulModule)]
/// struct Affine { factor: Param, shift: Param }
///
/// let param = |value: f32| Ok::<_, bridge_vars::Error>(Param::new(Tensor::new(value, &Device::Cpu)?));
/// let (graphdef, state) = split(&Affine { factor: param(2.)?, shift: param(1.)? })?;
/// let (affine, report) = merge_with(&graphdef, &state.filter(Filter::path("factor")), Policy::Partial)?;
/// assert_eq!(report.missing.iter().map(ToString::to_string).collect::<Vec<_>>(), ["shift"]);
/// assert_eq!(affine.factor.value()?.to_scalar::<f32>()?, 2.);
/// assert!(affine.shift.value().is_err());
/// # Ok::<(), bridge_vars::Error>(())
/// ```
///
/// # Errors
/// Those of [`merge`], of a misfit only as far as the policy says.
pub fn merge_with<M: Field>(graphdef: &GraphDef<M>, state: &State, policy: Policy) -> Result<(M, Misfit)> {
    merge_by(&graphdef.program, state, policy, None, M::rebuild)
}

/// [`merge_with`] of anything that a program describes, with the boxed modules of a registry.
pub(crate) fn merge_by<T>(
    program: &Program,
    state: &State,
    policy: Policy,
    registry: Option<&Registry>,
    rebuild: impl Fn(&mut Source<'_>) -> Result<T>,
) -> Result<(T, Misfit)> {
    let attempt = |state: &State| {
        let source = Source::merging(program, state.tree());
        let source = if policy == Policy::Strict { source } else { source.lenient() };
        match registry {
            Some(registry) => source.with_registry(registry).read(&rebuild),
            None => source.read(&rebuild),
        }
    };
    let attempted = attempt(state);
    let unexpected = match &attempted {
        Ok((_, misfit)) => Some(&misfit.unexpected),
        Err(error) => match error.downcast_ref() {
            Some(GraphError::Misfit(misfit)) => Some(&misfit.unexpected),
            _ => None,
        },
    };
    let renamed = match unexpected.filter(|unexpected| !unexpected.is_empty()) {
        Some(unexpected) => Aliases::of(program).renamed(state, unexpected)?,
        None => None,
    };
    let (module, misfit) = match renamed {
        Some(renamed) => attempt(&renamed)?,
        None => attempted?,
    };
    Ok((module, misfit.settled(policy)?))
}

/// A copy of a module with variables of its own, sharing what the original shares.
///
/// # Errors
/// If a variable can not be read; those of [`split`](crate::split()).
#[doc(alias = "nnx.clone")]
pub fn clone<M: Field>(module: &M) -> Result<M> {
    let mut splitter = Splitter::recording();
    module.visit(&mut splitter)?;
    let (program, _, handles) = splitter.finish()?;
    Source::walking(&program, &handles, true).read(M::rebuild).map(|(copy, _)| copy)
}

/// A copy of a module with other values: `f` gets each variable's path and leaf. Shapes and dtypes may change, types may
/// not. What is shared is changed once.
///
/// ```
/// use bridge_graph::{StatefulModule, map};
/// use bridge_vars::Param;
/// use candle_core::{DType, Device, Tensor};
///
/// #[derive(StatefulModule)]
/// struct Scale { factor: Param }
///
/// let scale = Scale { factor: Param::new(Tensor::new(2f32, &Device::Cpu)?) };
/// let half = map(&scale, |_, leaf| Ok(leaf.with_value(leaf.tensor()?.to_dtype(DType::BF16)?)))?;
/// assert_eq!(half.factor.value()?.dtype(), DType::BF16);
/// assert_eq!(scale.factor.value()?.dtype(), DType::F32);
/// # Ok::<(), bridge_vars::Error>(())
/// ```
///
/// # Errors
/// The first that `f` returns; [`GraphError::Misfit`] where it changed a type.
#[doc(alias("nnx.map", "recursive_map"))]
pub fn map<M: Field>(module: &M, f: impl FnMut(&Path, &Leaf) -> Result<Leaf>) -> Result<M> {
    let (graphdef, state) = split(module)?;
    let mapped = state.map(f)?;
    let program = graphdef.program.without_specs();
    Source::merging(&program, mapped.tree()).read(M::rebuild).map(|(copy, _)| copy)
}
