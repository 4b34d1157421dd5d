//! A document of this process and what is on disk of it.

use std::io;
use std::sync::Arc;

use crate::state::backend::Opened;
use crate::state::batch::Batch;
use crate::state::document::{Document, Snapshot, State};
use crate::state::memory::Memory;

use super::disk::Stored;
use super::restore::{Restored, read};

/// Bytes of commits after which a document is written as a whole, at least; more if the document is larger. Then a
/// snapshot costs no more than the commits since the last, and opening a document reads little more than itself.
const SNAPSHOT_BYTES: usize = 4096;

/// Commits that one transaction takes off the disk for a document, at most: some milliseconds. Usually one goes when
/// one comes; after memory was short, thousands may be due.
const MAX_FORGOTTEN: u64 = 256;

pub(super) struct Loaded {
    pub(super) document: Arc<Document>,
    /// The version on disk as a whole; `None` while it is not on disk at all.
    pub(super) snapshot: Option<u64>,
    /// The bytes of the commits since.
    unsaved: usize,
    /// The version of the oldest commit on disk, if there is any.
    logged_from: u64,
}

/// What a transaction has written of a document.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wrote {
    /// Whether the document as a whole, and not its commits only.
    pub(super) is_whole: bool,
    /// The commits that are no longer on disk: the first version, and the last.
    pub(super) forgotten: Option<(u64, u64)>,
}

impl Loaded {
    /// A document that is not on disk.
    pub(super) fn unwritten(document: Arc<Document>) -> Self {
        let logged_from = document.current().0 + 1;
        Self { document, snapshot: None, unsaved: 0, logged_from }
    }

    /// The document, for somebody for whom it may have to exist.
    pub(super) fn opened(&self, must_exist: bool) -> Opened {
        (!must_exist || self.snapshot.is_some()).then(|| Arc::clone(&self.document))
    }

    /// Whether the batch that is being written should write the document as a whole.
    pub(super) fn is_snapshot_due(&self, batch: &Batch) -> bool {
        let bytes = usize::try_from(batch.value().size().bytes).unwrap_or(usize::MAX);
        self.snapshot.is_none() || self.unsaved + batch.bytes() > bytes.max(SNAPSHOT_BYTES)
    }

    /// The commits on disk that are no longer remembered, none of them after the snapshot: the first version, and the last.
    pub(super) fn forgettable(&self) -> Option<(u64, u64)> {
        let remembered_from = self.document.state().remembered_from();
        let last = self.snapshot?.min(remembered_from - 1).min(self.logged_from + MAX_FORGOTTEN - 1);
        (self.logged_from <= last).then_some((self.logged_from, last))
    }

    /// A batch has been written.
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

/// A document as it is written as a whole, with a batch.
pub(super) fn snapshot(batch: &Batch) -> io::Result<Vec<u8>> {
    let document = batch.document().state().incarnation.clone();
    Ok(serde_json::to_vec(&Snapshot { document, version: batch.version(), data: batch.value() })?)
}

/// A document as it was written: its snapshot, and the commits since.
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
