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
pub struct Registry(BTreeMap<&'static str, Vec<Rebuild>>);

type Rebuild = fn(&mut Source<'_>) -> Result<Box<dyn StatefulModule>>;

impl Registry {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a type. Of several with one name, such as a generic one's instances, the first that the description
    /// fits is built.
    #[must_use]
    pub fn with<M: StatefulModule + Field>(mut self) -> Self {
        let rebuild: Rebuild = |source| Ok(Box::new(M::rebuild(source)?));
        self.0.entry(M::static_type_name()).or_default().push(rebuild);
        self
    }

    /// Builds the module that `program` describes.
    ///
    /// # Errors
    /// [`GraphError::UnknownModule`], and those of [`merge`](crate::merge).
    pub fn rebuild(&self, program: &Program, state: &State) -> Result<Box<dyn StatefulModule>> {
        let name = program.module_name().unwrap_or_default();
        let mut failure = None;
        for rebuild in self.0.get(name).into_iter().flatten() {
            match Source::read(program, state.tree(), rebuild) {
                Ok(module) => return Ok(module),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        Err(failure.unwrap_or_else(|| {
            let available = self.0.keys().map(|name| (*name).to_owned()).collect();
            GraphError::UnknownModule { name: name.into(), available }.into()
        }))
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
