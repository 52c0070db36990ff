use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use bridge_random::{Key, Separator};
use bridge_vars::{CollectionFilter, Name, Result};

use crate::RngStream;

/// What a wrapped module inside a stateful one learns of the call that it is part of: whether variables
/// are being created, which collections it may change, the call's random streams and how keys are derived from paths. Set
/// through the walk over the module, so that nothing is global; not part of the module's description.
#[derive(Debug, Default)]
pub struct CallContext {
    // The pass, twice its number and one more for a completing one; 0 for none.
    initializing: AtomicU64,
    mutable: RwLock<Option<CollectionFilter>>,
    separator: RwLock<Option<Separator>>,
    streams: RwLock<Vec<RngStream>>,
}

/// One pass of initialisation, told apart from every other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Initialization {
    number: u64,
    completing: bool,
}

impl Initialization {
    /// A new pass.
    #[expect(clippy::new_without_default, reason = "each is different, which no default should be")]
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self { number: NEXT.fetch_add(1, Ordering::Relaxed), completing: false }
    }

    /// A new pass that makes what is missing and keeps the variables that are there.
    pub fn completing() -> Self {
        Self { completing: true, ..Self::new() }
    }

    /// True if variables that are there are kept.
    pub fn is_completing(self) -> bool {
        self.completing
    }
}

impl CallContext {
    /// The pass of initialisation that is going on.
    pub fn initializing(&self) -> Option<Initialization> {
        match self.initializing.load(Ordering::Acquire) {
            0 => None,
            pass => Some(Initialization { number: pass >> 1, completing: pass & 1 == 1 }),
        }
    }

    /// Begins or, with nothing, ends a pass of initialisation.
    pub fn set_initializing(&self, pass: Option<Initialization>) {
        let pass = pass.map_or(0, |pass| pass.number << 1 | u64::from(pass.completing));
        self.initializing.store(pass, Ordering::Release);
    }

    /// The collections that the enclosing call may change.
    pub fn mutable(&self) -> Option<CollectionFilter> {
        self.mutable.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets the collections that the enclosing call may change.
    pub fn set_mutable(&self, mutable: Option<CollectionFilter>) {
        *self.mutable.write().unwrap_or_else(PoisonError::into_inner) = mutable;
    }

    /// What keeps the names of a path apart where the enclosing call derives keys from it.
    pub fn separator(&self) -> Option<Separator> {
        *self.separator.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets what keeps the names of a path apart.
    pub fn set_separator(&self, separator: Option<Separator>) {
        *self.separator.write().unwrap_or_else(PoisonError::into_inner) = separator;
    }

    /// A key of each of the enclosing call's random streams that `wanted` says yes to.
    ///
    /// # Errors
    /// None that a stream made for a call causes.
    pub fn draw(&self, wanted: impl Fn(&Name) -> bool) -> Result<Vec<(Name, Key)>> {
        let streams = self.streams.read().unwrap_or_else(PoisonError::into_inner);
        let names = streams.iter().map(|stream| (stream.name(), stream));
        names.filter(|(name, _)| wanted(name)).map(|(name, stream)| Ok((name, stream.draw()?))).collect()
    }

    /// Sets the enclosing call's random streams, for a wrapper that was made without one of that name.
    pub fn set_streams(&self, streams: Vec<RngStream>) {
        *self.streams.write().unwrap_or_else(PoisonError::into_inner) = streams;
    }
}
