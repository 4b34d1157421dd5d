//! Holds a subscriber's place in a topic.

use std::sync::Arc;
use std::task::{Context, Poll};

use super::{Hub, Subscription, Topic};
use crate::topic::lock::lock;
use crate::topic::positions::Beginning;
use crate::topic::ring::{Item, Ring};

impl Subscription {
    /// Waits until the topic's messages come from other processes, too.
    pub(crate) async fn joined(&self) {
        if let Some(remote) = &self.topic.remote {
            remote.joined().await;
        }
    }

    /// Reads the next item; `None` if there is none yet.
    pub(crate) fn read(&mut self) -> Option<Item> {
        self.topic.ring.read(&mut self.cursor)
    }

    /// Reads the next item, or has the task woken when there is one.
    pub(crate) fn poll_read(&mut self, cx: &Context<'_>) -> Poll<Item> {
        self.topic.ring.poll_read(&mut self.cursor, cx)
    }

    /// Returns the number of the last message before those that are still to be read.
    pub(crate) fn position(&self) -> u64 {
        self.cursor.position()
    }

    /// Returns the topic's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the hub of the topic.
    pub(crate) fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Returns where it began.
    pub(crate) fn beginning(&self) -> &Beginning {
        &self.beginning
    }

    /// Returns the subscriber's number among those of the topic.
    pub(crate) fn number(&self) -> u64 {
        self.cursor.number()
    }

    pub(crate) fn topic(&self) -> &Arc<Topic> {
        &self.topic
    }

    pub(crate) fn ring(&self) -> &Ring {
        &self.topic.ring
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut topics = lock(&self.hub.topics);
        self.topic.ring.unsubscribe(&self.cursor);
        if self.topic.ring.subscribers() > 0 {
            return;
        }
        // Where a topic was lost, there may be a new one.
        if !topics.by_name.get(&self.name).is_some_and(|topic| Arc::ptr_eq(topic, &self.topic)) {
            return;
        }
        if self.topic.outlives {
            topics.rest(&self.name, &self.topic);
        } else {
            topics.unlist(&self.name);
            topics.by_name.remove(&self.name);
        }
        topics.forget_idle();
    }
}
