//! A [`Connection`] for hosts that hold messages as bytes. It encodes and decodes physical messages, and joins the pieces of
//! a message.

use std::collections::{HashMap, VecDeque};

use bytes::{Buf, Bytes};
use data_encoding::BASE64URL_NOPAD;

use crate::connection::{Connection, ConnectionEvent, KEPT_EVENTS, MAX_REASON, Refusals, Runs};
use crate::content::{Columns, Contents, LoneText, ReadPosition};
use crate::frame::Kind;
use crate::frame::Resume;
use crate::intake::Intake;
use crate::message::{Data, Message, Physical, encode_batch};
use crate::physical::HANDSHAKE_BYTES;
use crate::settings::Settings;
use crate::side::Side;
use crate::text::utf16_len;
use crate::token::Token;
use crate::transmit::Batch;
use crate::violation::Rule;
use crate::{Channel, Millis, Violation};

mod event;
mod query;

pub use event::{Close, Event};
use query::first_batch;

/// Frames that [`Endpoint::start_receive`] and [`Endpoint::continue_receive`] take in: some 0.1 ms of
/// the smallest messages, and what their events may take, 40 KiB.
const FRAMES: usize = 512;

/// One end of a link, in bytes. See the [crate] documentation for how to drive it.
#[derive(Debug)]
pub struct Endpoint {
    connection: Connection<Data>,
    events: VecDeque<Event>,
    /// Messages of which only a part has arrived, and the bytes that they hold.
    partial: HashMap<Channel, Vec<u8>>,
    partial_bytes: usize,
    /// A batch of which only some frames have been handled.
    unread: Option<Unread>,
}

/// The size from which the memory of an unfinished message grows by a quarter. `Vec` doubles it: a message of half of the memory that a link
/// may hold then took all of it.
const FINE_GROWTH: usize = 1024 * 1024;

/// The rest of a batch.
#[derive(Debug)]
struct Unread {
    headers: Bytes,
    text: String,
    binary: Bytes,
    runs: Runs,
    read_position: ReadPosition,
}

impl Endpoint {
    /// Creates one end of a link.
    pub fn new(side: Side, settings: Settings, now: Millis) -> Self {
        Self {
            connection: Connection::new(side, settings, true, now),
            events: VecDeque::new(),
            partial: HashMap::new(),
            partial_bytes: 0,
            unread: None,
        }
    }

    /// Returns the number of channels that have not ended in both directions.
    pub fn channels(&self) -> u32 {
        self.connection.channels()
    }

    /// Returns the opens that the settings have refused since the last call.
    pub fn take_refusals(&mut self) -> Refusals {
        self.connection.take_refusals()
    }

    /// Returns the bytes of unfinished messages and of an unfinished batch. A host that bounds the memory of a link must
    /// count them: each channel may hold up to [`Settings::max_message`].
    pub fn unfinished(&self) -> usize {
        let unread = self.unread.as_ref();
        self.partial_bytes
            + unread.map_or(0, |unread| unread.headers.len() + unread.text.len() + unread.binary.len())
    }

    /// Returns the bytes that the tables of channels, events and unfinished messages hold, without the contents.
    pub fn table_bytes(&self) -> usize {
        self.connection.table_bytes()
            + self.events.capacity() * size_of::<Event>()
            + self.partial.capacity() * size_of::<(Channel, Vec<u8>)>()
    }

    /// Opens a channel to a path and query, offering subprotocols (comma-separated). Returns `None` if
    /// the server's `max_channels` are open, or if this is a server.
    pub fn open(&mut self, target: &str, protocols: &str) -> Option<Channel> {
        self.connection.open(Data::str(target), Data::str(protocols))
    }

    /// Opens a channel as [`Endpoint::open`] does, with headers: a line `name: value` each.
    pub fn open_with(&mut self, target: &str, protocols: &str, headers: &str) -> Option<Channel> {
        self.connection.open_with(Data::str(target), Data::str(protocols), Data::str(headers))
    }

    /// On a server, announces that the answer to an open has cookies, which the client gets for a ticket. To be called before
    /// the answer.
    pub fn announce_cookies(&mut self, channel: Channel, ticket: Token) {
        self.connection.announce_cookies(channel, ticket);
    }

