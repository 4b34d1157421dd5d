//! One connection and the sockets over it.

use std::collections::VecDeque;

use super::redial::Redial;
use super::{Failure, Host, SocketClose, SocketEvent, Source, Unsent};
use crate::connection::{Connection, ConnectionEvent, FAILED, MAX_REASON, Span};
use crate::side::Side;
use crate::transmit::{Batch, Payload, Transmit};
use crate::violation::Rule;
use crate::{Channel, Kind, Millis, Settings, Violation};

mod timeouts;

pub use timeouts::Timeout;

/// How long a socket waits for the answer to its open: as long as Chromium waits for a native one.
const OPENING: Millis = 240_000;

/// How long a socket waits for the answer to its close once all before it has left: as long as Chromium waits natively.
const CLOSING: Millis = 60_000;

/// How long an open over a silent link waits before the server is asked for a sign of life. A native socket takes a round trip or
/// three; answers that take longer are those of slow handlers.
const UNANSWERED: Millis = 2_000;

/// The close code for a message that is larger than this side accepts (RFC 6455 §7.4.1).
const TOO_LARGE: u16 = 1009;

/// The close code that a socket reports whose server gave none (RFC 6455 §7.4.1).
const NO_CODE: u16 = 1005;

/// The close code that stands for "no closing handshake" (RFC 6455 §7.4.1).
const ABORTED: u16 = 1006;

/// One connection and the sockets over it. See the [module](super) for how to drive it.
pub struct Link<H: Host> {
    pub(super) connection: Connection<H::Payload>,
    /// The socket of channel `n` is at `n - 1`.
    entries: Vec<Option<Entry<H>>>,
    sockets: usize,
    events: VecDeque<SocketEvent<H::Key, H::Message>>,
    /// No socket's deadline is before it.
    earliest_deadline: Option<Millis>,
    /// The number of sockets that have one.
    deadlines: usize,
    /// When an open has been unanswered for too long on a link that has been silent since.
    pub(super) silent_at: Option<Millis>,
    /// Whether the server has been asked for a sign of life because of that.
    is_probed: bool,
    idle_timeout: Option<Millis>,
    /// Since when no socket uses the link.
    idle_since: Option<Millis>,
    /// Bytes ever handed to the physical WebSocket.
    handed: u64,
    /// While the link waits for another connection.
    pub(super) redial: Option<Redial>,
}

/// A socket that has not ended.
struct Entry<H: Host> {
    key: H::Key,
    /// The offered subprotocols, separated by commas.
    offered: String,
    is_open: bool,
    /// When the socket has waited too long for the server: for the answer to its open or to its close.
    deadline: Option<Millis>,
    /// The pieces of a message that has not ended.
    pieces: Vec<H::Message>,
    unsent: Unsent,
}

impl<H: Host> Link<H> {
    /// Makes a link that is about to be dialled. `idle_timeout`: the milliseconds for which it stays open without sockets;
    /// `None`: for ever.
    pub fn new(settings: Settings, idle_timeout: Option<Millis>, now: Millis) -> Self {
        Self {
            connection: Connection::new(Side::Client, settings, false, now),
            entries: Vec::new(),
            sockets: 0,
            events: VecDeque::new(),
            earliest_deadline: None,
            deadlines: 0,
            silent_at: None,
            is_probed: false,
            idle_timeout,
            idle_since: Some(now),
            handed: 0,
            redial: None,
        }
    }

    /// Returns the number of sockets that have not ended.
    pub fn sockets(&self) -> usize {
        self.sockets
    }

    /// Returns the number of channels that have not ended in both directions: sockets, and channels that this side has given up
    /// and the server has not.
    pub fn channels(&self) -> u32 {
        self.connection.channels()
    }

    // ---- commands of applications ----

