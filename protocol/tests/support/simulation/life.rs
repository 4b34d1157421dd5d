//! One life of a channel for the applications at both sides: their plan, their actions, and the events that they
//! may see of each other.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use manysocket_protocol::{Channel, Close, Message, Settings};

use super::super::rng::Rng;

/// How an application reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reader {
    /// Whatever comes, at once.
    Eager,
    /// Reads some messages now and then.
    Late,
    /// Nothing while faults last.
    Never,
}

/// The plan of an application.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) reader: Reader,
    /// Turns that it has left to send, read, close and give up in.
    pub(super) turns: usize,
    /// The most milliseconds between two.
    pub(super) pace: usize,
    /// Whether it may end the channel unasked.
    pub(super) ends: bool,
}

impl Plan {
    pub(super) fn new(rng: &mut Rng) -> Self {
        Self {
            reader: [Reader::Eager, Reader::Eager, Reader::Late, Reader::Never][rng.below(4)],
            turns: rng.below(10),
            pace: [30, 300, 3000][rng.below(3)],
            ends: rng.one_in(2),
        }
    }
}

/// The end of the channel as a side has seen it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    Closed(Close),
    Refused(u16),
    /// The other sent more than may be.
    Oversize,
    /// The link has ended.
    Lost,
}

/// Text or binary, and how long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    kind: usize,
    size: usize,
    /// As the protocol counts them.
    pub(super) units: u32,
}

/// One application's half.
#[derive(Debug)]
pub(super) struct Half {
    pub(super) plan: Plan,
    /// The number at this side, and the link.
    pub(super) channel: Channel,
    /// Messages may be sent: the open has been accepted.
    pub(super) open: bool,
    /// On a server: the open has come and waits for an answer.
    pub(super) asked: bool,
    pub(super) refused_here: Option<u16>,
    pub(super) sent: Vec<Sent>,
    /// How many of the other's have arrived.
    pub(super) heard: usize,
    /// The units of those that have not been read.
    pub(super) unread: VecDeque<u32>,
    pub(super) closed_here: Option<Close>,
    pub(super) gave_up: bool,
    pub(super) seen: Option<Seen>,
    /// Copies of its messages that are still kept somewhere.
    pub(super) kept: Arc<AtomicUsize>,
}

impl Half {
    pub(super) fn new(channel: Channel, rng: &mut Rng) -> Self {
        Self {
            plan: Plan::new(rng),
            channel,
            open: false,
            asked: false,
            refused_here: None,
            sent: Vec::new(),
            heard: 0,
            unread: VecDeque::new(),
            closed_here: None,
            gave_up: false,
            seen: None,
            kept: Arc::default(),
        }
    }

    /// Whether this side has not ended its direction.
    pub(super) fn can_close(&self) -> bool {
        let lost = matches!(self.seen, Some(Seen::Lost | Seen::Oversize));
        self.open && !lost && self.closed_here.is_none() && !self.gave_up
    }

    pub(super) fn can_send(&self) -> bool {
        self.can_close() && self.seen.is_none()
    }

    /// Whether the application has nothing more to do with it.
    pub(super) fn is_over(&self) -> bool {
        let answered = self.closed_here.is_some() || self.refused_here.is_some();
        match self.seen {
            Some(Seen::Closed(_)) => answered || self.gave_up,
            Some(Seen::Refused(_) | Seen::Oversize | Seen::Lost) => true,
            None => self.gave_up || self.refused_here.is_some(),
        }
    }

    pub(super) fn kept(&self) -> usize {
        self.kept.load(Ordering::Relaxed)
    }

    /// The next message of this half, which knows its place among them.
    pub(super) fn next_message(
        &mut self,
        serial: usize,
        side: usize,
        peer: &Settings,
        rng: &mut Rng,
    ) -> Message {
        let size = match rng.below(10) {
            0 => 0,
            1..=6 => rng.below(60),
            7 => 4000 + rng.below(200),
            8 => rng.below(10_000),
            // With its first words, exactly the limit, or just beyond.
            _ if rng.one_in(40) => {
                peer.max_message as usize - head(serial, side, self.sent.len()).len() + rng.below(3)
            }
            _ if rng.one_in(8) => rng.below(3 * peer.window as usize).min(peer.max_message as usize - 20),
            _ => 5_000,
        };
        let kind = rng.below(4);
        let message = content(serial, side, self.sent.len(), kind, size);
        self.sent.push(Sent { kind, size, units: message.units() });
        self.kept.fetch_add(1, Ordering::Relaxed);
        let counted = |bytes| Bytes::from_owner(Counted { bytes, kept: Arc::clone(&self.kept) });
        match message {
            Message::Text(bytes) => Message::Text(counted(bytes)),
            Message::Binary(bytes) => Message::Binary(counted(bytes)),
        }
    }

    /// The message that was sent in that place.
    pub(super) fn message(&self, serial: usize, side: usize, place: usize) -> Option<Message> {
        let Sent { kind, size, .. } = *self.sent.get(place)?;
        Some(content(serial, side, place, kind, size))
    }

    /// Whether the other side saw the actions of this one.
    pub(super) fn may_be_seen_as(&self, close: &Close) -> bool {
        (self.gave_up && close.code == Some(1006))
            || (self.seen == Some(Seen::Oversize) && close.code == Some(1009))
            || self.closed_here.as_ref() == Some(close)
    }
}

/// The beginning of a message.
fn head(serial: usize, side: usize, place: usize) -> String {
    format!("{serial}/{side}/{place} ")
}

/// A message that differs from all others of its channel, and from those of other channels, unless it is empty.
fn content(serial: usize, side: usize, place: usize, kind: usize, size: usize) -> Message {
    if size == 0 {
        return if kind == 0 { Message::binary(vec![]) } else { Message::text("") };
    }
    let mut text = head(serial, side, place);
    match kind {
        0 => {
            let mut bytes = text.into_bytes();
            bytes.extend((0..size).map(|i| (i * 7 + place) as u8));
            return Message::binary(bytes);
        }
        1 => text.extend("é€😀a".chars().cycle().skip(place % 4).take(size)),
        2 => text.push_str(&"😀".repeat(size / 2)),
        _ => text.push_str(&"x".repeat(size)),
    }
    Message::text(text)
}

/// Content that notices when its last copy is dropped.
struct Counted {
    bytes: Bytes,
    kept: Arc<AtomicUsize>,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.kept.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Both halves, by side.
pub(super) struct Life {
    pub(super) link: usize,
    pub(super) halves: [Half; 2],
    /// The units of path and subprotocols.
    pub(super) open_units: usize,
}

impl Life {
    /// Whether both applications may send.
    pub(super) fn is_open(&self) -> bool {
        self.halves.iter().all(Half::can_send)
    }
}
