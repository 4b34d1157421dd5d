//! The events of a socket, for its host.

use std::fmt;

use super::Unsent;
use crate::token::Token;

/// The close code that means "no closing handshake" (RFC 6455 §7.4.1).
const ABNORMAL: u16 = 1006;

/// An action of the host for a socket. The order is that of the events that a native `WebSocket` fires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SocketEvent<K, M> {
    /// The server's answer follows, and has cookies (docs/protocol.md §4.2). A host with a browser fetches them before the
    /// application sees further events of the socket.
    Cookies {
        /// The socket.
        key: K,
        /// The ticket for which the multiplexer's URL gives the cookies.
        ticket: Token,
    },
    /// The server accepted the socket.
    Open {
        /// The socket.
        key: K,
        /// The subprotocol that the server chose; empty: none.
        protocol: String,
    },
    /// A whole message. The host reports with `consumed` when the application has read it.
    Message {
        /// The socket.
        key: K,
        /// The message.
        message: M,
    },
    /// The socket failed; its [`SocketEvent::Close`] follows.
    Error {
        /// The socket.
        key: K,
        /// Why, for a log. A page must not learn it (WHATWG, "fail the WebSocket connection").
        failure: Failure,
    },
    /// The socket has ended.
    Close {
        /// The socket.
        key: K,
        /// How it ended.
        close: SocketClose,
        /// Bytes that the application sent and the network never carried: they stay in `bufferedAmount`.
        unsent: Unsent,
    },
}

/// How a socket ended: the fields of a `CloseEvent`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketClose {
    /// The server's close code; 1005 if it gave none, 1006 if there was no closing handshake.
    pub code: u16,
    /// The server's reason, at most 123 bytes.
    pub reason: String,
    /// Whether both sides closed.
    pub was_clean: bool,
}

impl SocketClose {
    /// Returns the end of a socket whose connection broke.
    pub fn abnormal() -> Self {
        Self { code: ABNORMAL, reason: String::new(), was_clean: false }
    }
}

/// Why a socket failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The server refused the open.
    Refused {
        /// An HTTP status.
        status: u32,
        /// The server's words.
        reason: String,
    },
    /// The server chose a subprotocol that was not offered, or none although some were.
    Subprotocol {
        /// The one it chose; empty: none.
        chosen: String,
    },
    /// The server's limit of open channels is reached.
    TooMany,
    /// The server did not answer the open in time.
    Unanswered,
    /// A message was larger than this side accepts.
    TooLarge,
    /// The server failed the socket, for example because the server behind it broke the WebSocket protocol.
    Server,
    /// The link broke, or never opened.
    Link,
    /// The application gave the socket up.
    GivenUp,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Refused { status, reason } if reason.is_empty() => {
                write!(f, "the server refused the socket with status {status}")
            }
            Failure::Refused { status, reason } => {
                write!(f, "the server refused the socket with status {status}: {reason}")
            }
            Failure::Subprotocol { chosen } if chosen.is_empty() => {
                f.write_str("the server chose none of the offered subprotocols")
            }
            Failure::Subprotocol { chosen } => {
                write!(f, "the server chose the subprotocol '{chosen}', which was not offered")
            }
            Failure::TooMany => f.write_str("the server's limit of open channels is reached"),
            Failure::Unanswered => f.write_str("the server did not answer the open in time"),
            Failure::TooLarge => f.write_str("the server sent a message larger than this client accepts"),
            Failure::Server => f.write_str("the server failed the socket"),
            Failure::Link => f.write_str("the link to the server broke or never opened"),
            Failure::GivenUp => f.write_str("the application gave the socket up"),
        }
    }
}

impl std::error::Error for Failure {}
