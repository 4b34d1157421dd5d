//! Writes the results of calls as JSON: small ones where the socket is served, larger ones on the thread of large calls.

use std::fmt;
use std::io::{self, Write};

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

/// The result of a function, written as the answer to its call.
pub struct Reply(Written);

/// A value in JSON.
pub(super) enum Written {
    Text(String),
    /// Too large to be written where the socket is served.
    Later(Box<dyn FnOnce() -> serde_json::Result<String> + Send>),
}

impl Reply {
    /// Writes a value, or returns an error if it has no form in JSON.
    pub(super) fn new<T: Serialize + Send + 'static>(value: T) -> Result<Self, Error> {
        let limit = if lane().is_some() { IN_PLACE } else { usize::MAX };
        Ok(Self(match write_up_to(limit, &value) {
            Err(error) if error.is_io() => Written::Later(Box::new(move || write_up_to(usize::MAX, &value))),
            written => Written::Text(written?),
        }))
    }

    /// Returns the answer to a call of this peer. Let it run to its end: the value exists until the thread has written it.
    pub(super) async fn into_answer(self, peer: u64) -> Result<String, Error> {
        match self.0 {
            Written::Text(text) => Ok(text),
            Written::Later(write) => match lane() {
                Some(lane) => {
                    let written = lane.run(peer, write).await;
                    Ok(written.ok_or_else(|| Error::internal("writing the result panicked"))??)
                }
                None => Ok(write()?),
            },
        }
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Reply")
    }
}

fn write_up_to<T: Serialize>(limit: usize, value: &T) -> serde_json::Result<String> {
    let mut buffer = Bounded { bytes: br#"{"result":"#.to_vec(), limit };
    serde_json::to_writer(&mut buffer, value)?;
    let mut bytes = buffer.bytes;
    bytes.push(b'}');
    // Queued until the page has taken it.
    bytes.shrink_to_fit();
    String::from_utf8(bytes).map_err(|error| serde::ser::Error::custom(error.utf8_error()))
}