    /// Opens a socket to a path and query. `protocols` holds the offered subprotocols as `Sec-WebSocket-Protocol` does,
    /// `offered` the same for this side; `headers` has a line `name: value` for each header. Returns the socket's channel, or `None` if the server's limit forbids another:
    /// then the socket fails.
    pub fn open(
        &mut self,
        now: Millis,
        key: H::Key,
        target: H::Payload,
        protocols: H::Payload,
        offered: String,
        headers: H::Payload,
    ) -> Option<Channel> {
        let Some(channel) = self.connection.open_with(target, protocols, headers) else {
            self.push_end(key, Some(Failure::TooMany), SocketClose::abnormal(), Unsent::default());
            return None;
        };
        let entry = Entry {
            key,
            offered,
            is_open: false,
            deadline: None,
            pieces: Vec::new(),
            unsent: Unsent::default(),
        };
        match self.entries.get_mut(channel as usize - 1) {
            Some(place) => *place = Some(entry),
            // The next number: there are no gaps.
            None => self.entries.push(Some(entry)),
        }
        self.sockets += 1;
        self.idle_since = None;
        self.set_deadline(channel, now + OPENING);
        // The physical handshake has a separate timeout.
        if self.connection.is_established() && self.redial.is_none() && self.silent_at.is_none() {
            self.silent_at = Some(now + UNANSWERED);
        }
        Some(channel)
    }

    /// Queues a message.
    ///
    /// # Errors
    /// Returns the payload if the socket sends no more: it has been closed, or its end is on its way to the application.
    pub fn send(&mut self, channel: Channel, kind: Kind, payload: H::Payload) -> Result<(), H::Payload> {
        self.connection.send(channel, kind, payload)
    }

    /// Returns the payload that was queued last, if it still waits: a host that lent a buffer copies it now.
    pub fn last_waiting(&mut self, channel: Channel) -> Option<&mut H::Payload> {
        self.connection.last_waiting(channel)
    }

    /// Returns the number of a socket's messages that wait for credit or for [`Link::poll_transmit`].
    pub fn waiting_messages(&self, channel: Channel) -> usize {
        self.connection.waiting_messages(channel)
    }

    /// Returns credit for a message of `units` that the application has read.
    pub fn consumed(&mut self, channel: Channel, units: u32) {
        self.connection.consumed(channel, 1, units);
    }

    /// Closes a socket behind all that was sent, with a code (`None`: 1005) and a reason of at most 123 bytes. A socket
    /// that is not open fails. The host has checked both with [`check_close`](super::check_close).
    pub fn close(&mut self, now: Millis, channel: Channel, code: Option<u16>, reason: H::Payload) {
        match self.entry(channel) {
            Some(Entry { is_open: true, .. }) => {
                self.connection.close(channel, code, reason);
                self.set_deadline(channel, now + CLOSING);
            }
            Some(_) => self.fail(now, channel),
            None => {}
        }
    }

    /// Gives a socket up: `error`, then `close` with 1006.
    pub fn fail(&mut self, now: Millis, channel: Channel) {
        self.fail_because(now, channel, Failure::GivenUp);
    }

    /// Gives a socket up without an event.
    pub fn abort(&mut self, now: Millis, channel: Channel) {
        self.forget(now, channel);
        self.connection.abort(channel);
    }

    /// Returns the bytes that the physical WebSocket has carried, if it still buffers `buffered`.
    pub fn sent(&self, buffered: u64) -> u64 {
        self.handed.saturating_sub(buffered)
    }

    /// Returns the bytes of a socket's messages that wait or that the physical WebSocket still holds. `sent`: see [`Link::sent`].
    pub fn buffered_amount(&mut self, channel: Channel, sent: u64) -> u64 {
        let waiting = self.connection.waiting_bytes(channel);
        let Some(entry) = self.entry(channel) else { return 0 };
        entry.unsent.forget_sent(sent);
        waiting + entry.unsent.bytes(sent)
    }

