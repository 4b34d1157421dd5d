//! Memory accounting: the bytes that the process holds for one link and for all links.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Waker;

use bytes::Bytes;
use futures_util::task::AtomicWaker;

/// The bytes of an allocation besides its content: the allocator's overhead and a reference count.
pub(crate) const ALLOCATION: usize = 32;

/// The memory of an idle TLS connection in rustls: keys, state, and the buffer of the next record. 500
/// links over TLS take 4.2 MiB more than 500 without.
pub(crate) const TLS: usize = 9 * 1024;

/// The memory of encrypted bytes that wait for a peer that does not read: rustls stops at 64 KiB.
pub(crate) const TLS_OUTPUT: usize = 64 * 1024;

/// The bytes of a queued message besides its content: a slot of 48 bytes in a queue that may be half empty, and an
/// allocation.
const MESSAGE: usize = 2 * 48 + ALLOCATION;

/// Copies content into an allocation of exactly its size. Call it before keeping content: a message is often a slice
/// of a read buffer, and a slice of any length keeps the whole buffer alive. 64 KiB take about 5 µs.
pub(crate) fn compact(content: &[u8]) -> Bytes {
    Bytes::copy_from_slice(content)
}

/// The budgets of all links.
///
/// A link checks its memory only when something happens on it. When a small link finds that the memory of all links is
/// full, it wakes the largest, which may have been idle for hours.
#[derive(Debug, Default)]
pub(crate) struct Budgets {
    budgets: Mutex<Vec<Weak<Budget>>>,
    /// The largest link has been woken, and has neither ended nor found that the memory is sufficient again. Without this
    /// flag, each message of each link would cause a search through all links.
    is_woken: AtomicBool,
}

impl Budgets {
    /// Returns the budget of a new link.
    pub(crate) fn open(&self, total: Arc<AtomicUsize>) -> Arc<Budget> {
        let budget = Budget {
            link: AtomicUsize::new(0),
            total,
            task: AtomicWaker::new(),
            has_ended: AtomicBool::new(false),
        };
        let budget = Arc::new(budget);
        let mut budgets = self.lock();
        if budgets.len() == budgets.capacity() {
            // Before the list grows, so that the cost is constant for each link.
            budgets.retain(|budget| budget.strong_count() > 0);
        }
        budgets.push(Arc::downgrade(&budget));
        budget
    }

    /// Wakes the link that holds most, so that it checks its memory; not again before [`Budgets::relieve`].
    pub(crate) fn wake_largest(&self) {
        if self.is_woken.swap(true, Ordering::Relaxed) {
            return;
        }
        let budgets = self.lock();
        let open = budgets.iter().filter_map(Weak::upgrade);
        let running = open.filter(|budget| !budget.has_ended.load(Ordering::Relaxed));
        if let Some(largest) = running.max_by_key(|budget| budget.link.load(Ordering::Relaxed)) {
            largest.task.wake();
        }
    }

    /// The memory of all links is sufficient again, or a link has ended.
    pub(crate) fn relieve(&self) {
        // A read first: all links write to the flag otherwise.
        if self.is_woken.load(Ordering::Relaxed) {
            self.is_woken.store(false, Ordering::Relaxed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<Budget>>> {
        self.budgets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The memory that the server holds for a link, and for all links.
#[derive(Debug)]
pub(crate) struct Budget {
    link: AtomicUsize,
    total: Arc<AtomicUsize>,
    /// The task of the link.
    task: AtomicWaker,
    /// The link has ended; its handlers may still hold something.
    has_ended: AtomicBool,
}

impl Budget {
    /// Sets the task that [`Budgets::wake_largest`] wakes.
    pub(crate) fn watch(&self, task: &Waker) {
        self.task.register(task);
    }

    /// Excludes the link from those that [`Budgets::wake_largest`] considers, because it has ended.
    pub(crate) fn end(&self) {
        self.has_ended.store(true, Ordering::Relaxed);
    }

    pub(crate) fn take(&self, bytes: usize) {
        self.link.fetch_add(bytes, Ordering::Relaxed);
        self.total.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn give(&self, bytes: usize) {
        self.link.fetch_sub(bytes, Ordering::Relaxed);
        self.total.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Returns the bytes held for the link and for all links.
    pub(crate) fn taken(&self) -> (usize, usize) {
        (self.link.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed))
    }
}

/// A part of a budget, returned to it on drop.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Reservation {
    pub(crate) fn new(budget: Arc<Budget>) -> Self {
        Self { budget, bytes: 0 }
    }

    /// Returns an empty part of the same budget.
    pub(crate) fn beside(&self) -> Self {
        Self::new(Arc::clone(&self.budget))
    }

    /// Returns the bytes that a queued message with `content` bytes costs.
    pub(crate) fn cost(content: usize) -> usize {
        content + MESSAGE
    }

    pub(crate) fn set(&mut self, bytes: usize) {
        if bytes > self.bytes {
            self.budget.take(bytes - self.bytes);
        } else if bytes < self.bytes {
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