    /// Accepts an open with the chosen subprotocol (empty: none).
    pub fn accept(&mut self, channel: Channel, protocol: &str) {
        self.connection.accept(channel, Data::str(protocol));
    }

    /// Sets the largest message that an open channel takes, in units, in read_position of [`Settings::max_message`].
    pub fn set_max_message(&mut self, channel: Channel, units: u32) {
        self.connection.set_max_message(channel, units);
    }

    /// Sets which unfinished messages may continue. The host calls this whenever its memory has changed.
    pub fn set_intake(&mut self, intake: Intake) {
        self.connection.set_intake(intake);
    }

    /// Refuses an open with an HTTP status and a reason for the log.
    pub fn refuse(&mut self, channel: Channel, status: u16, reason: &str) {
        self.connection.refuse(channel, status, Data::str(reason));
    }

    /// Queues a message. The queue has no bound, so keep [`Endpoint::queued`] small. Returns false if the channel accepts no
    /// more messages.
    pub fn send(&mut self, channel: Channel, message: Message) -> bool {
        let (kind, data) = message.into_data();
        self.connection.send(channel, kind, data).is_ok()
    }

    /// Returns the units that wait for credit or for [`Endpoint::poll_transmit`].
    pub fn queued(&self, channel: Channel) -> u32 {
        self.connection.queued(channel)
    }

    /// Returns whether a message waits for credit or for [`Endpoint::poll_transmit`]. An empty message counts, too.
    pub fn is_queued(&self, channel: Channel) -> bool {
        self.connection.is_queued(channel)
    }

    /// Closes this direction after everything queued, with a code (`None`: 1005) and a reason, cut
    /// to 123 bytes. Also the answer to [`Event::Closed`]. With a code that no Close frame may
    /// carry (RFC 6455 §7.4) the channel fails, as with [`FAILED`](crate::FAILED); with 1006 it is dropped.
    pub fn close(&mut self, channel: Channel, code: Option<u16>, reason: &str) {
        let most = reason.len().min(MAX_REASON as usize);
        let end = (0..=most).rev().find(|&at| reason.is_char_boundary(at)).unwrap_or_default();
        self.connection.close(channel, code, Data::str(&reason[..end]));
    }

    /// Gives the channel up: drops its queue and everything that still arrives. The peer sees 1006. No event of this
    /// channel follows those that already wait.
    pub fn abort(&mut self, channel: Channel) {
        self.take_partial(channel);
        self.connection.abort(channel);
    }

    /// Counts messages that the reader consumed, with their [`Message::units`] in all: the peer may send as much again.
    pub fn consumed(&mut self, channel: Channel, messages: u32, units: u32) {
        self.connection.consumed(channel, messages, units);
    }

    /// On a client, sets the path of the URL that the host dials, to be called before anything is sent. The server learns from it
    /// how proxies change paths.
    pub fn set_dialled_path(&mut self, path: &str) {
        self.connection.set_dialled_path(path);
    }

    /// On a server, returns the path that the client dialled, if it has sent that: proxies may have changed it.
    pub fn dialled_path(&self) -> Option<&str> {
        self.connection.dialled_path()
    }

    /// On a client, returns the value of [`HANDSHAKE_PARAMETER`](crate::HANDSHAKE_PARAMETER): the first
    /// batch. To be called once, before anything else is sent.
    pub fn handshake(&mut self) -> String {
        let mut batch = Batch::default();
        self.connection.handshake(HANDSHAKE_BYTES, &mut batch);
        BASE64URL_NOPAD.encode(&encode_batch(&batch))
    }

    /// On a server, decodes the value of [`HANDSHAKE_PARAMETER`](crate::HANDSHAKE_PARAMETER).
    ///
    /// # Errors
    /// Returns a [`Violation`] if it is not base64url or the batch in it breaks the protocol.
    pub fn receive_handshake(&mut self, now: Millis, base64url: &str) -> Result<(), Violation> {
        let batch = BASE64URL_NOPAD.decode(base64url.as_bytes()).map_err(|_| Rule::Handshake.broken())?;
        self.receive(now, Physical::Binary(batch.into()))
    }

