//! One channel: what may still be sent, and what may still come (§4, §6, §7).

use std::collections::VecDeque;

use crate::Millis;
use crate::frame::Kind;
use crate::path::{Path, Rate};
use crate::settings::{MESSAGE_OVERHEAD, MIN_PIECE};
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
        Self { items: VecDeque::new(), units: 0, credit }
    }

    pub(crate) fn push(&mut self, kind: Kind, payload: P) {
        self.units = self.units.saturating_add(payload.units());
        self.items.push_back((kind, payload));
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

    pub(crate) fn credit(&mut self) -> &mut u32 {
        &mut self.credit
    }

    /// The next message whole if credit and `max_fragment` allow, else a piece of it worth sending,
    /// else nothing.
    pub(crate) fn peek(&self, max_fragment: u32) -> Option<Piece> {
        let &(kind, ref payload) = self.items.front()?;
        let affordable = self.credit.checked_sub(MESSAGE_OVERHEAD)?.min(max_fragment);
        let units = payload.units();
        if units <= affordable {
            Some(Piece { kind, units, fin: true })
        } else if affordable >= MIN_PIECE {
            Some(Piece { kind, units: affordable, fin: false })
        } else {
            None
        }
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
    /// The message that is being put together: its kind and its units so far.
    partial: Option<(Kind, u32)>,
    /// Credit to grant in the next GRANT; 0 if none is waiting to be sent.
    pub(crate) grant_due: u32,
}

/// Why data was not taken in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Rejected {
    /// More than the credit allowed.
    NoCredit,
    /// A piece of another kind than the message began with.
    Mixed,
    /// The message grows past the limit.
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
            partial: None,
            grant_due: 0,
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
            Some((partial, _)) if partial != kind => return Err(Rejected::Mixed),
            Some((_, units)) => units,
            None => 0,
        };
        let total =
            before.checked_add(units).filter(|&total| total <= max_message).ok_or(Rejected::Oversize)?;
        if fin {
            self.unread = self.unread.saturating_add(total.saturating_add(MESSAGE_OVERHEAD));
        } else {
            self.partial = Some((kind, total));
        }
        Ok(())
    }

    /// The reader took so many messages of so many units in all.
    pub(crate) fn consumed(&mut self, messages: u32, units: u32) {
        let overhead = messages.saturating_mul(MESSAGE_OVERHEAD);
        self.unread = self.unread.saturating_sub(units.saturating_add(overhead));
    }

    /// What to grant, if it is worth a frame: half the window, so that a stream costs two GRANTs
    /// a window, and a sender never waits for one while it has more than the least piece left.
    /// A message that is being put together does not count as unread: it may be larger than the
    /// window, and `max_message` bounds it.
    fn grant(&self) -> Option<u32> {
        let grant = self.size.saturating_sub(self.credit.saturating_add(self.unread));
        (grant >= self.size / 2).then_some(grant)
    }

    /// Whether a GRANT is worth a frame.
    pub(crate) fn wants_grant(&self) -> bool {
        self.grant().is_some()
    }

    /// The size that the path asks for, once that can be told.
    pub(crate) fn wanted(&mut self, path: &Path, now: Millis) -> Option<u32> {
        path.window(&mut self.rate, now)
    }

    pub(crate) fn size(&self) -> u32 {
        self.size
    }

    /// Changes the size, in bounds: what the peer may send already cannot be taken back.
    pub(crate) fn resize(&mut self, size: u32) {
        self.size = size.max(self.least).max(self.credit.saturating_add(self.unread).min(self.size));
    }

    /// Makes the grant due. True if a GRANT has to be scheduled.
    pub(crate) fn update_grant(&mut self) -> bool {
        let Some(grant) = self.grant() else { return false };
        self.credit += grant;
        self.grant_due += grant;
        self.grant_due == grant
    }
}
