use std::fmt;
use std::ops::{BitAnd, BitOr, Not};
use std::sync::Arc;

use bridge_vars::Path;

use crate::StatefulModule;

/// Which modules of a model, by type, path or closure. Each is asked about for itself: what is below one that matches does
/// not match by that.
///
/// ```
/// use bridge_graph::{Mode, ModuleFilter, Rngs, StatefulModule, set_mode};
/// # use bridge_graph::Flag;
/// # #[derive(StatefulModule)]
/// # struct Dropout { deterministic: Flag }
/// #[derive(StatefulModule)]
/// struct Model { encoder: Dropout, head: Dropout }
///
/// let dropout = || Dropout { deterministic: Flag::new(false) };
/// let model = Model { encoder: dropout(), head: dropout() };
/// set_mode(&model, ModuleFilter::of::<Dropout>() & ModuleFilter::below("encoder"), Mode::Eval)?;
/// assert!(model.encoder.deterministic.get() && !model.head.deterministic.get());
/// # Ok::<(), bridge_vars::Error>(())
/// ```
#[doc(alias = "filterlib")]
#[derive(Clone)]
pub struct ModuleFilter {
    matches: Arc<dyn Fn(&Path, &dyn StatefulModule) -> bool + Send + Sync>,
    text: String,
}

impl ModuleFilter {
    /// A closure over path and module, and what it says of itself in messages.
    pub fn new(
        text: impl Into<String>,
        matches: impl Fn(&Path, &dyn StatefulModule) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self { matches: Arc::new(matches), text: text.into() }
    }

    /// Every module.
    pub fn all() -> Self {
        Self::new("every module", |_, _| true)
    }

    /// Modules of a type.
    pub fn of<M: StatefulModule>() -> Self {
        Self::new(format!("of type `{}`", M::static_type_name()), |_, module| {
            let any: &dyn std::any::Any = module;
            any.is::<M>()
        })
    }

    /// The module at a path.
    pub fn at(path: impl Into<Path>) -> Self {
        let path = path.into();
        Self::new(format!("at `{path}`"), move |other, _| *other == path)
    }

    /// The module at a path and all below it.
    #[doc(alias = "PathContains")]
    pub fn below(path: impl Into<Path>) -> Self {
        let path = path.into();
        Self::new(format!("in `{path}`"), move |other, _| other.starts_with(&path))
    }

    /// True if the module at the path is one of those.
    pub fn matches(&self, path: &Path, module: &dyn StatefulModule) -> bool {
        (self.matches)(path, module)
    }
}

impl BitOr for ModuleFilter {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        let text = format!("({self} or {other})");
        Self::new(text, move |path, module| self.matches(path, module) || other.matches(path, module))
    }
}
impl BitAnd for ModuleFilter {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        let text = format!("({self} and {other})");
        Self::new(text, move |path, module| self.matches(path, module) && other.matches(path, module))
    }
}
impl Not for ModuleFilter {
    type Output = Self;
    fn not(self) -> Self {
        Self::new(format!("not {self}"), move |path, module| !self.matches(path, module))
    }
}

impl fmt::Display for ModuleFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
impl fmt::Debug for ModuleFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ModuleFilter({self})")
    }
}