    /// On a server, decodes the query of the physical handshake's URL: the first batch, if it holds one.
    ///
    /// # Errors
    /// Returns a [`Violation`] as [`Endpoint::receive_handshake`], and if the query holds two.
    pub fn receive_query(&mut self, now: Millis, query: &str) -> Result<(), Violation> {
        match first_batch(query)? {
            Some(base64url) => self.receive_handshake(now, base64url),
            None => Ok(()),
        }
    }

    /// Receives a physical message.
    ///
    /// # Errors
    /// Returns a [`Violation`] if the peer broke the protocol. Frames before the bad one have taken effect.
    pub fn receive(&mut self, now: Millis, message: Physical) -> Result<(), Violation> {
        self.start_receive(now, message)?;
        while self.continue_receive(now)? {}
        Ok(())
    }

    /// Receives a physical message, but only the first frames of a batch, for hosts that bound how long they work for one
    /// peer. Handle the events, then call [`Endpoint::continue_receive`] until it returns false.
    ///
    /// # Errors
    /// Returns a [`Violation`] if the peer broke the protocol. Frames before the bad one have taken effect.
    pub fn start_receive(&mut self, now: Millis, message: Physical) -> Result<(), Violation> {
        match message {
            Physical::Text(bytes) => {
                let text = LoneText::of(&bytes)?;
                self.connection.receive_text(now, text.channel, text.fin, utf16_len(text.text))?;
                self.take_events(&Contents::text(text.text, &text.content))
            }
            Physical::Binary(bytes) => {
                let length = u32::try_from(bytes.len()).map_err(|_| Rule::Huge.broken())?;
                if self.connection.expects_raw(length) {
                    self.connection.receive_raw(now, length)?;
                    self.take_events(&Contents::binary(&bytes))
                } else {
                    self.start_batch(now, &bytes)
                }
            }
        }
    }

    /// Receives the next frames of a batch. Returns false if there are none.
    ///
    /// # Errors
    /// Returns a [`Violation`] if the peer broke the protocol. Frames before the bad one have taken effect.
    pub fn continue_receive(&mut self, now: Millis) -> Result<bool, Violation> {
        let Some(mut unread) = self.unread.take() else { return Ok(false) };
        let mut headers: &[u8] = &unread.headers;
        let received = self.connection.receive_frames(now, &mut headers, &mut unread.runs, FRAMES);
        let rest = unread.headers.len() - headers.len();
        let contents = Contents::rest_of_batch(&unread.text, &unread.binary, unread.read_position);
        self.take_events(&contents)?;
        unread.read_position = contents.read_position();
        received?;
        if rest < unread.headers.len() {
            unread.headers.advance(rest);
            self.unread = Some(unread);
        }
        Ok(true)
    }

