//! Flow control of one direction of a channel: the credit of a sender, and the window of a receiver (§6).

use std::collections::VecDeque;

use crate::Millis;
use crate::frame::Kind;
use crate::settings::{MAX_CREDIT, MESSAGE_OVERHEAD, MIN_PIECE};
use crate::transmit::Payload;
use crate::window_tuning::{RateEstimator, RttEstimator};

/// Messages that wait for credit or for their channel's turn.
#[derive(Debug)]
pub(crate) struct Queue<P> {
    items: VecDeque<(Kind, P)>,
    units: u32,
    credit: u32,
    /// The credit after the last GRANT. With less than half of it left, the peer sends the next GRANT unasked (§6). A
    /// message that does not fit then waits for it, which costs less than to cut and join the message.
    granted: u32,
}

/// The message or piece that the front of a [`Queue`] may send now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Piece {
    pub(crate) kind: Kind,
    pub(crate) units: u32,
    pub(crate) fin: bool,
}

impl<P: Payload> Queue<P> {
    pub(crate) fn new(credit: u32) -> Self {
        Self { items: VecDeque::new(), units: 0, credit, granted: credit }
    }

    pub(crate) fn push(&mut self, kind: Kind, payload: P) {
        self.units = self.units.saturating_add(payload.units());
        self.items.push_back((kind, payload));
    }

    /// The bytes of the messages that wait.
    pub(crate) fn bytes(&self) -> u64 {
        self.items.iter().map(|(_, payload)| payload.bytes()).sum()
    }

    pub(crate) fn last(&mut self) -> Option<&mut P> {
        self.items.back_mut().map(|(_, payload)| payload)
    }

    pub(crate) fn units(&self) -> u32 {
        self.units
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Adds credit. Returns false, and adds none, if the sum would exceed [`MAX_CREDIT`].
    pub(crate) fn grant(&mut self, units: u32) -> bool {
        match self.credit.checked_add(units).filter(|&sum| sum <= MAX_CREDIT) {
            Some(sum) => (self.credit, self.granted) = (sum, sum),
            None => return false,
        }
        true
    }

    /// Returns the next message, or as much of it as `max_fragment` and the credit allow. `None` if that would be a piece
    /// too small to be worth its cost.
    pub(crate) fn peek(&self, max_fragment: u32) -> Option<Piece> {
        let &(kind, ref payload) = self.items.front()?;
        let affordable = self.credit.checked_sub(MESSAGE_OVERHEAD)?;
        let whole = payload.units();
        let units = whole.min(max_fragment).min(affordable);
        let waits = units < whole.min(max_fragment) && (self.credit < self.granted / 2 || units < MIN_PIECE);
        (!waits).then_some(Piece { kind, units, fin: units == whole })
    }

    /// Removes the piece that [`Queue::peek`] described, and pays for it with credit.
    pub(crate) fn take(&mut self, piece: Piece) -> P {
        let payload = match self.items.front_mut() {
            Some((_, payload)) if !piece.fin => payload.split_to(piece.units),
            _ => self.items.pop_front().map(|(_, payload)| payload).unwrap_or_default(),
        };
        self.credit -= payload.units() + MESSAGE_OVERHEAD;
        self.units = self.units.saturating_sub(payload.units());
        if self.items.is_empty() {
            // An idle channel keeps no buffer.
            self.items = VecDeque::new();
        }
        payload
    }
}

/// Counts the credit that the peer still has, and the units that the reader has not consumed yet (§6).
#[derive(Debug)]
pub(crate) struct Window {
    /// The size in units, never below `initial_size`.
    size: u32,
    initial_size: u32,
    /// The rate of arrival, which `size` follows.
    rate: RateEstimator,
    /// Credit that the peer still has.
    credit: u32,
    /// Units and overhead of whole messages that the reader has not consumed.
    unread: u32,
    /// The cost of the last message as one piece, if it arrived in several; else 0.
    joined_cost: u32,
    /// The largest message, in units.
    pub(crate) max_message: u32,
    /// The message of which some pieces have arrived.
    partial: Option<Partial>,
    /// A GRANT is due, and waits until the host has memory.
    pub(crate) is_held_back: bool,
    /// The credit of the GRANT that waits to be sent, if there is one.
    pub(crate) grant_due: Option<u32>,
}

/// The pieces so far of a message that has not ended.
#[derive(Debug, Clone, Copy)]
struct Partial {
    kind: Kind,
    units: u32,
    pieces: u32,
}

/// The smallest piece of a message before its last one: [`MIN_PIECE`], or one unit fewer beside a surrogate pair.
const SMALLEST_PIECE: u32 = MIN_PIECE - 1;

/// The reason to reject data.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Rejected {
    /// The data exceeds the credit.
    NoCredit,
    /// The piece is of another kind than the message's first.
    Mixed,
    /// The message exceeds the limit, or has more pieces than a message of that size.
    Oversize,
}

