//! The limits of topics and their defaults.

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
}

impl Default for TopicLimits {
    fn default() -> Self {
        Self {
            backlog: BACKLOG,
            history: 0,
            max_message: MAX_MESSAGE,
            max_topics: MAX_TOPICS,
            max_memory: MAX_MEMORY,
        }
    }
}
