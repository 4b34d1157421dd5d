//! The topics that there are: made for their first subscriber, gone with their last, or with their last message if that is kept.

mod subscription;
mod topics;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use axum::extract::ws::Message;
use tokio::time::Instant;
use tracing::warn;

use crate::metrics::stats::Stats;
use crate::site::listing::Listing;
use crate::topic::limits::TopicLimits;
use crate::topic::lock::lock;
use crate::topic::members::Members;
use crate::topic::members_over_nats::Exchange;
use crate::topic::memory::{LIMIT, TopicUsage};
use crate::topic::name::decode;
use crate::topic::not_taken::NotTaken;
use crate::topic::over_nats::{Nats, Remote, publish_now, topic_subject};
use crate::topic::positions::{Beginning, Positions, Since};
use crate::topic::refused::Refused;
use crate::topic::ring::{Cursor, Ring, Saved};
use crate::topic::served::Served;
use crate::topic::shared::{Opened, SharedStore, SharedTopic};
#[cfg(any(feature = "nats", feature = "topic-store"))]
use crate::topic::store::{TopicBackend, TopicStore};
use crate::topic::stored::{Destination, FileStore};

/// The longest name of a topic, in bytes: indexes list it. As that of a call to another process.
const MAX_NAME: usize = 1000;

/// The bytes of memory that a topic costs without its name: 460 were measured, with 8,000 topics.
const TOPIC: usize = 600;

/// How often the name of a topic is held: as the key, and for the index as a name and as text, in which a byte may be three.
const COPIES_OF_NAME: usize = 6;

/// The bytes of memory that a topic costs besides on NATS: a task, a subscription and its queue.
const TOPIC_ON_NATS: usize = 6000;

/// The topics by their names, and the names that indexes list.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    topics: Mutex<Topics>,
    /// Where other processes have the same topics.
    nats: Option<Nats>,
    /// Where messages are stored before anybody gets them.
    store: Option<FileStore>,
    /// Where several processes store them.
    shared: Option<SharedStore>,
    memory: Arc<TopicUsage>,
    members: Arc<Members>,
    /// Where other processes have members, too.
    exchange: Option<Exchange>,
}

#[derive(Debug, Default)]
struct Topics {
    by_name: HashMap<Arc<str>, Arc<Topic>>,
    /// The last segments of the names, each with the number of topics that have it.
    last_segments: HashMap<String, usize>,
    listing: Listing,
    /// Topics without subscribers whose messages are kept, those first that have been so for longest.
    idle: BTreeMap<u64, (Arc<str>, Instant)>,
    /// The number of the newest of them.
    last_idle: u64,
}

#[derive(Debug)]
pub(crate) struct Topic {
    ring: Arc<Ring>,
    remote: Option<Remote>,
    stored: Option<Stored>,
    shared: Option<SharedTopic>,
    outlives: bool,
    /// Its place among those without subscribers; 0 if it has some.
    idle: AtomicU64,
}

/// How a topic that outlives the process publishes.
#[derive(Debug)]
struct Stored {
    store: FileStore,
    hub: Weak<dyn Served>,
    name: Arc<str>,
    limits: Positions,
}

/// A subscriber's place in a topic, which lives as long as any of its places.
#[derive(Debug)]
pub(crate) struct Subscription {
    hub: Arc<Hub>,
    name: Arc<str>,
    topic: Arc<Topic>,
    cursor: Cursor,
    beginning: Beginning,
}

impl Hub {
    /// For topics that other processes have, too.
    #[cfg(feature = "nats")]
    pub(crate) fn over(nats: &Nats) -> Self {
        let (exchange, members) = Exchange::new(nats, None);
        Self {
            nats: Some(nats.clone()),
            members: Arc::new(members),
            exchange: Some(exchange),
            ..Self::default()
        }
    }

