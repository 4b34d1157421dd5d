//! The commits that the thread applies and writes together, and the documents whose large commits are in the lane.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;

use crate::lane::turns::Rounds;
use crate::state::batch::Batch;
use crate::state::document::Document;
use crate::state::submission::{MAX_BATCH, MAX_BATCH_BYTES, MAX_ROUND, Submission};

/// A document whose large commits the lane applies.
pub(super) struct Busy {
    /// Whether a place is reserved for it as a new document.
    pub(super) is_reserved: bool,
    /// Commits that wait for those in the lane. Peers that share the document take turns.
    pub(super) waiting: Rounds<Submission>,
    /// The callers that wait for its deletion.
    pub(super) deleting: Vec<Deleted>,
}

/// Reports to the caller of a deletion whether the document existed.
pub(super) type Deleted = oneshot::Sender<io::Result<bool>>;

/// Commits that the thread applies and writes together.
pub(super) struct Round {
    pub(super) begun: Instant,
    pub(super) batches: HashMap<String, Batch>,
    pub(super) commits: usize,
    pub(super) bytes: usize,
    /// The number of documents that these commits create.
    pub(super) created: usize,
    /// Busy documents whose next commits the lane applies once this round is written.
    pub(super) next: Vec<Arc<Document>>,
    pub(super) has_relieved: bool,
    /// The documents to delete once these commits are written.
    pub(super) deletions: Vec<(String, Deleted)>,
    /// The callers that wait until the file is closed.
    pub(super) closing: Vec<oneshot::Sender<()>>,
}

impl Round {
    pub(super) fn new() -> Self {
        Self {
            begun: Instant::now(),
            batches: HashMap::new(),
            commits: 0,
            bytes: 0,
            created: 0,
            next: Vec::new(),
            has_relieved: false,
            deletions: Vec::new(),
            closing: Vec::new(),
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.commits >= MAX_BATCH || self.bytes >= MAX_BATCH_BYTES || self.begun.elapsed() >= MAX_ROUND
    }
}
