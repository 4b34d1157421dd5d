//! One channel: what may still be sent, and what may still come (§4, §6, §7).

use std::collections::VecDeque;

use crate::Millis;
use crate::frame::Kind;
use crate::path::{Path, Rate};
use crate::settings::{MAX_CREDIT, MESSAGE_OVERHEAD, MIN_PIECE};
use crate::transmit::Payload;

/// Both directions of a channel. It is gone once both have ended.
#[derive(Debug)]
pub(crate) struct ChannelState<P> {
    pub(crate) sending: Sending<P>,
    pub(crate) receiving: Receiving,
    /// Whether it stands in the connection's queue of channels with something to send.
    pub(crate) scheduled: bool,
}

/// This side's direction.
#[derive(Debug)]
pub(crate) enum Sending<P> {
    /// The server has not answered the open.
    Opening,
    /// Messages may be sent.
    Open(Queue<P>),
    /// The terminal frame goes out once the queue is empty.
    Ending(Queue<P>, End<P>),
    /// The terminal frame has gone out.
    Ended,
}

/// A direction's last frame.
#[derive(Debug)]
pub(crate) enum End<P> {
    Close { code: u32, reason: P },
    Refuse { status: u32, reason: P },
}

/// Messages that wait for credit or for their turn.
#[derive(Debug)]
pub(crate) struct Queue<P> {
    items: VecDeque<(Kind, P)>,
    units: u32,
    credit: u32,
    /// The credit after the last GRANT. With less than half of it left, the next GRANT comes by itself (§6), and a
    /// message that does not fit waits for it: to cut and join one costs more.
    granted: u32,
}

/// What the front of a [`Queue`] may send now.
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

    pub(crate) fn payloads(&self) -> impl Iterator<Item = &P> {
        self.items.iter().map(|(_, payload)| payload)
    }

    pub(crate) fn into_payloads(self) -> impl Iterator<Item = P> {
        self.items.into_iter().map(|(_, payload)| payload)
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

    /// Adds credit; false if that would be more than there may be.
    pub(crate) fn grant(&mut self, units: u32) -> bool {
        match self.credit.checked_add(units).filter(|&sum| sum <= MAX_CREDIT) {
            Some(sum) => (self.credit, self.granted) = (sum, sum),
            None => return false,
        }
        true
    }

    /// The next message, or as much of it as one piece may hold; with less credit a piece of that, if one
    /// is worth sending; else nothing.
    pub(crate) fn peek(&self, max_fragment: u32) -> Option<Piece> {
        let &(kind, ref payload) = self.items.front()?;
        let affordable = self.credit.checked_sub(MESSAGE_OVERHEAD)?;
        let whole = payload.units();
        let units = whole.min(max_fragment).min(affordable);
        let waits = units < whole.min(max_fragment) && (self.credit < self.granted / 2 || units < MIN_PIECE);
        (!waits).then_some(Piece { kind, units, fin: units == whole })
    }

    /// Takes what [`Queue::peek`] described, and pays for it.
    pub(crate) fn take(&mut self, piece: Piece) -> P {
        let payload = match self.items.front_mut() {
            Some((_, payload)) if !piece.fin => payload.split_to(piece.units),
            _ => self.items.pop_front().map(|(_, payload)| payload).unwrap_or_default(),
        };
        self.credit -= payload.units() + MESSAGE_OVERHEAD;
        self.units = self.units.saturating_sub(payload.units());
        if self.items.is_empty() {
            // An idle channel holds no buffer.
            self.items = VecDeque::new();
        }
        payload
    }
}

/// The peer's direction.
#[derive(Debug)]
pub(crate) enum Receiving {
    /// Only the answer to the open may come (client), or its abort (server).
    Opening,
    /// Messages may come.
    Open(Window),
    /// This side has given the channel up: whatever still comes is dropped, up to the peer's
    /// terminal frame.
    Discarding,
    /// The terminal frame has come.
    Ended,
}

/// What the peer may still send, and what the reader has not taken yet (§6).
#[derive(Debug)]
pub(crate) struct Window {
    /// At least `least`, the size that it began with.
    size: u32,
    least: u32,
    /// What has come lately: `size` follows it.
    rate: Rate,
    /// Credit that the peer has left.
    credit: u32,
    /// Units and overhead of whole messages that the reader has not consumed.
    unread: u32,
    /// What the last message would have taken in one piece, if it came in several.
    whole: u32,
    /// The message that is being put together.
    partial: Option<Partial>,
    /// Credit to grant in the next GRANT, if one is waiting to be sent.
    pub(crate) grant_due: Option<u32>,
}

