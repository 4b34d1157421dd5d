//! Receiving: how the peer's frames change the state.

use super::{ABORTED, Arriving, Connection, ConnectionEvent, FAILED, Span, is_close_code};
use crate::channel::{ChannelState, End, Receiving, Sending};
use crate::flow_control::{Queue, Rejected, Window};
use crate::frame::{Frame, Kind};
use crate::intake::Intake;
use crate::settings::{CHANNEL_SLACK, Settings};
use crate::side::Side;
use crate::token::Token;
use crate::transmit::{LARGE, Payload};
use crate::violation::Rule;
use crate::{Channel, Millis, Violation};

/// The longest reason of a close, in bytes (RFC 6455 §5.5: 125 less the code).
pub(crate) const MAX_REASON: u32 = 123;

/// The longest path of a PATH, in bytes (§3.2): as long as a first batch in a URL may be.
const MAX_PATH: usize = 4000;

impl<P: Payload> Connection<P> {
    /// Returns whether a physical binary message of `length` bytes is a payload and not a batch. The host then calls
    /// [`Connection::receive_raw`].
    pub fn expects_raw(&self, length: u32) -> bool {
        self.raw_in.is_some() && length >= LARGE
    }

    /// Receives a batch: its headers, and the lengths of its runs in units.
    ///
    /// # Errors
    /// Returns a [`Violation`] if the peer broke the protocol. Frames before the bad one have taken effect.
    pub fn receive_batch(
        &mut self,
        now: Millis,
        mut headers: &[u8],
        text_units: u32,
        binary_bytes: u32,
    ) -> Result<(), Violation> {
        let mut runs = Runs::new(text_units, binary_bytes);
        self.receive_frames(now, &mut headers, &mut runs, usize::MAX)
    }

    /// Receives at most `most` frames of a batch. The caller repeats this with the same headers and runs until no headers
    /// are left.
    pub(crate) fn receive_frames(
        &mut self,
        now: Millis,
        headers: &mut &[u8],
        runs: &mut Runs,
        most: usize,
    ) -> Result<(), Violation> {
        self.keepalive.received(now);
        let Runs { text, binary } = runs;
        let header_bytes = headers.len();
        for _ in 0..most {
            if headers.is_empty() {
                break;
            }
            let frame = Frame::decode(headers)?;
            if self.is_resuming() && !matches!(frame, Frame::Resumed(..)) {
                return Err(Rule::Resumption.broken());
            }
            self.arriving.has_frames |= frame.counts();
            self.arriving.has_hello |= matches!(frame, Frame::Hello(_));
            if self.peer.is_none() && !matches!(frame, Frame::Hello(_)) {
                return Err(Rule::NoHello.broken());
            }
            match frame {
                Frame::Data { channel, kind, fin, units } => {
                    let run = if kind == Kind::Text { &mut *text } else { &mut *binary };
                    let span = run.take(units)?;
                    self.on_data(channel, kind, fin, span)?;
                }
                Frame::Raw { channel, fin } => {
                    self.raw_in = (channel != 0).then_some((channel, fin));
                }
                Frame::Open { channel, target, protocols, headers } => {
                    let (target, protocols) = (text.take(target)?, text.take(protocols)?);
                    self.on_open(channel, target, protocols, text.take(headers)?)?;
                }
                Frame::Accept { channel, protocol } => {
                    let protocol = text.take(protocol)?;
                    self.on_accept(channel, protocol)?;
                }
                Frame::Refuse { channel, status, reason } => {
                    let reason = text.take(reason)?;
                    self.on_refuse(channel, status, reason)?;
                }
                Frame::Close { channel, code, reason } => {
                    let reason = text.take(reason)?;
                    self.on_close(channel, code, reason)?;
                }
                Frame::Grant { channel, units } => self.on_grant(channel, units)?,
                Frame::Hello(body) => self.on_hello(body)?,
                Frame::Ping => self.pong_due = true,
                Frame::Path(path) => self.on_path(path),
                Frame::Cookies { channel, ticket } => self.on_cookies(channel, ticket),
                Frame::Pong => {
                    self.rtt.pong_received(now);
                    self.on_pong(now);
                }
                Frame::Ack(count) => self.on_ack(count)?,
                Frame::Token(token) => self.on_token(token)?,
                Frame::Resume(_) => return Err(Rule::Resumption.broken()),
                Frame::Resumed(received, token) => self.on_resumed(now, received, token)?,
                Frame::Unknown { .. } => {}
            }
        }
        self.arriving.bytes += (header_bytes - headers.len()) as u32;
        if !headers.is_empty() {
            return Ok(());
        }
        if !(text.is_exhausted() && binary.is_exhausted()) {
            return Err(Rule::BatchLeftOver.broken());
        }
        let Arriving { bytes, has_frames, has_hello } = std::mem::take(&mut self.arriving);
        if has_frames && !has_hello {
            self.count_received(bytes.saturating_add(text.end).saturating_add(binary.end));
        }
        Ok(())
    }

