//! Whom work is done for: a link, whatever its channels, or a native socket. Work that shares a thread takes turns by these.

use std::sync::atomic::{AtomicU64, Ordering};

/// Nobody's: for work of the server itself.
pub(crate) const SERVER: u64 = 0;

/// A number that no other link or native socket of this process has.
pub(crate) fn number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(SERVER + 1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
