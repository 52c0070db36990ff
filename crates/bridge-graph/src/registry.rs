use std::any::{Any, TypeId};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bridge_vars::{Result, State};

use crate::dynamic::{ErasedRebuild, Rebuild};
use crate::error::{GraphError, Misfit};
use crate::merge::merge_by;
use crate::program::Program;
use crate::source::Source;
use crate::{Field, GraphDef, Policy, StatefulModule};

/// The module types that a program can rebuild from a file, by name.
///
/// ```
/// use bridge_graph::{Registry, StatefulModule, split_dyn};
/// use bridge_vars::Param;
/// use candle_core::{Device, Tensor};
///
/// #[derive(StatefulModule)]
/// struct Scale { factor: Param }
///
/// let scale = Scale { factor: Param::new(Tensor::new(2f32, &Device::Cpu)?) };
/// let (program, state) = split_dyn(&scale)?;
/// let rebuilt = Registry::new().with::<Scale>().rebuild(&program, &state)?;
/// assert_eq!(rebuilt.type_name(), "Scale");
/// # Ok::<(), bridge_vars::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct Registry(BTreeMap<&'static str, Vec<Constructor>>);

#[derive(Clone)]
struct Constructor {
    makes: TypeId,
    rebuild: ErasedRebuild,
}

impl Registry {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a type. Of several with one name, such as a generic one's instances, the first that the description
    /// fits is built.
    #[must_use]
    pub fn with<M: StatefulModule + Field>(self) -> Self {
        let rebuild: Rebuild<Box<dyn StatefulModule>> = |source| Ok(Box::new(M::rebuild(source)?));
        self.with_boxed(M::static_type_name(), rebuild)
    }

    /// Adds a type for boxes of a trait: what [`dynamic!`](crate::dynamic) writes.
    #[doc(hidden)]
    #[must_use]
    pub fn with_boxed<B: Any>(mut self, name: &'static str, rebuild: Rebuild<B>) -> Self {
        let constructor = Constructor { makes: TypeId::of::<B>(), rebuild: Arc::new(rebuild) };
        self.0.entry(name).or_default().push(constructor);
        self
    }

    /// Builds the module that `program` describes.
    ///
    /// # Errors
    /// [`GraphError::UnknownModule`], and those of [`merge`](crate::merge).
    pub fn rebuild(&self, program: &Program, state: &State) -> Result<Box<dyn StatefulModule>> {
        let name = program.module_name().unwrap_or_default();
        merge_by(program, state, Policy::Strict, Some(self), |source| self.build(name, source))
            .map(|(built, _)| built)
    }

    /// [`merge`](crate::merge) of a description that a file had: boxed modules inside are of the types registered here.
    ///
    /// # Errors
    /// [`GraphError::UnknownModule`], and those of [`merge`](crate::merge).
    pub fn merge<M: Field>(&self, graphdef: &GraphDef<M>, state: &State) -> Result<M> {
        self.merge_with(graphdef, state, Policy::Strict).map(|(built, _)| built)
    }

    /// [`merge_with`](crate::merge_with) of a description that a file had.
    ///
    /// # Errors
    /// [`GraphError::UnknownModule`], and those of [`merge_with`](crate::merge_with).
    pub fn merge_with<M: Field>(
        &self,
        graphdef: &GraphDef<M>,
        state: &State,
        policy: Policy,
    ) -> Result<(M, Misfit)> {
        merge_by(&graphdef.program, state, policy, Some(self), M::rebuild)
    }

    /// Builds what comes next, by the first type of this name that it fits.
    pub(crate) fn build<B: 'static>(&self, name: &str, source: &mut Source<'_>) -> Result<B> {
        let constructors = self.0.get(name).into_iter().flatten();
        let of_box = constructors.filter(|constructor| constructor.makes == TypeId::of::<B>());
        let rebuilds: Vec<Rebuild<B>> =
            of_box.filter_map(|constructor| constructor.rebuild.downcast_ref().copied()).collect();
        if let [rebuild] = rebuilds[..] {
            return rebuild(source);
        }
        let mut failure = None;
        for rebuild in rebuilds {
            source.attempt()?;
            let before = source.position();
            match rebuild(source) {
                Ok(built) if source.misfits_since(&before) == 0 => return Ok(built),
                // The types fit, the values do not. Another type may do better; if none does, this says why.
                Ok(built) => failure = failure.or(Some(Ok((built, source.position())))),
                Err(error) => failure = failure.or(Some(Err(error))),
            }
            source.go_back(before);
        }
        match failure {
            Some(Ok((built, after))) => {
                source.go_back(after);
                Ok(built)
            }
            Some(Err(error)) => Err(error),
            None => {
                let available = self.0.keys().map(|name| (*name).to_owned()).collect();
                let remedy = match TypeId::of::<B>() == TypeId::of::<Box<dyn StatefulModule>>() {
                    true => format!("`.with::<{name}>()`"),
                    false => format!("it for the box's trait, `<dyn Trait>::register::<{name}>(registry)`"),
                };
                let error = GraphError::UnknownModule { name: name.into(), available, remedy };
                let error = bridge_vars::Error::from(error);
                Err(error.at(source.path()))
            }
        }
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
