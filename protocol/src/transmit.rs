//! Output of a connection for its host: one physical message at a time.

use crate::Channel;
use crate::frame::Kind;
use crate::side::Side;

/// While a RAW header is in force, a physical binary message of at least this many bytes is a payload, a shorter one a
/// batch (§2.4).
pub const LARGE: u32 = 4096;

/// A payload of at least this many units is not packed into a batch: binary travels untouched
/// behind a RAW header, text as a separate physical text message (§2.2, §2.4). 4 KiB messages over ten sockets: 0.4 of
/// native's rate on their own, twice of it in batches; at 16 KiB the two are alike.
pub(crate) const ALONE: u32 = 16 * 1024;

/// The same for binary of a client's channel that takes turns with others, so that each message would need its own header.
/// A page copies 64 KiB into memory that it has used before for less than a physical message costs: over ten sockets 490 µs
/// of processor time there and back, with headers 590. (A receiving page would copy into fresh memory.)
pub(crate) const ALONE_AMONG_MANY: u32 = 128 * 1024;

/// A message's content, or a string of a frame, as the host holds it.
///
/// The default value is the empty string.
pub trait Payload: Default {
    /// The side of all connections with such payloads, if there is only one: the other side's code is
    /// then left out of the program. It makes the wasm client smaller by a thirtieth.
    const SIDE: Option<Side> = None;

    /// A physical message as the host keeps it until the peer has acknowledged it (§8.1).
    type Held: Clone;

    /// Its length: UTF-16 code units of text, bytes of binary.
    fn units(&self) -> u32;

    /// Its length in bytes, of UTF-8 for text: what `bufferedAmount` counts.
    fn bytes(&self) -> u64;

    /// Takes the first `units` off, or one fewer where text would be cut inside a surrogate pair.
    /// `units` is at least 2 and less than [`Payload::units`].
    fn split_to(&mut self, units: u32) -> Self;
}

/// One physical WebSocket message to send, in the order in which they are given out.
#[derive(Debug)]
pub enum Transmit<P: Payload> {
    /// A physical text message: the channel number, `:` or `+`, then the text (§2.2).
    Text {
        /// The channel.
        channel: Channel,
        /// Whether it completes the message (`:`), or more pieces follow (`+`).
        fin: bool,
        /// The text.
        text: P,
    },
    /// A physical binary message: a batch of frames (§2.3), which the host's [`Batch`] holds.
    Batch,
    /// A physical binary message: the payload alone (§2.4).
    Raw {
        /// The channel.
        channel: Channel,
        /// The payload.
        payload: P,
    },
    /// A physical message that an earlier carrier may have lost, as the host kept it ([`Connection::keep`](crate::Connection::keep)).
    Again(P::Held),
}

/// A string or payload in one of a batch's runs.
#[derive(Debug)]
pub struct Part<P> {
    /// The channel, if the part belongs to a message; `None` for a frame's string, such as a reason.
    pub channel: Option<Channel>,
    /// The content.
    pub payload: P,
}

/// A batch before it is put together: the columns of §2.3. A host keeps one, and its memory is used again.
#[derive(Debug)]
pub struct Batch<P> {
    /// The frame headers, encoded.
    pub headers: Vec<u8>,
    /// The pieces of the text run, in order.
    pub text: Vec<Part<P>>,
    /// The pieces of the binary run, in order.
    pub binary: Vec<Part<P>>,
    units: u32,
}

impl<P> Default for Batch<P> {
    fn default() -> Self {
        Self { headers: Vec::new(), text: Vec::new(), binary: Vec::new(), units: 0 }
    }
}

/// A batch is given out once it holds this many units: sliced strings and buffers keep the whole
/// batch alive at the receiver, and more than this no longer saves time.
const FULL: u32 = 32 * 1024;

impl<P: Payload> Batch<P> {
    /// Empties the batch and keeps its memory.
    pub(crate) fn clear(&mut self) {
        self.headers.clear();
        self.text.clear();
        self.binary.clear();
        self.units = 0;
    }

    /// Adds a frame's string.
    pub(crate) fn push_string(&mut self, payload: P) {
        self.units += payload.units();
        // Empty strings would only be work for the host.
        if payload.units() > 0 {
            self.text.push(Part { channel: None, payload });
        }
    }

    /// Adds a message, or a piece of one.
    pub(crate) fn push_message(&mut self, channel: Channel, kind: Kind, payload: P) {
        self.units += payload.units();
        if payload.units() > 0 {
            let run = if kind == Kind::Text { &mut self.text } else { &mut self.binary };
            run.push(Part { channel: Some(channel), payload });
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.headers.is_empty()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.headers.len() as u32 + self.units >= FULL
    }

    pub(crate) fn units(&self) -> u32 {
        self.units
    }

    /// The most bytes that the encoded batch can have: a UTF-16 code unit is at most three bytes
    /// of UTF-8, and the two lengths in front take at most ten.
    pub(crate) fn max_bytes(&self) -> u32 {
        self.headers.len() as u32 + 3 * self.units + 10
    }
}
