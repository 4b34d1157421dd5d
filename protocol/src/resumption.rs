//! The state with which a link outlives its connections: counts of messages, and those not acknowledged (§8.1).

use std::collections::VecDeque;

use crate::frame::Resume;
use crate::settings::MESSAGE_OVERHEAD;
use crate::token::Token;
use crate::violation::Rule;
use crate::{Millis, Violation};

/// An ACK goes along with the next batch once this much has arrived since the last one. Unacknowledged messages take
/// memory at the peer.
const ACK_ALONG: u32 = 64 * 1024;

/// An ACK is sent as a separate physical message once this much has arrived. A page handles each of those in a task: one for each
/// 64 KiB took a twentieth of the time of a bulk transfer.
const ACK_ALONE: u32 = 128 * 1024;

/// The bytes of a link that wait for an ACK before it sends no more: twice by how much windows may grow. A path that holds
/// more in a round trip is slower.
const MOST_HELD: usize = 16 * 1024 * 1024;

/// How often the oldest message may be sent again, without an ACK for it, before the link is given up: a proxy on the way
/// may refuse it each time.
const MOST_REPEATS: u32 = 64;

/// As how many of these a repetition counts over a carrier that has brought nothing either. Where it has, the carrier may
/// only have been too short for both directions.
const IN_VAIN: u32 = 2;

/// How often a link is resumed in a row without progress before each further time has to wait.
const IN_A_ROW: Millis = 10;

/// Progress is at least this part of what the server has sent over the last carrier. A network that carries anything at all
/// carries more of what the sender's buffers hold.
const PROGRESS: u64 = 64;

/// The time after which a link may be resumed once more without progress. Clients wait 10 s for the answer to RESUME.
const REGAIN: Millis = 6_000;

/// How long a server keeps a link whose client has no token yet, for another handshake of the client. Milliseconds.
pub(crate) const SECOND_WITHIN: Millis = 10_000;

/// The number before that of the first counted message.
const BEFORE_FIRST: u32 = u32::MAX;

/// The places for messages that an idle link keeps.
const KEPT_PLACES: usize = 64;

/// The connection that carries the link now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Carrier {
    Up,
    /// Nothing. The link ends at this time.
    Down {
        until: Millis,
    },
    /// On a client, a carrier whose server has not answered RESUME. The link ends at this time.
    Resuming {
        until: Millis,
    },
}

/// The verdict of a PONG about a peer with too many bytes that wait for an ACK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answered {
    Well,
    AskAgain,
    /// It answers PINGs, and acknowledges nothing.
    WithoutAck,
}

/// Frames that are due to be sent.
#[derive(Debug, Default)]
pub(crate) struct DueFrames {
    pub(crate) token: bool,
    pub(crate) resume: bool,
    pub(crate) resumed: bool,
    ack: bool,
}

/// The state with which a link outlives its carriers. Counts of messages are modulo 2³².
#[derive(Debug)]
pub(crate) struct Resumption<H> {
    carrier: Carrier,
    /// The number of the newest carrier; 0 is the one that made the link.
    number: u32,
    /// The newest token.
    token: Option<Token>,
    /// On a server, the token before it, until the client has the newest.
    previous: Option<Token>,
    /// On a server, whether the client has ever had a token.
    is_confirmed: bool,
    /// The messages that the peer has acknowledged: the number of the first in `held`.
    acknowledged: u32,
    /// The messages that it has not, with their bytes.
    held: VecDeque<(H, u32)>,
    held_bytes: usize,
    /// How many of `held` have been sent over this carrier.
    sent_again: usize,
    /// The first of `held` when a carrier was lost, and how often that was the same; and `received` then.
    stuck: (u32, u32),
    received_before: u32,
    /// Over this carrier: the bytes sent; and the cost of messages that were acknowledged or have arrived.
    sent: u64,
    progress: u64,
    /// On a server, when all that resumptions without progress have used up is regained.
    regained_at: Millis,
    /// While too much is held: the acknowledged messages when a PING asked for more, and the PONGs since.
    probe: Option<(u32, u32)>,
    /// The messages that have arrived, those of them that an ACK has named, and the cost of the others.
    received: u32,
    reported: u32,
    unreported: u32,
    pub(crate) due: DueFrames,
}

impl<H: Clone> Resumption<H> {
    /// Returns that of a new link. A server gives its token.
    pub(crate) fn new(token: Option<Token>) -> Self {
        Self {
            carrier: Carrier::Up,
            number: 0,
            token,
            previous: None,
            is_confirmed: false,
            acknowledged: 0,
            held: VecDeque::new(),
            held_bytes: 0,
            sent_again: 0,
            stuck: (0, 0),
            received_before: 0,
            sent: 0,
            progress: 0,
            regained_at: 0,
            probe: None,
            received: 0,
            reported: 0,
            unreported: 0,
            due: DueFrames { token: token.is_some(), ..DueFrames::default() },
        }
    }

    /// Returns whether the link may be resumed once its carrier is lost.
    pub(crate) fn is_possible(&self, is_server: bool) -> bool {
        self.token.is_some()
            && (self.is_confirmed || self.expects_second() || !is_server)
            && self.stuck.1 < MOST_REPEATS
    }

