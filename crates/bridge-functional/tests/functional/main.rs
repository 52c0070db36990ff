//! What a functional call promises: names, variables, keys, errors, gradients.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails panics")]

mod binding;
mod calls;
mod capturing;
mod containers;
mod describing;
mod dtypes;
mod errors;
mod filters;
mod gradients;
mod interception;
mod keys;
mod methods;
mod names;
mod perturb;
mod regressions;
mod scopes;
mod sharing;
mod sow;
mod summaries;
mod support;
