//! One direction of a simulated link: reliable and in order, as TCP is until it is cut.

use std::collections::VecDeque;

use manysocket_protocol::{Millis, Physical};

/// The messages in flight, each with the time of its arrival.
pub(crate) struct Wire<T>(VecDeque<(Millis, T)>);

impl<T> Default for Wire<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T> Wire<T> {
    /// Arrives at `at`, or behind the messages already in flight, at so many bytes a millisecond.
    pub(crate) fn send(&mut self, item: T, bytes: usize, at: Millis, bandwidth: Option<usize>) {
        let taken = bandwidth.map_or(0, |bandwidth| bytes / bandwidth) as Millis;
        let free = self.last().unwrap_or(0);
        self.0.push_back((at.max(free) + taken, item));
    }

    /// The next that has arrived by now.
    pub(crate) fn arrived(&mut self, now: Millis) -> Option<T> {
        self.next().filter(|&arrival| arrival <= now)?;
        self.0.pop_front().map(|(_, item)| item)
    }

    /// When the first arrives.
    pub(crate) fn next(&self) -> Option<Millis> {
        self.0.front().map(|&(arrival, _)| arrival)
    }

    /// When the last arrives.
    pub(crate) fn last(&self) -> Option<Millis> {
        self.0.back().map(|&(arrival, _)| arrival)
    }

    /// Loses all but the first `kept`, which arrive now.
    pub(crate) fn lose(&mut self, kept: usize, now: Millis) {
        self.0.truncate(kept);
        for (arrival, _) in &mut self.0 {
            *arrival = now;
        }
    }

    /// Nothing arrives before `until`.
    pub(crate) fn hold(&mut self, until: Millis) {
        for (arrival, _) in &mut self.0 {
            *arrival = until.max(*arrival);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The bytes of a physical message's content.
pub(crate) fn length(message: &Physical) -> usize {
    let (Physical::Text(bytes) | Physical::Binary(bytes)) = message;
    bytes.len()
}
