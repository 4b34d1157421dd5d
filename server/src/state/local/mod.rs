//! Documents of this process alone, on disk or in memory, and the one thread that commits to them.
//!
//! One thread is the simplest way to have commits serialised, and the fastest: it takes all that wait, whatever their
//! documents, and writes them in one transaction. While the disk syncs, the next ones gather.

mod disk;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{fmt, io, thread};

use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info};

use crate::json::Object;
use crate::site::listing::Listing;

use super::batch::Batch;
use super::commit::{Answer, Refusal, read_delta};
use super::document::{Document, Entry, Record, Snapshot, State};
use super::patch::replay;
use super::store::{MAX_BATCH, Opened, Submission, too_many};
use disk::{Change, Disk, Stored};

/// So many loaded documents are let be, before those that nobody has open are looked for.
const SWEEP_AT: usize = 1024;

/// Jobs that wait for the thread; more wait in their sockets, whose pages then wait, too.
const QUEUE: usize = 1024;

/// What documents may take in memory: a thousand of 256 KB with as many bytes of commits would be twice that.
const MAX_MEMORY: usize = 256 << 20;

/// Why nothing more is taken then.
const FULL: &str = "the documents that are open take as much memory as they may";

/// What a document that is loaded costs beside its key, its value and its commits.
const DOCUMENT_BYTES: usize = 1024;

/// Bytes of commits after which a document is written as a whole, at least; more if the document is larger. Then a
/// snapshot costs no more than the commits since the last, and opening a document reads little more than itself.
const SNAPSHOT_BYTES: usize = 4096;

/// The way to the thread. Clones lead to the same; it ends with the last of them.
#[derive(Clone)]
pub(super) struct Local {
    jobs: mpsc::Sender<Job>,
    max_memory: Arc<AtomicUsize>,
}

/// What the thread is asked to do.
enum Job {
    Open {
        key: String,
        initial: Arc<Value>,
        must_exist: bool,
        reply: oneshot::Sender<io::Result<Opened>>,
    },
    Commit(Submission),
    /// Fill the listing with the names of the documents whose keys begin with `prefix`, and keep it up.
    List {
        prefix: String,
        listing: Listing,
    },
}

impl Local {
    pub(super) fn on_disk(path: &Path) -> io::Result<Self> {
        let mut disk = Disk::open(path)?;
        let documents = disk.count()?;
        info!(documents, path = %path.display(), "opened the store");
        Self::start(Some(disk), documents)
    }

    pub(super) fn in_memory() -> io::Result<Self> {
        Self::start(None, 0)
    }

    fn start(disk: Option<Disk>, count: usize) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let max_memory = Arc::new(AtomicUsize::new(MAX_MEMORY));
        let worker = Worker {
            disk,
            documents: HashMap::new(),
            count,
            memory: 0,
            max_memory: Arc::clone(&max_memory),
            sweep_at: SWEEP_AT,
            listings: Vec::new(),
        };
        thread::Builder::new().name("state".into()).spawn(move || worker.run(queue))?;
        Ok(Self { jobs, max_memory })
    }

    pub(super) fn set_max_memory(&self, bytes: usize) {
        self.max_memory.store(bytes, Ordering::Relaxed);
    }

    pub(super) async fn submit(&self, submission: Submission) {
        // The thread ends only with the last store.
        let _ = self.jobs.send(Job::Commit(submission)).await;
    }

    pub(super) async fn document(
        &self,
        key: String,
        initial: Arc<Value>,
        must_exist: bool,
    ) -> io::Result<Opened> {
        let (reply, answer) = oneshot::channel();
        let gone = || io::Error::other("the store has ended");
        self.jobs.send(Job::Open { key, initial, must_exist, reply }).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    pub(super) fn listing(&self, prefix: String) -> Listing {
        let listing = Listing::new();
        // Applications are put together before anybody is served, so that the queue has room.
        if self.jobs.try_send(Job::List { prefix, listing: listing.clone() }).is_err() {
            error!("too much waits for the store: a listing of documents stays empty");
        }
        listing
    }
}

/// What the thread has.
struct Worker {
    /// `None`: documents are in memory only.
    disk: Option<Disk>,
    /// Those that are open, and some that nobody has open any longer.
    documents: HashMap<String, Loaded>,
    /// How many documents there are, open or not.
    count: usize,
    /// What those that are loaded take, and may take.
    memory: usize,
    max_memory: Arc<AtomicUsize>,
    /// At so many loaded documents, those that nobody has open are let go.
    sweep_at: usize,
    /// Who wants to know of new documents, and with which keys.
    listings: Vec<(String, Listing)>,
}

