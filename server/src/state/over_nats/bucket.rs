//! A key-value bucket of NATS' JetStream: what is in it, what is written where nobody else has written, what changes.
//!
//! It is a stream with a message for each key, as other programs that know such buckets expect it.

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

/// How long NATS may take for one request. It answers in milliseconds unless it is electing a leader, which takes seconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the header of a write takes of the room of its message, and some to spare.
const HEADER_BYTES: usize = 256;

/// Stands on a message that says that a key has been deleted.
const OPERATION: &str = "KV-Operation";

pub(super) struct Bucket {
    nats: Nats,
    context: Context,
    stream: Stream,
    /// The first tokens of the subjects of its keys.
    prefix: String,
}

/// What became of a write.
pub(super) enum Written {
    /// It is kept, under this revision.
    Kept(u64),
    /// Somebody else has written since the revision that it was for.
    Late,
    /// NATS has not taken it, for this reason.
    Refused(String),
    /// It may be kept or not.
    Unknown,
}

/// A key that has been written, and its revision; `None` if it was deleted.
pub(super) type Change = (String, Option<u64>);

/// What happens in a bucket, in its order.
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
            // Reading what one has just been told of must not give what was there before: the leader knows, others may not yet.
            allow_direct: false,
            ..Config::default()
        };
        let stream = context.get_or_create_stream(config).await.map_err(|error| {
            io::Error::other(format!("cannot open the bucket {name:?} of NATS' JetStream: {error}"))
        })?;
        Ok(Self { nats: nats.clone(), context, stream, prefix })
    }

    /// The largest value that NATS takes.
    pub(super) fn max_value(&self) -> usize {
        self.nats.client().server_info().max_payload.saturating_sub(HEADER_BYTES)
    }

    /// The newest value of a key, if there is one, and the revision that a write has to name.
    pub(super) async fn get(&self, key: &str) -> io::Result<(u64, Option<Bytes>)> {
        let subject = self.subject(key)?;
        self.check()?;
        match self.ask(self.stream.get_last_raw_message_by_subject(&subject)).await? {
            Ok(message) if is_deletion(&message.headers) => Ok((message.sequence, None)),
            Ok(message) => Ok((message.sequence, Some(message.payload))),
            Err(error) if matches!(error.kind(), LastRawMessageErrorKind::NoMessageFound) => Ok((0, None)),
            Err(error) => Err(io::Error::other(format!("NATS: {error}"))),
        }
    }

    /// Writes a value, unless somebody has written since `revision`.
    pub(super) async fn put(&self, key: &str, value: Vec<u8>, revision: u64) -> Written {
        let subject = match self.check().and_then(|()| self.subject(key)) {
            Ok(subject) => subject,
            Err(error) => return Written::Refused(error.to_string()),
        };
        let message = PublishMessage::build().payload(value.into()).expected_last_subject_sequence(revision);
        let written = async {
            match self.context.send_publish(subject, message).await {
                Ok(acknowledged) => acknowledged.await,
                Err(error) => Err(error),
            }
        };
        match self.ask(written).await {
            Err(_) => Written::Unknown,
            Ok(Ok(acknowledged)) => Written::Kept(acknowledged.sequence),
            Ok(Err(error)) => match error.kind() {
                PublishErrorKind::WrongLastSequence => Written::Late,
                PublishErrorKind::TimedOut | PublishErrorKind::BrokenPipe => Written::Unknown,
                _ => Written::Refused(format!("NATS: {error}")),
            },
        }
    }

    /// All keys with their revisions, and what happens after.
    pub(super) async fn follow(&self) -> io::Result<(HashMap<String, u64>, Changes)> {
        self.check()?;
        self.ask(self.begin_to_follow()).await?.map_err(|error| io::Error::other(format!("NATS: {error}")))
    }

    async fn begin_to_follow(&self) -> Result<(HashMap<String, u64>, Changes), async_nats::Error> {
        let state = self.stream.get_info().await?.state;
        let consumer = self.stream.create_consumer(OrderedConfig {
            deliver_subject: self.nats.client().new_inbox(),
            filter_subject: format!("{}.>", self.prefix),
            // Of each key there is only the newest message.
            deliver_policy: DeliverPolicy::All,
            replay_policy: ReplayPolicy::Instant,
            headers_only: true,
            ..OrderedConfig::default()
        });
        let messages = consumer.await?.messages().await?;
        let (mut keys, mut changes) = (HashMap::new(), Changes { messages, prefix: self.prefix.clone() });
        // The last message is there, or a later one of the same key. What the consumer says is pending counts those, too, that
        // are replaced before they come.
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

    /// Waits for an answer, unless that was for a connection that is no more.
    async fn ask<T>(&self, request: impl Future<Output = T>) -> io::Result<T> {
        let mut gaps = self.nats.gaps();
        gaps.mark_unchanged();
        tokio::select! {
            answer = request => Ok(answer),
            Ok(()) = gaps.changed() => Err(io::Error::other("the connection to NATS was lost meanwhile")),
        }
    }

    fn subject(&self, key: &str) -> io::Result<String> {
        let subject = subject(&self.prefix, &format!("/{key}"));
        let too_long = || io::Error::new(io::ErrorKind::InvalidInput, "its name is too long for NATS");
        Ok(subject.ok_or_else(too_long)?.into_string())
    }

    /// What is sent while NATS is away waits in the client, and comes as a surprise later.
    fn check(&self) -> io::Result<()> {
        if self.nats.is_connected() { Ok(()) } else { Err(io::Error::other("NATS is away")) }
    }
}

impl Changes {
    /// The next one, and its place in the bucket's order; `None` when it is not certain that all will come. A change of a key
    /// that is none of ours is empty.
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
