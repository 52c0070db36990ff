//! Stateful modules as functional ones, and functional modules as stateful ones.
