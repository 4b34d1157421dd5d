//! Shared by the tests and the fuzz targets: simulated peers, correct and hostile.

// Each test uses a part of it.
#![allow(dead_code)]

pub(crate) mod hostile;
pub(crate) mod observer;
pub(crate) mod operations;
pub(crate) mod pair;
pub(crate) mod resumable;
pub(crate) mod resumption_books;
pub(crate) mod rng;
pub(crate) mod simulation;
pub(crate) mod sockets;
pub(crate) mod wire;

/// A number from the environment.
pub(crate) fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The seeds of a random test: as many as asked for, or its share, natively or in a browser.
pub(crate) fn seeds(native: u64, browser: u64) -> std::ops::Range<u64> {
    match number("MANYSOCKET_SEED") {
        Some(seed) => seed..seed + 1,
        None => {
            let share = if cfg!(target_arch = "wasm32") { browser } else { native };
            0..number("MANYSOCKET_SEEDS").unwrap_or(share)
        }
    }
}
