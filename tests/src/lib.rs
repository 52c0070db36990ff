//! What the cross-layer tests share.
#![forbid(unsafe_code)]

mod device;
pub mod golden;
mod pending;

pub use device::device;
pub use pending::check_cases;

/// The examples of the derive's docs, which its own crate can not run.
#[cfg(doctest)]
#[doc = include_str!("../../crates/bridge-derive/docs/stateful_module.md")]
pub struct DeriveExamples;
