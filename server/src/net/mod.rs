//! Accepts and reads physical connections.

pub(crate) mod fair_read;
pub(crate) mod serve;
pub(crate) mod timed;
#[cfg(feature = "tls")]
pub(crate) mod tls;
