//! Accepts and reads physical connections.

pub(crate) mod extended_connect;
pub(crate) mod fair_read;
#[cfg(all(feature = "http2", feature = "tls"))]
pub(crate) mod http2;
pub(crate) mod serve;
#[cfg(all(feature = "http2", feature = "tls"))]
pub(crate) mod taken;
pub(crate) mod timed;
#[cfg(feature = "tls")]
pub(crate) mod tls;
