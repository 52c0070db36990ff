use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use bridge_vars::CollectionFilter;

/// What a wrapped module inside a stateful one learns of the call that it is part of: whether variables
/// are being created, and which collections it may change. Set through the walk over the module, so that nothing is
/// global; not part of the module's description.
#[derive(Debug, Default)]
pub struct CallContext {
    initializing: AtomicU64,
    mutable: RwLock<Option<CollectionFilter>>,
}

/// One pass of initialisation, told apart from every other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Initialization(u64);

impl Initialization {
    /// A new pass.
    #[expect(clippy::new_without_default, reason = "each is different, which no default should be")]
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl CallContext {
    /// The pass of initialisation that is going on.
    pub fn initializing(&self) -> Option<Initialization> {
        match self.initializing.load(Ordering::Acquire) {
            0 => None,
            pass => Some(Initialization(pass)),
        }
    }

    /// Begins or, with nothing, ends a pass of initialisation.
    pub fn set_initializing(&self, pass: Option<Initialization>) {
        self.initializing.store(pass.map_or(0, |pass| pass.0), Ordering::Release);
    }

    /// The collections that the enclosing call may change.
    pub fn mutable(&self) -> Option<CollectionFilter> {
        self.mutable.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets the collections that the enclosing call may change.
    pub fn set_mutable(&self, mutable: Option<CollectionFilter>) {
        *self.mutable.write().unwrap_or_else(PoisonError::into_inner) = mutable;
    }
}
