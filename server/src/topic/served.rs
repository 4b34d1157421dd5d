//! The topics in memory, as a store sees them: it fills them, and delivers to them.

use std::fmt;
use std::sync::Arc;

use axum::extract::ws::Message;

use super::limits::TopicLimits;
use super::refused::Refused;
use super::ring::Saved;

/// The topics in memory that a store serves.
#[cfg_attr(not(feature = "topic-store"), expect(dead_code, reason = "there is no store"))]
pub(super) trait Served: fmt::Debug + Send + Sync {
    /// Returns whether there is a topic now.
    fn has(&self, name: &str) -> bool;

    /// Returns the epoch of a topic that there is now.
    fn epoch(&self, name: &str) -> Option<Box<str>>;

    /// Makes a topic with the messages of a file, for subscribers to come.
    fn restore(self: Arc<Self>, name: &str, limits: TopicLimits, saved: Option<Saved>)
    -> Result<(), Refused>;

    /// Gives a message that has been stored under a number to the subscribers.
    fn deliver(&self, name: &str, message: Message, from: Option<u64>, number: u64);
}
