//! The books of a bystander about resumption (`docs/protocol.md` §8.1): which messages count, which are sent again, and
//! whether a link may be resumed.

use std::collections::VecDeque;

use manysocket_protocol::{Physical, Settings, Side};

use super::observer::Way;

#[derive(Debug)]
pub(crate) struct Books {
    side: Side,
    /// Both sides want it.
    agreed: bool,
    /// Messages that count, by way.
    counts: [u32; 2],
    /// The messages that its side has sent, with their units, from the first that the peer has not acknowledged.
    kept: VecDeque<(Physical, u32)>,
    /// How many of them the present carrier has had.
    carried: usize,
    /// The client has the first token, as far as the side can know.
    confirmed: bool,
    /// A side has sent TOKEN without a token.
    forbidden: bool,
}

impl Books {
    pub(crate) fn new(side: Side, own: Settings, peer: Settings) -> Self {
        Self {
            side,
            agreed: own.resume_timeout > 0 && peer.resume_timeout > 0,
            counts: [0; 2],
            kept: VecDeque::new(),
            carried: 0,
            confirmed: false,
            forbidden: false,
        }
    }

    /// Whether the link must outlive the loss of its carrier.
    pub(crate) fn can_resume(&self) -> bool {
        self.agreed && self.confirmed && !self.forbidden
    }

    /// The messages that the peer has not acknowledged, and their cost (§8.1).
    pub(crate) fn unacknowledged(&self) -> (usize, usize) {
        (self.kept.len(), self.kept.iter().map(|(_, units)| *units as usize + 64).sum())
    }

    /// Whether a message of its side repeats the next one that an earlier carrier may have lost.
    pub(crate) fn repeats(&mut self, message: &Physical) -> bool {
        let repeats = self.kept.get(self.carried).is_some_and(|(kept, _)| kept == message);
        self.carried += usize::from(repeats);
        repeats
    }

    /// A message that counts goes its way.
    pub(crate) fn count(&mut self, way: Way, message: &Physical, units: u32) {
        self.counts[way as usize] = self.counts[way as usize].wrapping_add(1);
        if way == Way::Sent && self.agreed {
            assert_eq!(self.carried, self.kept.len(), "a new message before those that are to be sent again");
            self.kept.push_back((message.clone(), units));
            self.carried += 1;
        }
    }

    /// ACK, or the count of RESUME and RESUMED.
    pub(crate) fn acknowledge(&mut self, way: Way, count: u32) {
        if way == Way::Sent {
            return assert_eq!(count, self.counts[Way::Received as usize], "the count of received messages");
        }
        let unacknowledged = self.counts[Way::Sent as usize].wrapping_sub(count) as usize;
        // An ACK that is sent again is older than others.
        let acknowledged = self.kept.len().saturating_sub(unacknowledged);
        self.kept.drain(..acknowledged);
        self.carried = self.carried.saturating_sub(acknowledged);
        self.confirmed |= self.side == Side::Server;
    }

    pub(crate) fn token(&mut self, way: Way, is_empty: bool) {
        self.forbidden |= is_empty;
        self.confirmed |= self.side == Side::Client && way == Way::Received;
    }

    /// A carrier begins: its side sends the kept messages again.
    pub(crate) fn begin_carrier(&mut self) {
        self.carried = 0;
    }
}
