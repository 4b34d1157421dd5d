//! The events that a connection reports to its host.

use crate::Channel;
use crate::frame::Kind;
use crate::token::Token;

/// The place of a string or payload, in units. It counts from the beginning of the batch's text run (strings) or binary run
/// (binary payloads), or of the physical message's payload if that was not a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// The offset of the first unit.
    pub start: u32,
    /// The length.
    pub units: u32,
}

/// An event that a host must handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionEvent {
    /// The client opens a channel; answer with `accept`, `refuse` or `abort`.
    Open {
        /// The new channel.
        channel: Channel,
        /// Path and query.
        target: Span,
        /// The offered subprotocols, comma-separated.
        protocols: Span,
        /// The headers, a line each.
        headers: Span,
    },
    /// The server's answer to an open follows, and has cookies for the browser (§4.2).
    Cookies {
        /// The channel.
        channel: Channel,
        /// The ticket for which the multiplexer's URL gives the cookies.
        ticket: Token,
    },
    /// The server accepted a channel.
    Accepted {
        /// The channel.
        channel: Channel,
        /// The chosen subprotocol.
        protocol: Span,
    },
    /// The server refused a channel, which is now gone.
    Refused {
        /// The channel.
        channel: Channel,
        /// An HTTP status.
        status: u32,
        /// The reason, for the log.
        reason: Span,
    },
    /// A message, or a piece of one.
    Data {
        /// The channel.
        channel: Channel,
        /// Text or binary.
        kind: Kind,
        /// Whether it completes the message.
        fin: bool,
        /// Its content.
        span: Span,
    },
    /// The peer closed its direction; answer with `close` if this side has not closed yet.
    Closed {
        /// The channel.
        channel: Channel,
        /// The close code; 0: none was given (1005), 1006: aborted, [`FAILED`](crate::FAILED): failed.
        code: u32,
        /// The reason.
        reason: Span,
        /// The bytes of the messages that this side still had to send.
        unsent: u64,
    },
    /// A message exceeds `max_message`. Nothing more arrives on the channel; close it with 1009.
    Oversize {
        /// The channel.
        channel: Channel,
        /// The bytes of the messages that this side still had to send.
        unsent: u64,
    },
    /// Nothing waits to be sent on the channel any more. Only reported if the host asked for it.
    Drained {
        /// The channel.
        channel: Channel,
    },
}

/// Opens that a server's settings have refused, before its host saw them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Refusals {
    /// Beyond `max_channels`: 503.
    pub too_many: u32,
    /// Beyond `max_open`: 431.
    pub too_long: u32,
}

impl Refusals {
    pub(super) fn count(&mut self, status: u16) {
        let count = if status == 431 { &mut self.too_long } else { &mut self.too_many };
        *count = count.saturating_add(1);
    }
}
