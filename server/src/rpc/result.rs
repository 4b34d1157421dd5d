//! Writes the results of calls as JSON: small ones where the socket is served, larger ones on the thread of large calls.

use std::fmt;
use std::io::{self, Write};

use futures_util::stream::BoxStream;
use serde::Serialize;

use super::Error;
use super::arguments::lane;

/// The bytes of an answer that are written where the socket is served. Escaping costs at most 5 ns a byte, so this takes a
/// third of a millisecond. A serialiser cannot stop halfway: the answer that turns out longer is begun again on the thread.
const IN_PLACE: usize = 64 * 1024;

/// A buffer that refuses to grow beyond a limit.
struct Bounded {
    bytes: Vec<u8>,
    limit: usize,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.limit {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The room for the rest of a message after its value.
const SUFFIX: usize = 40;

/// The result of a function: a value in JSON, or a stream of them.
#[derive(Debug)]
pub struct Reply(pub(super) Kind);

pub(super) enum Kind {
    Value(Written),
    Stream(Items),
}

/// The items of a stream, each written as the beginning of its message.
pub(super) type Items = BoxStream<'static, Result<Written, Error>>;

/// A value in JSON, as the beginning of a message.
pub struct Written(Text);

enum Text {
    Now(String),
    /// Too large to be written where the socket is served.
    Later(Box<dyn FnOnce() -> serde_json::Result<String> + Send>),
}

impl Written {
    /// Writes a value behind `prefix`, or returns an error if it has no form in JSON.
    pub(super) fn new<T: Serialize + Send + 'static>(prefix: &'static str, value: T) -> Result<Self, Error> {
        let limit = if lane().is_some() { IN_PLACE } else { usize::MAX };
        Ok(Self(match write_up_to(limit, prefix, &value) {
            Err(error) if error.is_io() => {
                Text::Later(Box::new(move || write_up_to(usize::MAX, prefix, &value)))
            }
            written => Text::Now(written?),
        }))
    }

    /// Returns the message to this peer. Let it run to its end: the value exists until the thread has written it.
    pub(super) async fn into_message(self, peer: u64, suffix: &str) -> Result<String, Error> {
        let mut text = match (self.0, lane()) {
            (Text::Now(text), _) => text,
            (Text::Later(write), Some(lane)) => {
                let written = lane.run(peer, write).await;
                written.ok_or_else(|| Error::internal("writing the result panicked"))??
            }
            (Text::Later(write), None) => write()?,
        };
        text.push_str(suffix);
        Ok(text)
    }
}

impl fmt::Debug for Written {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Written")
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Value(_) => "Value",
            Self::Stream(_) => "Stream",
        })
    }
}

fn write_up_to<T: Serialize>(limit: usize, prefix: &str, value: &T) -> serde_json::Result<String> {
    let mut buffer = Bounded { bytes: prefix.into(), limit };
    serde_json::to_writer(&mut buffer, value)?;
    let mut bytes = buffer.bytes;
    // Queued until the page has taken it.
    bytes.shrink_to(bytes.len() + SUFFIX);
    bytes.reserve_exact(SUFFIX);
    String::from_utf8(bytes).map_err(|error| serde::ser::Error::custom(error.utf8_error()))
}
