//! Values, gradients and traps of every operator.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails panics")]

mod accuracy;
mod activation;
mod cross_entropy;
mod dropout;
mod gradients;
mod graph;
mod linear;
mod mean_squared_error;
mod normalization;
mod optimizer_step;
mod softmax;
mod support;
mod twin;
