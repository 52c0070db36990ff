//! The C library's error functions, which XLA calls as well and for which std has no stable name.

#![allow(unsafe_code, reason = "declares functions of the C library, which std links")]

#[cfg(any(unix, windows))]
unsafe extern "C" {
    pub(crate) safe fn erf(x: f64) -> f64;
    pub(crate) safe fn erff(x: f32) -> f32;
}

#[cfg(not(any(unix, windows)))]
pub(crate) use libm::{erf, erff};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn are_the_error_function() {
        for x in [-3.0, -0.5, 0.0, 1e-9, 0.7, 1.3, 2.9, 7.0] {
            assert!((erf(x) - libm::erf(x)).abs() <= 1e-15, "{x}");
            assert!((erff(x as f32) - libm::erff(x as f32)).abs() <= 2e-7, "{x}");
        }
    }
}
