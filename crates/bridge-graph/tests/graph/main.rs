//! What the graph engine promises: splitting, merging, updating, differentiating, encoding.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails panics")]

mod boxes;
mod captured_names;
mod capturing;
mod containers;
mod cycles;
mod describing;
mod description;
mod edits;
mod files;
mod gradients;
mod large;
mod misfit;
mod modes;
mod policies;
mod random_trees;
mod sharing;
mod snapshots;
mod statics;
mod streams;
mod summaries;
mod support;
mod threads;
mod walks;
