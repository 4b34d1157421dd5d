//! Unfinished messages while memory is short: senders wait for credit, and do not lose the link.
//!
//! The credit of the pieces of a message returns without its reader (§6), so nothing else would slow down a peer that sends
//! many large messages at once.

use std::collections::VecDeque;

use crate::Channel;

/// Which unfinished messages may continue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Intake {
    /// All of them.
    #[default]
    All,
    /// One, so that it ends and its memory returns.
    One,
    /// None: messages wait for their readers.
    None,
}

/// The channels that wait for credit.
#[derive(Debug, Default)]
pub(crate) struct IntakeQueue {
    pub(crate) intake: Intake,
    /// The channel whose message continues while others wait; 0: none.
    pub(crate) favored: Channel,
    waiting: VecDeque<Channel>,
}

impl IntakeQueue {
    /// Returns whether no channel waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Adds a channel.
    pub(crate) fn hold_back(&mut self, channel: Channel) {
        if self.favored == channel {
            // It continues first, or none would.
            self.favored = 0;
            self.waiting.push_front(channel);
        } else {
            self.waiting.push_back(channel);
        }
    }

    /// Returns the channel that continues next.
    pub(crate) fn next(&mut self) -> Option<Channel> {
        let next = self.waiting.pop_front();
        if self.waiting.is_empty() {
            self.waiting = VecDeque::new();
        }
        next
    }

    /// Returns the bytes that the queue has allocated.
    pub(crate) fn bytes(&self) -> usize {
        self.waiting.capacity() * size_of::<Channel>()
    }
}
