//! Every number of JAX's that this crate makes, compared with JAX's own, to the bit.
//!
//! Each test names the sections of its file and asserts how many values it compared, which is as many as the files hold, so
//! that nothing drops out unseen.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

mod bits;
mod distributions;
mod expected;
mod fold_static;
mod initializers;
mod integers;
mod keys;
