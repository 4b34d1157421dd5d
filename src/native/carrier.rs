//! The kinds of carriers of a link, and which of them a client uses.

use std::fmt::{self, Display, Formatter};

/// A kind of connection that a client may use for its link ([`MultiWebSocket::carriers`](super::MultiWebSocket::carriers)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Carriers {
    /// A WebSocket first, and HTTP where WebSockets fail or do not open within 2 s. The default.
    Any,
    /// A WebSocket only.
    WebSocket,
    /// HTTP only.
    Http,
}

impl Carriers {
    pub(super) fn has_websocket(self) -> bool {
        self != Self::Http
    }

    pub(super) fn has_http(self) -> bool {
        self != Self::WebSocket
    }
}

/// The kind of connection under a link ([`MultiWebSocket::carrier`](super::MultiWebSocket::carrier)). [`Display`] writes the names that pages see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Carrier {
    /// A WebSocket.
    WebSocket,
    /// HTTP requests that send, and one streamed answer that receives.
    HttpStream,
    /// HTTP requests that send, and others that receive, one after the other.
    HttpPoll,
}

impl Display for Carrier {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WebSocket => "websocket",
            Self::HttpStream => "http-stream",
            Self::HttpPoll => "http-poll",
        })
    }
}
