//! How a link outlives its carriers: counts, replay and acknowledgements (§8.1).

use super::Connection;
use crate::frame::{Frame, Resume};
use crate::resumption::{Answered, Resumption, SECOND_WITHIN};
use crate::side::Side;
use crate::token::Token;
use crate::transmit::{Batch, Payload};
use crate::violation::Rule;
use crate::window_tuning::RttEstimator;
use crate::{Millis, Violation};

impl<P: Payload> Connection<P> {
    // ---- commands ----

    /// On a server, lets the client resume the link with this token for [`Settings::resume_timeout`](crate::Settings). To be
    /// called before anything else.
    pub fn allow_resumption(&mut self, token: Token) {
        if self.side() == Side::Server && self.settings.resume_timeout > 0 {
            self.resumption = Some(Box::new(Resumption::new(Some(token))));
        }
    }

    /// Ends the link with its carrier from now on, and lets the peer know, with the next physical message. Messages kept for
    /// another carrier are dropped. Returns whether the peer does not know yet.
    pub fn forbid_resumption(&mut self) -> bool {
        self.farewell_due |= self.resumption.take().is_some();
        self.farewell_due
    }

    /// Returns whether the link outlives the loss of its carrier.
    pub fn can_resume(&self) -> bool {
        let is_server = self.side() == Side::Server;
        (!self.hello_due || self.expects_second())
            && self.resumption.as_ref().is_some_and(|resumption| resumption.is_possible(is_server))
    }

    /// Takes in that the carrier is lost. Returns whether the link waits for another one; if not, it ends.
    pub fn carrier_lost(&mut self, now: Millis) -> bool {
        if !self.can_resume() {
            return false;
        }
        let until = now.saturating_add(self.patience());
        if let Some(resumption) = &mut self.resumption {
            resumption.lost(until);
        }
        // Answers over another carrier would measure the loss.
        (self.ping_due, self.pong_due, self.rtt) = (false, false, RttEstimator::default());
        self.can_resume()
    }

    /// On a client, reports that another carrier is open. The frame RESUME is due.
    pub fn redialled(&mut self, now: Millis) {
        let until = now.saturating_add(self.patience());
        if let Some(resumption) = &mut self.resumption {
            resumption.redial(until);
            self.keepalive.restart(now);
        }
    }

    /// On a server, returns whether a client that sends RESUME may resume the link.
    pub fn accepts(&self, resume: &Resume) -> bool {
        self.resumption.as_ref().is_some_and(|resumption| resumption.accepts(resume))
    }

    /// On a server, returns when to take a carrier that [`Connection::accepts`]: now, or later if the link has been resumed
    /// often without progress.
    pub fn resumption_due(&self, now: Millis, resume: &Resume) -> Millis {
        self.resumption.as_ref().map_or(now, |resumption| resumption.due_at(now, resume))
    }

    /// On a server, takes a carrier that [`Connection::accepts`]. The client gets `token` for the next time.
    pub fn resume(&mut self, now: Millis, resume: &Resume, token: Token) {
        self.carrier_lost(now);
        if let Some(resumption) = &mut self.resumption {
            resumption.attach(now, resume, token);
            self.keepalive.restart(now);
        }
    }

    /// On a server, lets another handshake of the client take the link over, until the client has answered one (§3.4). To be
    /// called when the first batch has arrived, and before anything is sent.
    pub fn expect_second_handshake(&mut self) {
        if self.side() == Side::Server
            && let Some(resumption) = &mut self.resumption
        {
            resumption.expect_second();
        }
    }

    /// On a server, returns whether another handshake of the client may take the link over.
    pub fn accepts_second_handshake(&self) -> bool {
        self.can_resume() && self.expects_second()
    }

    /// On a server, takes the carrier of another handshake, if [`Connection::accepts_second_handshake`]: all that was sent is
    /// sent again.
    pub fn begin_again(&mut self, now: Millis) {
        self.carrier_lost(now);
        let has_token = !self.hello_due;
        if let Some(resumption) = &mut self.resumption {
            resumption.begin_again(has_token);
            self.keepalive.restart(now);
        }
    }

    pub(super) fn expects_second(&self) -> bool {
        self.side() == Side::Server
            && self.resumption.as_ref().is_some_and(|resumption| resumption.expects_second())
    }

    /// On a server, returns the tokens that resume the link.
    pub fn tokens(&self) -> [Option<Token>; 2] {
        self.resumption.as_ref().map_or([None; 2], |resumption| resumption.tokens())
    }

    /// On a client, returns the server's node number, for the URL of a carrier that resumes the link.
    pub fn node(&self) -> u32 {
        self.peer.map_or(0, |peer| peer.node)
    }

    /// Returns whether the link has lost its carrier, or waits for the answer to RESUME.
    pub fn is_interrupted(&self) -> bool {
        self.lost_until().is_some()
    }

    /// Returns the bytes that wait for an ACK.
    pub fn held_bytes(&self) -> usize {
        self.resumption.as_ref().map_or(0, |resumption| resumption.held_bytes())
    }

