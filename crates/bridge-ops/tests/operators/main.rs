//! Values, gradients and traps of every operator.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails panics")]

mod accuracy;
mod activation;
mod binary_cross_entropy;
mod cross_entropy;
mod dropout;
mod embedding;
mod gradients;
mod graph;
mod linear;
mod mean_squared_error;
mod normalization;
mod optimizer_step;
mod row_norm;
mod softmax;
mod support;
mod twin;
