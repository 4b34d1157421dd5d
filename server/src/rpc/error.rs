//! Why a call has no result.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tracing::error;

use crate::json::milliseconds;

/// An error that a caller gets: a code for programs, a message for people, and what else there is to know.
///
/// The operator `?` converts every [`std::error::Error`] to this type. Such an error is the server's own affair: the caller gets the code
/// `internal` and an id, and the log has the error under that id.
#[derive(Debug, Clone, PartialEq)]
pub struct Error {
    code: String,
    message: String,
    data: Option<Value>,
}

impl Error {
    /// Creates an error that the caller receives.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), data: None }
    }

    /// Returns the code, for programs.
    pub fn code(&self) -> &str {
        &self.code
    }

    /// Returns the message, for people.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns the data, if the error has any.
    pub fn data(&self) -> Option<&Value> {
        self.data.as_ref()
    }

    /// Adds what else there is to know.
    #[must_use]
    pub fn with_data(mut self, data: impl Into<Value>) -> Self {
        self.data = Some(data.into());
        self
    }

    /// Creates an error that only the log shows.
    pub fn internal(cause: impl fmt::Display) -> Self {
        // Seeded by the operating system: an id reveals nothing about other calls.
        let id = format!("{:016x}", RandomState::new().hash_one(0));
        error!(id, "a call failed: {cause}");
        let message = format!("the call failed; the server's log says why, under {id}");
        Self::new("internal", message).with_data(Value::from_iter([("id", id)]))
    }

    /// Creates the error of a call that was cancelled.
    pub(super) fn cancelled() -> Self {
        Self::new("cancelled", "the call was cancelled")
    }

    /// Creates the error of a caller that may call again after this time.
    pub(super) fn limited(wait: Duration) -> Self {
        let wait = milliseconds(wait);
        let message = format!("too many calls: call again in {wait} ms");
        Self::new("limited", message).with_data(json!({ "retryAfter": wait }))
    }

    /// The answer to a call that failed.
    pub(super) fn into_answer(self) -> String {
        json!({ "error": self.into_json() }).to_string()
    }

    fn into_json(self) -> Value {
        let mut json = Map::new();
        json.insert("code".into(), self.code.into());
        json.insert("message".into(), self.message.into());
        if let Some(data) = self.data {
            json.insert("data".into(), data);
        }
        json.into()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.code, self.message)
    }
}

// `Error` is not one of these, or this would be in conflict with every type's `From` itself.
impl<E: std::error::Error> From<E> for Error {
    fn from(cause: E) -> Self {
        Self::internal(cause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_shows_its_parts() {
        let error = Error::new("too-far", "at most 180 degrees").with_data(180);
        assert_eq!(
            (error.code(), error.message(), error.data()),
            ("too-far", "at most 180 degrees", Some(&json!(180)))
        );
        assert_eq!(error.to_string(), "too-far: at most 180 degrees");
    }
}
