//! Connects a handler's virtual socket to its link's task: two queues, and the tasks that wait for them.
//!
//! An idle pipe holds no buffers. The handler's side locks it, and signals the link through a list that all
//! pipes of a link share, so that the link's task looks at those only that have something to say.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use manysocket_protocol::{Channel, Close, MESSAGE_OVERHEAD, Message};

use crate::budget::{ALLOCATION, Budget, Reservation};
use crate::metrics::stats::Counted;

/// A handler's `send` waits while its messages that have not been passed on weigh this much: enough to keep the link
/// busy while the handler is being woken, little enough that a thousand stalled sockets cost 64 MiB.
const SEND_LIMIT: u32 = 64 * 1024;

/// Consumption is reported when it adds up to this: a quarter of the default window, so that the sender's credit
/// comes back in time and the link is not woken for each message.
const REPORT: u32 = 64 * 1024;

/// The memory of an idle channel: this pipe, its places in the link's tables, and the task of its handler. 10,000
/// channels of the demo's echo take 1.2 KiB each; a handler's data is the application's.
const CHANNEL: usize = 1024;

/// Places that the queue of a reader keeps, so that a reader in step with its page allocates nothing.
const KEPT_PLACES: usize = 16;

/// The unanswered pings and the unread pongs of a channel. Further pings get no answer, and of further pongs the latest is kept
/// (RFC 6455 §5.5.3): a handler may ping for days and never read.
const KEPT_PONGS: usize = 128;

/// The memory of a ping: its largest payload (RFC 6455 §5.5), and places in two queues.
const PING: usize = 125 + ALLOCATION + 128;

/// The pipes of a link that have something for its task.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    channels: Mutex<Vec<Channel>>,
    link: AtomicWaker,
}

impl Signals {
    fn signal(&self, channel: Channel) {
        let mut channels = lock(&self.channels);
        channels.push(channel);
        // The first one wakes the link; it takes the whole list.
        if channels.len() == 1 {
            drop(channels);
            self.link.wake();
        }
    }

    /// Takes the list, and has the link's task woken when there is something on it again.
    pub(crate) fn take(&self, cx: &Context<'_>) -> Vec<Channel> {
        self.link.register(cx.waker());
        mem::take(&mut lock(&self.channels))
    }
}

/// An item that a reader finds.
#[derive(Debug)]
pub(crate) enum Incoming {
    Message(Message),
    /// The browser's answer to a ping of the handler.
    Pong(Bytes),
    /// The page closed; the answer is still to be sent if this side has not closed.
    Close(Close),
    /// The channel or its link ended without a closing handshake.
    Lost,
    /// The page sent more than [`Settings::max_message`](manysocket_protocol::Settings::max_message).
    Oversize,
}

/// How this side ends.
#[derive(Debug)]
enum End {
    No,
    /// After the messages already sent.
    Close(Close),
    /// Passed on to the link.
    Passed,
}

#[derive(Debug)]
struct State {
    incoming: VecDeque<Incoming>,
    reader: Option<Waker>,
    read_messages: u32,
    read_units: u32,
    /// Bytes of the messages that wait for the reader, and of the one that it works at.
    incoming_bytes: usize,
    reading_cost: usize,
    unread_pongs: usize,

    outgoing: VecDeque<Message>,
    outgoing_weight: u32,
    /// The handler's pings, each with the number of outgoing messages before it.
    pings: VecDeque<(usize, Bytes)>,
    /// Pings that the link has taken and that have no pong.
    unanswered_pings: usize,
    /// The memory of this pipe, and its parts: outgoing messages, and messages that the link has taken and may still hold.
    share: Reservation,
    outgoing_cost: usize,
    taken_cost: usize,
    writer: Option<Waker>,
    end: End,
    /// The page has closed, so nothing that is sent can arrive any more.
    peer_closed: bool,
    /// Set once the reader has seen the end of the channel, or the page is gone.
    end_delivered: bool,
    signalled: bool,
}

impl State {
    /// Whether the handler may send.
    fn is_open(&self) -> bool {
        !self.end_delivered && matches!(self.end, End::No)
    }

    /// Counts the memory that the pipe holds.
    fn account(&mut self) {
        let places = self.incoming.capacity() * size_of::<Incoming>() + self.incoming.len() * ALLOCATION;
        let incoming = self.incoming_bytes + places + self.reading_cost;
        let pings = (self.pings.len() + self.unanswered_pings) * PING;
        self.share.set(CHANNEL + incoming + self.outgoing_cost + self.taken_cost + pings);
    }
}

