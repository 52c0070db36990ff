//! What holds for every key: the samplers against their plain definitions, against each other, and against the
//! distributions that they are named for.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

mod against_scalar;
mod distributions;
mod scalar;
mod structure;
