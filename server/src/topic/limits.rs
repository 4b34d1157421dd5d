//! The limits of topics and their defaults.

use std::time::Duration;

use super::positions::Positions;

/// Messages that a subscriber may be behind by default: some seconds of a busy chat.
const BACKLOG: usize = 256;

/// The largest message by default, in bytes. A topic whose backlog is full of these holds 16 MiB.
const MAX_MESSAGE: usize = 64 * 1024;

/// The number of topics by default. A topic without a message costs 600 bytes and six times its name: 10,000 cost 6 MiB and
/// more.
const MAX_TOPICS: usize = 10_000;

/// The memory of all topics by default, in bytes: sixteen topics whose backlogs are full of the largest messages.
const MAX_MEMORY: usize = 256 << 20;

/// The limits of topics.
#[derive(Debug, Clone, Copy)]
pub(super) struct TopicLimits {
    /// Messages that a subscriber may be behind.
    pub(super) backlog: usize,
    /// Messages that a new subscriber gets.
    pub(super) history: usize,
    /// Bytes of one message.
    pub(super) max_message: usize,
    pub(super) max_topics: usize,
    /// Bytes that all topics hold.
    pub(super) max_memory: usize,
    /// Limits of the messages stored for returning subscribers, if messages have positions.
    pub(super) positions: Option<Positions>,
    /// Whether the last message is kept for ever.
    pub(super) retains_last: bool,
    /// Whether the sender of a message does not get it.
    pub(super) skips_sender: bool,
}

impl TopicLimits {
    /// Returns whether a topic of `messages` and `bytes` keeps its oldest message, though all have read it.
    pub(super) fn keep(&self, messages: usize, bytes: usize, age: Duration) -> bool {
        messages <= self.history.max(usize::from(self.retains_last))
            || self.positions.is_some_and(|positions| positions.keep(messages, bytes, age))
    }

    /// Returns the most messages that a topic holds.
    pub(super) fn most(&self) -> usize {
        let kept = self.positions.map_or(0, |positions| positions.most());
        self.backlog.max(1) + self.history.max(kept)
    }

    /// Returns whether a topic may go on without subscribers.
    pub(super) fn outlive(&self) -> bool {
        self.retains_last || self.positions.is_some()
    }

    /// Returns whether a topic is over that has had neither subscribers nor messages for so long. Its positions hold on as long as
    /// its messages would, even if there are none.
    pub(super) fn is_over(&self, age: Duration, is_empty: bool) -> bool {
        let is_kept = self.retains_last && !is_empty;
        !is_kept && self.positions.is_none_or(|positions| positions.is_over(age))
    }
}

impl Default for TopicLimits {
    fn default() -> Self {
        Self {
            backlog: BACKLOG,
            history: 0,
            max_message: MAX_MESSAGE,
            max_topics: MAX_TOPICS,
            max_memory: MAX_MEMORY,
            positions: None,
            retains_last: false,
            skips_sender: false,
        }
    }
}
