//! Documents in the server's own code: versions, commits and their errors.

use std::fmt;
use std::sync::Arc;

use futures_util::{Stream, stream};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use super::answer::Refusal;
use super::commit::{Commit, Rules};
use super::document::Document;
use super::store::Store;
use super::submission::{Reply, Submission};
use super::tree::Json;

/// A document at one version. Clones share the data.
#[derive(Clone)]
pub struct DocumentVersion {
    id: String,
    version: u64,
    value: Json,
}

/// The reason why a document cannot be read, or why a commit was refused: no part of it was applied then.
#[derive(Debug, Clone)]
pub struct DocumentError {
    code: &'static str,
    message: String,
    path: Option<Box<str>>,
    conflicts: Vec<String>,
}

impl DocumentVersion {
    pub(super) fn of(document: &Document) -> Self {
        let state = document.state();
        let (version, value) = state.current();
        Self { id: state.incarnation.clone(), version, value }
    }

    /// Returns the random id of the document. It differs from that of an earlier document of the same name.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the number of commits that led to it; 0 before the first.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Reads the data as a `T`. Its time grows with the document.
    ///
    /// # Errors
    /// Returns an error if the data is not a `T`.
    pub fn data<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.value.to_string())
    }
}

impl fmt::Debug for DocumentVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, version, .. } = self;
        formatter
            .debug_struct("DocumentVersion")
            .field("id", id)
            .field("version", version)
            .finish_non_exhaustive()
    }
}

impl DocumentError {
    pub(super) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), path: None, conflicts: Vec::new() }
    }

    /// Returns the code, for programs: one of those that pages get (`docs/state-wire.md`), `missing` if there is no such
    /// document, or `name` if no document can have the name.
    pub fn code(&self) -> &str {
        self.code
    }

    /// Returns the message, for people.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns the path of the operation that is the reason, if one is.
    pub fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }

    /// Returns the paths at which others have changed the document since the base. The code is then `conflict`.
    pub fn conflicts(&self) -> &[String] {
        &self.conflicts
    }
}

impl fmt::Display for DocumentError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for DocumentError {}

impl From<Refusal> for DocumentError {
    fn from(refusal: Refusal) -> Self {
        let Refusal { error, message, path, conflicts, .. } = refusal;
        let conflicts = conflicts.into_iter().map(|conflict| conflict.path).collect();
        Self { code: error, message, path, conflicts }
    }
}

/// Commits a delta, and waits until the store has written it. Returns the version that it made.
pub(super) async fn commit(
    store: &Store,
    document: Arc<Document>,
    rules: Rules,
    peer: u64,
    base: u64,
    delta: String,
) -> Result<u64, DocumentError> {
    let failed = || DocumentError::new("storage", "the server failed; its log says more");
    let commit = Commit::new(base, delta).map_err(|_| failed())?;
    let (answers, mut answered) = mpsc::unbounded_channel();
    let place = store.admit(peer).await;
    let reply = Reply::new(&commit, answers, None, place);
    store.submit(Submission { peer, document, commit, rules, reply });
    let answer = answered.recv().await.and_then(|reached| reached.answer).ok_or_else(failed)?;
    answer.into_outcome().map_err(DocumentError::from)
}

/// Returns the present version of a document, and then later ones. The stream leaves out versions that came and went
/// between two polls, and ends when the document is deleted or replaced.
pub(super) fn versions(document: Arc<Document>) -> impl Stream<Item = DocumentVersion> + Send + use<> {
    let changes = document.subscribe();
    stream::unfold((document, changes, None), async |(document, mut changes, seen)| {
        loop {
            changes.mark_unchanged();
            if document.has_ended() {
                return None;
            }
            let version = DocumentVersion::of(&document);
            if seen != Some(version.version) {
                let seen = Some(version.version);
                return Some((version, (document, changes, seen)));
            }
            // `document` keeps the sender alive, so this never fails.
            changes.changed().await.ok()?;
        }
    })
}
