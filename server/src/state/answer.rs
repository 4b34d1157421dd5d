//! The answer that a page gets to its commit.

use std::time::Duration;

use axum::extract::ws::Utf8Bytes;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::json::milliseconds;

use super::patch::Operation;
use super::tree::Json;

/// Limits the values shown in all conflicts of one answer, in bytes of JSON. They are for people to read, and the page has
/// the document anyway. Without the limit, a hundred operations on one place of a megabyte got an answer of a hundred
/// megabytes.
pub(super) const MAX_SHOWN: u64 = 64 << 10;

/// The outcome of a commit, with the commit's id.
#[derive(Debug)]
pub(super) struct Answer {
    id: Box<str>,
    outcome: Result<u64, Refusal>,
}

/// The reason why the server refused a commit. The server has applied no part of it.
#[derive(Debug, Serialize)]
pub(super) struct Refusal {
    pub(super) error: &'static str,
    pub(super) message: String,
    /// The path of the operation that the server does not accept, where one of them is the reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) path: Option<Box<str>>,
    /// Milliseconds after which the page may commit again, where it has committed too often.
    #[serde(rename = "retryAfter", skip_serializing_if = "Option::is_none")]
    pub(super) retry_after: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) conflicts: Vec<Conflict>,
}

/// One place where a commit conflicts with earlier ones. The values are text: tree nodes would keep a version of the
/// document in memory until the page has read the answer.
#[derive(Debug, Serialize)]
pub(super) struct Conflict {
    pub(super) path: String,
    /// The value that the commit would write. Absent for a removal, or once the answer has used up [`MAX_SHOWN`].
    #[serde(skip_serializing_if = "Option::is_none")]
    yours: Option<Box<RawValue>>,
    /// The present value. Absent if there is none, or once the answer has used up [`MAX_SHOWN`].
    #[serde(skip_serializing_if = "Option::is_none")]
    theirs: Option<Box<RawValue>>,
}

impl Conflict {
    /// Describes an operation that conflicts with `document`. `room` is the number of bytes that the answer may still show.
    pub(super) fn new(operation: &Operation, document: &Json, room: &mut u64) -> Self {
        let mut shown = |side: Option<&Json>| {
            let side = side.filter(|_| *room > 0)?;
            let rest = room.checked_sub(side.size().bytes);
            *room = rest.unwrap_or(0);
            rest.and_then(|_| to_raw_value(side).ok())
        };
        let (yours, theirs) = (shown(operation.value()), shown(document.pointer(&operation.path)));
        Self { path: operation.path.to_string(), yours, theirs }
    }
}

impl Refusal {
    pub(super) fn new(error: &'static str, message: impl Into<String>) -> Self {
        Self { error, message: message.into(), path: None, retry_after: None, conflicts: Vec::new() }
    }

    /// Returns the bytes of its message and its path.
    fn text_bytes(&self) -> usize {
        self.message.len() + self.path.as_ref().map_or(0, |path| path.len())
    }

    /// Creates the refusal of a page that may commit again after this time.
    pub(super) fn limited(wait: Duration) -> Self {
        let wait = milliseconds(wait);
        let message = format!("too many commits: commit again in {wait} ms");
        Self { retry_after: Some(wait), ..Self::new("limited", message) }
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new("invalid", message)
    }

    pub(super) fn conflict(message: impl Into<String>, conflicts: Vec<Conflict>) -> Self {
        Self { conflicts, ..Self::new("conflict", message) }
    }

    /// Names the operation that is the reason.
    pub(super) fn at(self, path: Option<Box<str>>) -> Self {
        Self { path, ..self }
    }
}

impl Answer {
    pub(super) fn accepted(id: impl Into<Box<str>>, version: u64) -> Self {
        Self { id: id.into(), outcome: Ok(version) }
    }

    pub(super) fn refused(id: impl Into<Box<str>>, refusal: Refusal) -> Self {
        Self { id: id.into(), outcome: Err(refusal) }
    }

    pub(super) fn into_outcome(self) -> Result<u64, Refusal> {
        self.outcome
    }

    /// Returns the version that the commit made, if the server accepted it.
    pub(super) fn version(&self) -> Option<u64> {
        self.outcome.as_ref().ok().copied()
    }

    /// Returns the approximate number of bytes that the answer holds.
    pub(super) fn bytes(&self) -> usize {
        let refusal = self.outcome.as_ref().err();
        let text = |value: &Option<Box<RawValue>>| value.as_ref().map_or(0, |value| value.get().len());
        let conflicts = refusal.iter().flat_map(|refusal| &refusal.conflicts);
        let shown: usize = conflicts
            .map(|conflict| {
                size_of::<Conflict>() + conflict.path.len() + text(&conflict.yours) + text(&conflict.theirs)
            })
            .sum();
        size_of::<Self>() + self.id.len() + refusal.map_or(0, Refusal::text_bytes) + shown
    }

    pub(super) fn to_message(&self) -> Utf8Bytes {
        #[derive(Serialize)]
        struct Shape<'a> {
            id: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            version: Option<u64>,
            #[serde(flatten)]
            refusal: Option<&'a Refusal>,
        }
        let shape = Shape { id: &self.id, version: self.version(), refusal: self.outcome.as_ref().err() };
        // Strings, numbers and JSON values always serialise.
        serde_json::to_string(&shape).unwrap_or_default().into()
    }
}
