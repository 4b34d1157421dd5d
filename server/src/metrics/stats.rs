//! Counts a multiplexer's links, channels, messages and memory.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use crate::budget::{Budget, Budgets};

/// Metrics of a [`Multiplexer`](crate::Multiplexer): the current counts, and [totals](Stats::totals). Clones share
/// them.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    links: Arc<AtomicUsize>,
    parked: Arc<AtomicUsize>,
    streams: Arc<AtomicUsize>,
    polls: Arc<AtomicUsize>,
    channels: Arc<AtomicUsize>,
    memory: Arc<AtomicUsize>,
    budgets: Arc<Budgets>,
    /// The bytes that the topics of each hub hold.
    topics: Arc<Mutex<Vec<Weak<AtomicUsize>>>>,
    counters: Arc<Counters>,
}

/// The upper bounds of the buckets of [`Totals::open_latency`], in seconds. Below the first, a handler has not waited for
/// anything; above the last, a user has noticed the delay.
pub const OPEN_LATENCY_BUCKETS: [f64; 5] = [0.001, 0.01, 0.1, 1.0, 10.0];

/// The totals of a multiplexer since its start.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Totals {
    /// Physical connections that became links.
    pub links_opened: u64,
    /// Links that another connection has resumed.
    pub links_resumed: u64,
    /// Physical handshakes that were refused, by HTTP status.
    pub links_refused: BTreeMap<u16, u64>,
    /// Requests of HTTP carriers that were refused, by HTTP status; those that open one are physical handshakes.
    pub http_refused: BTreeMap<u16, u64>,
    /// Links that ended, by close code and reason.
    pub links_closed: BTreeMap<(u16, &'static str), u64>,
    /// Virtual opens that were accepted.
    pub channels_opened: u64,
    /// Virtual opens that were refused, by HTTP status.
    pub channels_refused: BTreeMap<u16, u64>,
    /// Messages that pages have sent, and their bytes.
    pub received: Traffic,
    /// Messages that handlers have sent, and their bytes.
    pub sent: Traffic,
    /// The number of times each limit was crossed, by its name in `docs/security.md`.
    pub limits_crossed: BTreeMap<&'static str, u64>,
    /// Virtual opens that the application has answered, by latency: one count for each bucket of [`OPEN_LATENCY_BUCKETS`],
    /// and one beyond the last.
    pub open_latency: [u64; OPEN_LATENCY_BUCKETS.len() + 1],
    /// The sum of these latencies.
    pub open_latency_sum: Duration,
}

/// The number and size of messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// The number of messages.
    pub messages: u64,
    /// The bytes of their contents; text counts in UTF-8.
    pub bytes: u64,
}

impl Traffic {
    pub(crate) fn add(&mut self, bytes: usize) {
        self.messages += 1;
        self.bytes += bytes as u64;
    }
}

impl Stats {
    /// Returns the number of open links, with those that wait to be resumed.
    pub fn links(&self) -> usize {
        self.links.load(Ordering::Relaxed)
    }

    /// Returns the number of links that have lost their connection and wait to be resumed.
    pub fn parked(&self) -> usize {
        self.parked.load(Ordering::Relaxed)
    }

