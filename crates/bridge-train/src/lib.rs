//! Optimizers, metrics and checkpoints for candle.
