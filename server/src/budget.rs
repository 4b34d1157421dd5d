//! Memory accounting: what the process holds for one link and for all links.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

/// What an allocation costs besides its content: what allocators add, and the count of a shared one.
pub(crate) const ALLOCATION: usize = 32;

/// What a message in a queue costs besides its content: a place of 48 bytes in a queue that may be half empty, and an
/// allocation.
const MESSAGE: usize = 2 * 48 + ALLOCATION;

/// Copies content into an allocation that is exactly as large. Call it before content is kept: a message is often a slice
/// of a read buffer, and the slice keeps the whole buffer alive, whatever its own length. 64 KiB take about 5 µs.
pub(crate) fn compact(content: &[u8]) -> Bytes {
    Bytes::copy_from_slice(content)
}

/// What a link has the server hold.
#[derive(Debug)]
pub(crate) struct Budget {
    link: AtomicUsize,
    total: Arc<AtomicUsize>,
}

impl Budget {
    pub(crate) fn new(total: Arc<AtomicUsize>) -> Self {
        Self { link: AtomicUsize::new(0), total }
    }

    pub(crate) fn take(&self, bytes: usize) {
        self.link.fetch_add(bytes, Ordering::Relaxed);
        self.total.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn give(&self, bytes: usize) {
        self.link.fetch_sub(bytes, Ordering::Relaxed);
        self.total.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// What the link and all links hold.
    pub(crate) fn taken(&self) -> (usize, usize) {
        (self.link.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed))
    }
}

/// A part of a budget, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Reservation {
    pub(crate) fn new(budget: Arc<Budget>) -> Self {
        Self { budget, bytes: 0 }
    }

    /// An empty part of the same budget.
    pub(crate) fn beside(&self) -> Self {
        Self::new(Arc::clone(&self.budget))
    }

    /// What a message of so many bytes costs in a queue.
    pub(crate) fn cost(content: usize) -> usize {
        content + MESSAGE
    }

    pub(crate) fn set(&mut self, bytes: usize) {
        if bytes > self.bytes {
            self.budget.take(bytes - self.bytes);
        } else {
            self.budget.give(self.bytes - bytes);
        }
        self.bytes = bytes;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.set(0);
    }
}
