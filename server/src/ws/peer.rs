//! The peer that work is for: a link with all its channels, or a native socket. Peers take turns at a shared thread.

use std::sync::atomic::{AtomicU64, Ordering};

/// Nobody's: for work of the server itself.
pub(crate) const SERVER: u64 = 0;

/// A number that no other link or native socket of this process has.
pub(crate) fn number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(SERVER + 1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