    // ---- another handshake ----

    /// On a server, lets another handshake of the client take the link over, until the client has a token. The message with the
    /// HELLO is kept for that, and is the one before the first that counts.
    pub(crate) fn expect_second(&mut self) {
        self.acknowledged = BEFORE_FIRST;
    }

    /// On a server, returns whether another handshake of the client may take the link over.
    pub(crate) fn expects_second(&self) -> bool {
        !self.is_confirmed && self.acknowledged == BEFORE_FIRST
    }

    /// Begins the link again over another carrier: all that was sent is sent again. `has_token`: the token was sent, too.
    pub(crate) fn begin_again(&mut self, has_token: bool) {
        self.carrier = Carrier::Up;
        self.sent_again = 0;
        self.due.token = !has_token;
    }

    // ---- the carrier ----

    pub(crate) fn is_up(&self) -> bool {
        self.carrier == Carrier::Up
    }

    /// Returns whether the answer to RESUME is missing.
    pub(crate) fn is_resuming(&self) -> bool {
        matches!(self.carrier, Carrier::Resuming { .. })
    }

    /// Returns when the link ends unless it is resumed.
    pub(crate) fn until(&self) -> Option<Millis> {
        match self.carrier {
            Carrier::Up => None,
            Carrier::Down { until } | Carrier::Resuming { until } => Some(until),
        }
    }

    /// Takes in that the carrier is lost. The link ends at `until`, unless it was lost before.
    pub(crate) fn lost(&mut self, until: Millis) {
        if self.is_up() {
            let (first, times) = self.stuck;
            let is_stuck = self.sent_again > 0 && first == self.acknowledged;
            let weight = if self.received == self.received_before { IN_VAIN } else { 1 };
            self.stuck = (self.acknowledged, if is_stuck { times + weight } else { 0 });
            self.received_before = self.received;
        }
        self.carrier = Carrier::Down { until: self.until().unwrap_or(until) };
        self.due = DueFrames::default();
        self.probe = None;
    }

    /// On a client, begins a carrier with RESUME.
    pub(crate) fn redial(&mut self, until: Millis) {
        self.carrier = Carrier::Resuming { until: self.until().unwrap_or(until) };
        self.number = self.number.saturating_add(1);
        self.due = DueFrames { resume: true, ..DueFrames::default() };
    }

    /// Returns the frame that begins the carrier of a client.
    pub(crate) fn resume(&self) -> Option<Resume> {
        Some(Resume { carrier: self.number, received: self.received, token: self.token? })
    }

    /// Returns whether a server accepts a carrier: of a client that has the newest token or the one before it, knows no
    /// later carrier, and has received no more than was sent.
    pub(crate) fn accepts(&self, resume: &Resume) -> bool {
        let is = |token: Option<Token>| token.is_some_and(|token| token == resume.token);
        // Both are compared in any case.
        let is_known = is(self.token) | is(self.previous);
        is_known
            && self.is_possible(true)
            && resume.carrier > self.number
            && self.ahead(resume.received).is_some()
    }

    /// On a server, returns whether a resumption has messages sent again although the last carrier has brought hardly any.
    fn is_in_vain(&self, resume: &Resume) -> bool {
        let ahead = self.ahead(resume.received).unwrap_or_default();
        let acknowledged: u64 = self.held.iter().take(ahead).map(|(_, bytes)| cost(*bytes)).sum();
        ahead < self.held.len() && (self.progress + acknowledged).saturating_mul(PROGRESS) < self.sent.max(1)
    }

    /// On a server, returns when to take a carrier that it accepts. No later than the link would end without.
    pub(crate) fn due_at(&self, now: Millis, resume: &Resume) -> Millis {
        if !self.is_in_vain(resume) {
            return now;
        }
        let at = self.regained_at.saturating_sub((IN_A_ROW - 1) * REGAIN).max(now);
        self.until().map_or(at, |until| at.min(until))
    }

    /// On a server, takes a carrier that it accepts. The next token will be `token`.
    pub(crate) fn attach(&mut self, now: Millis, resume: &Resume, token: Token) {
        let used_up = if self.is_in_vain(resume) { self.regained_at.max(now) + REGAIN } else { 0 };
        self.regained_at = used_up;
        self.is_confirmed = true;
        self.number = resume.carrier;
        self.previous = Some(resume.token);
        self.begin(resume.received, token);
        self.due.resumed = true;
    }

    /// On a client, takes in the server's answer.
    pub(crate) fn resumed(&mut self, received: u32, token: Token) -> Result<(), Violation> {
        if !self.is_resuming() || self.due.resume {
            return Err(Rule::Resumption.broken());
        }
        self.ahead(received).ok_or(Rule::AckBeyond.broken())?;
        self.begin(received, token);
        self.due.ack = true;
        Ok(())
    }

    fn begin(&mut self, received: u32, token: Token) {
        self.forget(self.ahead(received).unwrap_or_default());
        self.token = Some(token);
        self.carrier = Carrier::Up;
        self.sent_again = 0;
        (self.sent, self.progress) = (0, 0);
        self.due = DueFrames::default();
        (self.reported, self.unreported) = (self.received, 0);
    }

