//! Counts of what is open now.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::limits::Budget;

/// Counts of what a [`Multiplexer`](crate::Multiplexer) has open now. Clones share their counts.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    links: Arc<AtomicUsize>,
    channels: Arc<AtomicUsize>,
    memory: Arc<AtomicUsize>,
}

impl Stats {
    /// Physical connections.
    pub fn links(&self) -> usize {
        self.links.load(Ordering::Relaxed)
    }

    /// Virtual sockets whose handlers have not finished with them.
    pub fn channels(&self) -> usize {
        self.channels.load(Ordering::Relaxed)
    }

    /// Bytes that are held for links: messages that nobody has read, unfinished ones, opens that wait.
    pub fn memory(&self) -> usize {
        self.memory.load(Ordering::Relaxed)
    }

    /// The budget of a new link.
    pub(crate) fn budget(&self) -> Budget {
        Budget::new(Arc::clone(&self.memory))
    }

    pub(crate) fn count_link(&self) -> Counted {
        Counted::new(&self.links)
    }

    pub(crate) fn count_channel(&self) -> Counted {
        Counted::new(&self.channels)
    }
}

/// One that is counted until it is dropped.
#[derive(Debug)]
pub(crate) struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
