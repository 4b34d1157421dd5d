//! The events of a link's channels, for its host.

use crate::Channel;
use crate::message::Message;
use crate::token::Token;

/// How a channel was closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    /// The close code; `None`: none was given (1005); 1006: aborted, without a closing handshake; [`FAILED`](crate::FAILED).
    pub code: Option<u16>,
    /// The reason, at most 123 bytes.
    pub reason: String,
}

/// An event that a host must handle: a [`ConnectionEvent`](crate::connection::ConnectionEvent) with its contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The client opens a channel; answer with `accept`, `refuse` or `abort`.
    Open {
        /// The new channel.
        channel: Channel,
        /// Path and query, as the page's URL had them.
        target: String,
        /// The offered subprotocols as in `Sec-WebSocket-Protocol`; empty: none.
        protocols: String,
        /// The headers, a line `name: value` each; empty: none.
        headers: String,
    },
    /// The server's answer to an open follows, and has cookies for the browser.
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
        /// The chosen subprotocol; empty: none.
        protocol: String,
    },
    /// The server refused a channel, which is now gone.
    Refused {
        /// The channel.
        channel: Channel,
        /// An HTTP status.
        status: u16,
        /// The reason, for the log.
        reason: String,
    },
    /// A whole message.
    Message {
        /// The channel.
        channel: Channel,
        /// The message.
        message: Message,
    },
    /// The peer closed its direction; answer with `close` or `abort` if this side has not closed.
    Closed {
        /// The channel.
        channel: Channel,
        /// The code and the reason.
        close: Close,
    },
    /// The peer sent a message larger than [`Settings::max_message`](crate::Settings::max_message). The channel has been closed
    /// with 1009; no event of it follows.
    Oversize {
        /// The channel.
        channel: Channel,
    },
    /// `poll_transmit` has returned everything that `send` queued on this channel.
    Drained {
        /// The channel.
        channel: Channel,
    },
}
