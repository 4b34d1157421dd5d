//! Documents that several processes share, in a key-value bucket of NATS.
//!
//! A document is one value: its data, its version, its last commits. Each open document has a task that commits to it. The
//! task applies the waiting commits, and writes the value on the condition that the key still has the revision that it
//! knows. If another process was faster, it reads the new value, and applies the same commits to that. All processes follow
//! the keys that change, and read those that they have open.

mod bucket;
mod committer;
mod names;

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use crate::nats::Nats;
use crate::site::listing::Listing;

use super::answer::Refusal;
use super::backend::{FULL, Opened, Tools, Wanted, relieve};
use super::document::Document;
use super::submission::Submission;
use bucket::{Bucket, Changes, Written};
use committer::{Keeper, LOOK, id_of};
use names::Names;

/// The number of loaded documents from which on the store looks for those that nobody has open, and unloads them.
const SWEEP_AT: usize = 1024;

/// The references to a document that nobody has open: the table's and its keeper's.
const HOLDERS: usize = 2;

/// How long a deletion waits for a NATS that was lost in the middle of it.
const PATIENCE: Duration = Duration::from_secs(10);

/// The delay before the store follows the bucket again after a failure: NATS may be starting.
const RETRY: Duration = Duration::from_millis(200);

pub(super) struct Shared {
    tables: Arc<Tables>,
    _follower: AbortOnDropHandle<()>,
}

struct Tables {
    bucket: Arc<Bucket>,
    names: Arc<Names>,
    tools: Tools,
    open: Mutex<HashMap<String, Open>>,
}

/// An open document, and the channel to its keeper. The keeper ends when this is dropped.
struct Open {
    document: Arc<Document>,
    commits: mpsc::UnboundedSender<Submission>,
    /// The newest revision that the bucket announced, or [`LOOK`].
    newest: watch::Sender<u64>,
}

impl Shared {
    pub(super) async fn open(nats: &Nats, bucket: &str, tools: Tools) -> io::Result<Self> {
        let gaps = nats.gaps();
        let bucket = Arc::new(Bucket::open(nats, bucket).await?);
        let (keys, changes) = bucket.follow().await?;
        info!(documents = keys.len(), "opened the bucket on NATS");
        let names = Arc::new(Names::default());
        names.replace(&keys);
        let tables = Arc::new(Tables { bucket, names, tools, open: Mutex::default() });
        let follower = tokio::spawn(follow(Arc::clone(&tables), changes, gaps));
        Ok(Self { tables, _follower: AbortOnDropHandle::new(follower) })
    }

    /// Passes a commit to its document's keeper. [`Admission`](super::submission::Admission) limits the commits that wait,
    /// by peer.
    pub(super) fn submit(&self, submission: Submission) {
        if self.tables.is_full() {
            return submission.reply.refuse(Refusal::new("storage", FULL));
        }
        if let Some(open) = self.tables.open().get(&submission.document.key) {
            // The keeper ends before its document's sockets only if the document was deleted; they then close.
            let _ = open.commits.send(submission);
        }
    }

    pub(super) async fn document(
        &self,
        Wanted { key, initial, must_exist, peer }: Wanted,
    ) -> io::Result<Opened> {
        let Tables { bucket, names, tools, .. } = &*self.tables;
        if let Some(document) = self.tables.find(&key) {
            let exists = document.state().version > 0;
            return Ok((exists || !must_exist).then_some(document));
        }
        if self.tables.is_full() {
            return Err(io::Error::other(FULL));
        }
        let (bucket, ours) = (Arc::clone(bucket), Arc::clone(names));
        let initial = (!must_exist).then_some(&*initial);
        let loaded = Keeper::load(bucket, ours, tools.clone(), &key, initial, peer).await?;
        let Some((keeper, document)) = loaded else { return Ok(None) };
        let document = self.tables.insert(key.clone(), keeper, document);
        // Changes announced before the document was in the table have reached no keeper.
        if let Some(revision) = names.revision(&key) {
            self.tables.tell(&key, revision);
        }
        Ok(Some(document))
    }

