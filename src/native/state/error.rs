//! Why a document cannot be opened, or a commit fails.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use serde_json::Value;

/// A place that this replica and others have changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Conflict {
    /// The place, as a JSON Pointer (RFC 6901).
    pub path: String,
    /// This replica's value; `None` if it has removed the place, or the value is too large to show.
    pub mine: Option<Value>,
    /// The value of the others; `None` as for `mine`.
    pub theirs: Option<Value>,
}

/// Why a document cannot be opened, or a commit failed. The edits of a failed commit stay in the replica.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum StateError {
    /// Others have changed the same places. A later commit overwrites them, or [`State::discard`](crate::State::discard) gives up
    /// the edits.
    Conflict(Vec<Conflict>),
    /// The server would refuse these edits again (`too-large` or `invalid`). Later commits leave them out.
    Withheld {
        /// The server's error code.
        code: String,
        /// The server's reason.
        message: String,
        /// Where the edits are, as JSON Pointers.
        paths: Vec<String>,
    },
    /// The server has refused the commit for another reason. The codes are those of docs/state-wire.md.
    Refused {
        /// The server's error code, such as `refused` or `read-only`.
        code: String,
        /// The server's reason.
        message: String,
        /// After which time the server accepts the next commit, for the code `limited`.
        retry_after: Option<Duration>,
    },
    /// The replica was closed, or dropped.
    Closed,
    /// The document cannot be opened. Holds the reason.
    Unreachable(String),
    /// The document is not of the type, or a value cannot be written as JSON. Holds serde's message.
    Json(String),
}

impl Display for StateError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let list = |paths: &mut dyn Iterator<Item = &str>| {
            let names = paths.map(|path| if path.is_empty() { "the document" } else { path });
            names.collect::<Vec<_>>().join(", ")
        };
        match self {
            Self::Conflict(conflicts) => {
                let paths = list(&mut conflicts.iter().map(|conflict| conflict.path.as_str()));
                write!(f, "others have changed {paths}")
            }
            Self::Withheld { message, paths, .. } => {
                write!(f, "{}: {message}", list(&mut paths.iter().map(String::as_str)))
            }
            Self::Refused { code, message, .. } => {
                write!(f, "the server refuses the commit ({code}): {message}")
            }
            Self::Closed => f.write_str("the document is closed"),
            Self::Unreachable(why) => write!(f, "cannot open the document: {why}"),
            Self::Json(why) => write!(f, "not the expected JSON: {why}"),
        }
    }
}

impl std::error::Error for StateError {}
