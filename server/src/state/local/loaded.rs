//! A document in memory, and the extent of its data on disk.

use std::io;
use std::sync::Arc;

use crate::state::backend::Opened;
use crate::state::batch::Batch;
use crate::state::document::{Document, Snapshot, State};
use crate::state::memory::Memory;

use super::disk::Stored;
use super::restore::{Restored, read};

/// The least bytes of commits between two snapshots of a document; a larger document has more. So a snapshot costs no more
/// than the commits since the last, and opening a document reads little more than the document.
const SNAPSHOT_BYTES: usize = 4096;

/// The most commits of a document that one transaction deletes from disk: some milliseconds of work. Usually one is deleted
/// for each new one; after a shortage of memory, thousands may be due.
const MAX_FORGOTTEN: u64 = 256;

pub(super) struct Loaded {
    pub(super) document: Arc<Document>,
    /// The version of the snapshot on disk; `None` while the document is not on disk at all.
    pub(super) snapshot: Option<u64>,
    /// The bytes of the commits since the snapshot.
    unsaved: usize,
    /// The version of the oldest commit on disk, if there is any.
    logged_from: u64,
}

/// The part of a document that a transaction wrote.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wrote {
    /// Whether it wrote a snapshot, and not only commits.
    pub(super) is_whole: bool,
    /// The commits that it deleted: the first version, and the last.
    pub(super) forgotten: Option<(u64, u64)>,
}

impl Loaded {
    /// Returns a document that is not on disk.
    pub(super) fn unwritten(document: Arc<Document>) -> Self {
        let logged_from = document.current().0 + 1;
        Self { document, snapshot: None, unsaved: 0, logged_from }
    }

    /// Returns the document; `None` if it `must_exist` and has no commits.
    pub(super) fn opened(&self, must_exist: bool) -> Opened {
        (!must_exist || self.snapshot.is_some()).then(|| Arc::clone(&self.document))
    }

    /// Returns whether the store should write a snapshot with this batch.
    pub(super) fn is_snapshot_due(&self, batch: &Batch) -> bool {
        let bytes = usize::try_from(batch.value().size().bytes).unwrap_or(usize::MAX);
        self.snapshot.is_none() || self.unsaved + batch.bytes() > bytes.max(SNAPSHOT_BYTES)
    }

    /// Returns the commits on disk that memory has forgotten and the snapshot contains: the first version, and the last.
    pub(super) fn forgettable(&self) -> Option<(u64, u64)> {
        let remembered_from = self.document.state().remembered_from();
        let last = self.snapshot?.min(remembered_from - 1).min(self.logged_from + MAX_FORGOTTEN - 1);
        (self.logged_from <= last).then_some((self.logged_from, last))
    }

    /// Records that the store wrote a batch.
    pub(super) fn wrote(&mut self, batch: &Batch, Wrote { is_whole, forgotten }: Wrote) {
        if is_whole {
            (self.snapshot, self.unsaved) = (Some(batch.version()), 0);
        } else {
            self.unsaved += batch.bytes();
        }
        if let Some((_, last)) = forgotten {
            self.logged_from = last + 1;
        }
    }
}

/// Returns the snapshot of a document after a batch.
pub(super) fn snapshot(batch: &Batch) -> io::Result<Vec<u8>> {
    let document = batch.document().state().incarnation.clone();
    Ok(serde_json::to_vec(&Snapshot { document, version: batch.version(), data: batch.value() })?)
}

/// Loads a document from its snapshot and the commits since.
pub(super) fn restore(key: &str, stored: Stored, memory: &Memory) -> io::Result<Loaded> {
    let logged_from = stored.commits.first().map(|(number, _)| *number);
    let Restored { incarnation, version, value, log, snapshot, unsaved, problem } = read(stored)?;
    if let Some(problem) = problem {
        return Err(problem);
    }
    let mut state = State::new(incarnation, version, value);
    state.remember(log);
    let document = Arc::new(Document::new(key.to_owned(), state, memory));
    let logged_from = logged_from.unwrap_or(version + 1);
    Ok(Loaded { document, snapshot: Some(snapshot), unsaved, logged_from })
}
