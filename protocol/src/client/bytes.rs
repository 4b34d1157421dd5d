//! A [`Link`] for hosts that hold messages as bytes.

use std::fmt;
use std::marker::PhantomData;

use bytes::{Bytes, BytesMut};
use data_encoding::BASE64URL_NOPAD;

use super::{Host, Link, SocketEvent, Source, Timeout};
use crate::connection::Span;
use crate::content::{Columns, Contents, LoneText};
use crate::message::{Data, Message, Physical, encode_batch};
use crate::physical::HANDSHAKE_BYTES;
use crate::settings::Settings;
use crate::text::utf16_len;
use crate::transmit::{Batch, Payload, Transmit};
use crate::violation::Rule;
use crate::{Channel, Millis, Violation};

/// A host that holds messages as bytes.
struct ByBytes<K>(PhantomData<K>);

impl<K: Clone> Host for ByBytes<K> {
    type Key = K;
    type Payload = Data;
    type Message = Message;

    fn join(pieces: Vec<Message>) -> Message {
        let length = pieces.iter().map(|piece| piece.bytes().len()).sum();
        let mut joined = BytesMut::with_capacity(length);
        for piece in &pieces {
            joined.extend_from_slice(piece.bytes());
        }
        match pieces.first() {
            Some(Message::Binary(_)) => Message::Binary(joined.freeze()),
            _ => Message::Text(joined.freeze()),
        }
    }
}

impl Source<Message> for Contents<'_> {
    fn text(&self, span: Span, _: bool) -> Result<Message, Violation> {
        Ok(Message::Text(self.text_of(span)?))
    }

    fn binary(&self, span: Span, _: bool) -> Result<Message, Violation> {
        Ok(Message::Binary(self.binary_of(span)?))
    }

    fn string(&self, span: Span) -> Result<String, Violation> {
        Contents::string(self, span)
    }
}

/// The first batch of a link (docs/protocol.md §3). It travels in the URL of the handshake, or, where a proxy refuses that, as
/// the first physical message.
#[derive(Debug, Clone)]
pub struct FirstBatch(Bytes);

impl FirstBatch {
    /// Returns the value of [`HANDSHAKE_PARAMETER`](crate::HANDSHAKE_PARAMETER).
    pub fn value(&self) -> String {
        BASE64URL_NOPAD.encode(&self.0)
    }

    /// Returns the batch as a physical binary message, in place of the parameter.
    pub fn message(self) -> Bytes {
        self.0
    }
}

/// One link and the sockets over it, in bytes. See the [module](super) for how to drive it.
pub struct Client<K: Clone> {
    link: Link<ByBytes<K>>,
    batch: Batch<Data>,
}

impl<K: Clone> fmt::Debug for Client<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("sockets", &self.sockets()).finish_non_exhaustive()
    }
}

impl<K: Clone> Client<K> {
    /// Makes a link that is about to be dialled. `idle_timeout`: the milliseconds for which it stays open without sockets;
    /// `None`: for ever.
    pub fn new(settings: Settings, idle_timeout: Option<Millis>, now: Millis) -> Self {
        Self { link: Link::new(settings, idle_timeout, now), batch: Batch::default() }
    }

    /// Returns the number of sockets that have not ended.
    pub fn sockets(&self) -> usize {
        self.link.sockets()
    }

    /// Returns the number of channels that have not ended in both directions: sockets, and channels that this side has given up
    /// and the server has not.
    pub fn channels(&self) -> u32 {
        self.link.channels()
    }

    /// Opens a socket to a path and query, offering subprotocols (separated by `", "`; empty: none). Returns its channel,
    /// or `None` if the server's limit forbids another: then the socket fails.
    pub fn open(&mut self, now: Millis, key: K, target: &str, protocols: &str) -> Option<Channel> {
        self.open_with(now, key, target, protocols, "")
    }

    /// Opens a socket as [`Client::open`] does, with headers: a line `name: value` each.
    pub fn open_with(
        &mut self,
        now: Millis,
        key: K,
        target: &str,
        protocols: &str,
        headers: &str,
    ) -> Option<Channel> {
        let (target, offered, headers) = (Data::str(target), protocols.to_owned(), Data::str(headers));
        self.link.open(now, key, target, Data::str(protocols), offered, headers)
    }

    /// Queues a message without bound: keep [`Client::buffered_amount`] small.
    ///
    /// # Errors
    /// Returns the message if the socket sends no more: it has been closed, or its end waits among the events.
    pub fn send(&mut self, channel: Channel, message: Message) -> Result<(), Message> {
        let (kind, data) = message.into_data();
        self.link.send(channel, kind, data).map_err(Message::from_data)
    }

    /// Returns credit for a message of `units` ([`Message::units`]) that the application has read: the server may send as much again.
    pub fn consumed(&mut self, channel: Channel, units: u32) {
        self.link.consumed(channel, units);
    }

    /// Closes a socket behind all that was sent, with a code (`None`: 1005) and a reason. A socket that is not open fails.
    /// The host has checked both with [`check_close`](super::check_close).
    pub fn close(&mut self, now: Millis, channel: Channel, code: Option<u16>, reason: &str) {
        self.link.close(now, channel, code, Data::str(reason));
    }

    /// Gives a socket up: [`SocketEvent::Error`], then [`SocketEvent::Close`] with 1006.
    pub fn fail(&mut self, now: Millis, channel: Channel) {
        self.link.fail(now, channel);
    }

    /// Gives a socket up without an event.
    pub fn abort(&mut self, now: Millis, channel: Channel) {
        self.link.abort(now, channel);
    }

