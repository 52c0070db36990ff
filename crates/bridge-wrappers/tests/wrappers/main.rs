//! Modules of both kinds, wrapped either way and at several depths.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails panics")]

mod border;
mod conversions;
mod errors;
mod files;
mod functional;
mod gradients;
mod initialization;
mod memory;
mod modules;
mod nesting;
mod options;
mod owning;
mod regressions;
mod sowing;
mod streams;
mod tables;
mod to_functional;
mod to_stateful;