    /// Returns the same for a host whose carrier buffers, too: `sent` may include what the carrier has not passed on.
    pub fn waiting_amount(&self, channel: Channel, sent: u64) -> u64 {
        let entry = (channel as usize).checked_sub(1).and_then(|at| self.entries.get(at)?.as_ref());
        entry.map_or(0, |entry| self.connection.waiting_bytes(channel) + entry.unsent.bytes(sent))
    }

    // ---- the physical WebSocket ----

    /// Sets the path of the URL that the host dials, before anything is sent. The server learns from it how proxies change
    /// paths (docs/protocol.md §3.2).
    pub fn set_dialled_path(&mut self, path: &str) {
        self.connection.set_dialled_path(path);
    }

    /// Writes the first batch, for the query of the physical handshake (docs/protocol.md §3). To be called once, before anything
    /// else is sent.
    pub fn handshake(&mut self, max_bytes: u32, batch: &mut Batch<H::Payload>) {
        self.connection.handshake(max_bytes, batch);
    }

    /// Asks the server for a sign of life: something has happened that the connection may not have survived. A link that
    /// waits for another connection dials now: the network may be back.
    pub fn probe(&mut self, now: Millis) {
        match &mut self.redial {
            Some(redial) => redial.hurry(now),
            None => self.connection.probe(now),
        }
    }

    /// Returns whether a physical binary message of `length` bytes is a payload rather than a batch.
    pub fn expects_raw(&self, length: u32) -> bool {
        self.connection.expects_raw(length)
    }

    /// Takes in a batch: its headers, the lengths of its runs in units, and its contents.
    ///
    /// # Errors
    /// Returns a [`Violation`] if the server broke the protocol. Frames before the bad one have taken effect.
    pub fn receive_batch(
        &mut self,
        now: Millis,
        headers: &[u8],
        text_units: u32,
        binary_bytes: u32,
        contents: &impl Source<H::Message>,
    ) -> Result<(), Violation> {
        let received = self.connection.receive_batch(now, headers, text_units, binary_bytes);
        self.check_resumed();
        self.take_events(now, contents)?;
        received
    }

    /// Takes in a physical text message: the number and sign in front of it, the length of the rest, and the rest.
    ///
    /// # Errors
    /// As [`Link::receive_batch`].
    pub fn receive_text(
        &mut self,
        now: Millis,
        channel: Channel,
        fin: bool,
        units: u32,
        contents: &impl Source<H::Message>,
    ) -> Result<(), Violation> {
        let received = self.connection.receive_text(now, channel, fin, units);
        self.take_events(now, contents)?;
        received
    }

    /// Takes in a physical binary message that [`Link::expects_raw`] claimed.
    ///
    /// # Errors
    /// As [`Link::receive_batch`].
    pub fn receive_raw(
        &mut self,
        now: Millis,
        length: u32,
        contents: &impl Source<H::Message>,
    ) -> Result<(), Violation> {
        let received = self.connection.receive_raw(now, length);
        self.take_events(now, contents)?;
        received
    }

    /// Returns whether there may be a message to send. This is cheaper than [`Link::poll_transmit`], and takes nothing.
    pub fn wants_transmit(&self) -> bool {
        self.connection.wants_transmit()
    }

    /// Returns the next physical message to send; `batch` receives the content of a [`Transmit::Batch`].
    pub fn poll_transmit(
        &mut self,
        now: Millis,
        batch: &mut Batch<H::Payload>,
    ) -> Option<Transmit<H::Payload>> {
        let transmit = self.connection.poll_transmit(batch);
        // Opens beyond the limit that the server has announced meanwhile.
        while let Some(event) = self.connection.poll_event() {
            if let ConnectionEvent::Refused { channel, .. } = event {
                self.end(now, channel, Some(Failure::TooMany), SocketClose::abnormal(), 0);
            }
        }
        transmit
    }

    /// Keeps the physical message that was given out last for another connection, if it may have to be sent again. The host
    /// calls this after each [`Link::poll_transmit`], with the message's bytes.
    pub fn keep(&mut self, bytes: u32, held: impl FnOnce() -> <H::Payload as Payload>::Held) {
        self.connection.keep(bytes, held);
    }

