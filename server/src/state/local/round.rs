//! The commits that the thread applies and writes together, and the documents that large commits are under way to.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;

use crate::lane::turns::Rounds;
use crate::state::batch::Batch;
use crate::state::document::Document;
use crate::state::submission::{MAX_BATCH, MAX_BATCH_BYTES, MAX_ROUND, Submission};

/// A document that large commits are under way to.
pub(super) struct Busy {
    /// Whether a place is reserved for it as a new document.
    pub(super) is_reserved: bool,
    /// Commits that wait for these. Those who share the document take turns.
    pub(super) waiting: Rounds<Submission>,
}

/// Commits that are applied and written together.
pub(super) struct Round {
    pub(super) begun: Instant,
    pub(super) batches: HashMap<String, Batch>,
    pub(super) commits: usize,
    pub(super) bytes: usize,
    /// Documents that these commits make.
    pub(super) created: usize,
    /// Busy documents whose next commits are to be applied once these are kept.
    pub(super) next: Vec<Arc<Document>>,
    pub(super) has_relieved: bool,
    /// Who waits until the file is closed.
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
            closing: Vec::new(),
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.commits >= MAX_BATCH || self.bytes >= MAX_BATCH_BYTES || self.begun.elapsed() >= MAX_ROUND
    }
}
