//! Counts what the server does, and reports it.

#[cfg(feature = "metrics")]
pub(crate) mod prometheus;
pub(crate) mod stats;
