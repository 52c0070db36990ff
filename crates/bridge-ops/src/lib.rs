//! Numerical operators with gradients for candle.
