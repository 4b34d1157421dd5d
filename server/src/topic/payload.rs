//! Messages of topics as messages of NATS. The payload is the message; a binary one has the header
//! `Content-Type: application/octet-stream`.

use async_nats::header::{HeaderMap, IntoHeaderName};
use axum::extract::ws::Message;
use bytes::Bytes;

/// The header that says that a message is binary, and its value.
const BINARY: (&str, &str) = ("Content-Type", "application/octet-stream");

/// Returns the headers and the payload of a message.
pub(super) fn encode(message: Message) -> (Option<HeaderMap>, Bytes) {
    match message {
        Message::Text(text) => (None, text.into()),
        message => {
            let mut headers = HeaderMap::new();
            headers.insert(BINARY.0.into_header_name(), BINARY.1);
            (Some(headers), message.into_data())
        }
    }
}

/// Returns the message. A payload that is not UTF-8 is binary, even if another program published it as text.
pub(super) fn decode(message: async_nats::Message) -> Message {
    let is_binary = message
        .headers
        .is_some_and(|headers| headers.get(BINARY.0).is_some_and(|value| value.as_str() == BINARY.1));
    let payload = message.payload;
    if is_binary {
        return Message::Binary(payload);
    }
    payload.clone().try_into().map_or(Message::Binary(payload), Message::Text)
}