    /// Deletes a document for all processes, and returns whether it existed.
    pub(super) async fn delete(&self, key: &str) -> io::Result<bool> {
        let Tables { bucket, names, .. } = &*self.tables;
        let deadline = Instant::now() + PATIENCE;
        // The document that is being deleted, once an attempt may have succeeded.
        let mut in_doubt: Option<String> = None;
        loop {
            let (revision, value) = match bucket.get(key).await {
                Ok(found) => found,
                Err(_) if in_doubt.is_some() && Instant::now() < deadline => {
                    sleep(RETRY).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let id = value.as_deref().map(id_of).transpose()?;
            match (id, in_doubt) {
                // Somebody may have made it anew meanwhile.
                (id, Some(deleted)) if id.as_ref() != Some(&deleted) => {
                    self.tables.end(key, &deleted);
                    return Ok(true);
                }
                (None, _) => {
                    // Another process has deleted it.
                    self.tables.tell(key, LOOK);
                    return Ok(false);
                }
                (id, _) => in_doubt = id,
            }
            match bucket.delete(key, revision).await {
                Written::Kept(_) => {
                    names.note(key, None);
                    self.tables.end(key, in_doubt.as_deref().unwrap_or_default());
                    return Ok(true);
                }
                Written::Refused(reason) => return Err(io::Error::other(reason)),
                Written::Late | Written::Unknown => {}
            }
        }
    }

    pub(super) fn names(&self, prefix: &str, after: &str, count: usize) -> Vec<String> {
        self.tables.names.after(prefix, after, count)
    }

    pub(super) fn listing(&self, prefix: String) -> Listing {
        self.tables.names.listing(prefix)
    }
}

impl Open {
    fn is_in_use(&self) -> bool {
        Arc::strong_count(&self.document) > HOLDERS
    }
}

impl Tables {
    /// Frees memory if it is full, and returns whether it is full still.
    fn is_full(&self) -> bool {
        let memory = &self.tools.memory;
        if memory.is_full() {
            let mut open = self.open();
            open.retain(|_, open| open.is_in_use());
            relieve(memory, &open.values().map(|open| &open.document));
        }
        memory.is_full()
    }

    fn open(&self) -> MutexGuard<'_, HashMap<String, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, key: &str) -> Option<Arc<Document>> {
        let open = self.open();
        let document = &open.get(key)?.document;
        (!document.has_ended()).then(|| Arc::clone(document))
    }

    /// Starts the keeper of a document, unless another request has opened the document meanwhile. Returns the open document.
    fn insert(&self, key: String, keeper: Keeper, document: Arc<Document>) -> Arc<Document> {
        let mut open = self.open();
        if let Some(open) = open.get(&key).filter(|open| !open.document.has_ended()) {
            return Arc::clone(&open.document);
        }
        // This runs each time the number has doubled, so that the cost stays small per document.
        if open.len() >= SWEEP_AT && open.len().is_power_of_two() {
            open.retain(|_, open| open.is_in_use());
        }
        let (commits, waiting) = mpsc::unbounded_channel();
        let (newest, news) = watch::channel(keeper.revision());
        tokio::spawn(keeper.run(waiting, news));
        open.insert(key, Open { document: Arc::clone(&document), commits, newest });
        document
    }

    /// Sends a keeper the newest revision of its document, or unloads a document that nobody has open.
    fn tell(&self, key: &str, revision: u64) {
        let mut open = self.open();
        let Some(entry) = open.get(key) else { return };
        if entry.is_in_use() {
            entry.newest.send_replace(revision);
        } else {
            open.remove(key);
        }
    }

    /// Ends a document that was deleted, so that the next request opens another.
    fn end(&self, key: &str, id: &str) {
        let mut open = self.open();
        if open.get(key).is_some_and(|open| open.document.state().incarnation == id)
            && let Some(open) = open.remove(key)
        {
            open.document.end();
        }
    }

    /// Makes all keepers read their documents: the store may have missed changes.
    fn tell_all(&self) {
        for open in self.open().values() {
            open.newest.send_replace(LOOK);
        }
    }
}

/// Follows the bucket's changes and passes them to the keepers, until the store ends.
async fn follow(tables: Arc<Tables>, mut changes: Changes, mut gaps: watch::Receiver<()>) {
    loop {
        loop {
            tokio::select! {
                change = changes.next() => match change {
                    Some((Some((key, revision)), _)) => {
                        tables.names.note(&key, revision);
                        tables.tell(&key, revision.unwrap_or(LOOK));
                    }
                    Some((None, _)) => {}
                    None => break,
                },
                Ok(()) = gaps.changed() => break,
            }
        }
        changes = loop {
            match tables.bucket.follow().await {
                Ok((keys, changes)) => {
                    tables.names.replace(&keys);
                    break changes;
                }
                Err(error) => {
                    warn!(%error, "cannot follow other servers' documents yet");
                    sleep(RETRY).await;
                }
            }
        };
        tables.tell_all();
    }
}