    /// For topics that outlive the process.
    #[cfg(any(feature = "nats", feature = "topic-store"))]
    pub(crate) fn stored(store: &TopicStore) -> Self {
        match store.backend() {
            #[cfg(feature = "topic-store")]
            TopicBackend::File(file) => Self { store: Some(file.clone()), ..Self::default() },
            #[cfg(feature = "nats")]
            TopicBackend::Shared(shared) => {
                let (exchange, members) = Exchange::new(shared.nats(), Some(shared.name()));
                Self {
                    shared: Some(shared.clone()),
                    members: Arc::new(members),
                    exchange: Some(exchange),
                    ..Self::default()
                }
            }
        }
    }

    /// Returns the hub as a store sees it.
    fn served(self: &Arc<Self>) -> Weak<dyn Served> {
        let hub: Weak<Self> = Arc::downgrade(self);
        hub
    }

    /// Returns the members of the topics.
    pub(crate) fn members(&self) -> &Arc<Members> {
        if let Some(exchange) = &self.exchange {
            exchange.begin(&self.members);
        }
        &self.members
    }

    /// Waits for the members of other processes, if this one has just begun to ask for them.
    pub(crate) async fn gather_members(&self) {
        if let Some(exchange) = &self.exchange {
            exchange.ready().await;
        }
    }

    /// Returns whether no other process has the topics, too.
    pub(crate) fn is_alone(&self) -> bool {
        self.nats.is_none()
    }

    /// Shows the memory of the topics in the metrics of a multiplexer.
    pub(crate) fn report_to(&self, stats: &Stats) {
        self.memory.report_to(stats);
    }

    /// Publishes from the server, and returns the number of subscribers in this process.
    pub(crate) fn publish(self: &Arc<Self>, path: &str, message: Message, limits: TopicLimits) -> usize {
        let Ok(name) = self.name(path) else { return 0 };
        if let (Some(store), Some(limits)) = (&self.store, limits.positions) {
            store.publish_now(Destination { hub: &self.served(), name: &name, limits }, message);
            return self.get(&name).map_or(0, |topic| topic.ring.subscribers());
        }
        if let (Some(shared), Some(limits)) = (&self.shared, limits.positions) {
            shared.publish_now(&name, message, limits);
            return self.get(&name).map_or(0, |topic| topic.ring.subscribers());
        }
        if self.is_alone() && limits.outlive() {
            return self.publish_and_keep(&name, message, limits);
        }
        let topic = self.get(&name);
        let Some(nats) = &self.nats else {
            return topic.map_or(0, |topic| topic.ring.publish(message, None).subscribers);
        };
        publish_now(nats, &name, message);
        topic.map_or(0, |topic| topic.ring.subscribers())
    }

    /// Returns the name of the topic at a path.
    pub(crate) fn name(&self, path: &str) -> Result<String, Refused> {
        let name = decode(path).ok_or(Refused::NotText)?;
        let is_short = name.len() <= MAX_NAME
            && (self.nats.is_none() || topic_subject(&name).is_some())
            && self.shared.as_ref().is_none_or(|shared| shared.admits(&name));
        if is_short { Ok(name) } else { Err(Refused::TooLong) }
    }

    /// Subscribes for a link or a native socket, `peer`.
    pub(crate) async fn subscribe(
        self: &Arc<Self>,
        name: &str,
        limits: TopicLimits,
        since: &Since,
        peer: u64,
    ) -> Result<Subscription, Refused> {
        loop {
            if let Some(store) = &self.store
                && !self.has(name)
            {
                store.load(self.served(), name, limits, peer).await?;
            }
            if let (Some(shared), Some(positions)) = (&self.shared, limits.positions) {
                self.open_shared(shared, name, limits, positions).await?;
                self.catch_up(name, since).await?;
            }
            // `None`: it had no subscriber yet, and gave its place to another one.
            if let Some(subscription) = self.subscribe_now(name, limits, since)? {
                return Ok(subscription);
            }
        }
    }

