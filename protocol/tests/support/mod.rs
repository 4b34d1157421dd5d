//! What the tests and the fuzz targets share: simulated peers, correct and hostile.

// Each test uses a part of it.
#![allow(dead_code)]

pub(crate) mod hostile;
pub(crate) mod operations;
pub(crate) mod pair;
pub(crate) mod rng;

/// A number from the environment.
pub(crate) fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}