impl Window {
    pub(crate) fn new(size: u32, max_message: u32) -> Self {
        Self {
            size,
            initial_size: size,
            rate: RateEstimator::default(),
            credit: size,
            unread: 0,
            joined_cost: 0,
            max_message,
            partial: None,
            is_held_back: false,
            grant_due: None,
        }
    }

    /// Returns by how many units the window has grown.
    pub(crate) fn growth(&self) -> u32 {
        self.size - self.initial_size
    }

    /// Counts a piece of a message.
    ///
    /// # Errors
    /// Returns the reason if the peer may not send this piece.
    pub(crate) fn receive(&mut self, kind: Kind, fin: bool, units: u32) -> Result<(), Rejected> {
        let max_message = self.max_message;
        let cost = units.checked_add(MESSAGE_OVERHEAD).ok_or(Rejected::NoCredit)?;
        self.credit = self.credit.checked_sub(cost).ok_or(Rejected::NoCredit)?;
        self.rate.count(cost);
        let before = match self.partial.take() {
            Some(partial) if partial.kind != kind => return Err(Rejected::Mixed),
            Some(partial) => partial,
            None => Partial { kind, units: 0, pieces: 0 },
        };
        let total = before
            .units
            .checked_add(units)
            .filter(|&total| total <= max_message)
            .ok_or(Rejected::Oversize)?;
        if fin {
            if before.units > 0 {
                self.joined_cost = total.saturating_add(MESSAGE_OVERHEAD);
            }
            self.unread = self.unread.saturating_add(total.saturating_add(MESSAGE_OVERHEAD));
        } else {
            // The host pays for each piece, however short. Empty pieces would never reach `max_message`.
            if before.pieces.saturating_mul(SMALLEST_PIECE) > max_message {
                return Err(Rejected::Oversize);
            }
            self.partial = Some(Partial { kind, units: total, pieces: before.pieces + 1 });
        }
        Ok(())
    }

    /// Counts messages that the reader consumed, with their units in all.
    pub(crate) fn consumed(&mut self, messages: u32, units: u32) {
        let overhead = messages.saturating_mul(MESSAGE_OVERHEAD);
        self.unread = self.unread.saturating_sub(units.saturating_add(overhead));
    }

    /// Returns whether a message has not ended.
    pub(crate) fn has_partial(&self) -> bool {
        self.partial.is_some()
    }

    /// Returns whether a GRANT is worth a frame. Half of the window is, so that a stream costs two GRANTs a window.
    /// A message that has not ended does not count as unread: it may be larger than the window, and `max_message`
    /// bounds it.
    pub(crate) fn wants_grant(&self) -> bool {
        self.free() >= self.size / 2
    }

    /// Returns the units that may be granted.
    fn free(&self) -> u32 {
        self.size.saturating_sub(self.credit.saturating_add(self.unread))
    }

    /// Returns the size that suits the channel's rate and the link's round trip, once both are known.
    pub(crate) fn wanted(&mut self, rtt: &RttEstimator, now: Millis) -> Option<u32> {
        rtt.window(&mut self.rate, now)
    }

    /// Returns the size in units.
    pub(crate) fn size(&self) -> u32 {
        self.size
    }

    /// Returns the cost of the last message as one piece, if it arrived in several; else 0.
    pub(crate) fn joined_cost(&self) -> u32 {
        self.joined_cost
    }

    /// Changes the size, within bounds: credit that the peer has cannot be withdrawn. The caller must grant afterwards.
    pub(crate) fn resize(&mut self, size: u32) {
        self.size = size.max(self.initial_size).max(self.credit.saturating_add(self.unread).min(self.size));
    }

    /// Makes a GRANT due. Its credit may be 0 after the window has shrunk: the sender may be waiting for a GRANT (§6).
    /// Returns true if the caller must schedule a GRANT.
    pub(crate) fn grant(&mut self) -> bool {
        let free = self.free();
        self.credit += free;
        self.grant_due.replace(self.grant_due.unwrap_or(0) + free).is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn a_window_that_shrinks_still_grants() {
        let mut window = Window::new(16 * 1024, u32::MAX);
        window.resize(100_000);
        assert!(window.grant());
        assert_eq!(window.grant_due.take(), Some(100_000 - 16 * 1024));
        // The sender has 45,000 left and a message of 50,000. 45,000 is less than half of the last grant, so it waits.
        assert_eq!(window.receive(Kind::Binary, true, 55_000 - MESSAGE_OVERHEAD), Ok(()));
        window.consumed(1, 55_000 - MESSAGE_OVERHEAD);
        assert!(window.wants_grant());
        window.resize(20_000);
        assert!(window.grant());
        assert_eq!(window.grant_due.take(), Some(0), "no credit is free, but the sender must get a GRANT");
    }
}