/// The pipe of one channel.
#[derive(Debug)]
pub(crate) struct Pipe {
    channel: Channel,
    signals: Arc<Signals>,
    state: Mutex<State>,
    _counted: Counted,
}

/// The output of a pipe for its link.
pub(crate) struct Outgoing {
    /// Pings for which the link has sent all that the handler had sent before.
    pub(crate) pings: Vec<Bytes>,
    pub(crate) messages: VecDeque<Message>,
    /// How many messages the handler has read, and their units.
    pub(crate) consumed: (u32, u32),
    pub(crate) close: Option<Close>,
}

impl Pipe {
    pub(crate) fn new(
        channel: Channel,
        signals: Arc<Signals>,
        counted: Counted,
        budget: Arc<Budget>,
    ) -> Self {
        let mut state = State {
            incoming: VecDeque::new(),
            reader: None,
            read_messages: 0,
            read_units: 0,
            incoming_bytes: 0,
            reading_cost: 0,
            unread_pongs: 0,
            outgoing: VecDeque::new(),
            outgoing_weight: 0,
            pings: VecDeque::new(),
            unanswered_pings: 0,
            share: Reservation::new(budget),
            outgoing_cost: 0,
            taken_cost: 0,
            writer: None,
            end: End::No,
            peer_closed: false,
            end_delivered: false,
            signalled: false,
        };
        state.account();
        Self { channel, signals, state: Mutex::new(state), _counted: counted }
    }

    // ---- the handler's side ----

    /// A part of the link's memory, for messages that the handler keeps.
    pub(crate) fn reservation(&self) -> Reservation {
        lock(&self.state).share.beside()
    }

    /// The next message, or the end.
    pub(crate) fn poll_read(&self, cx: &Context<'_>) -> Poll<Incoming> {
        let mut state = lock(&self.state);
        // The reader is done with the message before.
        state.reading_cost = 0;
        let Some(incoming) = state.incoming.pop_front() else {
            state.account();
            state.reader = Some(cx.waker().clone());
            return Poll::Pending;
        };
        let (length, capacity) = (state.incoming.len(), state.incoming.capacity());
        if length == 0 {
            state.incoming = VecDeque::new();
        } else if capacity > KEPT_PLACES && length < capacity / 4 {
            state.incoming.shrink_to(capacity / 2);
        }
        match &incoming {
            Incoming::Message(message) => {
                if state.peer_closed {
                    // It is on its way to the close.
                    state.outgoing_weight = 0;
                }
                state.incoming_bytes -= content(message);
                state.reading_cost = Reservation::cost(content(message));
                state.account();
                state.read_messages += 1;
                state.read_units = state.read_units.saturating_add(message.units());
                if state.read_units.saturating_add(MESSAGE_OVERHEAD * state.read_messages) >= REPORT {
                    self.signal(state);
                }
            }
            Incoming::Pong(payload) => {
                state.unread_pongs -= 1;
                state.incoming_bytes -= payload.len();
                state.account();
            }
            Incoming::Close(_) | Incoming::Lost | Incoming::Oversize => state.end_delivered = true,
        }
        Poll::Ready(incoming)
    }

    /// Ready when a message may be sent, or would be lost anyway.
    pub(crate) fn poll_writable(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = lock(&self.state);
        if state.outgoing_weight < SEND_LIMIT || state.peer_closed {
            Poll::Ready(())
        } else {
            state.writer = Some(cx.waker().clone());
            Poll::Pending
        }
    }

    /// Sends a message; false if the channel has closed.
    pub(crate) fn write(&self, message: Message) -> bool {
        let mut state = lock(&self.state);
        if !state.is_open() {
            return false;
        }
        let has_room = state.outgoing_weight < SEND_LIMIT;
        state.outgoing_weight = state.outgoing_weight.saturating_add(weight(&message));
        if state.peer_closed {
            // On a native connection, too, this goes out before the handler reads of the close; a page that has
            // closed drops it. An error would have the handler give up before it comes to answer. One that does not
            // read gets it after as much as it could have sent without, or it would go on for ever.
            return has_room;
        }
        state.outgoing_cost += Reservation::cost(content(&message));
        state.outgoing.push_back(message);
        state.account();
        self.signal(state);
        true
    }

    /// Returns whether the handler may send.
    pub(crate) fn is_open(&self) -> bool {
        lock(&self.state).is_open()
    }

    /// Sends a ping after the messages already sent; false if the channel has closed.
    pub(crate) fn ping(&self, payload: Bytes) -> bool {
        let mut state = lock(&self.state);
        if !state.is_open() {
            return false;
        }
        state.outgoing_weight = state.outgoing_weight.saturating_add(MESSAGE_OVERHEAD);
        if !state.peer_closed {
            let place = state.outgoing.len();
            state.pings.push_back((place, payload));
            state.account();
            self.signal(state);
        }
        true
    }

