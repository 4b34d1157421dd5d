//! Sending: which frames go out next, and in which physical messages.

use std::collections::VecDeque;

use super::{Connection, ConnectionEvent, Control, KEPT_EVENTS, Span};
use crate::Channel;
use crate::channel::{End, Receiving, Sending};
use crate::flow_control::{Piece, Queue};
use crate::frame::{Frame, Kind};
use crate::settings::{CHANNEL_SLACK, Settings};
use crate::side::Side;
use crate::transmit::{ALONE, ALONE_AMONG_MANY, Batch, LARGE, Payload, Transmit};

/// Bytes that one channel may put into a batch before the next has its turn: half a batch, so that no channel fills one
/// alone while others wait.
const QUANTUM: u32 = 16 * 1024;

impl<P: Payload> Connection<P> {
    /// Writes the first batch into `batch`, for the query of the physical handshake (§3): the HELLO, and as many of the
    /// waiting opens as fit in `max_bytes`. The host calls this once, before anything else is sent.
    pub fn handshake(&mut self, max_bytes: u32, batch: &mut Batch<P>) {
        batch.clear();
        self.write_link_frames(batch);
        while let Some(Control::Open { channel, target, protocols, headers }) = self.control.front() {
            // Paths and tokens are ASCII; a header has at most 16 bytes.
            let more = target.units() + protocols.units() + 16;
            // URLs are written to logs, and headers hold secrets.
            let is_secret = headers.units() > 0;
            if is_secret
                || *channel > CHANNEL_SLACK
                || batch.headers.len() as u32 + batch.units() + more > max_bytes
            {
                break;
            }
            if let Some(Control::Open { channel, target, protocols, headers }) = self.control.pop_front() {
                write_open(batch, channel, target, protocols, headers);
            }
        }
    }

    /// Returns whether there may be something to send. This is cheaper than [`Connection::poll_transmit`] and takes nothing.
    pub fn wants_transmit(&self) -> bool {
        self.hello_due
            || self.ping_due
            || self.pong_due
            || self.wants_resumption_frames()
            || (!self.is_held_up()
                && (self.staged.is_some() || !self.control.is_empty() || !self.ready.is_empty()))
    }

    /// Returns the next physical message to send; `batch` receives the content of a [`Transmit::Batch`]. Returns `None` if
    /// there is nothing to send. A client sends only its HELLO before the server's HELLO has arrived.
    pub fn poll_transmit(&mut self, batch: &mut Batch<P>) -> Option<Transmit<P>> {
        batch.clear();
        self.last_counts = false;
        let has_hello = self.hello_due;
        if !has_hello {
            if self.peer.is_some() && std::mem::take(&mut self.farewell_due) {
                Frame::Token(None).encode(&mut batch.headers);
                return Some(Transmit::Batch);
            }
            self.write_carrier_frames(batch);
            if !batch.is_empty() {
                return Some(Transmit::Batch);
            }
            if let Some(held) = self.next_again() {
                return Some(Transmit::Again(held));
            }
            if self.is_held_up() {
                return None;
            }
        }
        let transmit = self.next_transmit(batch);
        // A client knows the server's HELLO once it has a token, so that nobody needs one again after that.
        self.last_counts = transmit.is_some() && (!has_hello || self.expects_second());
        transmit
    }

    fn next_transmit(&mut self, batch: &mut Batch<P>) -> Option<Transmit<P>> {
        if let Some(staged) = self.staged.take() {
            *batch = staged;
            return Some(Transmit::Batch);
        }
        let raw_before = self.raw_out;
        self.write_link_frames(batch);
        if self.peer.is_some() {
            self.write_control(batch);
            if !batch.is_full()
                && let Some(alone) = self.write_channels(batch)
            {
                return Some(alone);
            }
        }
        if batch.is_empty() {
            return None;
        }
        self.write_ack_along(batch);
        if raw_before.is_some() && batch.max_bytes() >= LARGE {
            // In raw mode only a binary message below LARGE is a batch, so leave raw mode first.
            if self.raw_out == raw_before {
                self.raw_out = None;
            }
            let staged = std::mem::take(batch);
            Frame::Raw { channel: 0, fin: true }.encode(&mut batch.headers);
            self.staged = Some(staged);
        }
        Some(Transmit::Batch)
    }

    fn write_link_frames(&mut self, batch: &mut Batch<P>) {
        if std::mem::take(&mut self.hello_due) {
            let mut body = Vec::new();
            let resume_timeout = if self.resumption.is_some() { self.settings.resume_timeout } else { 0 };
            Settings { resume_timeout, ..self.settings }.encode(&mut body);
            Frame::Hello(&body).encode(&mut batch.headers);
            if !self.dialled_path.is_empty() {
                Frame::Path(self.dialled_path.as_bytes()).encode(&mut batch.headers);
            }
            self.write_carrier_frames(batch);
        }
        if std::mem::take(&mut self.pong_due) {
            Frame::Pong.encode(&mut batch.headers);
        }
        if self.peer.is_some() && std::mem::take(&mut self.ping_due) {
            Frame::Ping.encode(&mut batch.headers);
        }
    }

