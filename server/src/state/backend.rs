//! Types and helpers that both backends of a store share: the local one and the one on NATS.

use std::io;
use std::sync::Arc;

use super::answer::Refusal;
use super::document::Document;
use super::memory::Memory;
use super::tree::Json;
use crate::lane::Lane;

/// The reason that refusals give while the memory of a store is full.
pub(super) const FULL: &str = "the documents that are open take as much memory as they may";

/// The memory accounting and the worker thread that all parts of a store share.
#[derive(Debug, Clone)]
pub(super) struct Tools {
    pub(super) memory: Memory,
    pub(super) lane: Lane,
}

/// An open document; `None` if it does not exist and the request may not create it.
pub(super) type Opened = Option<Arc<Document>>;

/// A request for a document.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) key: String,
    /// The document's value before its first commit.
    pub(super) initial: Arc<Json>,
    pub(super) must_exist: bool,
    /// The link, or the native socket, that asks for it.
    pub(super) peer: u64,
}

impl Tools {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { memory: Memory::default(), lane: Lane::start("state-large")? })
    }
}

/// Frees memory that documents can spare: first their oldest remembered commits, then all of them.
pub(super) fn relieve<'a>(memory: &Memory, documents: &(impl Iterator<Item = &'a Arc<Document>> + Clone)) {
    // Pages that reconnect soon, and pages that resend a commit, need only the newest commits.
    const LEFT: [u64; 3] = [128 << 10, 16 << 10, 0];
    for limit in LEFT {
        for document in documents.clone() {
            if !memory.is_full() || !memory.has_dispensable() {
                return;
            }
            document.state().give_up(limit);
        }
    }
}

/// Returns the refusal of a commit to a document that was deleted meanwhile.
pub(super) fn deleted() -> Refusal {
    Refusal::new("storage", "the document was deleted or read anew: connect again")
}

/// Returns the refusal of a commit that would create a document beyond the limit.
pub(super) fn too_many(documents: usize) -> Refusal {
    let message = format!("the store has {documents} documents, and no room for another");
    Refusal::new("too-many", message)
}