    /// Returns the bytes of a socket's messages that wait, or that the physical WebSocket holds: of all messages it still
    /// buffers `buffered` bytes.
    pub fn buffered_amount(&mut self, channel: Channel, buffered: u64) -> u64 {
        let sent = self.link.sent(buffered);
        self.link.buffered_amount(channel, sent)
    }

    /// Returns the same without the bytes that have left the physical WebSocket and wait in its carrier. Those count in `buffered` for all
    /// other calls.
    pub fn waiting_amount(&self, channel: Channel, buffered: u64) -> u64 {
        self.link.waiting_amount(channel, self.link.sent(buffered))
    }

    /// Sets the path of the URL that the host dials, before anything is sent. The server learns from it how proxies change
    /// paths (docs/protocol.md §3.2).
    pub fn set_dialled_path(&mut self, path: &str) {
        self.link.set_dialled_path(path);
    }

    /// Returns the first batch. To be called once, before anything else is sent.
    pub fn handshake(&mut self) -> FirstBatch {
        self.link.handshake(HANDSHAKE_BYTES, &mut self.batch);
        FirstBatch(encode_batch(&self.batch))
    }

    /// Takes in a physical message.
    ///
    /// # Errors
    /// Returns a [`Violation`] if the server broke the protocol. Everything before it has taken effect. The host closes the
    /// physical WebSocket with [`Violation::code`] and calls [`Client::lost`] with `failed`.
    pub fn receive(&mut self, now: Millis, message: Physical) -> Result<(), Violation> {
        match message {
            Physical::Text(bytes) => {
                let text = LoneText::of(&bytes)?;
                let contents = Contents::text(text.text, &text.content);
                self.link.receive_text(now, text.channel, text.fin, utf16_len(text.text), &contents)
            }
            Physical::Binary(bytes) => {
                let length = u32::try_from(bytes.len()).map_err(|_| Rule::Huge.broken())?;
                if self.link.expects_raw(length) {
                    return self.link.receive_raw(now, length, &Contents::binary(&bytes));
                }
                let Columns { headers, text, binary } = Columns::of(&bytes)?;
                let (units, length) = (utf16_len(text), binary.len() as u32);
                self.link.receive_batch(now, headers, units, length, &Contents::batch(text, &binary))
            }
        }
    }

    /// Returns whether there may be a message to send. This is cheaper than [`Client::poll_transmit`], and takes nothing.
    pub fn wants_transmit(&self) -> bool {
        self.link.wants_transmit()
    }

    /// Returns the next physical message to send. `buffered`: the bytes that the physical WebSocket still buffers.
    pub fn poll_transmit(&mut self, now: Millis, buffered: u64) -> Option<Physical> {
        let transmit = self.link.poll_transmit(now, &mut self.batch)?;
        let lone = match &transmit {
            Transmit::Text { channel, text: payload, .. } | Transmit::Raw { channel, payload } => {
                Some((*channel, payload.bytes()))
            }
            Transmit::Batch | Transmit::Again(_) => None,
        };
        let is_batch = matches!(transmit, Transmit::Batch);
        let message = Physical::encode(transmit, &self.batch);
        self.link.keep(message.bytes().len() as u32, || message.clone());
        let sent = self.link.sent(buffered);
        self.link.handed_over(message.bytes().len() as u64);
        if let Some((channel, bytes)) = lone {
            self.link.handed_over_part(channel, bytes, sent);
        } else if is_batch {
            for part in self.batch.text.iter().chain(&self.batch.binary) {
                if let Some(channel) = part.channel {
                    self.link.handed_over_part(channel, part.payload.bytes(), sent);
                }
            }
        }
        Some(message)
    }

    /// Ends every socket, since the physical WebSocket has ended. `failed`: it failed, as one does that breaks the protocol or
    /// cannot be reached; then open sockets fail, too.
    pub fn lost(&mut self, failed: bool) {
        self.link.lost(failed);
    }

    /// Takes in that the connection is lost, or that a connection could not be made. Returns whether the link waits for
    /// another one: [`Timeout::Dial`] says when. If it does not, the host calls [`Client::lost`]. `random` is any random
    /// number.
    pub fn carrier_lost(&mut self, now: Millis, random: u32) -> bool {
        self.link.carrier_lost(now, random)
    }

    /// Returns what to add to the query of the link's URL for a connection that resumes the link.
    pub fn resume_query(&self) -> String {
        self.link.resume_query()
    }

    /// Takes in that a connection which is to resume the link is open.
    pub fn redialled(&mut self, now: Millis) {
        self.link.redialled(now);
    }

    /// Returns whether the link has lost its connection and waits for another one.
    pub fn is_interrupted(&self) -> bool {
        self.link.is_interrupted()
    }

    /// Returns whether the link outlives the loss of its connection.
    pub fn can_resume(&self) -> bool {
        self.link.can_resume()
    }

    /// Ends the link with its connection from now on, because the host is about to end it. Returns whether the
    /// server does not know: the next physical message says so.
    pub fn forbid_resumption(&mut self) -> bool {
        self.link.forbid_resumption()
    }

    /// Returns the next event, oldest first.
    pub fn poll_event(&mut self) -> Option<SocketEvent<K, Message>> {
        self.link.poll_event()
    }

    /// Returns the time at which to call [`Client::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Millis> {
        self.link.poll_timeout()
    }

    /// Handles the timeouts that are due by `now`: sockets whose server has not answered in time end.
    ///
    /// # Errors
    /// Returns a [`Violation`] if the server has shown no sign of life for too long: the link is dead. The host does what
    /// it does after a violation in [`Client::receive`].
    pub fn handle_timeout(&mut self, now: Millis) -> Result<Timeout, Violation> {
        self.link.handle_timeout(now)
    }
}
