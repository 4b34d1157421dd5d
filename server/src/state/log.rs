//! The commits that a document remembers.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::extract::ws::Utf8Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::tree::allocation;

/// The most memory that the remembered commits of a document may use. A returning page catches up from them, and the server
/// checks a commit against an older version with them. The larger the log, the longer a page may be away.
pub(super) const LOG_MEMORY: u64 = 1 << 20;

/// The memory of the reference counter of a sent text: `bytes` allocates three words with the first copy.
const SHARED_BYTES: u64 = 32;

/// A commit that has been applied.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) version: u64,
    pub(super) id: Box<str>,
    /// The places that the commit wrote.
    pub(super) wrote: Box<[Box<str>]>,
    /// The message that other sockets get, encoded once for all. It contains the delta, which is so in memory only once.
    message: Utf8Bytes,
    /// The offset of the delta in the message. The delta ends before the last byte.
    delta_at: usize,
}

/// The form in which a store writes a commit.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) id: Box<str>,
    pub(super) delta: Box<RawValue>,
    /// The places that the commit wrote.
    pub(super) wrote: Vec<Box<str>>,
}

/// Commits in the order of their versions, without gaps.
#[derive(Debug, Default)]
pub(super) struct Log {
    entries: VecDeque<Arc<Entry>>,
    memory: u64,
}

impl Entry {
    pub(super) fn new(version: u64, id: &str, delta: &str, mut wrote: Vec<Box<str>>) -> Self {
        let head = format!(r#"{{"version":{version},"delta":"#);
        let delta_at = head.len();
        let mut message = String::with_capacity(head.len() + delta.len() + 1);
        message.push_str(&head);
        message.push_str(delta);
        message.push('}');
        wrote.sort_unstable();
        wrote.dedup();
        Self { version, id: id.into(), wrote: wrote.into(), message: message.into(), delta_at }
    }

    pub(super) fn from_record(version: u64, record: Record) -> Self {
        Self::new(version, &record.id, record.delta.get(), record.wrote)
    }

    pub(super) fn delta(&self) -> &str {
        &self.message[self.delta_at..self.message.len() - 1]
    }

    pub(super) fn message(&self) -> Utf8Bytes {
        self.message.clone()
    }

    /// Returns the commit as a store writes it: a [`Record`].
    pub(super) fn to_record(&self) -> String {
        // Strings always serialise.
        let id = serde_json::to_string(&self.id).unwrap_or_default();
        let wrote = serde_json::to_string(&self.wrote).unwrap_or_default();
        format!(r#"{{"id":{id},"delta":{},"wrote":{wrote}}}"#, self.delta())
    }

    /// Returns the approximate bytes of its record.
    pub(super) fn bytes(&self) -> usize {
        // This counts quotes and commas, and the names of the members.
        let wrote: usize = self.wrote.iter().map(|path| path.len() + 3).sum();
        self.delta().len() + self.id.len() + wrote + 32
    }

    /// Returns the memory that the commit uses.
    pub(super) fn memory(&self) -> u64 {
        let wrote: u64 = self.wrote.iter().map(|path| allocation(path.len())).sum();
        // The entry with its two counters and a slot in the log, which may have as many free slots; and the counter of the
        // message.
        allocation(size_of::<Self>() + 16)
            + 2 * size_of::<Arc<Self>>() as u64
            + SHARED_BYTES
            + allocation(self.message.len())
            + allocation(self.id.len())
            + allocation(self.wrote.len() * size_of::<Box<str>>())
            + wrote
    }
}

impl Log {
    pub(super) fn memory(&self) -> u64 {
        self.memory
    }

    pub(super) fn push(&mut self, entry: Arc<Entry>) {
        self.memory += entry.memory();
        self.entries.push_back(entry);
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Forgets the oldest commits until the rest uses at most `limit`.
    pub(super) fn forget_beyond(&mut self, limit: u64) {
        let before = self.entries.len();
        while self.memory > limit
            && let Some(entry) = self.entries.pop_front()
        {
            self.memory -= entry.memory();
        }
        // In a full log commits arrive and leave one by one: shrinking pays off only after many have left.
        if self.entries.len() < before / 2 {
            self.entries.shrink_to_fit();
        }
    }

    /// Returns the version of the oldest commit.
    pub(super) fn first(&self) -> Option<u64> {
        self.entries.front().map(|entry| entry.version)
    }

    /// Returns the version of the newest commit.
    pub(super) fn last(&self) -> Option<u64> {
        self.entries.back().map(|entry| entry.version)
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &Arc<Entry>> + Clone {
        self.entries.iter()
    }

    /// Returns the last `count` commits; `None` if the log has fewer.
    pub(super) fn tail(&self, count: usize) -> Option<impl Iterator<Item = &Arc<Entry>> + Clone> {
        Some(self.entries.iter().skip(self.entries.len().checked_sub(count)?))
    }
}