    /// Closes this side after the messages already sent; false if it had been closed.
    pub(crate) fn close(&self, close: Close) -> bool {
        let mut state = lock(&self.state);
        if !matches!(state.end, End::No) {
            return false;
        }
        state.end = End::Close(close);
        self.signal(state);
        true
    }

    // ---- the link's side ----

    /// Hands something that came from the page to the reader.
    pub(crate) fn push(&self, incoming: Incoming) {
        let mut state = lock(&self.state);
        let mut writer = None;
        if let Incoming::Message(message) = &incoming {
            state.incoming_bytes += content(message);
        } else {
            // The page has closed: messages for it have no receiver.
            state.peer_closed = true;
            state.end_delivered |= !matches!(incoming, Incoming::Close(_));
            state.outgoing = VecDeque::new();
            state.outgoing_weight = 0;
            state.outgoing_cost = 0;
            state.pings = VecDeque::new();
            writer = state.writer.take();
        }
        state.incoming.push_back(incoming);
        state.account();
        let reader = state.reader.take();
        drop(state);
        for waker in reader.into_iter().chain(writer) {
            waker.wake();
        }
    }

    /// Hands the browser's answer to a ping to the reader.
    pub(crate) fn pong(&self, payload: Bytes) {
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        state.unanswered_pings -= 1;
        if !state.peer_closed {
            state.incoming_bytes += payload.len();
            match state.incoming.back_mut() {
                Some(Incoming::Pong(last)) if state.unread_pongs >= KEPT_PONGS => {
                    state.incoming_bytes -= mem::replace(last, payload).len();
                }
                _ => {
                    state.unread_pongs += 1;
                    state.incoming.push_back(Incoming::Pong(payload));
                }
            }
        }
        state.account();
        let reader = state.reader.take();
        drop(guard);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Takes the handler's output for the link: messages and pings only if `room` says that the link has sent those it took
    /// before.
    pub(crate) fn take(&self, room: bool) -> Outgoing {
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        state.signalled = false;
        let (mut pings, mut messages) = (Vec::new(), VecDeque::new());
        if room {
            let due = state.pings.iter().take_while(|(place, _)| *place == 0).count();
            let answerable = KEPT_PONGS - state.unanswered_pings;
            pings.extend(state.pings.drain(..due).take(answerable).map(|(_, payload)| payload));
            state.unanswered_pings += pings.len();
            // The messages taken before have been sent.
            state.taken_cost = mem::take(&mut state.outgoing_cost);
            state.outgoing_weight = 0;
            messages = mem::take(&mut state.outgoing);
            if let Some(&(place, _)) = state.pings.front() {
                state.outgoing = messages.split_off(place);
                state.pings.iter_mut().for_each(|(other, _)| *other -= place);
                let rest = state.outgoing.iter();
                let (sum, cost) = rest.fold((0, 0), |(sum, cost), message| {
                    (sum + weight(message), cost + Reservation::cost(content(message)))
                });
                state.outgoing_weight = sum + MESSAGE_OVERHEAD * state.pings.len() as u32;
                (state.outgoing_cost, state.taken_cost) = (cost, state.taken_cost - cost);
            }
            state.account();
        }
        let consumed = (mem::take(&mut state.read_messages), mem::take(&mut state.read_units));
        let close = match mem::replace(&mut state.end, End::Passed) {
            End::Close(close) if state.outgoing.is_empty() && state.pings.is_empty() => Some(close),
            other => {
                state.end = other;
                None
            }
        };
        let writer = if room { state.writer.take() } else { None };
        drop(guard);
        if let Some(writer) = writer {
            writer.wake();
        }
        Outgoing { pings, messages, consumed, close }
    }

    fn signal(&self, mut state: MutexGuard<'_, State>) {
        if !mem::replace(&mut state.signalled, true) {
            drop(state);
            self.signals.signal(self.channel);
        }
    }
}

/// Returns the weight of a message to be sent: its bytes, and no less than an empty one costs. Its units would have to be
/// counted.
pub(crate) fn weight(message: &Message) -> u32 {
    u32::try_from(content(message)).unwrap_or(u32::MAX).max(MESSAGE_OVERHEAD)
}

/// The bytes of a message's content.
pub(crate) fn content(message: &Message) -> usize {
    let (Message::Text(bytes) | Message::Binary(bytes)) = message;
    bytes.len()
}

/// A panic while one of these locks is held would be a bug; the data stays consistent at every step, so others go on.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