    /// Returns the newest token; and the one before it, while a client may know no other.
    pub(crate) fn tokens(&self) -> [Option<Token>; 2] {
        [self.token, self.previous]
    }

    /// On a client, takes in a token of the server's.
    pub(crate) fn renew(&mut self, token: Token) {
        self.token = Some(token);
        self.due.ack = true;
    }

    // ---- sent messages ----

    /// Keeps a message that has been sent.
    pub(crate) fn hold(&mut self, message: H, bytes: u32) {
        self.held.push_back((message, bytes));
        self.sent += u64::from(bytes);
        self.held_bytes += bytes as usize;
        self.sent_again += 1;
    }

    /// Returns the bytes of the messages that wait for an ACK.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held_bytes + self.held.capacity() * size_of::<(H, u32)>()
    }

    /// Returns whether so much waits for an ACK that nothing more may be sent.
    pub(crate) fn is_full(&self) -> bool {
        self.held_bytes >= MOST_HELD
    }

    /// Returns whether to ask the peer for an ACK, with a PING. At half of the limit, so that the answer comes in time.
    pub(crate) fn wants_ping(&mut self) -> bool {
        let wants = self.held_bytes >= MOST_HELD / 2 && self.probe.is_none();
        if wants {
            self.probe = Some((self.acknowledged, 0));
        }
        wants
    }

    /// Takes in a PONG.
    pub(crate) fn pong_received(&mut self) -> Answered {
        match &mut self.probe {
            // The first PONG may answer an earlier PING.
            Some((mark, pongs)) if *mark == self.acknowledged && self.held_bytes >= MOST_HELD => {
                *pongs += 1;
                if *pongs >= 2 { Answered::WithoutAck } else { Answered::AskAgain }
            }
            _ => {
                self.probe = None;
                Answered::Well
            }
        }
    }

    /// Takes in an ACK. One that is older than the last is ignored.
    pub(crate) fn acknowledge(&mut self, count: u32) -> Result<(), Violation> {
        self.is_confirmed = true;
        self.previous = None;
        match self.ahead(count) {
            Some(ahead) => self.forget(ahead),
            None if (count.wrapping_sub(self.acknowledged) as i32) < 0 => {}
            None => return Err(Rule::AckBeyond.broken()),
        }
        Ok(())
    }

    /// Returns how many messages a count acknowledges, if they were sent.
    fn ahead(&self, count: u32) -> Option<usize> {
        let ahead = count.wrapping_sub(self.acknowledged) as usize;
        (ahead <= self.held.len()).then_some(ahead)
    }

    fn forget(&mut self, ahead: usize) {
        for (_, bytes) in (0..ahead).map_while(|_| self.held.pop_front()) {
            self.held_bytes -= bytes as usize;
            self.progress += cost(bytes);
        }
        self.acknowledged = self.acknowledged.wrapping_add(ahead as u32);
        self.sent_again = self.sent_again.saturating_sub(ahead);
        if self.held.is_empty() && self.held.capacity() > KEPT_PLACES {
            self.held = VecDeque::new();
        }
    }

    /// Returns the next message to send again.
    pub(crate) fn next_again(&mut self) -> Option<H> {
        if !self.is_up() {
            return None;
        }
        let (message, bytes) = self.held.get(self.sent_again)?;
        self.sent_again += 1;
        self.sent += u64::from(*bytes);
        Some(message.clone())
    }

    /// Returns whether there are messages to send again.
    pub(crate) fn has_again(&self) -> bool {
        self.sent_again < self.held.len()
    }

    // ---- receiving ----

    /// Counts a message of `bytes` that has arrived.
    pub(crate) fn count_received(&mut self, bytes: u32) {
        self.received = self.received.wrapping_add(1);
        self.progress += cost(bytes);
        self.unreported = self.unreported.saturating_add(bytes).saturating_add(MESSAGE_OVERHEAD);
    }

    /// Returns whether an ACK is due, even alone.
    pub(crate) fn owes_ack(&self) -> bool {
        self.due.ack || self.unreported >= ACK_ALONE
    }

    /// Returns the count for an ACK that goes along with other frames, if enough has arrived.
    pub(crate) fn take_ack_along(&mut self) -> Option<u32> {
        (self.unreported >= ACK_ALONG).then(|| self.take_ack())
    }

    /// Returns the count for an ACK that goes along with PING or PONG, if anything has arrived since the last.
    pub(crate) fn take_ack_with_ping(&mut self) -> Option<u32> {
        (self.due.ack || self.received != self.reported).then(|| self.take_ack())
    }

    /// Returns the count for an ACK.
    pub(crate) fn take_ack(&mut self) -> u32 {
        self.due.ack = false;
        self.unreported = 0;
        self.reported = self.received;
        self.received
    }
}

/// Returns the cost of a message, with what it has beside its bytes.
fn cost(bytes: u32) -> u64 {
    u64::from(bytes) + u64::from(MESSAGE_OVERHEAD)
}