    /// Counts a physical message of `bytes` that the host has given to the physical WebSocket. Only a host that reports
    /// `bufferedAmount` has to call this, and [`Link::handed_over_part`] for each message in it.
    pub fn handed_over(&mut self, bytes: u64) {
        self.handed += bytes;
    }

    /// Counts `bytes` of a socket's message in the last physical message. `sent` is the amount that had been carried before (see
    /// [`Link::sent`]).
    pub fn handed_over_part(&mut self, channel: Channel, bytes: u64, sent: u64) {
        let mark = self.handed;
        if let Some(entry) = self.entry(channel) {
            entry.unsent.hand_over(bytes, mark, sent);
        }
    }

    /// Ends every socket, since the physical WebSocket has ended. `failed`: it failed, as one does that breaks the protocol or
    /// cannot be reached; then open sockets fail, too. A handshake that does not end well fails in any case (WHATWG).
    pub fn lost(&mut self, failed: bool) {
        for channel in 1..=self.entries.len() as Channel {
            let Some(entry) = self.take(channel) else { continue };
            let failure = (failed || !entry.is_open).then_some(Failure::Link);
            let waiting = self.connection.waiting_bytes(channel);
            self.push_end(entry.key, failure, SocketClose::abnormal(), entry.unsent.with(waiting));
        }
        self.sockets = 0;
        self.earliest_deadline = None;
        self.deadlines = 0;
        self.silent_at = None;
    }

    // ---- events ----

    /// Returns the next event, oldest first.
    pub fn poll_event(&mut self) -> Option<SocketEvent<H::Key, H::Message>> {
        self.events.pop_front()
    }

    // ---- events from the server ----

    /// Turns the connection's events into those of sockets.
    fn take_events(&mut self, now: Millis, contents: &impl Source<H::Message>) -> Result<(), Violation> {
        // A sign of life.
        self.silent_at = None;
        self.is_probed = false;
        while let Some(event) = self.connection.poll_event() {
            match event {
                ConnectionEvent::Data { channel, kind, fin, span } => {
                    self.on_data(channel, kind, fin, span, contents)?;
                }
                ConnectionEvent::Cookies { channel, ticket } => {
                    if let Some(entry) = self.entry(channel) {
                        let key = entry.key.clone();
                        self.events.push_back(SocketEvent::Cookies { key, ticket });
                    }
                }
                ConnectionEvent::Accepted { channel, protocol } => {
                    let protocol = string(contents, protocol)?;
                    self.on_accepted(now, channel, protocol);
                }
                ConnectionEvent::Refused { channel, status, reason } => {
                    let reason = string(contents, reason)?;
                    self.end(
                        now,
                        channel,
                        Some(Failure::Refused { status, reason }),
                        SocketClose::abnormal(),
                        0,
                    );
                }
                ConnectionEvent::Closed { channel, code, reason, unsent } => {
                    let reason = string(contents, reason)?;
                    if reason.len() > MAX_REASON as usize {
                        return Err(Rule::CloseReason.on(channel));
                    }
                    self.on_closed(now, channel, code, reason, unsent);
                }
                ConnectionEvent::Oversize { channel, unsent } => {
                    self.connection.close(channel, Some(TOO_LARGE), H::Payload::default());
                    self.end(now, channel, Some(Failure::TooLarge), SocketClose::abnormal(), unsent);
                }
                // A server's, and one that this side does not ask for.
                ConnectionEvent::Open { .. } | ConnectionEvent::Drained { .. } => {}
            }
        }
        Ok(())
    }

    fn on_data(
        &mut self,
        channel: Channel,
        kind: Kind,
        fin: bool,
        span: Span,
        contents: &impl Source<H::Message>,
    ) -> Result<(), Violation> {
        let Some(entry) = self.entry(channel) else { return Ok(()) };
        let piece = match kind {
            Kind::Text => contents.text(span, fin)?,
            Kind::Binary => contents.binary(span, fin)?,
        };
        let message = if fin && entry.pieces.is_empty() {
            piece
        } else {
            entry.pieces.push(piece);
            if !fin {
                return Ok(());
            }
            H::join(std::mem::take(&mut entry.pieces))
        };
        let key = entry.key.clone();
        self.events.push_back(SocketEvent::Message { key, message });
        Ok(())
    }

