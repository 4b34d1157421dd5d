//! Accepts and reads physical connections.

pub(crate) mod fair_read;
pub(crate) mod serve;
pub(crate) mod timed;
pub(crate) mod tls;