    /// Opens a topic that several processes have, unless it is open.
    async fn open_shared(
        self: &Arc<Self>,
        shared: &SharedStore,
        name: &str,
        limits: TopicLimits,
        positions: Positions,
    ) -> Result<(), Refused> {
        if self.has(name) {
            return Ok(());
        }
        let _turn = shared.turn(name).await;
        if self.has(name) {
            return Ok(());
        }
        let mut opened = shared.load(name, positions).await?;
        self.restore_as(name, limits, Some(opened.saved()), Some(opened))
    }

    /// Waits until a topic has the message that a subscriber has got from another process.
    async fn catch_up(&self, name: &str, since: &Since) -> Result<(), Refused> {
        if let Since::After(number, epoch) = since
            && let Some(topic) = self.get(name)
            && let Some(shared) = &topic.shared
            && **epoch == *topic.ring.epoch()
        {
            shared.reach(*number).await?;
        }
        Ok(())
    }

    /// Keeps a topic with the messages of a store, for subscribers to come.
    fn restore_as(
        self: &Arc<Self>,
        name: &str,
        limits: TopicLimits,
        saved: Option<Saved>,
        opened: Option<Opened>,
    ) -> Result<(), Refused> {
        let mut topics = lock(&self.topics);
        topics.forget_idle();
        self.make_room(&mut topics, name, limits)?;
        let (name, topic) = topics.add(Topic::new(name, limits, self, saved, opened));
        topics.rest(&name, &topic);
        Ok(())
    }

    /// Subscribes to a topic; `None` if it must be read from the store first.
    fn subscribe_now(
        self: &Arc<Self>,
        name: &str,
        limits: TopicLimits,
        since: &Since,
    ) -> Result<Option<Subscription>, Refused> {
        let mut topics = lock(&self.topics);
        topics.forget_idle();
        let (name, topic) = match topics.by_name.get_key_value(name) {
            Some((_, topic)) if topic.ring.is_lost() => return Ok(None),
            Some((name, topic)) => (Arc::clone(name), Arc::clone(topic)),
            None if self.store.is_some() || self.shared.is_some() => return Ok(None),
            None => {
                self.make_room(&mut topics, name, limits)?;
                topics.add(Topic::new(name, limits, self, None, None))
            }
        };
        // Under the lock: a topic that has a subscriber stays.
        if topics.idle.remove(&topic.idle.swap(0, Ordering::Relaxed)).is_some() {
            topics.list(&name);
        }
        let (cursor, beginning) = topic.ring.subscribe(since);
        Ok(Some(Subscription { hub: Arc::clone(self), name, topic, cursor, beginning }))
    }

    /// Publishes a message that is kept, whether or not there are subscribers.
    fn publish_and_keep(self: &Arc<Self>, name: &str, message: Message, limits: TopicLimits) -> usize {
        // Under the lock: a topic without subscribers and messages goes.
        let mut topics = lock(&self.topics);
        topics.forget_idle();
        if let Some(topic) = topics.by_name.get(name) {
            return topic.ring.publish(message, None).subscribers;
        }
        if self.make_room(&mut topics, name, limits).is_err() {
            return 0;
        }
        let (name, topic) = topics.add(Topic::new(name, limits, self, None, None));
        topics.rest(&name, &topic);
        topic.ring.publish(message, None).subscribers
    }

    /// Makes room for a new topic: those without subscribers give theirs.
    fn make_room(&self, topics: &mut Topics, name: &str, limits: TopicLimits) -> Result<(), Refused> {
        while topics.by_name.len() >= limits.max_topics && topics.forget_oldest() {}
        let count = topics.by_name.len();
        if count >= limits.max_topics {
            self.memory.crossed("max_topics");
            warn!(limit = "max_topics", "open refused: there are {count} topics, and there may be no more");
            return Err(Refused::Full);
        }
        if !self.memory.make_room(0, self.base(name), limits.max_memory) {
            warn!(limit = LIMIT, "open refused: {count} topics hold as much memory as they may");
            return Err(Refused::Full);
        }
        Ok(())
    }