    /// RFC 6455 §4.1: the server may choose a subprotocol that was offered, and must choose one if any was.
    fn on_accepted(&mut self, now: Millis, channel: Channel, protocol: String) {
        let Some(entry) = self.entry(channel) else { return };
        let may_choose = match protocol.as_str() {
            "" => entry.offered.is_empty(),
            chosen => {
                let mut offered = entry.offered.as_bytes().split(|&byte| byte == b',');
                offered.any(|offered| offered.trim_ascii() == chosen.as_bytes())
            }
        };
        if !may_choose {
            return self.fail_because(now, channel, Failure::Subprotocol { chosen: protocol });
        }
        entry.is_open = true;
        let deadline = entry.deadline.take();
        let key = entry.key.clone();
        self.drop_deadline(deadline);
        self.events.push_back(SocketEvent::Open { key, protocol });
    }

    fn on_closed(&mut self, now: Millis, channel: Channel, code: u32, reason: String, unsent: u64) {
        let code = u16::try_from(code).unwrap_or_default();
        let failure = (code == FAILED).then_some(Failure::Server);
        let close = match code {
            0 => SocketClose { code: NO_CODE, reason, was_clean: true },
            ABORTED | FAILED => SocketClose::abnormal(),
            code => SocketClose { code, reason, was_clean: true },
        };
        self.end(now, channel, failure, close, unsent);
        // RFC 6455 §5.5.1: the answer echoes the code. It does nothing if this side closed first.
        self.connection.close(
            channel,
            Some(code).filter(|code| !matches!(*code, 0 | ABORTED | FAILED)),
            H::Payload::default(),
        );
    }

    // ---- the end of a socket ----

    fn fail_because(&mut self, now: Millis, channel: Channel, failure: Failure) {
        self.end(now, channel, Some(failure), SocketClose::abnormal(), 0);
        self.connection.abort(channel);
    }

    /// Ends a socket for its application; the connection ends the channel.
    /// `dropped`: the bytes of messages that the connection has dropped already.
    fn end(
        &mut self,
        now: Millis,
        channel: Channel,
        failure: Option<Failure>,
        close: SocketClose,
        dropped: u64,
    ) {
        if let Some(entry) = self.forget(now, channel) {
            let waiting = dropped + self.connection.waiting_bytes(channel);
            self.push_end(entry.key, failure, close, entry.unsent.with(waiting));
        }
    }

    fn push_end(&mut self, key: H::Key, failure: Option<Failure>, close: SocketClose, unsent: Unsent) {
        if let Some(failure) = failure {
            self.events.push_back(SocketEvent::Error { key: key.clone(), failure });
        }
        self.events.push_back(SocketEvent::Close { key, close, unsent });
    }

    fn entry(&mut self, channel: Channel) -> Option<&mut Entry<H>> {
        self.entries.get_mut((channel as usize).checked_sub(1)?)?.as_mut()
    }

    fn take(&mut self, channel: Channel) -> Option<Entry<H>> {
        self.entries.get_mut((channel as usize).checked_sub(1)?)?.take()
    }

    fn forget(&mut self, now: Millis, channel: Channel) -> Option<Entry<H>> {
        let entry = self.take(channel)?;
        self.drop_deadline(entry.deadline);
        self.sockets -= 1;
        if self.sockets == 0 {
            self.idle_since = Some(now);
        }
        Some(entry)
    }
}

/// The content of a frame's string.
fn string<M>(contents: &impl Source<M>, span: Span) -> Result<String, Violation> {
    if span.units == 0 { Ok(String::new()) } else { contents.string(span) }
}
