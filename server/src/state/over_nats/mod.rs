//! Documents that several processes share, in a key-value bucket of NATS.
//!
//! A document is one value: its data, its version, its last commits. Each open document has a task that commits to it: it
//! applies what waits, and writes the value for the revision that it knows. Where another process was faster, it reads
//! what is there now, and applies the same commits to that. All processes hear which keys have been written, and read those
//! that they have open.

mod bucket;
mod committer;
mod names;

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use crate::nats::Nats;
use crate::site::listing::Listing;

use super::answer::Refusal;
use super::backend::{FULL, Opened, Tools, Wanted, relieve};
use super::document::Document;
use super::submission::Submission;
use bucket::{Bucket, Changes};
use committer::{Keeper, LOOK};
use names::Names;

/// So many loaded documents are let be, before those that nobody has open are looked for.
const SWEEP_AT: usize = 1024;

/// Who has a document that nobody has open: the table and its keeper.
const HOLDERS: usize = 2;

/// How long to wait before the bucket is followed again, if that failed: NATS may be starting.
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

/// An open document, and the way to its keeper, which ends with this.
struct Open {
    document: Arc<Document>,
    commits: mpsc::UnboundedSender<Submission>,
    /// The newest revision that has been heard of, or [`LOOK`].
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

    /// How many wait for a document is bounded by what each peer may have waiting.
    pub(super) fn submit(&self, submission: Submission) {
        if self.tables.is_full() {
            return submission.reply.refuse(Refusal::new("storage", FULL));
        }
        if let Some(open) = self.tables.open().get(&submission.document.key) {
            // The keeper ends before its document's sockets only if the document is no more; they then close.
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
        // What was heard of before the document was in the table has been told to nobody.
        if let Some(revision) = names.revision(&key) {
            self.tables.tell(&key, revision);
        }
        Ok(Some(document))
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
    /// Whether memory is full, and nothing more can be spared.
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

    /// Starts the keeper of a document, unless somebody else has opened that meanwhile; the document that is open.
    fn insert(&self, key: String, keeper: Keeper, document: Arc<Document>) -> Arc<Document> {
        let mut open = self.open();
        if let Some(open) = open.get(&key).filter(|open| !open.document.has_ended()) {
            return Arc::clone(&open.document);
        }
        // Each time that there are twice as many.
        if open.len() >= SWEEP_AT && open.len().is_power_of_two() {
            open.retain(|_, open| open.is_in_use());
        }
        let (commits, waiting) = mpsc::unbounded_channel();
        let (newest, news) = watch::channel(keeper.revision());
        tokio::spawn(keeper.run(waiting, news));
        open.insert(key, Open { document: Arc::clone(&document), commits, newest });
        document
    }

    /// Tells a keeper the newest revision of its document, or lets go of a document that nobody has open.
    fn tell(&self, key: &str, revision: u64) {
        let mut open = self.open();
        let Some(entry) = open.get(key) else { return };
        if entry.is_in_use() {
            entry.newest.send_replace(revision);
        } else {
            open.remove(key);
        }
    }

    /// Has all keepers look: what has been written may not have been heard of.
    fn tell_all(&self) {
        for open in self.open().values() {
            open.newest.send_replace(LOOK);
        }
    }
}

/// Hears what is written in the bucket, and tells it, until the store ends.
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
                    warn!(%error, "documents of other servers are not followed yet");
                    sleep(RETRY).await;
                }
            }
        };
        tables.tell_all();
    }
}
