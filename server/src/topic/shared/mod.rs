//! Topics in JetStream of a NATS: several servers share their messages and positions, and each message is stored before anybody gets
//! it.

mod reader;
mod stream;

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use async_nats::jetstream::message::Message as Stored;
use async_nats::jetstream::{self, Context};
use axum::extract::ws::Message;
use tokio::sync::{Mutex, MutexGuard, mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, warn};

use crate::nats::Nats;
use crate::ws::messages::content;
use crate::ws::peer;

use super::not_taken::NotTaken;
use super::payload::decode;
use super::positions::Positions;
use super::refused::Refused;
use super::ring::{Ring, Saved, SavedMessage};
use reader::Reader;
use stream::{Found, RETRY, TopicStream};

/// The timeout of one request to NATS.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a subscriber waits for the messages that it has had elsewhere.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(10);

/// How long [`SharedStore::close`] waits for NATS.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// The longest name of a store, in bytes.
const MAX_STORE_NAME: usize = 64;

/// The most bytes of messages that the server has published and that wait for NATS.
const MAX_WAITING: usize = 16 << 20;

/// Topics that are opened at once. Those that share a lock wait for each other, and so do all opens of one topic.
const OPENS: usize = 64;

/// Topics in JetStream. Clones share them.
#[derive(Clone)]
pub(super) struct SharedStore(Arc<Inner>);

struct Inner {
    nats: Nats,
    context: Context,
    name: String,
    opens: [Mutex<()>; OPENS],
    hasher: RandomState,
    /// The messages of the server itself, in order.
    queue: mpsc::UnboundedSender<Job>,
    waiting: Arc<AtomicUsize>,
    _sender: AbortOnDropHandle<()>,
}

/// A job for the task that stores the messages of the server itself.
enum Job {
    Publish { topic_stream: Box<TopicStream>, message: Message, id: String, limits: Positions },
    Close(oneshot::Sender<()>),
}

/// A topic that is about to be open.
pub(super) struct Opened {
    store: SharedStore,
    topic_stream: TopicStream,
    found: Found,
    limits: Positions,
    gaps: watch::Receiver<()>,
}

/// An open topic. Its reader ends when this is dropped.
pub(super) struct SharedTopic {
    topic_stream: TopicStream,
    limits: Positions,
    /// Distinguishes this topic's messages from those of others, and of other processes.
    sender: String,
    /// The number of the newest message that the ring has.
    reached: watch::Receiver<u64>,
    _reader: AbortOnDropHandle<()>,
}

impl SharedStore {
    /// Opens the topics with this name.
    pub(super) async fn open(nats: &Nats, name: &str) -> io::Result<Self> {
        let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if name.is_empty() || name.len() > MAX_STORE_NAME || !name.bytes().all(is_valid) {
            let why = "the name of a store of topics has 1 to 64 letters, digits, '-' and '_'";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let mut context = jetstream::new(nats.client().clone());
        context.set_timeout(REQUEST_TIMEOUT);
        stream::check(&context, name)
            .await
            .map_err(|error| io::Error::other(format!("cannot keep topics in JetStream of NATS: {error}")))?;
        let (queue, jobs) = mpsc::unbounded_channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let sender = tokio::spawn(send(nats.clone(), jobs, Arc::clone(&waiting)));
        Ok(Self(Arc::new(Inner {
            nats: nats.clone(),
            context,
            name: name.to_owned(),
            opens: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            queue,
            waiting,
            _sender: AbortOnDropHandle::new(sender),
        })))
    }

    /// Waits until the server's own messages are stored.
    pub(super) async fn close(&self) {
        let (reply, closed) = oneshot::channel();
        // The task ends with the store only.
        let _ = self.0.queue.send(Job::Close(reply));
        if timeout(CLOSE_TIMEOUT, closed).await.is_err() {
            warn!("NATS does not store: the server's last messages may be lost");
        }
    }

    /// Returns the NATS.
    pub(super) fn nats(&self) -> &Nats {
        &self.0.nats
    }

    /// Returns the name of the store.
    pub(super) fn name(&self) -> &str {
        &self.0.name
    }

    /// Returns whether a topic's name is short enough.
    pub(super) fn admits(&self, topic: &str) -> bool {
        self.stream_of(topic).is_some()
    }

    /// Waits for others that open the topic.
    pub(super) async fn turn(&self, topic: &str) -> MutexGuard<'_, ()> {
        let lock = self.0.hasher.hash_one(topic) % OPENS as u64;
        self.0.opens[usize::try_from(lock).unwrap_or_default()].lock().await
    }