    /// Receives a physical text message: the number and sign in front of it, and the length of the rest.
    ///
    /// # Errors
    /// As [`Connection::receive_batch`].
    pub fn receive_text(
        &mut self,
        now: Millis,
        channel: Channel,
        fin: bool,
        units: u32,
    ) -> Result<(), Violation> {
        self.keepalive.received(now);
        self.on_lone(channel, Kind::Text, fin, units)
    }

    /// Receives a physical binary message for which [`Connection::expects_raw`] returned true.
    ///
    /// # Errors
    /// As [`Connection::receive_batch`].
    pub fn receive_raw(&mut self, now: Millis, length: u32) -> Result<(), Violation> {
        self.keepalive.received(now);
        let (channel, fin) = self.raw_in.ok_or(Rule::NoRaw.broken())?;
        self.on_lone(channel, Kind::Binary, fin, length)
    }

    /// Handles a physical message that is a message of a channel or a piece of one.
    fn on_lone(&mut self, channel: Channel, kind: Kind, fin: bool, units: u32) -> Result<(), Violation> {
        if self.is_resuming() {
            return Err(Rule::Resumption.broken());
        }
        self.on_data(channel, kind, fin, Span { start: 0, units })?;
        self.count_received(units);
        Ok(())
    }

    fn on_hello(&mut self, body: &[u8]) -> Result<(), Violation> {
        if self.peer.is_some() {
            return Err(Rule::SecondHello.broken());
        }
        let peer = Settings::decode(body)?;
        self.keepalive.peer_promises(peer.ping_interval);
        if peer.resume_timeout == 0 {
            self.resumption = None;
        }
        self.peer = Some(peer);
        Ok(())
    }

    /// Takes the path that the client dialled, unless it is late, a second one, or longer than any URL (§3.2).
    fn on_path(&mut self, path: &[u8]) {
        if self.side() == Side::Server
            && self.channels.is_empty()
            && self.dialled_path.is_empty()
            && path.len() <= MAX_PATH
            && let Ok(path) = str::from_utf8(path)
        {
            self.dialled_path = path.into();
        }
    }

    /// Takes a ticket for a channel that waits for its answer. A channel that the client has given up needs none.
    fn on_cookies(&mut self, channel: Channel, ticket: Token) {
        let state = self.state(channel).map(|state| &state.receiving);
        if self.side() == Side::Client && matches!(state, Some(Receiving::Opening)) {
            self.events.push_back(ConnectionEvent::Cookies { channel, ticket });
        }
    }

    fn on_open(
        &mut self,
        channel: Channel,
        target: Span,
        protocols: Span,
        headers: Span,
    ) -> Result<(), Violation> {
        if self.side() == Side::Client {
            return Err(Rule::OpenByServer.on(channel));
        }
        if channel == 0 || channel as usize > self.channels.len() + 1 {
            return Err(Rule::OpenSkips.on(channel));
        }
        if channel > self.settings.max_channels.saturating_add(CHANNEL_SLACK) {
            return Err(Rule::OpenBeyond.on(channel));
        }
        if self.state(channel).is_some() {
            return Err(Rule::OpenTaken.on(channel));
        }
        if self.aborted_opens.is_exhausted(self.keepalive.last_received()) {
            return Err(Rule::Churn.on(channel));
        }
        let refusal = if self.live >= self.settings.max_channels {
            Some(503)
        } else {
            // Request Header Fields Too Large (RFC 6585 §5).
            let strings = target.units.saturating_add(protocols.units).saturating_add(headers.units);
            (strings > self.settings.max_open).then_some(431)
        };
        if let Some(status) = refusal {
            self.insert(channel, Sending::Opening, Receiving::Opening);
            self.refuse(channel, status, P::default());
            self.refusals.count(status);
            return Ok(());
        }
        self.insert(channel, Sending::Opening, Receiving::Opening);
        self.events.push_back(ConnectionEvent::Open { channel, target, protocols, headers });
        Ok(())
    }

