use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use bridge_random::{Key, Separator};
use bridge_vars::{CollectionFilter, Name, Result};

use crate::RngStream;

/// What a wrapped module inside a stateful one learns of the call that it is part of: whether variables
/// are being created, which collections it may change, the call's random streams and how keys are derived from paths. Set
/// through the walk over the module, so that nothing is global; not part of the module's description.
#[derive(Debug, Default)]
pub struct CallContext {
    // The pass: its number times four, and its rule; 0 for none.
    initializing: AtomicU64,
    /// The number of the pass that made the module's variables from nothing.
    made_by: AtomicU64,
    /// That pass failed.
    made_in_vain: AtomicBool,
    /// Whether an enclosing call ever set one of those below: most wrapped modules are in none.
    entered: AtomicBool,
    mutable: RwLock<Option<CollectionFilter>>,
    separator: RwLock<Option<Separator>>,
    streams: RwLock<Vec<RngStream>>,
}

/// One pass of initialisation, told apart from every other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Initialization {
    number: u64,
    rule: Rule,
}

/// What becomes of variables that are there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    Refuse,
    Keep,
    Replace,
}

impl Initialization {
    /// A new pass, for modules that have no variables yet.
    #[expect(clippy::new_without_default, reason = "each is different, which no default should be")]
    pub fn new() -> Self {
        Self::with_rule(Rule::Refuse)
    }

    /// A new pass that makes what is missing and keeps the variables that are there.
    pub fn completing() -> Self {
        Self::with_rule(Rule::Keep)
    }

    /// A new pass that makes everything anew.
    pub fn replacing() -> Self {
        Self::with_rule(Rule::Replace)
    }

    fn with_rule(rule: Rule) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self { number: NEXT.fetch_add(1, Ordering::Relaxed), rule }
    }

    /// True if variables that are there are kept.
    pub fn is_completing(self) -> bool {
        self.rule == Rule::Keep
    }

    /// True if variables that are there are replaced.
    pub fn is_replacing(self) -> bool {
        self.rule == Rule::Replace
    }
}

impl CallContext {
    /// The pass of initialisation that is going on.
    pub fn initializing(&self) -> Option<Initialization> {
        let pass = self.initializing.load(Ordering::Acquire);
        let rule = match pass & 3 {
            0 => Rule::Refuse,
            1 => Rule::Keep,
            _ => Rule::Replace,
        };
        (pass != 0).then_some(Initialization { number: pass >> 2, rule })
    }

    /// Begins or, with nothing, ends a pass of initialisation.
    pub fn set_initializing(&self, pass: Option<Initialization>) {
        let pass = pass.map_or(0, |pass| pass.number << 2 | pass.rule as u64);
        self.initializing.store(pass, Ordering::Release);
    }

    /// Notes that a pass makes the module's variables from nothing.
    pub fn set_made_by(&self, pass: Initialization) {
        self.made_by.store(pass.number, Ordering::Release);
        self.made_in_vain.store(false, Ordering::Release);
    }

    /// Ends a pass of initialisation that failed: what it made from nothing does not count.
    pub fn abandon(&self, pass: Initialization) {
        self.set_initializing(None);
        if self.made_by.load(Ordering::Acquire) == pass.number {
            self.made_in_vain.store(true, Ordering::Release);
        }
    }

    /// True if the module's variables were made by a pass that failed.
    pub fn is_made_in_vain(&self) -> bool {
        self.made_in_vain.load(Ordering::Acquire)
    }

    /// The collections that the enclosing call may change.
    pub fn mutable(&self) -> Option<CollectionFilter> {
        if !self.entered.load(Ordering::Acquire) {
            return None;
        }
        self.mutable.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets the collections that the enclosing call may change.
    pub fn set_mutable(&self, mutable: Option<CollectionFilter>) {
        self.entered.store(true, Ordering::Release);
        *self.mutable.write().unwrap_or_else(PoisonError::into_inner) = mutable;
    }

    /// What keeps the names of a path apart where the enclosing call derives keys from it.
    pub fn separator(&self) -> Option<Separator> {
        if !self.entered.load(Ordering::Acquire) {
            return None;
        }
        *self.separator.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets what keeps the names of a path apart.
    pub fn set_separator(&self, separator: Option<Separator>) {
        self.entered.store(true, Ordering::Release);
        *self.separator.write().unwrap_or_else(PoisonError::into_inner) = separator;
    }

    /// A key of each of the enclosing call's random streams that `wanted` says yes to.
    ///
    /// # Errors
    /// None that a stream made for a call causes.
    pub fn draw(&self, wanted: impl Fn(&Name) -> bool) -> Result<Vec<(Name, Key)>> {
        if !self.entered.load(Ordering::Acquire) {
            return Ok(Vec::new());
        }
        let streams = self.streams.read().unwrap_or_else(PoisonError::into_inner);
        let names = streams.iter().map(|stream| (stream.name(), stream));
        names.filter(|(name, _)| wanted(name)).map(|(name, stream)| Ok((name, stream.draw()?))).collect()
    }

    /// Sets the enclosing call's random streams, for a wrapper that was made without one of that name.
    pub fn set_streams(&self, streams: Vec<RngStream>) {
        self.entered.store(true, Ordering::Release);
        *self.streams.write().unwrap_or_else(PoisonError::into_inner) = streams;
    }
}