    /// Opens a topic, and reads the messages that it has.
    pub(super) async fn load(&self, topic: &str, limits: Positions) -> Result<Opened, Refused> {
        let topic_stream = self.stream_of(topic).ok_or(Refused::TooLong)?;
        let mut gaps = self.0.nats.gaps();
        gaps.mark_unchanged();
        match topic_stream.open(limits).await {
            Ok(found) => Ok(Opened { store: self.clone(), topic_stream, found, limits, gaps }),
            Err(why) => {
                error!(topic, "a topic cannot be read: {why}");
                Err(Refused::Unreadable)
            }
        }
    }

    /// Stores a message of the server, without waiting.
    pub(super) fn publish_now(&self, topic: &str, message: Message, limits: Positions) {
        let Some(topic_stream) = self.stream_of(topic) else {
            return warn!(topic, "a message is lost: the topic's name is too long");
        };
        let (bytes, waiting) = (content(&message), &self.0.waiting);
        if waiting.fetch_add(bytes, Ordering::Relaxed) + bytes > MAX_WAITING {
            waiting.fetch_sub(bytes, Ordering::Relaxed);
            return warn!(topic, "a message is lost: too many wait for NATS");
        }
        let id = format!("{}-{}", self.0.nats.id(), peer::number());
        // The task ends with the store only.
        let _ = self.0.queue.send(Job::Publish { topic_stream: Box::new(topic_stream), message, id, limits });
    }

    fn stream_of(&self, topic: &str) -> Option<TopicStream> {
        TopicStream::new(&self.0.nats, &self.0.context, &self.0.name, topic)
    }
}

/// Stores the messages of the server itself, one after the other, so that they keep their order. While NATS is away, they wait.
async fn send(nats: Nats, mut jobs: mpsc::UnboundedReceiver<Job>, waiting: Arc<AtomicUsize>) {
    while let Some(job) = jobs.recv().await {
        let (topic_stream, message, id, limits) = match job {
            Job::Publish { topic_stream, message, id, limits } => (topic_stream, message, id, limits),
            Job::Close(reply) => {
                let _ = reply.send(());
                continue;
            }
        };
        while !nats.is_connected() {
            tokio::time::sleep(RETRY).await;
        }
        let bytes = content(&message);
        if let Err(why) = topic_stream.store(message, &id, limits).await {
            warn!(stream = topic_stream.stream, "a message is lost: {}", why.reason());
        }
        waiting.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Opened {
    /// Returns the topic's messages so far.
    pub(super) fn saved(&mut self) -> Saved {
        let now = SystemTime::now();
        let messages = std::mem::take(&mut self.found.stored).into_iter().filter_map(|stored| {
            let info = stored.info().ok()?;
            let (number, at) = (info.stream_sequence, SystemTime::from(info.published));
            let age = now.duration_since(at).unwrap_or_default();
            Some(SavedMessage { number, message: Some(message(stored)), age })
        });
        let messages = messages.collect();
        Saved { epoch: self.found.epoch.clone(), last: self.found.next - 1, messages }
    }

    /// Begins to read the messages that follow, into the topic's ring.
    pub(super) fn begin(self, ring: &Arc<Ring>) -> SharedTopic {
        let Self { store, topic_stream, found: Found { epoch, next, messages, .. }, limits, gaps } = self;
        let sender = format!("{}-{}-", store.0.nats.id(), peer::number());
        let (has_reached, reached) = watch::channel(next - 1);
        let ring: Weak<Ring> = Arc::downgrade(ring);
        let reader = Reader {
            topic_stream: topic_stream.clone(),
            epoch,
            next,
            ring,
            sender: sender.clone(),
            has_reached,
            gaps,
        };
        let _reader = AbortOnDropHandle::new(tokio::spawn(reader.run(messages)));
        SharedTopic { topic_stream, limits, sender, reached, _reader }
    }
}

impl SharedTopic {
    /// Stores a message of the subscriber `from`, and returns its number. The subscribers get it from the stream.
    pub(super) async fn publish(&self, message: Message, from: u64) -> Result<u64, NotTaken> {
        let id = format!("{}{from}-{}", self.sender, peer::number());
        self.topic_stream.store(message, &id, self.limits).await
    }

    /// Waits until the ring has a message that another server has already given to a subscriber.
    pub(super) async fn reach(&self, number: u64) -> Result<(), Refused> {
        let mut reached = self.reached.clone();
        if *reached.borrow() >= number {
            return Ok(());
        }
        // The page may name a position that never existed.
        let last = self.topic_stream.last().await.map_err(|_| Refused::Unreadable)?;
        if number > last {
            return Ok(());
        }
        match timeout(CATCH_UP_TIMEOUT, reached.wait_for(|reached| *reached >= number)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Refused::Unreadable),
        }
    }
}

impl fmt::Debug for SharedStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SharedStore")
    }
}

impl fmt::Debug for SharedTopic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SharedTopic").field("stream", &self.topic_stream).finish_non_exhaustive()
    }
}

fn message(stored: Stored) -> Message {
    decode(stored.message)
}
