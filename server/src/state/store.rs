//! The store: all documents, wherever they are kept.

use std::path::Path;
use std::sync::Arc;
use std::{fmt, io};

use serde_json::Value;

use crate::nats::Nats;
use crate::site::listing::Listing;

use super::batch::Answers;
use super::commit::{Answer, Commit, Refusal, Rules};
use super::document::Document;
use super::local::Local;
use super::over_nats::Shared;

/// Commits that are kept together, at most. What they share is one sync of the disk, or one message to NATS and back: beyond
/// some hundreds it no longer counts, and the first would wait for the last.
pub(super) const MAX_BATCH: usize = 256;

/// JSON documents that pages share: on disk, in memory, or on NATS. Clones are the same store.
#[derive(Clone)]
pub struct Store {
    place: Place,
}

/// Where the documents are, and who commits to them.
#[derive(Clone)]
enum Place {
    Local(Local),
    Shared(Arc<Shared>),
}

impl fmt::Debug for Store {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Store")
    }
}

/// An open document; `None` if there is none and none is to be made.
pub(super) type Opened = Option<Arc<Document>>;

/// A commit, and whom to answer.
pub(super) struct Submission {
    pub(super) document: Arc<Document>,
    pub(super) commit: Commit,
    pub(super) rules: Rules,
    pub(super) answers: Answers,
}

impl Store {
    /// Opens the store in the file `path`, which is made if it is not there. Each commit is on disk before it is
    /// acknowledged.
    ///
    /// # Errors
    /// The file cannot be opened, another process has it open, or it is not a store.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        Ok(Self { place: Place::Local(Local::on_disk(path.as_ref())?) })
    }

    /// A store that is gone with the process.
    ///
    /// # Errors
    /// The system has no thread for it.
    pub fn in_memory() -> io::Result<Self> {
        Ok(Self { place: Place::Local(Local::in_memory()?) })
    }

    /// How many bytes the documents may take that are in this process's memory, with the commits that are remembered: all of a store
    /// in memory, and of one on disk those that somebody has open. Beyond it commits are refused with `storage`, and no more
    /// documents are opened. Counted as JSON; in memory that may be some ten times as much, for an array of empty ones. Default:
    /// 256 MiB. Not for a store on NATS.
    #[must_use]
    pub fn max_memory(self, bytes: usize) -> Self {
        if let Place::Local(local) = &self.place {
            local.set_max_memory(bytes);
        }
        self
    }

    /// The store in the JetStream key-value bucket of that name, which is made if it is not there. All processes with the
    /// same bucket share its documents. JetStream has each commit before it is acknowledged.
    ///
    /// ```no_run
    /// # async fn example() -> std::io::Result<()> {
    /// use manysocket_server::Nats;
    /// use manysocket_server::state::{Documents, Store};
    ///
    /// let nats = Nats::connect("nats://127.0.0.1:4222").await?;
    /// let sheets = Documents::new(&Store::nats(&nats, "documents").await?, "sheets");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// NATS is away or has no JetStream, or the name is not one of letters, digits, `-` and `_`.
    pub async fn nats(nats: &Nats, bucket: &str) -> io::Result<Self> {
        Ok(Self { place: Place::Shared(Arc::new(Shared::open(nats, bucket).await?)) })
    }

    /// Has a commit applied and answered; waits while too many are before it.
    pub(super) async fn submit(&self, submission: Submission) {
        match &self.place {
            Place::Local(local) => local.submit(submission).await,
            Place::Shared(shared) => shared.submit(submission).await,
        }
    }

    pub(super) async fn document(
        &self,
        key: String,
        initial: Arc<Value>,
        must_exist: bool,
    ) -> io::Result<Opened> {
        match &self.place {
            Place::Local(local) => local.document(key, initial, must_exist).await,
            Place::Shared(shared) => shared.document(key, &initial, must_exist).await,
        }
    }

    /// The documents whose keys begin with `prefix`, from soon on.
    pub(super) fn listing(&self, prefix: String) -> Listing {
        match &self.place {
            Place::Local(local) => local.listing(prefix),
            Place::Shared(shared) => shared.listing(prefix),
        }
    }
}

/// The answer to a commit that would make a document too many.
pub(super) fn too_many(commit: &Commit, documents: usize) -> Answer {
    let message = format!("the store has {documents} documents, and no room for another");
    Answer::refused(commit.id.clone(), Refusal::new("too-many", message))
}
