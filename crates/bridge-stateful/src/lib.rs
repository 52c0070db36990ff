//! Neural network modules that own their variables.
