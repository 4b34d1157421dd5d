//! Messages as applications see them.

use bytes::Bytes;
use manysocket_protocol as protocol;

/// A message of a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Text.
    Text(String),
    /// Binary.
    Binary(Bytes),
}

impl From<&str> for Message {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Bytes> for Message {
    fn from(bytes: Bytes) -> Self {
        Self::Binary(bytes)
    }
}

impl From<Vec<u8>> for Message {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Binary(bytes.into())
    }
}

impl From<Message> for protocol::Message {
    fn from(message: Message) -> Self {
        match message {
            Message::Text(text) => Self::text(text),
            Message::Binary(bytes) => Self::binary(bytes),
        }
    }
}

impl From<protocol::Message> for Message {
    fn from(message: protocol::Message) -> Self {
        match message {
            // The protocol has checked that it is UTF-8, so nothing is replaced.
            protocol::Message::Text(bytes) => Self::Text(match String::from_utf8(bytes.into()) {
                Ok(text) => text,
                Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
            }),
            protocol::Message::Binary(bytes) => Self::Binary(bytes),
        }
    }
}
