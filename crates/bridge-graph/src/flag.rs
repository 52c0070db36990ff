use std::sync::atomic::{AtomicBool, Ordering};

use bridge_vars::Result;

use crate::{Field, Source, Visit, Visitor};

/// A switch that [`train`](crate::train) and [`eval`](crate::eval) reach through a shared reference, such as a dropout's
/// `deterministic`. It is part of the static description of its module.
///
/// They reach it by the name of its field, [`DETERMINISTIC`](crate::DETERMINISTIC) or
/// [`USE_RUNNING_AVERAGE`](crate::USE_RUNNING_AVERAGE), or [`EVALUATING`](crate::EVALUATING) in a wrapped module. A
/// flag of another name keeps its position: set it through [`set_flags`](crate::set_flags).
///
/// A clone is a switch of its own.
#[derive(Debug, Default)]
pub struct Flag(AtomicBool);

impl Flag {
    /// A switch in this position.
    pub fn new(on: bool) -> Self {
        Self(AtomicBool::new(on))
    }

    /// The position.
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Sets the position.
    pub fn set(&self, on: bool) {
        self.0.store(on, Ordering::Relaxed);
    }
}

impl Clone for Flag {
    fn clone(&self) -> Self {
        Self::new(self.get())
    }
}

impl Visit for Flag {
    fn visit(&self, visitor: &mut dyn Visitor) -> Result<()> {
        visitor.flag(self)
    }
}
impl Field for Flag {
    fn rebuild(source: &mut Source<'_>) -> Result<Self> {
        source.flag()
    }
}
