//! One link as sockets and its driver share it: the protocol's client and the state of each socket, under one lock.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use futures_util::task::AtomicWaker;
use manysocket_protocol::client::{Client, Failure, SocketClose, SocketEvent};
use manysocket_protocol::{Channel, Message, Millis, Settings};
use slab::Slab;
use tokio::time::Instant;

use super::Carrier;

/// How long a link without sockets stays open, as in the page's client: long enough for an application that closes one
/// socket and opens the next, short enough that an idle program holds no connection.
const IDLE_TIMEOUT: Millis = 10_000;

/// Bytes of a socket that may wait before its sink accepts no more. As the server's pipes: it keeps the link busy while
/// the program wakes.
const SEND_BUFFER: u64 = 64 * 1024;

/// One link: the state that its sockets and its driver share.
#[derive(Debug)]
pub(super) struct Link {
    state: Mutex<State>,
    /// Wakes the driver when there is something to send.
    pub(super) driver: AtomicWaker,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) client: Client<usize>,
    pub(super) sockets: Slab<SocketState>,
    started: Instant,
    /// The kind of connection under the link; `None` while there is none.
    pub(super) carrier: Option<Carrier>,
    /// Bytes that the physical WebSocket and its carrier buffer.
    pub(super) unflushed: u64,
    /// Those of the carrier.
    pub(super) untaken: u64,
    /// Sockets whose sinks wait for room or for a flush.
    blocked: Vec<usize>,
    /// No socket opens over this link any more.
    pub(super) has_ended: bool,
}

/// The state of a socket that the application sees.
#[derive(Debug, Default)]
pub(super) struct SocketState {
    /// `None` once the channel has ended: its number may be another's.
    pub(super) channel: Option<Channel>,
    /// The subprotocol, once the server has accepted the socket.
    pub(super) opened: Option<String>,
    /// The application has closed the socket.
    pub(super) closing: bool,
    pub(super) incoming: VecDeque<Message>,
    failure: Option<Failure>,
    pub(super) ended: Option<Ended>,
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// Tasks that wait until the socket opens or ends.
    watchers: Vec<Waker>,
    /// Nobody holds the socket any more.
    orphan: bool,
}

/// How a socket ended.
#[derive(Debug, Clone)]
pub(super) struct Ended {
    pub(super) close: SocketClose,
    pub(super) failure: Option<Failure>,
    /// The stream has returned the error.
    pub(super) reported: bool,
}

impl Link {
    pub(super) fn new(settings: Settings) -> Self {
        let state = State {
            client: Client::new(settings, Some(IDLE_TIMEOUT), 0),
            sockets: Slab::new(),
            started: Instant::now(),
            carrier: None,
            unflushed: 0,
            untaken: 0,
            blocked: Vec::new(),
            has_ended: false,
        };
        Self { state: Mutex::new(state), driver: AtomicWaker::new() }
    }

