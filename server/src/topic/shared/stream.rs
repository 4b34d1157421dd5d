//! The stream of one topic in JetStream: opening it, reading it from a number on, and storing a message in it.
//!
//! A message's number is its sequence in the stream, so all servers have the same. The time at which NATS created the stream is the
//! epoch: a stream that is lost and made anew has another.

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_nats::Subject;
use async_nats::jetstream::consumer::push::{Config as Consumer, Messages};
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, ReplayPolicy};
use async_nats::jetstream::context::{GetStreamError, GetStreamErrorKind, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{Config, DiscardPolicy, StorageType, Stream};
use async_nats::jetstream::{Context, Message as Stored};
use axum::extract::ws::Message;
use futures_util::StreamExt;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::nats::{Nats, subject};
use crate::topic::not_taken::NotTaken;
use crate::topic::payload::encode;
use crate::topic::positions::Positions;

/// The pause before something is tried again that NATS has not done.
pub(super) const RETRY: Duration = Duration::from_millis(50);

/// The first tokens of the subjects of topics in streams.
const PREFIX: &str = "manysocket.stored";

/// The longest name of a stream, in bytes: NATS has a folder with this name.
const MAX_NAME: usize = 200;

/// The limits of a stream that mean none are 0 and less, and the least age is that of NATS.
const LEAST_AGE: Duration = Duration::from_millis(100);

/// How long NATS recognizes a message that is sent again. It may not exceed the age of messages.
const DUPLICATES: Duration = Duration::from_secs(120);

/// How long a publisher waits for NATS, as without a store.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long reading a stream's stored messages may take from one to the next. Those that have not come by then come later.
const READ_PATIENCE: Duration = Duration::from_secs(2);

/// Heartbeats of a consumer without messages. After two that are missing, the stream is read anew.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// How long NATS keeps the consumer of a server that was killed.
const CONSUMER_TIMEOUT: Duration = Duration::from_secs(30);

/// The bytes of a message in a stream besides its content: its subject and its headers.
const MESSAGE_BYTES: usize = 1500;

/// Where a topic is on NATS.
#[derive(Debug, Clone)]
pub(super) struct TopicStream {
    nats: Nats,
    context: Context,
    pub(super) stream: String,
    subject: Subject,
}

/// The stored messages of a stream.
pub(super) struct Found {
    pub(super) epoch: Box<str>,
    /// The number of the next message to read.
    pub(super) next: u64,
    /// Those before it, oldest first.
    pub(super) stored: Vec<Stored>,
    /// The messages that follow.
    pub(super) messages: Messages,
}

impl TopicStream {
    /// Returns the stream of a topic; `None` if its name is too long.
    pub(super) fn new(nats: &Nats, context: &Context, store: &str, topic: &str) -> Option<Self> {
        let prefix = format!("{PREFIX}.{store}");
        let subject = subject(&prefix, topic)?;
        // No token contains the character.
        let stream = subject.strip_prefix(PREFIX)?.strip_prefix('.')?.replace('.', "~");
        let topic_stream = Self { nats: nats.clone(), context: context.clone(), stream, subject };
        (topic_stream.stream.len() <= MAX_NAME).then_some(topic_stream)
    }

    /// Opens the stream, and creates it if it does not exist. Reads its stored messages.
    pub(super) async fn open(&self, limits: Positions) -> io::Result<Found> {
        self.nats.check()?;
        self.nats.ask(self.find(limits)).await?.map_err(|error| io::Error::other(format!("NATS: {error}")))
    }

    async fn find(&self, limits: Positions) -> Result<Found, async_nats::Error> {
        let config = self.config(limits);
        let stream = self.context.get_or_create_stream(config.clone()).await?;
        let info = stream.cached_info();
        let present = &info.config;
        if present.subjects != config.subjects {
            return Err(format!("the stream {:?} has other subjects", self.stream).into());
        }
        let limits_of = |config: &Config| (config.max_messages, config.max_bytes, config.max_age);
        if limits_of(present) != limits_of(&config) {
            let Config { max_messages, max_bytes, max_age, duplicate_window, .. } = config;
            let changed = Config { max_messages, max_bytes, max_age, duplicate_window, ..present.clone() };
            self.context.update_stream(changed).await?;
        }
        let last = info.state.last_sequence;
        let kept = u64::try_from(limits.most()).unwrap_or(u64::MAX);
        let mut next = info.state.first_sequence.max((last + 1).saturating_sub(kept)).max(1);
        let (mut messages, pending) = self.consume(&stream, next).await?;
        if epoch(&stream.get_info().await?.created) != epoch(&info.created) {
            return Err("the stream was made anew meanwhile".into());
        }
        let mut stored = Vec::new();
        if pending == 0 {
            next = last + 1;
        }
        while next <= last
            && let Ok(Some(message)) = timeout(READ_PATIENCE, messages.next()).await
        {
            let message = message?;
            next = message.info()?.stream_sequence + 1;
            stored.push(message);
        }
        Ok(Found { epoch: epoch(&info.created), next, stored, messages })
    }

    /// Reads on from a number; `None` if the stream is another one, or gone.
    pub(super) async fn resume(&self, known: &str, next: u64) -> io::Result<Option<Messages>> {
        self.nats.check()?;
        let resumed = self.nats.ask(async {
            let stream = match self.context.get_stream(&self.stream).await {
                Ok(stream) => stream,
                Err(error) if is_missing(&error) => return Ok(None),
                Err(error) => return Err(async_nats::Error::from(error)),
            };
            if *epoch(&stream.cached_info().created) != *known {
                return Ok(None);
            }
            let (messages, _) = self.consume(&stream, next).await?;
            // The consumer was made on that stream if it is still there.
            let is_same = *epoch(&stream.get_info().await?.created) == *known;
            Ok(is_same.then_some(messages))
        });
        resumed.await?.map_err(|error| io::Error::other(format!("NATS: {error}")))
    }

    /// Returns the messages from a number on, and how many there are now.
    async fn consume(&self, stream: &Stream, from: u64) -> Result<(Messages, u64), async_nats::Error> {
        let consumer = stream.create_consumer(Consumer {
            deliver_subject: self.nats.client().new_inbox(),
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: from },
            replay_policy: ReplayPolicy::Instant,
            // The sequence says whether one is missing; then they are read again.
            ack_policy: AckPolicy::None,
            max_deliver: 1,
            idle_heartbeat: HEARTBEAT,
            inactive_threshold: CONSUMER_TIMEOUT,
            num_replicas: 1,
            memory_storage: true,
            ..Consumer::default()
        });
        let consumer = consumer.await?;
        Ok((consumer.messages().await?, consumer.cached_info().num_pending))
    }

    /// Returns the number of the newest message.
    pub(super) async fn last(&self) -> io::Result<u64> {
        self.nats.check()?;
        let stream = self.nats.ask(self.context.get_stream(&self.stream)).await?;
        let stream = stream.map_err(|error| io::Error::other(format!("NATS: {error}")))?;
        Ok(stream.cached_info().state.last_sequence)
    }

    /// Stores a message, and returns its number. Sends it again as long as NATS does not answer; NATS stores it once, by its `id`.
    pub(super) async fn store(&self, message: Message, id: &str, limits: Positions) -> Result<u64, NotTaken> {
        let (headers, payload) = encode(message);
        let most = self.nats.client().server_info().max_payload.min(limits.max_bytes());
        if payload.len() + MESSAGE_BYTES > most {
            return Err(NotTaken::TooLarge);
        }
        let mut message = PublishMessage::build().payload(payload);
        if let Some(headers) = headers {
            message = message.headers(headers);
        }
        let message = message.message_id(id).expected_stream(&self.stream);
        let deadline = Instant::now() + PATIENCE;
        let mut reason = NotTaken::Away;
        loop {
            let sent = self.send(message.clone(), limits);
            match timeout_at(deadline, sent).await {
                Ok(Ok(number)) => return Ok(number),
                Ok(Err(why)) => reason = why,
                Err(_) => return Err(reason),
            }
            if timeout_at(deadline, sleep(RETRY)).await.is_err() {
                return Err(reason);
            }
        }
    }

    async fn send(&self, message: PublishMessage, limits: Positions) -> Result<u64, NotTaken> {
        let sent = async { self.context.send_publish(self.subject.clone(), message).await?.await };
        self.nats.check().map_err(|_| NotTaken::Away)?;
        match self.nats.ask(sent).await {
            Ok(Ok(stored)) => Ok(stored.sequence),
            Ok(Err(error)) if error.kind() == PublishErrorKind::Other => {
                tracing::debug!(stream = self.stream, "NATS does not store a message: {error}");
                Err(NotTaken::Unstored)
            }
            Ok(Err(error)) if error.kind() == PublishErrorKind::StreamNotFound => {
                // The server publishes on a topic that has had no subscriber. The next attempt may succeed.
                let made = self.nats.ask(self.context.get_or_create_stream(self.config(limits))).await;
                if let Ok(Err(error)) = made {
                    tracing::debug!(stream = self.stream, "NATS does not make a stream: {error}");
                }
                Err(NotTaken::Away)
            }
            Ok(Err(_)) | Err(_) => Err(NotTaken::Away),
        }
    }

    fn config(&self, limits: Positions) -> Config {
        let max_age = limits.max_age().max(LEAST_AGE);
        Config {
            name: self.stream.clone(),
            subjects: vec![self.subject.to_string()],
            max_messages: i64::try_from(limits.most()).unwrap_or(i64::MAX).max(1),
            max_bytes: i64::try_from(limits.max_bytes()).unwrap_or(i64::MAX).max(1),
            max_age,
            duplicate_window: max_age.min(DUPLICATES),
            discard: DiscardPolicy::Old,
            storage: StorageType::File,
            num_replicas: 1,
            ..Config::default()
        }
    }
}

/// Returns an error if there is no JetStream.
pub(super) async fn check(context: &Context, store: &str) -> Result<(), GetStreamError> {
    // No topic has this one.
    match context.get_stream(format!("{store}~")).await {
        Err(error) if !is_missing(&error) => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

fn is_missing(error: &GetStreamError) -> bool {
    matches!(error.kind(), GetStreamErrorKind::JetStream(error) if error.code() == 404)
}

/// Returns the epoch of a stream.
fn epoch<T: Copy + Into<SystemTime>>(created: &T) -> Box<str> {
    let since: SystemTime = (*created).into();
    format!("{:x}", since.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()).into()
}
