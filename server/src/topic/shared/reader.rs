//! The task that reads the stream of a topic into its ring: each message once, in the order of the stream.

use std::sync::Weak;

use async_nats::header::NATS_MESSAGE_ID;
use async_nats::jetstream::Message as Stored;
use async_nats::jetstream::consumer::push::Messages;
use futures_util::StreamExt;
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{debug, error};

use crate::topic::payload::decode;
use crate::topic::ring::Ring;

use super::stream::{RETRY, TopicStream};

pub(super) struct Reader {
    pub(super) topic_stream: TopicStream,
    pub(super) epoch: Box<str>,
    /// The number of the next message.
    pub(super) next: u64,
    pub(super) ring: Weak<Ring>,
    /// How the ids of this topic's own messages begin.
    pub(super) sender: String,
    pub(super) has_reached: watch::Sender<u64>,
    pub(super) gaps: watch::Receiver<()>,
}

impl Reader {
    /// Reads until the topic ends.
    pub(super) async fn run(mut self, mut messages: Messages) {
        loop {
            if self.read(&mut messages).await.is_none() {
                return;
            }
            messages = loop {
                match self.topic_stream.resume(&self.epoch, self.next).await {
                    Ok(Some(messages)) => break messages,
                    Ok(None) => {
                        error!(
                            stream = self.topic_stream.stream,
                            "a topic is lost: its stream is gone or another one"
                        );
                        if let Some(ring) = self.ring.upgrade() {
                            ring.lose();
                        }
                        return;
                    }
                    Err(why) => {
                        debug!(stream = self.topic_stream.stream, "a topic cannot be read: {why}");
                        sleep(RETRY).await;
                    }
                }
            };
        }
    }

    /// Reads until messages may be missing; `None` if the topic has ended.
    async fn read(&mut self, messages: &mut Messages) -> Option<()> {
        let mut is_first = true;
        loop {
            let message = tokio::select! {
                biased;
                Ok(()) = self.gaps.changed() => return Some(()),
                message = messages.next() => message,
            };
            let Some(Ok(message)) = message else { return Some(()) };
            let Ok(number) = message.info().map(|info| info.stream_sequence) else { return Some(()) };
            if number < self.next {
                continue;
            }
            // Dropped on the way, unless it is the first: those before it are no longer in the stream.
            if number > self.next && !is_first {
                return Some(());
            }
            is_first = false;
            let from = self.from(&message);
            self.ring.upgrade()?.deliver(decode(message.message), from, number);
            self.next = number + 1;
            self.has_reached.send_replace(number);
        }
    }

    /// Returns the subscriber that sent a message, if it is one of this topic in this process.
    fn from(&self, message: &Stored) -> Option<u64> {
        let id = message.headers.as_ref()?.get(NATS_MESSAGE_ID)?;
        id.as_str().strip_prefix(&self.sender)?.split_once('-')?.0.parse().ok()
    }
}
