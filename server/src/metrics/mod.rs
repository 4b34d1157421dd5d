//! Counts what the server does, and reports it.

pub(crate) mod prometheus;
pub(crate) mod stats;