struct Loaded {
    document: Arc<Document>,
    /// The version on disk as a whole, and the bytes of the commits since; `None` while it is not on disk at all.
    snapshot: Option<u64>,
    unsaved: usize,
    /// What is counted for it.
    memory: usize,
}

impl Worker {
    fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        let mut jobs = Vec::with_capacity(MAX_BATCH);
        while queue.blocking_recv_many(&mut jobs, MAX_BATCH) > 0 {
            let mut commits = Vec::new();
            for job in jobs.drain(..) {
                match job {
                    Job::Commit(submission) => commits.push(submission),
                    Job::Open { key, initial, must_exist, reply } => {
                        // Whoever asked may be gone.
                        let _ = reply.send(self.open(&key, &initial, must_exist));
                    }
                    Job::List { prefix, listing } => self.list(prefix, listing),
                }
            }
            self.commit(commits);
        }
    }

    fn open(&mut self, key: &str, initial: &Value, must_exist: bool) -> io::Result<Opened> {
        if let Some(loaded) = self.documents.get(key) {
            return Ok((!must_exist || loaded.snapshot.is_some()).then(|| Arc::clone(&loaded.document)));
        }
        if self.documents.len() >= self.sweep_at || self.is_full() {
            self.sweep();
        }
        if self.is_full() {
            return Err(io::Error::other(FULL));
        }
        let stored = match &mut self.disk {
            Some(disk) => disk.load(key)?,
            None => None,
        };
        let loaded = match stored {
            Some(stored) => restore(key, stored)?,
            None if must_exist => return Ok(None),
            None => {
                let document = Arc::new(Document::new(key.to_owned(), State::unwritten(initial)?));
                Loaded { document, snapshot: None, unsaved: 0, memory: 0 }
            }
        };
        let document = Arc::clone(&loaded.document);
        self.documents.insert(key.to_owned(), loaded);
        self.weigh(key);
        Ok(Some(document))
    }

    /// Lets go of documents that nobody has open and that are on disk, or were never committed to.
    fn sweep(&mut self) {
        let is_durable = self.disk.is_some();
        self.documents.retain(|_, loaded| {
            let stays = Arc::strong_count(&loaded.document) > 1 || (loaded.snapshot.is_some() && !is_durable);
            if !stays {
                self.memory -= loaded.memory;
            }
            stays
        });
        self.sweep_at = (self.documents.len() * 2).max(SWEEP_AT);
    }

    fn is_full(&self) -> bool {
        self.memory > self.max_memory.load(Ordering::Relaxed)
    }

    /// Counts anew what a document takes.
    fn weigh(&mut self, key: &str) {
        let Some(loaded) = self.documents.get_mut(key) else { return };
        let before = loaded.memory;
        loaded.memory = key.len() + loaded.document.state().memory() + DOCUMENT_BYTES;
        self.memory = self.memory + loaded.memory - before;
    }

    fn list(&mut self, prefix: String, listing: Listing) {
        let names = match &mut self.disk {
            Some(disk) => disk.names(&prefix),
            None => {
                let committed = self.documents.iter().filter(|(_, loaded)| loaded.snapshot.is_some());
                Ok(committed.filter_map(|(key, _)| key.strip_prefix(&prefix)).map(str::to_owned).collect())
            }
        };
        match names {
            Ok(names) => {
                for name in names {
                    listing.insert(&name);
                }
            }
            Err(error) => error!(%error, "cannot read the names of the documents"),
        }
        self.listings.push((prefix, listing));
    }

    /// Applies commits in their order, writes what passed in one transaction, then tells everybody.
    fn commit(&mut self, commits: Vec<Submission>) {
        let mut batches: HashMap<String, Batch> = HashMap::new();
        let mut created = 0;
        if self.is_full() {
            self.sweep();
        }
        for Submission { document, commit, rules, answers } in commits {
            let batch = batches.entry(document.key.clone()).or_insert_with(|| Batch::new(&document));
            if self.is_full() {
                let refusal = Refusal::new("storage", FULL);
                batch.answer(Answer::refused(commit.id.clone(), refusal), &answers);
                continue;
            }
            let is_new =
                self.documents.get(&document.key).is_none_or(|it| it.snapshot.is_none()) && batch.is_empty();
            if is_new && self.count + created >= rules.max_documents {
                batch.answer(too_many(&commit, self.count), &answers);
                continue;
            }
            batch.add(&commit, &rules, &answers);
            created += usize::from(is_new && !batch.is_empty());
        }
        match self.write(&batches) {
            Ok(()) => {
                self.count += created;
                batches.into_values().for_each(|batch| self.publish(batch));
            }
            Err(error) => {
                error!(%error, "cannot write to the store; commits are refused");
                let message = format!("the server cannot write it: {error}");
                batches.into_values().for_each(|batch| batch.refuse("storage", &message));
            }
        }
    }

    /// Writes a batch; nothing to do where documents are in memory only.
    fn write(&mut self, batches: &HashMap<String, Batch>) -> io::Result<()> {
        let Some(disk) = &mut self.disk else { return Ok(()) };
        let mut changes = Vec::with_capacity(batches.len());
        for (key, batch) in batches.iter().filter(|(_, batch)| !batch.is_empty()) {
            let loaded = self.documents.get(key);
            let state = batch.document().state();
            let records =
                batch.entries().map(|entry| Ok((entry.version, serde_json::to_vec(&entry.record)?)));
            let is_due = loaded.is_none_or(|loaded| loaded.is_snapshot_due(batch));
            let snapshot = is_due.then(|| {
                serde_json::to_vec(&Snapshot {
                    document: state.incarnation.clone(),
                    version: batch.version(),
                    data: batch.value(),
                })
            });
            changes.push(Change {
                key,
                snapshot: snapshot.transpose()?,
                commits: records.collect::<serde_json::Result<_>>()?,
                forget: state.forgettable(loaded.and_then(|loaded| loaded.snapshot).unwrap_or(0)),
            });
        }
        if changes.is_empty() { Ok(()) } else { disk.write(&changes) }
    }

    /// Makes the commits of a document visible, and answers them.
    fn publish(&mut self, batch: Batch) {
        if batch.is_empty() {
            return batch.publish();
        }
        let document = batch.document();
        let loaded = self.documents.entry(document.key.clone()).or_insert_with(|| Loaded {
            document: Arc::clone(document),
            snapshot: None,
            unsaved: 0,
            memory: 0,
        });
        if loaded.snapshot.is_none() {
            for (prefix, listing) in &self.listings {
                if let Some(name) = document.key.strip_prefix(prefix) {
                    listing.insert(name);
                }
            }
        }
        document.state().forget_to(loaded.snapshot.unwrap_or(0));
        if loaded.is_snapshot_due(&batch) {
            (loaded.snapshot, loaded.unsaved) = (Some(batch.version()), 0);
        } else {
            loaded.unsaved += batch.bytes();
        }
        let key = document.key.clone();
        batch.publish();
        self.weigh(&key);
    }
}

