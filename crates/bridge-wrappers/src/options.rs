use std::any::{TypeId, type_name};
use std::fmt;
use std::sync::Arc;

use bridge_graph::{BareTensor, Policy};
use bridge_vars::{Leaf, Metadata, Path, RngState};
use serde::{Deserialize, Serialize};

/// How a [`ToFunctional`](crate::ToFunctional) goes about its variables.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Options {
    pub(crate) policy: Policy,
    pub(crate) drop_immutable_writes: bool,
    pub(crate) skip_rng: bool,
    #[serde(skip)]
    pub(crate) metadata: Option<MetadataFunction>,
}

impl Default for Options {
    fn default() -> Self {
        Self { policy: Policy::Strict, drop_immutable_writes: false, skip_rng: false, metadata: None }
    }
}

impl Options {
    /// True if a file need not say anything.
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// A leaf with the metadata that it is stored with.
    pub(crate) fn stored(&self, path: &Path, leaf: Leaf) -> Leaf {
        // A stream is known by its metadata.
        let own = leaf.kind.is(RngState::variable_type()) || leaf.kind == BareTensor::variable_type();
        match &self.metadata {
            Some(function) if !own => Leaf { metadata: (function.call)(path, &leaf), ..leaf },
            _ => leaf,
        }
    }
}

#[derive(Clone)]
pub(crate) struct MetadataFunction {
    call: Arc<dyn Fn(&Path, &Leaf) -> Metadata + Send + Sync>,
    id: TypeId,
    name: &'static str,
}

impl MetadataFunction {
    pub(crate) fn new<F: Fn(&Path, &Leaf) -> Metadata + Send + Sync + 'static>(function: F) -> Self {
        Self { call: Arc::new(function), id: TypeId::of::<F>(), name: type_name::<F>() }
    }
}

impl PartialEq for MetadataFunction {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}
impl fmt::Debug for MetadataFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}
