//! Counts the memory that the documents of a store use, as an allocator rounds it up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The default limit for the memory of documents: a quarter of the limit for links, enough for a thousand ordinary documents
/// of 256 KiB.
const MAX_MEMORY: u64 = 256 << 20;

/// The memory that the documents of a store use, and its limit. Clones share the counts.
#[derive(Debug, Clone, Default)]
pub(super) struct Memory(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    held: AtomicU64,
    /// The part of `held` that can be freed without a loss: remembered commits, and messages cached for further readers.
    dispensable: AtomicU64,
    max: AtomicU64,
}

impl Default for Counts {
    fn default() -> Self {
        Self { held: AtomicU64::new(0), dispensable: AtomicU64::new(0), max: AtomicU64::new(MAX_MEMORY) }
    }
}

impl Memory {
    pub(super) fn set_max(&self, bytes: u64) {
        self.0.max.store(bytes, Ordering::Relaxed);
    }

    /// Returns whether the documents use more than the limit.
    pub(super) fn is_full(&self) -> bool {
        self.0.held.load(Ordering::Relaxed) > self.0.max.load(Ordering::Relaxed)
    }

    pub(super) fn has_dispensable(&self) -> bool {
        self.0.dispensable.load(Ordering::Relaxed) > 0
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn held(&self) -> u64 {
        self.0.held.load(Ordering::Relaxed)
    }

    pub(super) fn share(&self) -> Share {
        Share { memory: self.clone(), held: 0, dispensable: 0 }
    }
}

/// A part of the used memory. It is subtracted when this is dropped.
#[derive(Debug)]
pub(super) struct Share {
    memory: Memory,
    held: u64,
    dispensable: u64,
}

impl Share {
    /// Sets the used memory, and how much of it is dispensable.
    pub(super) fn set(&mut self, held: u64, dispensable: u64) {
        let Counts { held: total, dispensable: total_dispensable, .. } = &*self.memory.0;
        // Sums wrap around, so a difference below zero is added as it is.
        total.fetch_add(held.wrapping_sub(self.held), Ordering::Relaxed);
        total_dispensable.fetch_add(dispensable.wrapping_sub(self.dispensable), Ordering::Relaxed);
        (self.held, self.dispensable) = (held, dispensable);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0, 0);
    }
}
