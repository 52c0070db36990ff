//! What a functional call promises: names, variables, keys, errors, gradients.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails panics")]

mod calls;
mod dtypes;
mod errors;
mod gradients;
mod keys;
mod names;
mod support;
