use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::sync::Arc;

use rustc_hash::FxHasher;

use crate::program::{Def, Program};

/// The static half of a module: its types, static values, structure and sharing, without any value.
///
/// Two are equal if they would build the same module: types, static values, the variables' types and
/// metadata, the order of an `IndexMap`'s entries, and what is shared with what. Values, shapes and dtypes do
/// not count; shapes and dtypes are recorded for the checks of [`merge`](crate::merge) alone. A clone is one
/// reference count.
///
/// It prints as a tree; [`GraphDef::diff`] says in what two differ.
///
/// ```
/// use bridge_graph::{StatefulModule, graphdef};
/// use bridge_vars::Param;
/// use candle_core::{Device, Tensor};
///
/// #[derive(StatefulModule)]
/// struct Scale { factor: Param, power: u32, tied: Param }
///
/// let factor = Param::new(Tensor::new(2f32, &Device::Cpu)?);
/// let graphdef = graphdef(&Scale { tied: factor.clone(), factor, power: 3 })?;
/// assert_eq!(graphdef.to_string(), "\
/// Scale
///   factor: Param f32[]
///   power: 3
///   tied: the same as `factor`");
/// # Ok::<(), bridge_vars::Error>(())
/// ```
#[doc(alias = "nnx.GraphDef")]
pub struct GraphDef<M> {
    pub(crate) program: Arc<Program>,
    module: PhantomData<fn() -> M>,
}

impl<M> GraphDef<M> {
    pub(crate) fn new(program: Arc<Program>) -> Self {
        Self { program, module: PhantomData }
    }

    /// What it consists of, without the type.
    pub fn program(&self) -> &Arc<Program> {
        &self.program
    }

    /// The paths of the module's variables and bare tensors, in order; of what is shared, the first.
    pub fn variable_paths(&self) -> Vec<bridge_vars::Path> {
        self.program.value_paths()
    }

    /// The types of the module's variables.
    pub fn variable_types(&self) -> Vec<bridge_vars::VariableType> {
        let mut types = Vec::new();
        self.program.for_each(|_, def| match def {
            Def::Variable { kind, .. } if !types.contains(kind) => types.push(*kind),
            _ => {}
        });
        types
    }

    /// The description of an `M` that a file or a wrapper kept without its type.
    ///
    /// That it fits is checked when it is [merged](crate::merge).
    pub fn from_program(program: Arc<Program>) -> Self {
        Self::new(program)
    }
}

impl<M> Clone for GraphDef<M> {
    fn clone(&self) -> Self {
        Self::new(self.program.clone())
    }
}
impl<M> PartialEq for GraphDef<M> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.program, &other.program) || self.program == other.program
    }
}
impl<M> Eq for GraphDef<M> {}
impl<M> Hash for GraphDef<M> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Fast over the many entries; the caller's own hasher gets the sum.
        let mut hasher = FxHasher::default();
        for entry in &self.program.entries {
            entry.key.hash(&mut hasher);
            entry.def.hash(&mut hasher);
        }
        state.write_u64(hasher.finish());
    }
}
impl<M> fmt::Display for GraphDef<M> {
    /// A line an entry. Of a long list the first and the last items are shown; with `{:#}`, everything is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&*self.program, f)
    }
}
impl<M> fmt::Debug for GraphDef<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