    fn on_accept(&mut self, channel: Channel, protocol: Span) -> Result<(), Violation> {
        let window = Window::new(self.settings.window, self.settings.max_message);
        let credit = self.peer.map_or(0, |peer| peer.window);
        let side = self.side();
        let state = self.expect(channel)?;
        match (&state.sending, &state.receiving) {
            _ if side == Side::Server => Err(Rule::AcceptByClient.on(channel)),
            (Sending::Opening, Receiving::Opening) => {
                state.sending = Sending::Open(Queue::new(credit));
                state.receiving = Receiving::Open(window);
                self.events.push_back(ConnectionEvent::Accepted { channel, protocol });
                Ok(())
            }
            (_, Receiving::Discarding) => Ok(()),
            _ => Err(Rule::AcceptLate.on(channel)),
        }
    }

    fn on_refuse(&mut self, channel: Channel, status: u32, reason: Span) -> Result<(), Violation> {
        let side = self.side();
        let state = self.expect(channel)?;
        match state.receiving {
            _ if side == Side::Server => {
                return Err(Rule::RefuseByClient.on(channel));
            }
            Receiving::Opening => self.events.push_back(ConnectionEvent::Refused { channel, status, reason }),
            Receiving::Discarding => {}
            _ => {
                return Err(Rule::RefuseLate.on(channel));
            }
        }
        self.on_end(channel);
        // The page needs no answer to a refusal; only the number must become free.
        self.end(channel, End::Close { code: 0, reason: P::default() });
        Ok(())
    }

    fn on_close(&mut self, channel: Channel, code: u32, reason: Span) -> Result<(), Violation> {
        let is_without_code = matches!(code, 0 | ABORTED) || code == u32::from(FAILED);
        if !is_close_code(code) && !is_without_code {
            return Err(Rule::CloseCode.on(channel));
        }
        // A text has at least as many bytes as units. A host that holds the bytes checks those.
        if reason.units > MAX_REASON {
            return Err(Rule::CloseReason.on(channel));
        }
        if reason.units > 0 && is_without_code {
            return Err(Rule::CloseWithoutCode.on(channel));
        }
        let side = self.side();
        let state = self.expect(channel)?;
        match state.receiving {
            Receiving::Ended => return Err(Rule::CloseTwice.on(channel)),
            Receiving::Opening if side == Side::Client || code != ABORTED => {
                return Err(Rule::CloseEarly.on(channel));
            }
            Receiving::Discarding => {}
            Receiving::Opening | Receiving::Open(_) => {
                if matches!(state.receiving, Receiving::Opening) {
                    self.aborted_opens.count();
                }
                let unsent = self.get(channel).map_or(0, |state| state.sending.discard());
                self.events.push_back(ConnectionEvent::Closed { channel, code, reason, unsent });
            }
        }
        self.on_end(channel);
        Ok(())
    }

    fn on_grant(&mut self, channel: Channel, units: u32) -> Result<(), Violation> {
        let state = self.expect(channel)?;
        if matches!(state.receiving, Receiving::Ended) {
            return Err(Rule::GrantLate.on(channel));
        }
        let (Sending::Open(queue) | Sending::Ending(queue, _)) = &mut state.sending else {
            return match state.sending {
                Sending::Ended => Ok(()),
                _ => Err(Rule::GrantEarly.on(channel)),
            };
        };
        if !queue.grant(units) {
            return Err(Rule::GrantExcess.on(channel));
        }
        if !queue.is_empty() {
            self.schedule(channel);
        }
        Ok(())
    }

