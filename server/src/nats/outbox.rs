//! Queues messages for NATS while NATS is away, and after that until the other servers are back: a server that has not
//! subscribed again would miss them.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_nats::client::PublishErrorKind;
use async_nats::connection::State as Connection;
use async_nats::{Client, HeaderMap, PublishError, Subject};
use bytes::Bytes;
use tokio::sync::Notify;

/// The maximum number of queued messages: some seconds of a busy chat.
const MAX_WAITING: usize = 2000;

/// The maximum bytes of queued messages: 2,000 messages of 8 KiB, or 256 of the largest that topics accept by default.
const MAX_BYTES: usize = 16 << 20;

/// The bytes of a queued message besides its contents: its place in the queue, its subject and its header.
const MESSAGE_BYTES: usize = 512;

/// The number of messages sent between two checks of the connection.
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
    /// Notified when messages have left the queue.
    room: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// True if messages must wait, even when connected.
    is_held: bool,
    outages: u64,
    waiting: VecDeque<Outgoing>,
    bytes: usize,
}

impl Outbox {
    /// Sends a message, or queues it. Waits while the queue is full. Messages of one caller keep their order.
    pub(super) async fn publish(&self, client: &Client, message: Outgoing) -> Result<(), PublishError> {
        if message.payload.len() > client.server_info().max_payload {
            return Err(PublishErrorKind::MaxPayloadExceeded.into());
        }
        let mut room = std::pin::pin!(self.room.notified());
        loop {
            // Register before checking for room, so that no notification is missed.
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

    /// Starts to queue messages, because the connection is lost.
    pub(super) fn hold(&self) {
        let mut state = self.state();
        state.is_held = true;
        state.outages += 1;
    }

    /// Returns the number of the last outage; 0 before the first.
    pub(super) fn outages(&self) -> u64 {
        self.state().outages
    }

    /// Sends the messages queued during that outage in order, and then stops queueing. Stops at the next outage.
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
                    tracing::warn!("lost a message queued for NATS: {error}");
                }
            }
            // An error means that the client has ended, so nothing more can be sent.
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
