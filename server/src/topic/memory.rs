//! The memory of all topics of one hub: their bytes, and which of them give up messages when it is full.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};

use crate::metrics::stats::Stats;

use super::lock::lock;

/// The name of the limit in logs and metrics.
pub(super) const LIMIT: &str = "topics_memory";

/// A topic that can give memory back.
pub(super) trait Shed: fmt::Debug + Send + Sync {
    /// Drops the oldest messages until `bytes` are free.
    fn shed(&self, bytes: usize);
}

/// The memory that all topics of a hub hold.
#[derive(Debug, Default)]
pub(super) struct TopicUsage {
    held: Arc<AtomicUsize>,
    topics: Mutex<Topics>,
    /// Topics that held much when it was last looked for such, the largest last. Locked before `topics`.
    largest: Mutex<Vec<Weak<dyn Shed>>>,
    stats: OnceLock<Stats>,
}

#[derive(Debug, Default)]
struct Topics {
    /// Each with the bytes that it holds.
    rings: BTreeMap<u64, (Weak<dyn Shed>, Arc<AtomicUsize>)>,
    last: u64,
}

impl TopicUsage {
    /// Shows the memory of the topics in the metrics of a multiplexer. The first one counts.
    pub(super) fn report_to(&self, stats: &Stats) {
        self.stats.get_or_init(|| {
            stats.watch_topics(&self.held);
            stats.clone()
        });
    }

    /// Counts that a limit was crossed.
    pub(super) fn crossed(&self, limit: &'static str) {
        if let Some(stats) = self.stats.get() {
            stats.limit_crossed(limit);
        }
    }

    /// Adds a topic that holds `bytes`, and returns its number.
    pub(super) fn add(&self, ring: Weak<dyn Shed>, own: Arc<AtomicUsize>, bytes: usize) -> u64 {
        self.held.fetch_add(bytes, Ordering::Relaxed);
        let mut topics = lock(&self.topics);
        topics.last += 1;
        let number = topics.last;
        topics.rings.insert(number, (ring, own));
        number
    }

    /// Removes a topic.
    pub(super) fn remove(&self, number: u64, own: &AtomicUsize) {
        lock(&self.topics).rings.remove(&number);
        self.change(own, 0);
    }

    /// Counts that a topic holds `now` bytes.
    pub(super) fn change(&self, own: &AtomicUsize, now: usize) {
        let before = own.swap(now, Ordering::Relaxed);
        if now > before {
            self.held.fetch_add(now - before, Ordering::Relaxed);
        } else {
            self.held.fetch_sub(before - now, Ordering::Relaxed);
        }
    }

    /// Returns whether there is memory for `bytes` more.
    pub(super) fn fits(&self, bytes: usize, most: usize) -> bool {
        self.held.load(Ordering::Relaxed) + bytes <= most
    }

    /// Makes room for `bytes` of a topic that holds `own`: the topics that hold most lose their oldest messages. Returns `false`, and
    /// counts that the limit was crossed, if the topic holds more than its share, or if the others have nothing to give.
    pub(super) fn make_room(&self, own: usize, bytes: usize, most: usize) -> bool {
        let has_room = self.fits(bytes, most) || self.take_room(own, bytes, most);
        if !has_room {
            self.crossed(LIMIT);
        }
        has_room
    }

    fn take_room(&self, own: usize, bytes: usize, most: usize) -> bool {
        let share = most / lock(&self.topics).rings.len().max(1);
        if own > share {
            return false;
        }
        // One publisher at a time looks for topics to take memory from: one search serves many messages.
        let mut largest = lock(&self.largest);
        let mut is_fresh = false;
        while !self.fits(bytes, most) {
            let Some(ring) = largest.last().map(Weak::upgrade) else {
                if is_fresh {
                    return false;
                }
                *largest = self.largest(share / 2);
                is_fresh = true;
                continue;
            };
            let before = self.held.load(Ordering::Relaxed);
            if let Some(ring) = ring {
                ring.shed((before + bytes).saturating_sub(most));
            }
            if !self.fits(bytes, most) {
                // It has no more to give.
                largest.pop();
            }
        }
        true
    }

    /// Returns the topics that hold more than `least`, the largest last.
    fn largest(&self, least: usize) -> Vec<Weak<dyn Shed>> {
        let topics = lock(&self.topics);
        let large = topics.rings.values().map(|(ring, own)| (own.load(Ordering::Relaxed), ring));
        let mut large: Vec<_> =
            large.filter(|(own, _)| *own > least).map(|(own, ring)| (own, ring.clone())).collect();
        drop(topics);
        large.sort_unstable_by_key(|(own, _)| *own);
        large.into_iter().map(|(_, ring)| ring).collect()
    }
}