    /// Locks the state. A panic while it is held would be a bug; each change leaves it consistent, so others go on.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    pub(super) fn now(&self) -> Millis {
        Millis::try_from(self.started.elapsed().as_millis()).unwrap_or(Millis::MAX)
    }

    /// Returns when the driver has to call `handle_timeout`.
    pub(super) fn timeout(&self) -> Option<Instant> {
        self.client.poll_timeout().map(|at| self.started + std::time::Duration::from_millis(at))
    }

    /// Opens a socket, and returns its place.
    pub(super) fn open(&mut self, target: &str, protocols: &str, headers: &str) -> usize {
        let id = self.sockets.insert(SocketState::default());
        let now = self.now();
        self.sockets[id].channel = self.client.open_with(now, id, target, protocols, headers);
        id
    }

    /// Gives the events of the protocol to the sockets. Returns the tasks to wake once the lock is released.
    #[must_use]
    pub(super) fn deliver(&mut self) -> Vec<Waker> {
        let mut wakers = Vec::new();
        while let Some(event) = self.client.poll_event() {
            match event {
                // A program has no store of cookies.
                SocketEvent::Cookies { .. } => {}
                SocketEvent::Open { key, protocol } => {
                    let socket = &mut self.sockets[key];
                    socket.opened = Some(protocol);
                    wakers.append(&mut socket.watchers);
                    wakers.extend(socket.writer.take());
                }
                SocketEvent::Message { key, message } => {
                    let socket = &mut self.sockets[key];
                    if socket.closing {
                        // As in a page: nothing arrives once the application has closed the socket. The server gets its
                        // credit back, or its Close could wait behind messages that nobody reads.
                        if let Some(channel) = socket.channel {
                            self.client.consumed(channel, message.units());
                        }
                        continue;
                    }
                    socket.incoming.push_back(message);
                    wakers.extend(socket.reader.take());
                }
                SocketEvent::Error { key, failure } => self.sockets[key].failure = Some(failure),
                SocketEvent::Close { key, close, .. } => {
                    let socket = &mut self.sockets[key];
                    socket.channel = None;
                    let failure = socket.failure.take();
                    socket.ended = Some(Ended { close, failure, reported: false });
                    wakers.append(&mut socket.watchers);
                    wakers.extend(socket.reader.take());
                    wakers.extend(socket.writer.take());
                    if socket.orphan {
                        self.sockets.remove(key);
                    }
                }
            }
        }
        wakers
    }

    /// Returns the writers that may go on, after something was sent.
    #[must_use]
    pub(super) fn unblock(&mut self) -> Vec<Waker> {
        let mut wakers = Vec::new();
        for id in mem::take(&mut self.blocked) {
            wakers.extend(self.sockets.get_mut(id).and_then(|socket| socket.writer.take()));
        }
        wakers
    }

    /// Closes a socket, and returns the credit of unread messages.
    pub(super) fn close(&mut self, id: usize, code: Option<u16>, reason: &str) {
        let now = self.now();
        let socket = &mut self.sockets[id];
        let Some(channel) = socket.channel.filter(|_| !socket.closing) else { return };
        socket.closing = true;
        for message in &socket.incoming {
            self.client.consumed(channel, message.units());
        }
        self.client.close(now, channel, code, reason);
    }

    /// Nobody holds the socket any more: it is closed, and forgotten once it has ended.
    pub(super) fn abandon(&mut self, id: usize) {
        self.close(id, None, "");
        let socket = &mut self.sockets[id];
        socket.orphan = true;
        socket.incoming = VecDeque::new();
        if socket.ended.is_some() {
            self.sockets.remove(id);
        }
    }

    /// Returns the bytes of a socket that the network has not carried.
    pub(super) fn buffered_amount(&mut self, id: usize) -> u64 {
        let unflushed = self.unflushed;
        self.sockets[id].channel.map_or(0, |channel| self.client.buffered_amount(channel, unflushed))
    }

    /// Returns whether a socket may have more to send. Bytes in the carrier are no reason to wait: it takes more when it has room.
    pub(super) fn has_room(&self, id: usize) -> bool {
        let buffered = self.unflushed.saturating_sub(self.untaken);
        let channel = self.sockets[id].channel;
        channel.is_none_or(|channel| self.client.waiting_amount(channel, buffered) < SEND_BUFFER)
    }

    /// Takes the oldest message, and reports it as read.
    pub(super) fn take_message(&mut self, id: usize) -> Option<Message> {
        let socket = &mut self.sockets[id];
        let message = socket.incoming.pop_front()?;
        if let Some(channel) = socket.channel.filter(|_| !socket.closing) {
            self.client.consumed(channel, message.units());
        }
        Some(message)
    }

    pub(super) fn wait_to_read(&mut self, id: usize, cx: &Context<'_>) {
        self.sockets[id].reader = Some(cx.waker().clone());
    }

    pub(super) fn wait_to_write(&mut self, id: usize, cx: &Context<'_>) {
        self.sockets[id].writer = Some(cx.waker().clone());
        self.blocked.push(id);
    }

    pub(super) fn watch(&mut self, id: usize, cx: &Context<'_>) {
        let watchers = &mut self.sockets[id].watchers;
        if !watchers.iter().any(|watcher| watcher.will_wake(cx.waker())) {
            watchers.push(cx.waker().clone());
        }
    }
}
