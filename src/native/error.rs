//! Why a call or a socket fails.

use std::fmt::{self, Display, Formatter};

use manysocket_protocol::client::{Failure, SocketClose};

/// Why a call or a socket failed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The URL cannot be opened. Holds the URL and the reason.
    Url {
        /// The URL, as given.
        url: String,
        /// The reason.
        why: String,
    },
    /// A subprotocol is not a token of RFC 9110 §5.6.2, or is given twice.
    Protocol(String),
    /// A header cannot be set in an open.
    Header(String),
    /// The close code is neither 1000 nor from 3000 to 4999, or the reason is longer than 123 bytes.
    CloseCode(&'static str),
    /// The call was made outside of a tokio runtime.
    NoRuntime,
    /// The socket never opened, or the client gave it up. Holds the reason.
    Failed(Failure),
    /// The connection was lost: the socket ended without a closing handshake (close code 1006).
    Lost,
    /// The socket is closed, or is being closed, and sends no more.
    Closed,
    /// A message is not JSON of the expected form, or a value cannot be written as JSON. Holds serde's message.
    Json(String),
}

impl Display for Error {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url { url, why } => write!(f, "cannot open the URL {url:?}: {why}"),
            Self::Protocol(name) => {
                write!(f, "the subprotocol {name:?} is not a token (RFC 9110 §5.6.2), or is given twice")
            }
            Self::Header(name) => write!(f, "the header {name:?} cannot be set in an open"),
            Self::CloseCode(why) => f.write_str(why),
            Self::NoRuntime => f.write_str("there is no tokio runtime: open sockets inside of one"),
            Self::Failed(failure) => failure.fmt(f),
            Self::Lost => f.write_str("the connection was lost"),
            Self::Closed => f.write_str("the socket is closed and sends no more"),
            Self::Json(why) => write!(f, "not the expected JSON: {why}"),
        }
    }
}

// `Failed` shows its failure: as its source, a report would show it twice.
impl std::error::Error for Error {}

impl Error {
    /// Returns the error of a socket that ended; `None` if it ended by a closing handshake.
    pub(super) fn of(close: &SocketClose, failure: Option<&Failure>) -> Option<Self> {
        match failure {
            Some(failure) => Some(Self::Failed(failure.clone())),
            None => (!close.was_clean).then_some(Self::Lost),
        }
    }
}
