//! JAX's random numbers, bit for bit, as candle tensors.
