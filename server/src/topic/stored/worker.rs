//! The thread that reads and writes the file. It stores all messages that wait, of any topics, in one transaction; while the disk
//! syncs, more of them queue up. Links take turns.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use axum::extract::ws::Message;
use tokio::sync::oneshot;
use tracing::error;

use crate::lane::turns::Turns;
use crate::topic::limits::TopicLimits;
use crate::topic::not_taken::NotTaken;
use crate::topic::positions::Positions;
use crate::topic::refused::Refused;
use crate::topic::served::Served;
use crate::ws::messages::content;

use super::file::{New, TopicFile};

/// The most messages of one transaction, and the most bytes. The first of them waits for all.
const MAX_BATCH: (usize, usize) = (1024, 4 << 20);

pub(super) struct Worker {
    turns: Arc<Turns<Job>>,
    /// `None` once it is closed.
    file: Option<TopicFile>,
}

/// A job for the thread.
pub(super) enum Job {
    Load {
        hub: Weak<dyn Served>,
        name: String,
        limits: TopicLimits,
        reply: oneshot::Sender<Result<(), Refused>>,
    },
    Publish(Publication),
    Close(oneshot::Sender<()>),
}

/// A message to store and to give to the subscribers.
pub(super) struct Publication {
    pub(super) hub: Weak<dyn Served>,
    pub(super) name: String,
    pub(super) limits: Positions,
    pub(super) message: Message,
    /// The subscriber that sent it.
    pub(super) from: Option<u64>,
    /// Counts it, if it is the server's, until it is stored.
    pub(super) _waits: Option<Waits>,
    pub(super) reply: Option<oneshot::Sender<Result<u64, NotTaken>>>,
}

/// Counts a message of the server while it waits.
pub(super) struct Waits {
    pub(super) bytes: usize,
    pub(super) waiting: Arc<AtomicUsize>,
}

impl Drop for Waits {
    fn drop(&mut self) {
        self.waiting.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Worker {
    pub(super) fn new(turns: Arc<Turns<Job>>, file: TopicFile) -> Self {
        Self { turns, file: Some(file) }
    }

    pub(super) fn run(mut self) {
        let mut next = None;
        while let Some(job) = next.take().or_else(|| self.turns.take(false)) {
            match job {
                Job::Load { hub, name, limits, reply } => {
                    // A reader that has gone hears nothing.
                    let _ = reply.send(self.load(&hub, &name, limits));
                }
                Job::Publish(first) => {
                    let (batch, other) = self.batch(first);
                    next = other;
                    self.publish(batch);
                }
                Job::Close(reply) => {
                    // Dropping it closes the file.
                    self.file = None;
                    let _ = reply.send(());
                }
            }
        }
    }

    /// Takes the messages that wait, up to a job of another kind.
    fn batch(&self, first: Publication) -> (Vec<Publication>, Option<Job>) {
        let mut bytes = content(&first.message);
        let mut batch = vec![first];
        while batch.len() < MAX_BATCH.0 && bytes < MAX_BATCH.1 {
            match self.turns.try_take() {
                Some(Job::Publish(next)) => {
                    bytes += content(&next.message);
                    batch.push(next);
                }
                other => return (batch, other),
            }
        }
        (batch, None)
    }

    fn load(&mut self, hub: &Weak<dyn Served>, name: &str, limits: TopicLimits) -> Result<(), Refused> {
        let Some(hub) = hub.upgrade() else { return Err(Refused::Unreadable) };
        if hub.has(name) {
            return Ok(());
        }
        let saved = match &mut self.file {
            Some(file) => file.load(name),
            None => Err(closed()),
        };
        match saved {
            Ok(saved) => hub.restore(name, limits, saved),
            Err(why) => {
                error!(topic = name, "a topic cannot be read: {why}");
                Err(Refused::Unreadable)
            }
        }
    }

    fn publish(&mut self, batch: Vec<Publication>) {
        let news: Vec<_> = batch.iter().map(Publication::entry).collect();
        let stored = match &mut self.file {
            Some(file) => file.append(&news),
            None => Err(closed()),
        };
        let numbers =
            stored.inspect_err(|why| error!(messages = news.len(), "messages cannot be stored: {why}"));
        drop(news);
        let mut numbers = numbers.ok().map(Vec::into_iter);
        for Publication { hub, name, message, from, reply, .. } in batch {
            let number = numbers.as_mut().and_then(Iterator::next);
            if let (Some(number), Some(hub)) = (number, hub.upgrade()) {
                hub.deliver(&name, message, from, number);
            }
            if let Some(reply) = reply {
                let _ = reply.send(number.ok_or(NotTaken::Unstored));
            }
        }
    }
}

impl Publication {
    /// Returns the entry for the file.
    fn entry(&self) -> New<'_> {
        let epoch = self.hub.upgrade().and_then(|hub| hub.epoch(&self.name));
        // The topic has no subscriber.
        let epoch = epoch.unwrap_or_else(|| format!("{:x}", RandomState::new().hash_one(&self.name)).into());
        New { topic: &self.name, epoch, message: &self.message, limits: self.limits }
    }
}

fn closed() -> io::Error {
    io::Error::other("the store is closed")
}