    fn on_data(&mut self, channel: Channel, kind: Kind, fin: bool, span: Span) -> Result<(), Violation> {
        self.rtt.data_received(channel, self.keepalive.last_received());
        let state = self.expect(channel)?;
        let window = match &mut state.receiving {
            Receiving::Open(window) => window,
            Receiving::Discarding => return Ok(()),
            Receiving::Opening => {
                return Err(Rule::DataEarly.on(channel));
            }
            Receiving::Ended => return Err(Rule::DataLate.on(channel)),
        };
        match window.receive(kind, fin, span.units) {
            Ok(()) => self.events.push_back(ConnectionEvent::Data { channel, kind, fin, span }),
            Err(Rejected::NoCredit) => {
                return Err(Rule::NoCredit.on(channel));
            }
            Err(Rejected::Mixed) => {
                return Err(Rule::DataMixed.on(channel));
            }
            Err(Rejected::Oversize) => {
                self.close_window(channel, Receiving::Discarding);
                let state = self.expect(channel)?;
                // The queue would wait for credit that never arrives, if the peer has given up for the same reason. A close
                // behind it would claim that everything arrived.
                let unsent = state.sending.discard();
                if let Sending::Ending(..) = state.sending {
                    state.sending = Sending::Open(Queue::new(0));
                }
                self.aborted_opens.count();
                self.events.push_back(ConnectionEvent::Oversize { channel, unsent });
            }
        }
        if !fin && self.may_grant_piece(channel) {
            self.update_grant(channel);
        }
        Ok(())
    }

    /// Sets which unfinished messages may continue. The host calls this whenever its memory has changed.
    pub fn set_intake(&mut self, intake: Intake) {
        self.intake.intake = intake;
        while !self.intake.is_empty() && self.may_continue() {
            let Some(channel) = self.intake.next() else { break };
            // The channel may have ended, and its number may be another's.
            if let Some(ChannelState { receiving: Receiving::Open(window), .. }) = self.get(channel)
                && std::mem::take(&mut window.is_held_back)
            {
                self.intake.favored = channel;
                self.update_grant(channel);
            }
        }
    }

    /// Returns whether the credit of a piece that has arrived may return now. If not, the channel waits for it.
    fn may_grant_piece(&mut self, channel: Channel) -> bool {
        let is_next = self.intake.favored == channel || self.may_continue();
        if is_next && self.intake.intake != Intake::None {
            self.intake.favored = channel;
            return true;
        }
        if let Some(ChannelState { receiving: Receiving::Open(window), .. }) = self.get(channel)
            && !std::mem::replace(&mut window.is_held_back, true)
        {
            self.intake.hold_back(channel);
        }
        false
    }

    /// Returns whether a further message may continue.
    fn may_continue(&self) -> bool {
        match self.intake.intake {
            Intake::All => true,
            Intake::One => {
                let favored = self.state(self.intake.favored).map(|state| &state.receiving);
                !matches!(favored, Some(Receiving::Open(window)) if window.has_partial())
            }
            Intake::None => false,
        }
    }

    /// Handles the peer's terminal frame. The peer no longer reads the queued messages (§7).
    fn on_end(&mut self, channel: Channel) {
        if self.raw_in.is_some_and(|(raw, _)| raw == channel) {
            self.raw_in = None;
        }
        self.close_window(channel, Receiving::Ended);
        let Some(state) = self.get(channel) else {
            return;
        };
        state.sending.discard();
        match &state.sending {
            Sending::Ending(..) => self.schedule(channel),
            Sending::Ended => self.remove(channel),
            Sending::Open(_) | Sending::Opening => {}
        }
    }
}

/// The runs of a batch whose headers are being read.
#[derive(Debug)]
pub(crate) struct Runs {
    text: Run,
    binary: Run,
}

impl Runs {
    pub(crate) fn new(text_units: u32, binary_bytes: u32) -> Self {
        Self { text: Run::new(text_units), binary: Run::new(binary_bytes) }
    }
}

/// The text or binary run of a batch whose headers are being read.
#[derive(Debug)]
struct Run {
    position: u32,
    end: u32,
}

impl Run {
    fn new(end: u32) -> Self {
        Self { position: 0, end }
    }

    fn take(&mut self, units: u32) -> Result<Span, Violation> {
        if units > self.end - self.position {
            return Err(Rule::BatchExceeded.broken());
        }
        let span = Span { start: self.position, units };
        self.position += units;
        Ok(span)
    }

    fn is_exhausted(&self) -> bool {
        self.position == self.end
    }
}