    /// Returns the next event, oldest first.
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front();
        if event.is_none() && self.events.capacity() > KEPT_EVENTS {
            self.events = VecDeque::new();
        }
        event
    }

    /// Returns whether there are events, or frames of a batch that may produce some.
    pub fn is_receiving(&self) -> bool {
        self.has_events() || self.unread.is_some()
    }

    /// Returns whether there is an event.
    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// Returns whether there may be something to send. This is cheaper than [`Endpoint::poll_transmit`] and takes nothing.
    pub fn wants_transmit(&self) -> bool {
        self.connection.wants_transmit()
    }

    /// Returns the next physical message to send.
    pub fn poll_transmit(&mut self) -> Option<Physical> {
        // Not kept, so that an idle link of a server holds no buffer.
        let mut batch = Batch::default();
        let transmit = self.connection.poll_transmit(&mut batch);
        while let Some(event) = self.connection.poll_event() {
            match event {
                ConnectionEvent::Drained { channel } => {
                    self.events.push_back(Event::Drained { channel });
                }
                ConnectionEvent::Refused { channel, .. } => {
                    self.events.push_back(Event::Refused {
                        channel,
                        status: 503,
                        reason: "the server's max_channels are open".into(),
                    });
                }
                // Receiving reports all other events, and `receive` takes them at once.
                _ => {}
            }
        }
        let message = Physical::encode(transmit?, &batch);
        self.connection.keep(message.bytes().len() as u32, || message.clone());
        Some(message)
    }

    /// On a server, lets the client resume the link with this token for [`Settings::resume_timeout`]. To be called before
    /// anything else.
    pub fn allow_resumption(&mut self, token: Token) {
        self.connection.allow_resumption(token);
    }

    /// Ends the link with its connection from now on, and lets the peer know, with the next physical message. Messages kept
    /// for another connection are dropped. Returns whether the peer does not know yet.
    pub fn forbid_resumption(&mut self) -> bool {
        self.connection.forbid_resumption()
    }

    /// Returns whether the link outlives the loss of its connection.
    pub fn can_resume(&self) -> bool {
        self.connection.can_resume()
    }

    /// Takes in that the connection is lost. Returns whether the link waits for another one, until
    /// [`Endpoint::can_resume`] returns false.
    pub fn carrier_lost(&mut self, now: Millis) -> bool {
        self.connection.carrier_lost(now)
    }

    /// On a client, reports that another connection is open.
    pub fn redialled(&mut self, now: Millis) {
        self.connection.redialled(now);
    }

    /// On a server, returns whether a client that sends RESUME may resume the link. Messages that have arrived must have been
    /// handled: [`Endpoint::is_receiving`] returns false.
    pub fn accepts(&self, resume: &Resume) -> bool {
        self.connection.accepts(resume)
    }

    /// On a server, returns when to take a connection that [`Endpoint::accepts`]. That is `now`, or up to 6 s later if the
    /// link has been resumed ten times without progress (`docs/protocol.md` §8.1), but no later than the link would end.
    pub fn resumption_due(&self, now: Millis, resume: &Resume) -> Millis {
        self.connection.resumption_due(now, resume)
    }

    /// On a server, takes a connection that [`Endpoint::accepts`]. The client gets `token` for the next time.
    pub fn resume(&mut self, now: Millis, resume: &Resume, token: Token) {
        self.connection.resume(now, resume, token);
    }

    /// On a server, lets another handshake of the client take the link over, for as long as the client has answered none
    /// (`docs/protocol.md` §3.4). To be called when the first batch has arrived.
    pub fn expect_second_handshake(&mut self) {
        self.connection.expect_second_handshake();
    }

    /// On a server, returns whether another handshake of the client may take the link over.
    pub fn accepts_second_handshake(&self) -> bool {
        self.connection.accepts_second_handshake()
    }

    /// On a server, takes the connection of another handshake, if [`Endpoint::accepts_second_handshake`]: all that was sent is
    /// sent again.
    pub fn begin_again(&mut self, now: Millis) {
        self.connection.begin_again(now);
    }

    /// On a server, returns the tokens that resume the link.
    pub fn tokens(&self) -> [Option<Token>; 2] {
        self.connection.tokens()
    }

    /// Returns whether the link has lost its connection, or waits for the answer to RESUME.
    pub fn is_interrupted(&self) -> bool {
        self.connection.is_interrupted()
    }

    /// Returns the bytes of sent messages that the peer has not acknowledged. A host that bounds the memory of a link must
    /// count them.
    pub fn held_bytes(&self) -> usize {
        self.connection.held_bytes()
    }

    /// Returns the time to call [`Endpoint::handle_timeout`]. It only moves later while the peer is alive.
    pub fn poll_timeout(&self) -> Option<Millis> {
        self.connection.poll_timeout()
    }

    /// Handles the timers that are due at `now`.
    ///
    /// # Errors
    /// Returns a [`Violation`] if the peer has been silent for too long: the link is dead.
    pub fn handle_timeout(&mut self, now: Millis) -> Result<(), Violation> {
        self.connection.handle_timeout(now)
    }

    /// Counts a sign of life of the peer that is no message: bytes of one that is still arriving, or a pong of RFC 6455 (§8).
    pub fn heard(&mut self, now: Millis) {
        self.connection.heard(now);
    }

    /// Returns whether the peer has been silent for so long that the link is dead without a sign of life soon (§8).
    pub fn is_suspected(&self) -> bool {
        self.connection.is_suspected()
    }

    fn start_batch(&mut self, now: Millis, bytes: &Bytes) -> Result<(), Violation> {
        let Columns { headers, text, binary } = Columns::of(bytes)?;
        let mut rest = headers;
        let mut runs = Runs::new(utf16_len(text), binary.len() as u32);
        let received = self.connection.receive_frames(now, &mut rest, &mut runs, FRAMES);
        let contents = Contents::batch(text, &binary);
        self.take_events(&contents)?;
        received?;
        if !rest.is_empty() {
            let (headers, read_position) = (bytes.slice_ref(rest), contents.read_position());
            self.unread = Some(Unread { headers, text: text.to_owned(), binary, runs, read_position });
        }
        Ok(())
    }

    /// Adds the contents to the connection's events.
    fn take_events(&mut self, contents: &Contents<'_>) -> Result<(), Violation> {
        while let Some(event) = self.connection.poll_event() {
            let event = match event {
                ConnectionEvent::Open { channel, target, protocols, headers } => Event::Open {
                    channel,
                    target: contents.string(target)?,
                    protocols: contents.string(protocols)?,
                    headers: contents.string(headers)?,
                },
                ConnectionEvent::Cookies { channel, ticket } => Event::Cookies { channel, ticket },
                ConnectionEvent::Accepted { channel, protocol } => {
                    Event::Accepted { channel, protocol: contents.string(protocol)? }
                }
                ConnectionEvent::Refused { channel, status, reason } => Event::Refused {
                    channel,
                    status: u16::try_from(status).unwrap_or(500),
                    reason: contents.string(reason)?,
                },
                ConnectionEvent::Data { channel, kind, fin, span } => {
                    let bytes = match kind {
                        Kind::Text => contents.text_of(span)?,
                        Kind::Binary => contents.binary_of(span)?,
                    };
                    match self.join(channel, fin, bytes) {
                        Some(bytes) if kind == Kind::Text => {
                            Event::Message { channel, message: Message::Text(bytes) }
                        }
                        Some(bytes) => Event::Message { channel, message: Message::Binary(bytes) },
                        None => continue,
                    }
                }
                ConnectionEvent::Closed { channel, code, reason, .. } => {
                    self.take_partial(channel);
                    let code = u16::try_from(code).ok().filter(|&code| code != 0);
                    let reason = contents.string(reason)?;
                    if reason.len() > MAX_REASON as usize {
                        return Err(Rule::CloseReason.on(channel));
                    }
                    Event::Closed { channel, close: Close { code, reason } }
                }
                ConnectionEvent::Oversize { channel, .. } => {
                    self.take_partial(channel);
                    self.close(channel, Some(1009), "the message is larger than the receiver allows");
                    Event::Oversize { channel }
                }
                ConnectionEvent::Drained { channel } => Event::Drained { channel },
            };
            self.events.push_back(event);
        }
        Ok(())
    }

    fn take_partial(&mut self, channel: Channel) -> Option<Vec<u8>> {
        let partial = self.partial.remove(&channel)?;
        self.partial_bytes -= partial.capacity();
        if self.partial.is_empty() {
            self.partial = HashMap::new();
        }
        Some(partial)
    }

    /// The whole message if this piece completes it.
    fn join(&mut self, channel: Channel, fin: bool, piece: Bytes) -> Option<Bytes> {
        match self.take_partial(channel) {
            None if fin => return Some(piece),
            before => {
                let mut joined = before.unwrap_or_default();
                let length = joined.len() + piece.len();
                if length > joined.capacity() && length > FINE_GROWTH {
                    joined.reserve_exact(piece.len().max(joined.len() / 4));
                }
                joined.extend_from_slice(&piece);
                if fin {
                    // A reader may keep it for long: up to half of the allocation would be empty.
                    joined.shrink_to_fit();
                    return Some(joined.into());
                }
                self.partial_bytes += joined.capacity();
                self.partial.insert(channel, joined);
            }
        }
        None
    }
}