    /// Returns the bytes that a topic costs without messages and subscribers.
    fn base(&self, name: &str) -> usize {
        let on_nats = if self.nats.is_some() || self.shared.is_some() { TOPIC_ON_NATS } else { 0 };
        TOPIC + COPIES_OF_NAME * name.len() + on_nats
    }

    fn get(&self, name: &str) -> Option<Arc<Topic>> {
        lock(&self.topics).by_name.get(name).cloned()
    }

    /// Returns the number of subscribers of the topic at a path.
    pub(crate) fn subscribers(&self, path: &str) -> usize {
        let topic = decode(path).and_then(|name| self.get(&name));
        topic.map_or(0, |topic| topic.ring.subscribers())
    }

    pub(crate) fn listing(&self) -> Listing {
        lock(&self.topics).listing.clone()
    }

    /// Returns the names of the topics, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = lock(&self.topics).by_name.keys().map(ToString::to_string).collect();
        names.sort_unstable();
        names
    }
}

impl Served for Hub {
    fn has(&self, name: &str) -> bool {
        self.get(name).is_some_and(|topic| !topic.ring.is_lost())
    }

    fn epoch(&self, name: &str) -> Option<Box<str>> {
        self.get(name).map(|topic| topic.ring.epoch().into())
    }

    fn restore(
        self: Arc<Self>,
        name: &str,
        limits: TopicLimits,
        saved: Option<Saved>,
    ) -> Result<(), Refused> {
        self.restore_as(name, limits, saved, None)
    }

    fn deliver(&self, name: &str, message: Message, from: Option<u64>, number: u64) {
        if let Some(topic) = self.get(name) {
            topic.ring.deliver(message, from, number);
        }
    }
}

impl Topic {
    fn new(
        name: &str,
        limits: TopicLimits,
        hub: &Arc<Hub>,
        saved: Option<Saved>,
        opened: Option<Opened>,
    ) -> (Arc<str>, Arc<Self>) {
        let ring = Ring::new(hub.base(name), limits, &hub.memory, saved);
        let remote = hub.nats.as_ref().and_then(|nats| Remote::join(nats, name, Arc::clone(&ring)));
        let name = Arc::<str>::from(name);
        let stored = hub.store.clone().zip(limits.positions).map(|(store, limits)| Stored {
            store,
            hub: hub.served(),
            name: Arc::clone(&name),
            limits,
        });
        let shared = opened.map(|opened| opened.begin(&ring));
        // A stream has the messages for later subscribers; while there are none, this process does not read it.
        let outlives = limits.outlive() && shared.is_none();
        let topic = Self { ring, remote, stored, shared, outlives, idle: AtomicU64::new(0) };
        (name, Arc::new(topic))
    }

    /// Returns whether publishing may wait: for other processes, or for a store.
    pub(crate) fn may_wait(&self) -> bool {
        self.remote.is_some() || self.stored.is_some() || self.shared.is_some()
    }

    /// Gives a message of a subscriber to all, wherever they are. Returns its number, if this process gives it one.
    pub(crate) async fn publish(
        &self,
        message: Message,
        from: u64,
        peer: u64,
    ) -> Result<Option<u64>, NotTaken> {
        if !self.ring.admits(&message) {
            warn!(limit = LIMIT, "a publisher is closed: its topic holds more than its share of the memory");
            self.ring.evict(&message);
            return Err(NotTaken::Full);
        }
        if let Some(remote) = &self.remote {
            return remote.publish(message).await.map(|()| None);
        }
        if let Some(shared) = &self.shared {
            return shared.publish(message, from).await.map(Some);
        }
        if let Some(Stored { store, hub, name, limits }) = &self.stored {
            let to = Destination { hub, name, limits: *limits };
            return store.publish(to, message, from, peer).await.map(Some);
        }
        Ok(self.ring.publish(message, Some(from)).number)
    }
}
