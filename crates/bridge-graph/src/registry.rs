use std::collections::BTreeMap;
use std::fmt;

use bridge_vars::{Result, State};

use crate::error::GraphError;
use crate::graphdef::Program;
use crate::{Field, Source, StatefulModule};

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
pub struct Registry(BTreeMap<&'static str, fn(&mut Source<'_>) -> Result<Box<dyn StatefulModule>>>);

impl Registry {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a type; a later one of the same name takes the place of an earlier one.
    #[must_use]
    pub fn with<M: StatefulModule + Field>(mut self) -> Self {
        self.0.insert(M::static_type_name(), |source| Ok(Box::new(M::rebuild(source)?)));
        self
    }

    /// Builds the module that `program` describes.
    ///
    /// # Errors
    /// [`GraphError::UnknownModule`], and those of [`merge`](crate::merge).
    pub fn rebuild(&self, program: &Program, state: &State) -> Result<Box<dyn StatefulModule>> {
        let name = program.module_name().unwrap_or_default();
        let rebuild = self.0.get(name).ok_or_else(|| GraphError::UnknownModule {
            name: name.into(),
            available: self.0.keys().map(|name| (*name).to_owned()).collect(),
        })?;
        Source::read(program, state.tree(), rebuild)
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
