//! Counts the server's work, and reports the counts.

#[cfg(feature = "metrics")]
pub(crate) mod prometheus;
pub(crate) mod stats;
