use serde::{Deserialize, Serialize};

/// How strictly a state must fit a module, when it is [merged](crate::merge_with) or
/// [taken over](crate::update_with).
///
/// Whatever the policy, a value is only taken where its path, type, shape and dtype fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// Both have the same paths, and everything fits; otherwise nothing changes.
    Strict,
    /// The state may lack paths of the module. Everything that it has fits; otherwise nothing changes.
    Subset,
    /// What fits is taken. Everything else is in the report that comes back.
    Partial,
    /// As [`Policy::Partial`], and what does not fit is logged as a warning.
    Warn,
}
