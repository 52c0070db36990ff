//! Split a module into its static description and its state, and merge it back.
