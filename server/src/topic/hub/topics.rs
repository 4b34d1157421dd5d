//! Holds the topics by name, with those in use listed and those without subscribers in the order in which they are forgotten.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use percent_encoding::percent_decode_str;
use tokio::time::Instant;

use super::{Topic, Topics};

/// The topics that one call forgets: 1 µs each, with their messages.
const FORGOTTEN: usize = 64;

impl Topics {
    /// Keeps a topic that has no subscriber. Indexes do not list it.
    pub(super) fn rest(&mut self, name: &Arc<str>, topic: &Topic) {
        self.unlist(name);
        self.last_idle += 1;
        topic.idle.store(self.last_idle, Ordering::Relaxed);
        self.idle.insert(self.last_idle, (Arc::clone(name), Instant::now()));
    }

    /// Forgets topics without subscribers whose messages are too old. Thousands may be due at once, and the lock is held: the
    /// next calls forget the others, and each call comes with one new topic at most.
    pub(super) fn forget_idle(&mut self) {
        for _ in 0..FORGOTTEN {
            let is_due = self.idle.values().next().is_some_and(|(name, since)| {
                self.by_name.get(name).is_none_or(|topic| topic.ring.is_over(*since))
            });
            if !is_due || !self.forget_oldest() {
                break;
            }
        }
    }

    /// Forgets the topic that has had no subscribers for longest. Returns whether there was one.
    pub(super) fn forget_oldest(&mut self) -> bool {
        let Some((_, (name, _))) = self.idle.pop_first() else { return false };
        self.by_name.remove(&name);
        true
    }

    pub(super) fn add(&mut self, (name, topic): (Arc<str>, Arc<Topic>)) -> (Arc<str>, Arc<Topic>) {
        let lost = self.by_name.insert(Arc::clone(&name), Arc::clone(&topic));
        // Indexes list a topic in use.
        if let Some(lost) = lost
            && self.idle.remove(&lost.idle.swap(0, Ordering::Relaxed)).is_none()
        {
            self.unlist(&name);
        }
        self.list(&name);
        (name, topic)
    }

    pub(super) fn list(&mut self, name: &str) {
        let last = last_segment(name);
        let count = self.last_segments.entry(last.clone().into_owned()).or_default();
        *count += 1;
        if *count == 1 {
            self.listing.insert(&last);
        }
    }

    pub(super) fn unlist(&mut self, name: &str) {
        let last = last_segment(name);
        let Some(count) = self.last_segments.get_mut(&*last) else { return };
        *count -= 1;
        if *count == 0 {
            self.last_segments.remove(&*last);
            self.listing.remove(&last);
        }
    }
}

/// Returns the last segment of a name as people write it.
fn last_segment(name: &str) -> Cow<'_, str> {
    percent_decode_str(name.rsplit('/').next().unwrap_or_default()).decode_utf8_lossy()
}
