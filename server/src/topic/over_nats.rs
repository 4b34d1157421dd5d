//! A topic on NATS: publications are sent there, and arrive from there at every process with subscribers.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{PublishError, Subject, Subscriber};
use axum::extract::ws::Message;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::watch;
use tokio::task::unconstrained;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

pub(super) use crate::nats::Nats;
use crate::nats::{Outgoing, subject};

use super::not_taken::NotTaken;
use super::payload::{decode, encode};
use super::ring::Ring;

/// The first tokens of the subjects of topics.
const PREFIX: &str = "manysocket.topic";

/// How long a publisher waits for NATS to take a message. While NATS is away, 2,000 wait for it; then publishers do, and after
/// this they get an error.
const PATIENCE: Duration = Duration::from_secs(10);

/// A topic's subscription. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Remote {
    nats: Nats,
    subject: Subject,
    /// Whether the subscription has been sent: later publications come back, too.
    has_joined: watch::Receiver<bool>,
    _reader: AbortOnDropHandle<()>,
}

impl Remote {
    /// Subscribes for a topic; messages go into its ring. `None` if its path is too long for NATS.
    pub(super) fn join(nats: &Nats, path: &str, ring: Arc<Ring>) -> Option<Self> {
        let subject = topic_subject(path)?;
        // At once, if the client has room: then the server's next publication comes back, too.
        let subscribing = unconstrained(nats.client().subscribe(subject.clone()));
        let subscriber = subscribing.now_or_never().and_then(Result::ok);
        let (joined, has_joined) = watch::channel(subscriber.is_some());
        let reader = tokio::spawn(read(nats.clone(), subject.clone(), subscriber, joined, ring));
        let _reader = AbortOnDropHandle::new(reader);
        Some(Self { nats: nats.clone(), subject, has_joined, _reader })
    }

    /// Waits until the subscription has been sent, for as long as a publisher would.
    pub(super) async fn joined(&self) {
        let _ = timeout(PATIENCE, self.has_joined.clone().wait_for(|joined| *joined)).await;
    }

    /// Gives a message to the subscribers in all processes, those of this one included.
    pub(super) async fn publish(&self, message: Message) -> Result<(), NotTaken> {
        let taken = timeout(PATIENCE, async {
            // An error says that the client is at its end, and so will the next line.
            let _ = self.has_joined.clone().wait_for(|joined| *joined).await;
            send(&self.nats, self.subject.clone(), message).await
        });
        match taken.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) if error.kind() == async_nats::client::PublishErrorKind::MaxPayloadExceeded => {
                Err(NotTaken::TooLarge)
            }
            Ok(Err(_)) | Err(_) => Err(NotTaken::Away),
        }
    }
}

/// Publishes from the server without waiting, on a topic that need have no subscriber here.
pub(super) fn publish_now(nats: &Nats, path: &str, message: Message) {
    let Some(subject) = topic_subject(path) else {
        warn!(path, "a message is lost: the topic's path is too long for NATS");
        return;
    };
    // Unconstrained: that the task has used up its turn must not look like a client that is full.
    match unconstrained(send(nats, subject, message)).now_or_never() {
        Some(Ok(())) => {}
        Some(Err(error)) => warn!(path, "a message is lost: {error}"),
        None => warn!(path, "a message is lost: too many wait for NATS"),
    }
}

/// The subject of a topic, if its path is short enough for one.
pub(super) fn topic_subject(path: &str) -> Option<Subject> {
    subject(PREFIX, path)
}

async fn send(nats: &Nats, subject: Subject, message: Message) -> Result<(), PublishError> {
    let (headers, payload) = encode(message);
    nats.publish(Outgoing { subject, headers, payload }).await
}

async fn read(
    nats: Nats,
    subject: Subject,
    subscriber: Option<Subscriber>,
    joined: watch::Sender<bool>,
    ring: Arc<Ring>,
) {
    let mut gaps = nats.gaps();
    let mut messages = match subscriber {
        Some(messages) => messages,
        None => match nats.client().subscribe(subject).await {
            Ok(messages) => messages,
            Err(error) => return warn!("a topic cannot be subscribed to on NATS: {error}"),
        },
    };
    joined.send_replace(true);
    loop {
        tokio::select! {
            biased;
            // Before the messages after it.
            Ok(()) = gaps.changed() => drop(ring.gap()),
            message = messages.next() => match message {
                Some(message) => drop(ring.publish(decode(message), None)),
                None => return,
            },
        }
    }
}
