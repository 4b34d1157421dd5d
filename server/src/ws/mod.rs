//! WebSockets as handlers see them, native and virtual.

pub(crate) mod bridge;
pub(crate) mod in_memory_upgrade;
pub(crate) mod peer;
pub(crate) mod pipe;
pub(crate) mod socket;
pub(crate) mod upgrade;
