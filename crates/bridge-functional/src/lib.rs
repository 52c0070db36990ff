//! Neural network modules that are their configuration: init returns the variables, apply takes them.
