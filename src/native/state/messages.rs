//! The messages of docs/state-wire.md.

use json_patch::PatchOperation;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// A message of the server: the document, a change, or the answer to a commit.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Incoming {
    pub(super) document: Option<String>,
    pub(super) version: Option<u64>,
    #[serde(default, deserialize_with = "present")]
    pub(super) data: Option<Value>,
    pub(super) delta: Option<Vec<PatchOperation>>,
    pub(super) id: Option<String>,
    pub(super) error: Option<String>,
    #[serde(default)]
    pub(super) message: String,
    #[serde(default)]
    pub(super) conflicts: Vec<Sides>,
    pub(super) path: Option<String>,
    pub(super) retry_after: Option<u64>,
}

/// The two sides of a conflict.
#[derive(Debug, Deserialize)]
pub(super) struct Sides {
    pub(super) path: String,
    #[serde(default, deserialize_with = "present")]
    pub(super) yours: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    pub(super) theirs: Option<Value>,
}

/// `null` is a value; only a missing member is none.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// A commit.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Outgoing {
    pub(super) id: String,
    pub(super) base: u64,
    pub(super) delta: Vec<PatchOperation>,
}
