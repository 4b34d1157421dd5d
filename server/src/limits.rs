//! What peers can make a server spend, beyond what the protocol's own [`Settings`](crate::Settings) bound.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Context;
use std::time::Duration;

use manysocket_protocol::MESSAGE_OVERHEAD;
use tokio::time::Sleep;

use crate::metrics::stats::Stats;

/// What a message costs to keep besides its content.
const OVERHEAD: usize = MESSAGE_OVERHEAD as usize;

/// Limits of a [`Multiplexer`](crate::Multiplexer). Each crossing is logged, and concerns one open or one link.
///
/// ```
/// use manysocket_server::{Limits, Multiplexer};
///
/// let limits = Limits { max_links: 500, ..Limits::default() };
/// let multiplexer = Multiplexer::new("/multiplexer").limits(limits);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Links at once; further handshakes get 503. 10,000: 500 idle ones cost 21 MiB, so they take 0.4 GiB.
    pub max_links: usize,
    /// Opens of a link that the application is answering at once; further ones wait for their turn. 256 is about how
    /// many WebSockets a browser would let a page have natively, and bounds what it can dial through a gateway.
    pub max_opening: usize,
    /// Bytes that a link may have the server hold, in both directions: messages that nobody has read, unfinished
    /// ones, and opens that wait. A link that goes beyond it is closed with 1008. 256 MiB: four messages of the
    /// largest size, or a thousand stalled channels with full windows.
    pub link_memory: usize,
    /// The same for all links. When it is crossed, links that hold more than their share are closed with 1013.
    pub total_memory: usize,
    /// How long a peer may take none of what it is sent; then its link is closed with 1008. 2 min: a piece of the
    /// largest size passes in that at 9 kB/s.
    pub stall_timeout: Duration,
    /// How long a link may have no channel; then it is closed with 1000. 10 min: clients close idle links much
    /// sooner, and one that does not is kept by nobody's page.
    pub idle_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_links: 10_000,
            max_opening: 256,
            link_memory: 256 << 20,
            total_memory: 1 << 30,
            stall_timeout: Duration::from_secs(120),
            idle_timeout: Duration::from_secs(600),
        }
    }
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
pub(crate) struct Share {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Share {
    pub(crate) fn new(budget: Arc<Budget>) -> Self {
        Self { budget, bytes: 0 }
    }

    /// What a message of so many bytes costs.
    pub(crate) fn cost(content: usize) -> usize {
        content + OVERHEAD
    }

    /// Takes what a message of so many bytes costs; that cost.
    pub(crate) fn take(&mut self, content: usize) -> usize {
        let cost = Self::cost(content);
        self.set(self.bytes + cost);
        cost
    }

    pub(crate) fn give(&mut self, cost: usize) {
        self.set(self.bytes.saturating_sub(cost));
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

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// A limit that a link has crossed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Crossed {
    /// Its name, as in `docs/security.md`.
    pub(crate) limit: &'static str,
    /// The code to close the link with, and why.
    pub(crate) code: u16,
    pub(crate) reason: &'static str,
}

impl Crossed {
    const LINK_MEMORY: Self =
        Self { limit: "link_memory", code: 1008, reason: "the link holds more memory than one may" };
    const TOTAL_MEMORY: Self =
        Self { limit: "total_memory", code: 1013, reason: "the server's memory is full" };
    const STALL_TIMEOUT: Self =
        Self { limit: "stall_timeout", code: 1008, reason: "the peer takes nothing of what it is sent" };
    const IDLE_TIMEOUT: Self =
        Self { limit: "idle_timeout", code: 1000, reason: "the link has had no channel for long" };
    pub(crate) const PHYSICAL_MESSAGE: Self =
        Self { limit: "physical_message", code: 1009, reason: "a physical message larger than any may be" };
}

/// Watches the limits of one link.
#[derive(Debug)]
pub(crate) struct Spending {
    limits: Limits,
    stats: Stats,
    budget: Arc<Budget>,
    unfinished: Share,
    stalled: Deadline,
    idle: Deadline,
}

impl Spending {
    pub(crate) fn new(limits: Limits, stats: Stats, budget: Arc<Budget>) -> Self {
        Self {
            unfinished: Share::new(Arc::clone(&budget)),
            stalled: Deadline::new(limits.stall_timeout),
            idle: Deadline::new(limits.idle_timeout),
            limits,
            stats,
            budget,
        }
    }

    /// To be called when something has come; `unfinished` are the bytes of messages that are not complete.
    pub(crate) fn check_memory(&mut self, unfinished: usize) -> Result<(), Crossed> {
        self.unfinished.set(unfinished);
        let (link, total) = self.budget.taken();
        if link > self.limits.link_memory {
            return Err(Crossed::LINK_MEMORY);
        }
        if total > self.limits.total_memory && link >= total / self.stats.links().max(1) {
            return Err(Crossed::TOTAL_MEMORY);
        }
        Ok(())
    }

    /// The peer takes what it is sent.
    pub(crate) fn written(&mut self) {
        self.stalled.running = None;
    }

    /// To be called whenever what it is told may have changed: whether something waits to be taken by the peer, and
    /// whether there is no channel.
    pub(crate) fn poll_deadlines(
        &mut self,
        stalled: bool,
        idle: bool,
        cx: &mut Context<'_>,
    ) -> Option<Crossed> {
        if self.stalled.poll(stalled, cx) {
            return Some(Crossed::STALL_TIMEOUT);
        }
        self.idle.poll(idle, cx).then_some(Crossed::IDLE_TIMEOUT)
    }
}

/// A time that a condition may last.
#[derive(Debug)]
struct Deadline {
    after: Duration,
    running: Option<std::pin::Pin<Box<Sleep>>>,
}

impl Deadline {
    fn new(after: Duration) -> Self {
        Self { after, running: None }
    }

    /// To be called with the condition whenever it may have changed; true once it has lasted too long.
    fn poll(&mut self, holds: bool, cx: &mut Context<'_>) -> bool {
        if !holds {
            self.running = None;
            return false;
        }
        let after = self.after;
        let sleep = self.running.get_or_insert_with(|| Box::pin(tokio::time::sleep(after)));
        sleep.as_mut().poll(cx).is_ready()
    }
}
