//! The topics that there are: made for their first subscriber, gone with their last.
//!
//! A topic is a ring of messages that all of its subscribers share. What a subscriber costs is its place in the ring,
//! however far behind it is.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::ws::Message;
use percent_encoding::percent_decode_str;
use tokio::sync::broadcast;

use crate::nats::Nats;
use crate::site::listing::Listing;

use super::over_nats::{NotTaken, Remote, publish_now, topic_subject};

#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Messages that a subscriber may be behind.
    pub(super) backlog: usize,
    /// Messages that a new subscriber gets.
    pub(super) history: usize,
    pub(super) max_message: usize,
    pub(super) max_topics: usize,
    /// Bytes in all rings.
    pub(super) max_memory: usize,
}

/// The longest path of a topic, in bytes: names are in indexes, which are made for each who asks. As that of a call to another process.
const MAX_PATH: usize = 1000;

/// The topics by their paths, and their names.
#[derive(Debug, Default)]
pub(super) struct Hub {
    topics: Mutex<HashMap<Arc<str>, Arc<Topic>>>,
    /// Changed under the lock of the topics.
    listing: Listing,
    /// Where other processes have the same topics.
    nats: Option<Nats>,
    held: Arc<Held>,
}

/// What all rings hold.
#[derive(Debug, Default)]
struct Held {
    topics: AtomicUsize,
    bytes: AtomicUsize,
}

/// A message in a ring, counted as long as somebody may still get it from there.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) message: Message,
    cost: usize,
    own: Arc<AtomicUsize>,
    held: Arc<Held>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.own.fetch_sub(self.cost, Ordering::Relaxed);
        self.held.bytes.fetch_sub(self.cost, Ordering::Relaxed);
    }
}

#[derive(Debug)]
pub(super) struct Topic {
    ring: Arc<Ring>,
    remote: Option<Remote>,
}

/// What a subscriber finds in a ring.
#[derive(Debug, Clone)]
pub(super) enum Item {
    Message(Arc<Kept>),
    /// An unknown number of messages may be missing here.
    Gap,
}

/// The messages of a topic for its subscribers in this process.
#[derive(Debug)]
pub(super) struct Ring {
    sender: broadcast::Sender<Item>,
    limits: Limits,
    /// Bytes in this one.
    own: Arc<AtomicUsize>,
    held: Arc<Held>,
    /// Locked while a message goes into the ring: all subscribers get all messages in one order, new ones each once.
    history: Mutex<VecDeque<Arc<Kept>>>,
}

/// A subscriber's place in a topic. Fields are dropped in this order: whoever leaves last finds nobody there.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) receiver: broadcast::Receiver<Item>,
    /// What was there before it came.
    pub(super) history: VecDeque<Arc<Kept>>,
    pub(super) place: Place,
}

/// Keeps a topic among the others while it has subscribers.
#[derive(Debug)]
pub(super) struct Place {
    hub: Arc<Hub>,
    path: Arc<str>,
    pub(super) topic: Arc<Topic>,
}

impl Hub {
    /// For topics that other processes have, too.
    pub(super) fn over(nats: &Nats) -> Self {
        Self { nats: Some(nats.clone()), ..Self::default() }
    }

    /// Publishes from the server; how many subscribers there are in this process.
    pub(super) fn publish(&self, path: &str, message: Message) -> usize {
        let topic = self.get(path);
        let Some(nats) = &self.nats else {
            return topic.map_or(0, |topic| topic.ring.publish(message));
        };
        publish_now(nats, path, message);
        topic.map_or(0, |topic| topic.subscribers())
    }

    /// Whether there can be a topic with that path.
    pub(super) fn takes(&self, path: &str) -> bool {
        path.len() <= MAX_PATH && (self.nats.is_none() || topic_subject(path).is_some())
    }

    /// Whether there is room for it, or it is there.
    pub(super) fn has_room(&self, path: &str, limits: Limits) -> bool {
        let topics = lock(&self.topics);
        topics.len() < limits.max_topics || topics.contains_key(path)
    }

    pub(super) fn subscribe(self: &Arc<Self>, path: &str, limits: Limits) -> Subscription {
        let mut topics = lock(&self.topics);
        let (path, topic) = match topics.get_key_value(path) {
            Some((path, topic)) => (Arc::clone(path), Arc::clone(topic)),
            None => {
                let (path, topic) = (Arc::from(path), Arc::new(Topic::new(path, limits, self)));
                topics.insert(Arc::clone(&path), Arc::clone(&topic));
                self.listing.insert(&name(&path));
                (path, topic)
            }
        };
        // Under both locks: a topic that has a subscriber stays, and nothing comes in between.
        let kept = lock(&topic.ring.history);
        let (history, receiver) = (kept.clone(), topic.ring.sender.subscribe());
        drop(kept);
        Subscription { receiver, history, place: Place { hub: Arc::clone(self), path, topic } }
    }

