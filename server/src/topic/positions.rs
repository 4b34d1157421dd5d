//! Positions: the numbers of a topic's messages, with which a subscriber comes back and goes on where it was.

use std::fmt;
use std::time::Duration;

use axum::extract::ws::Message;
use axum::http::request::Parts;
use bytes::Bytes;
use data_encoding::BASE64;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

/// Messages kept by default: a busy chat's for some minutes.
const MESSAGES: usize = 1000;

/// Bytes kept by default.
const BYTES: usize = 1 << 20;

/// How long messages are kept by default: a lunch, or a deployment that goes wrong.
const AGE: Duration = Duration::from_secs(3600);

/// Limits of the messages that a topic with [positions](super::Topics::positions) stores for returning subscribers. A message is kept while all of
/// the limits allow it.
///
/// ```
/// use std::time::Duration;
/// use manysocket_server::topic::{Positions, Topics};
///
/// let rooms = Topics::new().positions(Positions::new().messages(200).age(Duration::from_secs(600)));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Positions {
    messages: usize,
    bytes: usize,
    age: Duration,
}

impl Positions {
    /// Keeps 1,000 messages of a topic, at most 1 MiB, for an hour.
    #[must_use]
    pub const fn new() -> Self {
        Self { messages: MESSAGES, bytes: BYTES, age: AGE }
    }

    /// Sets the number of messages.
    #[must_use]
    pub const fn messages(mut self, messages: usize) -> Self {
        self.messages = messages;
        self
    }

    /// Sets the bytes of memory of all messages of a topic.
    #[must_use]
    pub const fn bytes(mut self, bytes: usize) -> Self {
        self.bytes = bytes;
        self
    }

    /// Sets how long a message is kept.
    #[must_use]
    pub const fn age(mut self, age: Duration) -> Self {
        self.age = age;
        self
    }

    /// Returns the most messages that are kept.
    pub(super) const fn most(&self) -> usize {
        self.messages
    }

    /// Returns the most bytes that are kept.
    #[cfg(feature = "nats")]
    pub(super) const fn max_bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the greatest age of a message.
    #[cfg(feature = "nats")]
    pub(super) const fn max_age(&self) -> Duration {
        self.age
    }

    /// Returns whether a topic of `messages` and `bytes` keeps its oldest message.
    pub(super) fn keep(&self, messages: usize, bytes: usize, age: Duration) -> bool {
        messages <= self.messages && bytes <= self.bytes && !self.is_over(age)
    }

    /// Returns whether a message of this age is too old.
    pub(super) fn is_over(&self, age: Duration) -> bool {
        age > self.age
    }
}

impl Default for Positions {
    fn default() -> Self {
        Self::new()
    }
}

/// Where a subscriber wants to begin: `POSITION.EPOCH`. The epoch distinguishes a topic from an earlier one of the same name,
/// whose positions mean other messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Since {
    /// With the messages for a new subscriber.
    Now,
    /// After the message with this number.
    After(u64, Box<str>),
    /// With all kept messages: the page sent an invalid position.
    Unknown,
}

impl Since {
    /// Reads the id of the last event, which an `EventSource` sends when it reconnects, or else the parameter `since` of the URL.
    pub(super) fn of(parts: &Parts) -> Option<Self> {
        let id = parts.headers.get("last-event-id");
        id.map(|id| Self::read(&String::from_utf8_lossy(id.as_bytes()))).or_else(|| Self::asked(parts))
    }

    /// Reads the parameter `since` of a URL.
    pub(super) fn asked(parts: &Parts) -> Option<Self> {
        parts.uri.query()?.split('&').rev().find_map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (name == "since").then(|| Self::read(&percent_decode_str(value).decode_utf8_lossy()))
        })
    }

    /// Returns whether this asks for positions: another `since` may be the application's own.
    pub(super) fn is_position(&self) -> bool {
        *self != Self::Unknown
    }

    fn read(text: &str) -> Self {
        if text.is_empty() {
            return Self::Now;
        }
        let position = text.split_once('.').and_then(|(number, epoch)| Some((number.parse().ok()?, epoch)));
        position.map_or(Self::Unknown, |(number, epoch)| Self::After(number, epoch.into()))
    }
}

/// Where a subscriber begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Beginning {
    /// The number of the message before the first that it gets.
    pub(super) position: u64,
    /// Whether messages before it may be missing that the subscriber has not had.
    pub(super) is_unknown: bool,
}

/// A position as pages send it back.
pub(super) struct Id<'a>(pub(super) u64, pub(super) &'a str);

impl fmt::Display for Id<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.0, self.1)
    }
}

/// The first message to a subscriber that asked for positions.
pub(super) fn greeting(epoch: &str, beginning: &Beginning) -> Message {
    let mut greeting = json!({ "epoch": epoch, "position": beginning.position });
    if beginning.is_unknown {
        greeting["missed"] = Value::Null;
    }
    Message::Text(greeting.to_string().into())
}

/// A message of the topic with its number.
pub(super) fn numbered(message: &Message, number: u64) -> Bytes {
    let (name, content) = match message {
        Message::Binary(bytes) => ("binary", Value::from(BASE64.encode(bytes))),
        message => ("data", Value::from(message.to_text().unwrap_or_default())),
    };
    format!(r#"{{"position":{number},"{name}":{content}}}"#).into()
}

/// Says that the messages up to this number are missing, as many as are known of.
pub(super) fn missed(number: u64, count: Option<u64>) -> Message {
    Message::Text(json!({ "position": number, "missed": count }).to_string().into())
}

/// The answer to a message of a page.
pub(super) fn published(number: Option<u64>) -> Message {
    Message::Text(json!({ "published": number }).to_string().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_a_number_and_an_epoch() {
        assert_eq!(Since::read(""), Since::Now);
        assert_eq!(Since::read("17.ab.c"), Since::After(17, "ab.c".into()));
        assert_eq!(Since::read(&Id(3, "e").to_string()), Since::After(3, "e".into()));
        for text in ["17", "-1.a", "x.a", ".a", "18446744073709551616.a"] {
            assert_eq!(Since::read(text), Since::Unknown, "{text}");
        }
    }

    #[test]
    fn the_last_parameter_counts_and_the_id_of_the_last_event_before_it() {
        let since = |uri: &str, id: Option<&str>| {
            let mut request = axum::http::Request::builder().uri(uri);
            if let Some(id) = id {
                request = request.header("last-event-id", id);
            }
            Since::of(&request.body(()).expect("a request").into_parts().0)
        };
        assert_eq!(since("/a", None), None);
        assert_eq!(since("/a?x=1", None), None);
        assert_eq!(since("/a?x=1&since", None), Some(Since::Now));
        assert_eq!(since("/a?since=1.a&since=2%2Eb", None), Some(Since::After(2, "b".into())));
        assert_eq!(since("/a?since=1.a", Some("2.b")), Some(Since::After(2, "b".into())));
    }
}
