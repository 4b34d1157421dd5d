//! Messages on their way to NATS. They wait here while NATS is away, and after that until the other servers are back: a
//! message is lost for a server that has not subscribed again.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_nats::client::PublishErrorKind;
use async_nats::connection::State as Connection;
use async_nats::{Client, HeaderMap, PublishError, Subject};
use bytes::Bytes;
use tokio::sync::Notify;

/// Messages of this process that may wait: some seconds of a busy chat.
const MAX_WAITING: usize = 2000;

/// Bytes that they may take: 2,000 messages of 8 KiB, or 256 of the largest that topics accept by default.
const MAX_BYTES: usize = 16 << 20;

/// What a message takes beside its contents: its place in the queue, its subject and its header.
const MESSAGE_BYTES: usize = 512;

/// Messages that are sent between two looks at the connection.
const TURN: usize = 64;

/// A message for NATS.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) subject: Subject,
    pub(crate) headers: Option<HeaderMap>,
    pub(crate) payload: Bytes,
}

#[derive(Debug, Default)]
pub(super) struct Outbox {
    state: Mutex<State>,
    /// Wakes publishers when messages have left.
    room: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Whether messages wait, connected or not.
    is_held: bool,
    outages: u64,
    waiting: VecDeque<Outgoing>,
    bytes: usize,
}

impl Outbox {
    /// Sends a message, or has it wait; waits where as many wait as may. Messages of one caller keep their order.
    pub(super) async fn publish(&self, client: &Client, message: Outgoing) -> Result<(), PublishError> {
        if message.payload.len() > client.server_info().max_payload {
            return Err(PublishErrorKind::MaxPayloadExceeded.into());
        }
        let mut room = std::pin::pin!(self.room.notified());
        loop {
            // Before the look: what leaves after it is not missed.
            room.as_mut().enable();
            {
                let mut state = self.state();
                if !state.is_held && state.waiting.is_empty() && is_connected(client) {
                    break;
                }
                if state.has_room() {
                    state.push(message);
                    return Ok(());
                }
            }
            room.as_mut().await;
            room.set(self.room.notified());
        }
        send(client, message).await
    }

    /// The connection is lost: from now on messages wait.
    pub(super) fn hold(&self) {
        let mut state = self.state();
        state.is_held = true;
        state.outages += 1;
    }

    /// The number of the last outage; 0 before the first.
    pub(super) fn outages(&self) -> u64 {
        self.state().outages
    }

    /// Sends what waits after that outage, in its order, and then lets messages pass; stops at the next outage.
    pub(super) async fn release(&self, client: &Client, outage: u64) {
        loop {
            let turn: Vec<Outgoing> = {
                let mut state = self.state();
                if state.outages != outage || !is_connected(client) {
                    return;
                }
                state.is_held = !state.waiting.is_empty();
                (0..TURN).map_while(|_| state.pop()).collect()
            };
            self.room.notify_waiters();
            if turn.is_empty() {
                return;
            }
            for message in turn {
                if let Err(error) = send(client, message).await {
                    tracing::warn!("a message that waited for NATS is lost: {error}");
                }
            }
            // An error says that the client has ended, and with it all that could be sent.
            let _ = client.flush().await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn has_room(&self) -> bool {
        self.waiting.len() < MAX_WAITING && self.bytes < MAX_BYTES
    }

    fn push(&mut self, message: Outgoing) {
        self.bytes += message.payload.len() + MESSAGE_BYTES;
        self.waiting.push_back(message);
    }

    fn pop(&mut self) -> Option<Outgoing> {
        let message = self.waiting.pop_front()?;
        self.bytes -= message.payload.len() + MESSAGE_BYTES;
        Some(message)
    }
}

async fn send(client: &Client, message: Outgoing) -> Result<(), PublishError> {
    let Outgoing { subject, headers, payload } = message;
    match headers {
        Some(headers) => client.publish_with_headers(subject, headers, payload).await,
        None => client.publish(subject, payload).await,
    }
}

fn is_connected(client: &Client) -> bool {
    client.connection_state() == Connection::Connected
}