    /// Keeps the physical message that was given out last until the peer has acknowledged it, if it may have to be sent
    /// again: `held` is called then. The host calls this after each [`Connection::poll_transmit`], with the bytes.
    pub fn keep(&mut self, bytes: u32, held: impl FnOnce() -> P::Held) {
        if !std::mem::take(&mut self.last_counts) {
            return;
        }
        let Some(resumption) = &mut self.resumption else { return };
        resumption.hold(held(), bytes);
        if resumption.wants_ping() {
            self.ping_due = true;
        }
    }

    /// How long the server keeps a link that has lost its carrier.
    fn patience(&self) -> Millis {
        match self.side() {
            Side::Server if self.expects_second() => self.settings.resume_timeout.min(SECOND_WITHIN),
            Side::Server => self.settings.resume_timeout,
            Side::Client => self.peer.map_or(0, |peer| peer.resume_timeout),
        }
    }

    /// Returns when the link ends unless another carrier resumes it.
    pub(super) fn lost_until(&self) -> Option<Millis> {
        self.resumption.as_ref()?.until()
    }

    /// Returns whether the answer to RESUME is missing.
    pub(super) fn is_resuming(&self) -> bool {
        self.resumption.as_ref().is_some_and(|resumption| resumption.is_resuming())
    }

    // ---- sending ----

    /// Returns whether frames of the carrier may be due, or messages to be sent again.
    pub(super) fn wants_resumption_frames(&self) -> bool {
        let Some(resumption) = &self.resumption else { return self.farewell_due };
        let due = &resumption.due;
        due.resume
            || (resumption.is_up()
                && (due.token || due.resumed || resumption.owes_ack() || resumption.has_again()))
    }

    /// Returns whether the link may send nothing now but frames of the carrier.
    pub(super) fn is_held_up(&self) -> bool {
        self.resumption.as_ref().is_some_and(|resumption| !resumption.is_up() || resumption.is_full())
    }

    /// Writes a batch of frames of the carrier, which is not counted. Such frames never share a batch with others, which
    /// may be sent again.
    pub(super) fn write_carrier_frames(&mut self, batch: &mut Batch<P>) {
        let Some(resumption) = &mut self.resumption else { return };
        if !resumption.is_up() {
            if std::mem::take(&mut resumption.due.resume)
                && let Some(resume) = resumption.resume()
            {
                Frame::Resume(resume).encode(&mut batch.headers);
            }
            return;
        }
        let [token, _] = resumption.tokens();
        if std::mem::take(&mut resumption.due.resumed)
            && let Some(token) = token
        {
            Frame::Resumed(resumption.take_ack(), token).encode(&mut batch.headers);
        }
        if self.peer.is_none() {
            return;
        }
        if std::mem::take(&mut resumption.due.token)
            && let Some(token) = token
        {
            Frame::Token(Some(token)).encode(&mut batch.headers);
        }
        let ack = if resumption.owes_ack() {
            Some(resumption.take_ack())
        } else if self.ping_due || self.pong_due {
            resumption.take_ack_with_ping()
        } else {
            None
        };
        if let Some(count) = ack {
            Frame::Ack(count).encode(&mut batch.headers);
        }
        if std::mem::take(&mut self.pong_due) {
            Frame::Pong.encode(&mut batch.headers);
        }
        if std::mem::take(&mut self.ping_due) {
            Frame::Ping.encode(&mut batch.headers);
        }
    }

    /// Adds an ACK to a batch that has other frames, if enough has arrived.
    pub(super) fn write_ack_along(&mut self, batch: &mut Batch<P>) {
        if let Some(resumption) = &mut self.resumption
            && let Some(count) = resumption.take_ack_along()
        {
            Frame::Ack(count).encode(&mut batch.headers);
        }
    }

    /// Returns the next message that an earlier carrier may have lost.
    pub(super) fn next_again(&mut self) -> Option<P::Held> {
        self.resumption.as_mut()?.next_again()
    }

    // ---- receiving ----

    /// Counts a physical message that has been taken in whole.
    pub(super) fn count_received(&mut self, bytes: u32) {
        if let Some(resumption) = &mut self.resumption {
            resumption.count_received(bytes);
        }
    }

    pub(super) fn on_pong(&mut self, now: Millis) {
        match self.resumption.as_mut().map(|resumption| resumption.pong_received()) {
            Some(Answered::AskAgain) => self.ping(now),
            // Better no resumption than a link that stands still.
            Some(Answered::WithoutAck) => {
                self.forbid_resumption();
            }
            Some(Answered::Well) | None => {}
        }
    }

    pub(super) fn on_ack(&mut self, count: u32) -> Result<(), Violation> {
        match &mut self.resumption {
            Some(resumption) => resumption.acknowledge(count),
            None => Ok(()),
        }
    }

    pub(super) fn on_token(&mut self, token: Option<Token>) -> Result<(), Violation> {
        let side = self.side();
        match token {
            None => self.resumption = None,
            Some(_) if side == Side::Server => return Err(Rule::Resumption.broken()),
            Some(token) => {
                // This side may have forbidden resumption meanwhile.
                if let Some(resumption) = &mut self.resumption {
                    resumption.renew(token);
                }
            }
        }
        Ok(())
    }

    pub(super) fn on_resumed(&mut self, now: Millis, received: u32, token: Token) -> Result<(), Violation> {
        let Some(resumption) = &mut self.resumption else { return Err(Rule::Resumption.broken()) };
        resumption.resumed(received, token)?;
        self.keepalive.restart(now);
        Ok(())
    }
}
