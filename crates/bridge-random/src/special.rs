//! The special functions behind the samplers, as XLA's compiler for the CPU evaluates them: the same approximations,
//! with the same fused multiply-adds, so that results agree to the last bit.

pub(crate) mod c_library;
pub(crate) mod double;
pub(crate) mod single;