/// What has come of a message that has not ended.
#[derive(Debug, Clone, Copy)]
struct Partial {
    kind: Kind,
    units: u32,
    pieces: u32,
}

/// The least that a piece holds, but for the last of a message: [`MIN_PIECE`], or one unit fewer beside a surrogate
/// pair.
const LEAST_PIECE: u32 = MIN_PIECE - 1;

/// Why data was not taken in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Rejected {
    /// More than the credit allowed.
    NoCredit,
    /// A piece of another kind than the message began with.
    Mixed,
    /// The message grows past the limit, or comes in more pieces than one of that size has.
    Oversize,
}

impl Window {
    pub(crate) fn new(size: u32) -> Self {
        Self {
            size,
            least: size,
            rate: Rate::default(),
            credit: size,
            unread: 0,
            whole: 0,
            partial: None,
            grant_due: None,
        }
    }

    /// What it has grown by.
    pub(crate) fn growth(&self) -> u32 {
        self.size - self.least
    }

    /// Counts a piece of a message.
    pub(crate) fn receive(
        &mut self,
        kind: Kind,
        fin: bool,
        units: u32,
        max_message: u32,
    ) -> Result<(), Rejected> {
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
                self.whole = total.saturating_add(MESSAGE_OVERHEAD);
            }
            self.unread = self.unread.saturating_add(total.saturating_add(MESSAGE_OVERHEAD));
        } else {
            // Each costs the host something to keep, however short; empty ones would never add up to a message.
            if before.pieces.saturating_mul(LEAST_PIECE) > max_message {
                return Err(Rejected::Oversize);
            }
            self.partial = Some(Partial { kind, units: total, pieces: before.pieces + 1 });
        }
        Ok(())
    }

    /// The reader took so many messages of so many units in all.
    pub(crate) fn consumed(&mut self, messages: u32, units: u32) {
        let overhead = messages.saturating_mul(MESSAGE_OVERHEAD);
        self.unread = self.unread.saturating_sub(units.saturating_add(overhead));
    }

    /// Whether a GRANT is worth a frame: for half the window, so that a stream costs two GRANTs
    /// a window. A message that is being put together does not count as unread: it may be larger than the
    /// window, and `max_message` bounds it.
    pub(crate) fn wants_grant(&self) -> bool {
        self.free() >= self.size / 2
    }

    /// What may be granted.
    fn free(&self) -> u32 {
        self.size.saturating_sub(self.credit.saturating_add(self.unread))
    }

    /// The size that the path asks for, once that can be told.
    pub(crate) fn wanted(&mut self, path: &Path, now: Millis) -> Option<u32> {
        path.window(&mut self.rate, now)
    }

    pub(crate) fn size(&self) -> u32 {
        self.size
    }

    /// What the last message would have taken in one piece, if it came in several; else 0.
    pub(crate) fn whole(&self) -> u32 {
        self.whole
    }

    /// Changes the size, in bounds: what the peer may send already cannot be taken back. A GRANT has to follow.
    pub(crate) fn resize(&mut self, size: u32) {
        self.size = size.max(self.least).max(self.credit.saturating_add(self.unread).min(self.size));
    }

    /// Makes a grant due: of nothing, too, if the window has shrunk, since the sender may be waiting for
    /// one (§6). True if a GRANT has to be scheduled.
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
    fn a_window_that_shrinks_grants_all_the_same() {
        let mut window = Window::new(16 * 1024);
        window.resize(100_000);
        assert!(window.grant());
        assert_eq!(window.grant_due.take(), Some(100_000 - 16 * 1024));
        // The sender has 45,000 left, and a message of 50,000: less than half of what it was granted last, so it waits.
        assert_eq!(window.receive(Kind::Binary, true, 55_000 - MESSAGE_OVERHEAD, u32::MAX), Ok(()));
        window.consumed(1, 55_000 - MESSAGE_OVERHEAD);
        assert!(window.wants_grant());
        window.resize(20_000);
        assert!(window.grant());
        assert_eq!(window.grant_due.take(), Some(0), "nothing to give, and the sender told");
    }
}