impl Loaded {
    /// Whether the batch that is being written should write the document as a whole.
    fn is_snapshot_due(&self, batch: &Batch) -> bool {
        self.snapshot.is_none() || self.unsaved + batch.bytes() > batch.value_bytes().max(SNAPSHOT_BYTES)
    }
}

/// A document as it was written: its snapshot, and the commits since.
fn restore(key: &str, stored: Stored) -> io::Result<Loaded> {
    let broken = |what: &str, error: &dyn fmt::Display| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("the document {key:?} has a broken {what}: {error}"),
        )
    };
    let Object(snapshot): Object<Snapshot<Value>> =
        serde_json::from_slice(&stored.snapshot).map_err(|error| broken("snapshot", &error))?;
    let (mut value, mut version, mut unsaved) = (snapshot.data, snapshot.version, 0);
    let mut log = Vec::with_capacity(stored.commits.len());
    for (number, bytes) in stored.commits {
        let Object(record): Object<Record> =
            serde_json::from_slice(&bytes).map_err(|error| broken("commit", &error))?;
        let entry = Entry::new(number, record);
        if number > version {
            let delta = read_delta(entry.record.delta.get()).map_err(|error| broken("commit", &error))?;
            replay(&mut value, &delta).map_err(|error| broken("commit", &error))?;
            version = number;
            unsaved += entry.bytes();
        }
        log.push(Arc::new(entry));
    }
    let mut state = State::new(snapshot.document, version, value);
    log.into_iter().for_each(|entry| state.remember(entry));
    let document = Arc::new(Document::new(key.to_owned(), state));
    Ok(Loaded { document, snapshot: Some(snapshot.version), unsaved, memory: 0 })
}
