//! Every number of JAX's that this crate makes, compared with JAX's own, to the bit.
//!
//! Each test selects what is in scope by a filter and asserts how many values it compared (as many as the files hold), so that nothing drops out
//! unseen. Out of scope so far: float16 and bfloat16, the `high` mode of `bernoulli`, bounds and probabilities that are
//! arrays, permutations of arrays, `choice`, `categorical`, `gumbel` and the other distributions, orthogonal initializers,
//! JAX's legacy (non-partitionable) keys, and what JAX computes differently inside of `jit`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

mod bits;
mod distributions;
mod expected;
mod fold_static;
mod initializers;
mod integers;
mod keys;
