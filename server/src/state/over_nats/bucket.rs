//! A key-value bucket of NATS' JetStream: reads, conditional writes, and a stream of changes.
//!
//! The bucket is a stream with one message for each key, in the format that other programs expect of such buckets.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::consumer::push::{Ordered, OrderedConfig};
use async_nats::jetstream::consumer::{DeliverPolicy, ReplayPolicy};
use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{Config, DiscardPolicy, LastRawMessageErrorKind, StorageType, Stream};
use async_nats::jetstream::{self, Context};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::time::timeout;

use crate::nats::{Nats, path, subject};

/// The timeout of one request to NATS. It answers in milliseconds unless it is electing a leader, which takes seconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// The bytes reserved for the header of a write, with some to spare.
const HEADER_BYTES: usize = 256;

/// The header of a message that marks a key as deleted.
const OPERATION: &str = "KV-Operation";

pub(super) struct Bucket {
    nats: Nats,
    context: Context,
    stream: Stream,
    /// The first tokens of the subjects of the bucket's keys.
    prefix: String,
}

/// The outcome of a write.
pub(super) enum Written {
    /// NATS stored it, under this revision.
    Kept(u64),
    /// Another process has written since the given revision.
    Late,
    /// NATS refused it, for this reason.
    Refused(String),
    /// NATS may have stored it or not.
    Unknown,
}

/// A written key and its revision; `None` if the key was deleted.
pub(super) type Change = (String, Option<u64>);

/// The changes of a bucket, in order.
pub(super) struct Changes {
    messages: Ordered,
    prefix: String,
}

impl Bucket {
    pub(super) async fn open(nats: &Nats, name: &str) -> io::Result<Self> {
        let mut context = jetstream::new(nats.client().clone());
        context.set_timeout(PATIENCE);
        let prefix = format!("$KV.{name}");
        let config = Config {
            name: format!("KV_{name}"),
            subjects: vec![format!("{prefix}.>")],
            max_messages_per_subject: 1,
            discard: DiscardPolicy::New,
            storage: StorageType::File,
            num_replicas: 1,
            allow_rollup: true,
            deny_delete: true,
            // A read after an announced change must not return the earlier value: the leader has the new one, replicas may
            // not have it yet.
            allow_direct: false,
            ..Config::default()
        };
        let stream = context.get_or_create_stream(config).await.map_err(|error| {
            io::Error::other(format!("cannot open the bucket {name:?} of NATS' JetStream: {error}"))
        })?;
        Ok(Self { nats: nats.clone(), context, stream, prefix })
    }

    /// Returns the largest value that NATS accepts.
    pub(super) fn max_value(&self) -> usize {
        self.nats.client().server_info().max_payload.saturating_sub(HEADER_BYTES)
    }

    /// Returns the revision that a write must name, and the newest value of a key, if there is one.
    pub(super) async fn get(&self, key: &str) -> io::Result<(u64, Option<Bytes>)> {
        let subject = self.subject(key)?;
        self.nats.check()?;
        match self.nats.ask(self.stream.get_last_raw_message_by_subject(&subject)).await? {
            Ok(message) if is_deletion(&message.headers) => Ok((message.sequence, None)),
            Ok(message) => Ok((message.sequence, Some(message.payload))),
            Err(error) if matches!(error.kind(), LastRawMessageErrorKind::NoMessageFound) => Ok((0, None)),
            Err(error) => Err(io::Error::other(format!("NATS: {error}"))),
        }
    }

    /// Writes a value, unless another process has written since `revision`.
    pub(super) async fn put(&self, key: &str, value: Vec<u8>, revision: u64) -> Written {
        self.write(key, PublishMessage::build().payload(value.into()), revision).await
    }

    async fn write(&self, key: &str, message: PublishMessage, revision: u64) -> Written {
        let subject = match self.nats.check().and_then(|()| self.subject(key)) {
            Ok(subject) => subject,
            Err(error) => return Written::Refused(error.to_string()),
        };
        let message = message.expected_last_subject_sequence(revision);
        let written = async {
            match self.context.send_publish(subject, message).await {
                Ok(acknowledged) => acknowledged.await,
                Err(error) => Err(error),
            }
        };
        match self.nats.ask(written).await {
            Err(_) => Written::Unknown,
            Ok(Ok(acknowledged)) => Written::Kept(acknowledged.sequence),
            Ok(Err(error)) => match error.kind() {
                PublishErrorKind::WrongLastSequence => Written::Late,
                PublishErrorKind::TimedOut | PublishErrorKind::BrokenPipe => Written::Unknown,
                _ => Written::Refused(format!("NATS: {error}")),
            },
        }
    }

    /// Marks a key as deleted, unless another process has written since `revision`.
    pub(super) async fn delete(&self, key: &str, revision: u64) -> Written {
        self.write(key, PublishMessage::build().header(OPERATION, "DEL"), revision).await
    }

    /// Returns all keys with their revisions, and the stream of later changes.
    pub(super) async fn follow(&self) -> io::Result<(HashMap<String, u64>, Changes)> {
        self.nats.check()?;
        self.nats
            .ask(self.begin_to_follow())
            .await?
            .map_err(|error| io::Error::other(format!("NATS: {error}")))
    }

    async fn begin_to_follow(&self) -> Result<(HashMap<String, u64>, Changes), async_nats::Error> {
        let state = self.stream.get_info().await?.state;
        let consumer = self.stream.create_consumer(OrderedConfig {
            deliver_subject: self.nats.client().new_inbox(),
            filter_subject: format!("{}.>", self.prefix),
            // The stream has only the newest message of each key.
            deliver_policy: DeliverPolicy::All,
            replay_policy: ReplayPolicy::Instant,
            headers_only: true,
            ..OrderedConfig::default()
        });
        let messages = consumer.await?.messages().await?;
        let (mut keys, mut changes) = (HashMap::new(), Changes { messages, prefix: self.prefix.clone() });
        // The stream has the last message, or a later one of the same key. The consumer's count of pending messages includes
        // those that are replaced before they arrive, so it is no measure.
        let mut reached = if state.messages == 0 { state.last_sequence } else { 0 };
        while reached < state.last_sequence {
            let next = timeout(PATIENCE, changes.next()).await?;
            let (change, sequence) = next.ok_or("the list of keys broke off")?;
            match change {
                Some((key, Some(revision))) => keys.insert(key, revision),
                Some((key, None)) => keys.remove(&key),
                None => None,
            };
            reached = sequence;
        }
        Ok((keys, changes))
    }

    fn subject(&self, key: &str) -> io::Result<String> {
        let subject = subject(&self.prefix, &format!("/{key}"));
        let too_long = || io::Error::new(io::ErrorKind::InvalidInput, "its name is too long for NATS");
        Ok(subject.ok_or_else(too_long)?.into_string())
    }
}

impl Changes {
    /// Returns the next change and its sequence number; `None` once changes may be missing. The change is empty if its key
    /// is not one of ours.
    pub(super) async fn next(&mut self) -> Option<(Option<Change>, u64)> {
        let message = self.messages.next().await?.ok()?;
        let sequence = message.info().ok()?.stream_sequence;
        let is_deleted = message.headers.as_ref().is_some_and(is_deletion);
        let change = path(&self.prefix, &message.subject).map(|key| (key, (!is_deleted).then_some(sequence)));
        Some((change, sequence))
    }
}

fn is_deletion(headers: &HeaderMap) -> bool {
    headers.get(OPERATION).is_some_and(|operation| operation.as_str() != "PUT")
}
