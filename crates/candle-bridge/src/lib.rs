//! Stateful and functional neural network modules for candle, and a bridge between them.
