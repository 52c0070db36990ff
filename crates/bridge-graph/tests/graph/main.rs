//! What the graph engine promises: splitting, merging, updating, differentiating, encoding.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails panics")]

mod containers;
mod description;
mod files;
mod gradients;
mod misfit;
mod random_trees;
mod sharing;
mod snapshots;
mod statics;
mod streams;
mod support;
mod walks;
