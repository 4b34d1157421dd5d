//! WebSockets as handlers see them, native and virtual.

pub(crate) mod bridge;
pub(crate) mod connection;
pub(crate) mod duplex;
pub(crate) mod frame;
pub(crate) mod frames;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
pub(crate) mod in_memory_upgrade;
pub(crate) mod linger;
mod mask;
pub(crate) mod messages;
mod output;
pub(crate) mod peer;
pub(crate) mod pipe;
pub(crate) mod rejection;
pub(crate) mod socket;
pub(crate) mod upgrade;