    /// Returns the number of HTTP carriers whose bytes the server streams in one answer.
    pub fn http_streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }

    /// Returns the number of HTTP carriers whose clients ask again and again.
    pub fn http_polls(&self) -> usize {
        self.polls.load(Ordering::Relaxed)
    }

    /// Returns the number of virtual sockets whose handlers have not finished.
    pub fn channels(&self) -> usize {
        self.channels.load(Ordering::Relaxed)
    }

    /// Returns the bytes held for links: unread messages, unfinished messages, and waiting opens.
    pub fn memory(&self) -> usize {
        self.memory.load(Ordering::Relaxed)
    }

    /// Returns the bytes that the application's topics hold: messages, names and subscribers.
    pub fn topic_memory(&self) -> usize {
        let topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        topics.iter().filter_map(Weak::upgrade).map(|held| held.load(Ordering::Relaxed)).sum()
    }

    /// Adds topics to the reported memory.
    pub(crate) fn watch_topics(&self, held: &Arc<AtomicUsize>) {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        topics.retain(|held| held.strong_count() > 0);
        topics.push(Arc::downgrade(held));
    }

    /// Returns the totals since the start.
    pub fn totals(&self) -> Totals {
        let Counters {
            links_opened,
            links_resumed,
            links_refused,
            http_refused,
            links_closed,
            channels_opened,
            channels_refused,
            received,
            sent,
            limits_crossed,
            open_latency,
            open_latency_nanos,
        } = &*self.counters;
        Totals {
            links_opened: links_opened.load(Ordering::Relaxed),
            links_resumed: links_resumed.load(Ordering::Relaxed),
            links_refused: links_refused.get(),
            http_refused: http_refused.get(),
            links_closed: links_closed.get(),
            channels_opened: channels_opened.load(Ordering::Relaxed),
            channels_refused: channels_refused.get(),
            received: received.get(),
            sent: sent.get(),
            limits_crossed: limits_crossed.get(),
            open_latency: open_latency.each_ref().map(|count| count.load(Ordering::Relaxed)),
            open_latency_sum: Duration::from_nanos(open_latency_nanos.load(Ordering::Relaxed)),
        }
    }

    /// Returns a budget for a new link.
    pub(crate) fn budget(&self) -> Arc<Budget> {
        self.budgets.open(Arc::clone(&self.memory))
    }

    pub(crate) fn budgets(&self) -> &Budgets {
        &self.budgets
    }

    /// Counts a link until the returned guard is dropped.
    pub(crate) fn count_link(&self) -> Counted {
        Counted::new(&self.links)
    }

    pub(crate) fn link_opened(&self) {
        self.counters.links_opened.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn link_resumed(&self) {
        self.counters.links_resumed.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a link that waits to be resumed until the returned guard is dropped.
    pub(crate) fn count_parked(&self) -> Counted {
        Counted::new(&self.parked)
    }

    pub(crate) fn link_refused(&self, status: u16) {
        self.counters.links_refused.add(status);
    }

    /// Counts an HTTP carrier, a stream or one by polls, until the returned guard is dropped.
    pub(crate) fn count_carrier(&self, is_stream: bool) -> Counted {
        Counted::new(if is_stream { &self.streams } else { &self.polls })
    }

    pub(crate) fn http_refused(&self, status: u16) {
        self.counters.http_refused.add(status);
    }

    pub(crate) fn link_closed(&self, code: u16, reason: &'static str) {
        self.counters.links_closed.add((code, reason));
    }

    /// Counts a channel until the returned guard is dropped.
    pub(crate) fn count_channel(&self) -> Counted {
        self.counters.channels_opened.fetch_add(1, Ordering::Relaxed);
        Counted::new(&self.channels)
    }

    pub(crate) fn channel_refused(&self, status: u16) {
        self.counters.channels_refused.add(status);
    }

    pub(crate) fn limit_crossed(&self, limit: &'static str) {
        self.counters.limits_crossed.add(limit);
    }

    /// Records the latency of the application's answer to an open.
    pub(crate) fn open_latency(&self, after: Duration) {
        let seconds = after.as_secs_f64();
        let bucket =
            OPEN_LATENCY_BUCKETS.iter().position(|&end| seconds <= end).unwrap_or(OPEN_LATENCY_BUCKETS.len());
        self.counters.open_latency[bucket].fetch_add(1, Ordering::Relaxed);
        let nanos = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
        self.counters.open_latency_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// Adds a link's traffic since the last call: once for each batch, not for each message.
    pub(crate) fn exchanged(&self, received: &mut Traffic, sent: &mut Traffic) {
        self.counters.received.add(received);
        self.counters.sent.add(sent);
    }
}

#[derive(Debug, Default)]
struct Counters {
    links_opened: AtomicU64,
    links_resumed: AtomicU64,
    links_refused: Tally<u16>,
    http_refused: Tally<u16>,
    links_closed: Tally<(u16, &'static str)>,
    channels_opened: AtomicU64,
    channels_refused: Tally<u16>,
    received: TrafficCounter,
    sent: TrafficCounter,
    limits_crossed: Tally<&'static str>,
    open_latency: [AtomicU64; OPEN_LATENCY_BUCKETS.len() + 1],
    open_latency_nanos: AtomicU64,
}

/// Counts rare events by a key.
#[derive(Debug, Default)]
struct Tally<K>(Mutex<BTreeMap<K, u64>>);

impl<K: Ord + Clone> Tally<K> {
    fn add(&self, key: K) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default() += 1;
    }

    fn get(&self) -> BTreeMap<K, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[derive(Debug, Default)]
struct TrafficCounter {
    messages: AtomicU64,
    bytes: AtomicU64,
}

impl TrafficCounter {
    fn add(&self, traffic: &mut Traffic) {
        let Traffic { messages, bytes } = std::mem::take(traffic);
        if messages > 0 {
            self.messages.fetch_add(messages, Ordering::Relaxed);
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    fn get(&self) -> Traffic {
        Traffic { messages: self.messages.load(Ordering::Relaxed), bytes: self.bytes.load(Ordering::Relaxed) }
    }
}

/// Counts one item until it is dropped.
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