    fn write_control(&mut self, batch: &mut Batch<P>) {
        let limit = self.peer.map_or(0, |peer| peer.max_channels);
        while !batch.is_full()
            && let Some(control) = self.control.pop_front()
        {
            match control {
                Control::Open { channel, .. } if channel > limit => {
                    // Opened before the server's limit was known. This is the answer that the server would give.
                    if self.get(channel).is_some_and(|state| matches!(state.receiving, Receiving::Opening)) {
                        self.events.push_back(ConnectionEvent::Refused {
                            channel,
                            status: 503,
                            reason: Span::default(),
                        });
                    }
                    self.remove(channel);
                }
                Control::Open { channel, target, protocols, headers } => {
                    write_open(batch, channel, target, protocols, headers);
                }
                Control::Cookies { channel, ticket } => {
                    Frame::Cookies { channel, ticket }.encode(&mut batch.headers);
                }
                Control::Accept { channel, protocol } => {
                    Frame::Accept { channel, protocol: protocol.units() }.encode(&mut batch.headers);
                    batch.push_string(protocol);
                }
                Control::Grant { channel } => {
                    let Some(state) = self.get(channel) else {
                        continue;
                    };
                    if let (Receiving::Open(window), false) =
                        (&mut state.receiving, matches!(state.sending, Sending::Ended))
                        && let Some(units) = window.grant_due.take()
                    {
                        Frame::Grant { channel, units }.encode(&mut batch.headers);
                    }
                }
            }
        }
        if self.control.is_empty() && self.control.capacity() > KEPT_EVENTS {
            self.control = VecDeque::new();
        }
    }

    /// Fills the batch from the channels in turn. Returns a physical message that goes out in place of the batch, but only
    /// while the batch is empty.
    fn write_channels(&mut self, batch: &mut Batch<P>) -> Option<Transmit<P>> {
        let max_fragment = self.peer.map_or(LARGE, |peer| peer.max_fragment);
        let side = self.side();
        let mut turn_began = batch.max_bytes();
        while !batch.is_full()
            && let Some(&channel) = self.ready.front()
        {
            let alone = self.ready.len() == 1 && batch.is_empty();
            let raw_out = self.raw_out;
            let takes_turns = side == Side::Client && self.last_bulk_channel != channel;
            let alone_from = if takes_turns { ALONE_AMONG_MANY } else { ALONE };
            let state = self.get(channel).filter(|state| state.scheduled);
            let (queue, ends) = match state.map(|state| &mut state.sending) {
                Some(Sending::Open(queue)) => (queue, false),
                Some(Sending::Ending(queue, _)) if !queue.is_empty() => (queue, true),
                Some(Sending::Ending(..)) => {
                    self.ready.pop_front();
                    self.write_end(channel, batch);
                    continue;
                }
                _ => {
                    self.ready.pop_front();
                    continue;
                }
            };
            let Some(piece) = queue.peek(max_fragment) else {
                let drained = queue.is_empty();
                self.unschedule(channel, drained);
                continue;
            };
            let header = (channel, piece.fin);
            match piece.kind {
                Kind::Binary
                    if piece.units >= alone_from || (piece.units >= LARGE && raw_out == Some(header)) =>
                {
                    if raw_out != Some(header) {
                        Frame::Raw { channel, fin: piece.fin }.encode(&mut batch.headers);
                        self.raw_out = Some(header);
                        self.last_bulk_channel = channel;
                        return None;
                    }
                    if !batch.is_empty() {
                        return None;
                    }
                    let payload = queue.take(piece);
                    self.next_turn();
                    return Some(Transmit::Raw { channel, payload });
                }
                Kind::Text if piece.units >= ALONE || (alone && !ends && queue.len() == 1) => {
                    if !batch.is_empty() {
                        return None;
                    }
                    let text = queue.take(piece);
                    self.next_turn();
                    return Some(Transmit::Text { channel, fin: piece.fin, text });
                }
                _ => {
                    write_piece(batch, channel, piece, queue);
                    if piece.units >= ALONE {
                        self.last_bulk_channel = channel;
                    }
                }
            }
            if batch.max_bytes() - turn_began >= QUANTUM {
                turn_began = batch.max_bytes();
                self.next_turn();
            }
        }
        None
    }

    fn write_end(&mut self, channel: Channel, batch: &mut Batch<P>) {
        if self.raw_out.is_some_and(|(raw, _)| raw == channel) {
            self.raw_out = None;
        }
        let Some(state) = self.get(channel) else {
            return;
        };
        state.scheduled = false;
        if let Sending::Ending(_, end) = std::mem::replace(&mut state.sending, Sending::Ended) {
            let reason = match end {
                End::Close { code, reason } => {
                    Frame::Close { channel, code, reason: reason.units() }.encode(&mut batch.headers);
                    reason
                }
                End::Refuse { status, reason } => {
                    Frame::Refuse { channel, status, reason: reason.units() }.encode(&mut batch.headers);
                    reason
                }
            };
            batch.push_string(reason);
        }
        if matches!(state.receiving, Receiving::Ended) {
            self.remove(channel);
        }
    }
}

fn write_open<P: Payload>(batch: &mut Batch<P>, channel: Channel, target: P, protocols: P, headers: P) {
    Frame::Open { channel, target: target.units(), protocols: protocols.units(), headers: headers.units() }
        .encode(&mut batch.headers);
    for string in [target, protocols, headers] {
        batch.push_string(string);
    }
}

fn write_piece<P: Payload>(batch: &mut Batch<P>, channel: Channel, piece: Piece, queue: &mut Queue<P>) {
    let payload = queue.take(piece);
    Frame::Data { channel, kind: piece.kind, fin: piece.fin, units: payload.units() }
        .encode(&mut batch.headers);
    batch.push_message(channel, piece.kind, payload);
}