    pub(super) fn get(&self, path: &str) -> Option<Arc<Topic>> {
        lock(&self.topics).get(path).cloned()
    }

    pub(super) fn listing(&self) -> Listing {
        self.listing.clone()
    }

    pub(super) fn paths(&self) -> Vec<String> {
        let mut paths: Vec<String> = lock(&self.topics).keys().map(ToString::to_string).collect();
        paths.sort_unstable();
        paths
    }
}

impl Topic {
    fn new(path: &str, limits: Limits, hub: &Hub) -> Self {
        // One of the two ends that come with a ring is not wanted: subscribers make theirs.
        let (sender, _) = broadcast::channel(limits.backlog.max(1));
        let held = Arc::clone(&hub.held);
        held.topics.fetch_add(1, Ordering::Relaxed);
        let ring = Arc::new(Ring { sender, limits, own: Arc::default(), held, history: Mutex::default() });
        let remote = hub.nats.as_ref().and_then(|nats| Remote::join(nats, path, Arc::clone(&ring)));
        Self { ring, remote }
    }

    /// Gives a message to all subscribers, wherever they are.
    pub(super) async fn publish(&self, message: Message) -> Result<(), NotTaken> {
        if self.ring.is_full() {
            self.ring.evict();
            return Err(NotTaken::Full);
        }
        match &self.remote {
            Some(remote) => remote.publish(message).await,
            None => {
                self.ring.publish(message);
                Ok(())
            }
        }
    }

    /// Whether other processes have it, too: publishing may then wait.
    pub(super) fn is_shared(&self) -> bool {
        self.remote.is_some()
    }

    pub(super) fn subscribers(&self) -> usize {
        self.ring.sender.receiver_count()
    }
}

impl Ring {
    /// Gives a message to the subscribers in this process; how many there are. In a ring that is full they are told that one is missing.
    pub(super) fn publish(&self, message: Message) -> usize {
        if self.is_full() {
            return self.evict();
        }
        let kept = self.keep(message);
        let mut history = lock(&self.history);
        if self.limits.history > 0 {
            if history.len() == self.limits.history {
                history.pop_front();
            }
            history.push_back(Arc::clone(&kept));
        }
        // An error says that nobody is there.
        self.sender.send(Item::Message(kept)).unwrap_or_default()
    }

    fn keep(&self, message: Message) -> Arc<Kept> {
        let cost = match &message {
            Message::Text(text) => text.len(),
            Message::Binary(bytes) => bytes.len(),
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) => 0,
        };
        self.own.fetch_add(cost, Ordering::Relaxed);
        self.held.bytes.fetch_add(cost, Ordering::Relaxed);
        Arc::new(Kept { message, cost, own: Arc::clone(&self.own), held: Arc::clone(&self.held) })
    }

    /// Whether all rings hold more than they may, and this one more than its share. One message of the largest size has room
    /// in each: rooms where little is said go on, however many others there are.
    fn is_full(&self) -> bool {
        let (own, all) = (self.own.load(Ordering::Relaxed), self.held.bytes.load(Ordering::Relaxed));
        let share = all / self.held.topics.load(Ordering::Relaxed).max(1);
        all > self.limits.max_memory && own > share.max(self.limits.max_message)
    }

    /// In place of a new message the oldest goes, so that a full ring does not stay so; how many are told that one is missing.
    fn evict(&self) -> usize {
        lock(&self.history).pop_front();
        self.gap()
    }

    /// Tells the subscribers that messages may be missing here; how many there are.
    pub(super) fn gap(&self) -> usize {
        self.sender.send(Item::Gap).unwrap_or_default()
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.held.topics.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut topics = lock(&self.hub.topics);
        let is_last = self.topic.subscribers() == 0;
        // The place may be another topic's by now, made after this one ended.
        if is_last && topics.get(&self.path).is_some_and(|topic| Arc::ptr_eq(topic, &self.topic)) {
            topics.remove(&self.path);
            self.hub.listing.remove(&name(&self.path));
        }
    }
}

/// The last segment of a path, decoded.
fn name(path: &str) -> Cow<'_, str> {
    percent_decode_str(path.rsplit('/').next().unwrap_or_default()).decode_utf8_lossy()
}

/// A panic while one of these locks is held would be a bug; the data stays consistent at every step, so others go on.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
