//! The store: all documents, and the one thread that commits to them.
//!
//! One thread is the simplest way to have commits serialised, and the fastest: it takes all that wait, whatever their
//! documents, and writes them in one transaction. While the disk syncs, the next ones gather.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use std::{fmt, io, thread};

use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info};

use crate::listing::Listing;

use super::commit::{Answer, Applied, Commit, Refusal, Rules};
use super::disk::{Change, Disk, Stored};
use super::document::{Document, Entry, Record, Snapshot, State};

/// Commits that are written in one transaction, at most. What they share is one sync of the disk: beyond some hundreds
/// it no longer counts, and the first would wait for the last.
const MAX_BATCH: usize = 256;

/// Jobs that wait for the thread; more wait in their sockets, whose pages then wait, too.
const QUEUE: usize = 1024;

/// Bytes of commits after which a document is written as a whole, at least; more if the document is larger. Then a
/// snapshot costs no more than the commits since the last, and opening a document reads little more than itself.
const SNAPSHOT_BYTES: usize = 4096;

/// JSON documents that pages share, on disk or in memory. Clones are the same store.
#[derive(Clone)]
pub struct Store {
    jobs: mpsc::Sender<Job>,
}

impl fmt::Debug for Store {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Store")
    }
}

/// What the thread is asked to do.
pub(super) enum Job {
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

/// An open document; `None` if there is none and none is to be made.
pub(super) type Opened = Option<Arc<Document>>;

/// A commit, and whom to answer.
pub(super) struct Submission {
    pub(super) document: Arc<Document>,
    pub(super) commit: Commit,
    pub(super) rules: Rules,
    pub(super) answers: mpsc::UnboundedSender<Answer>,
}

impl Store {
    /// Opens the store in the file `path`, which is made if it is not there. Each commit is on disk before it is
    /// acknowledged.
    ///
    /// # Errors
    /// The file cannot be opened, another process has it open, or it is not a store.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let mut disk = Disk::open(path.as_ref())?;
        let documents = disk.count()?;
        info!(documents, path = %path.as_ref().display(), "opened the store");
        Self::start(Some(disk), documents)
    }

    /// A store that is gone with the process.
    ///
    /// # Errors
    /// The system has no thread for it.
    pub fn in_memory() -> io::Result<Self> {
        Self::start(None, 0)
    }

    fn start(disk: Option<Disk>, count: usize) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let worker = Worker { disk, documents: HashMap::new(), count, sweep_at: 1024, listings: Vec::new() };
        thread::Builder::new().name("state".into()).spawn(move || worker.run(queue))?;
        Ok(Self { jobs })
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

    /// The documents whose keys begin with `prefix`, from soon on.
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
}

/// A document in the middle of a batch: what is applied and not yet written.
struct Working {
    document: Arc<Document>,
    version: u64,
    value: Arc<Value>,
    applied: Vec<(Applied, mpsc::UnboundedSender<Answer>)>,
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
                        let _ = reply.send(self.open(key, &initial, must_exist));
                    }
                    Job::List { prefix, listing } => self.list(prefix, listing),
                }
            }
            self.commit(commits);
        }
    }

    fn open(&mut self, key: String, initial: &Value, must_exist: bool) -> io::Result<Opened> {
        self.sweep();
        if let Some(loaded) = self.documents.get(&key) {
            return Ok((!must_exist || loaded.snapshot.is_some()).then(|| Arc::clone(&loaded.document)));
        }
        let stored = match &mut self.disk {
            Some(disk) => disk.load(&key)?,
            None => None,
        };
        let loaded = match stored {
            Some(stored) => restore(&key, stored)?,
            None if must_exist => return Ok(None),
            None => {
                let state = State::new(new_incarnation(), 0, initial.clone());
                let document = Arc::new(Document::new(key.clone(), state));
                Loaded { document, snapshot: None, unsaved: 0 }
            }
        };
        let document = Arc::clone(&loaded.document);
        self.documents.insert(key, loaded);
        Ok(Some(document))
    }

    /// Lets go of documents that nobody has open and that are on disk, or were never committed to.
    fn sweep(&mut self) {
        if self.documents.len() < self.sweep_at {
            return;
        }
        let is_durable = self.disk.is_some();
        self.documents.retain(|_, loaded| {
            Arc::strong_count(&loaded.document) > 1 || (loaded.snapshot.is_some() && !is_durable)
        });
        self.sweep_at = (self.documents.len() * 2).max(1024);
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
        let mut batch: HashMap<String, Working> = HashMap::new();
        let mut refusals = Vec::new();
        let mut created = 0;
        for Submission { document, commit, rules, answers } in commits {
            let working = match batch.entry(document.key.clone()) {
                Slot::Occupied(slot) => slot.into_mut(),
                Slot::Vacant(slot) => {
                    let (version, value) = {
                        let state = document.state();
                        (state.version, Arc::clone(&state.value))
                    };
                    slot.insert(Working { document, version, value, applied: Vec::new() })
                }
            };
            let is_new = self.documents.get(&working.document.key).is_none_or(|it| it.snapshot.is_none())
                && working.applied.is_empty();
            if is_new && self.count + created >= rules.max_documents {
                let message = format!("the store has {} documents, and no room for another", self.count);
                refusals.push((Answer::refused(commit.id, Refusal::new("too-many", message)), answers));
                continue;
            }
            match working.apply(commit, &rules) {
                Ok(applied) => {
                    created += usize::from(is_new);
                    working.applied.push((applied, answers));
                }
                Err(answer) => refusals.push((answer, answers)),
            }
        }
        batch.retain(|_, working| !working.applied.is_empty());
        match self.write(&batch) {
            Ok(()) => {
                self.count += created;
                batch.into_values().for_each(|working| self.publish(working));
            }
            Err(error) => {
                error!(%error, "cannot write to the store; commits are refused");
                for (applied, answers) in batch.into_values().flat_map(|working| working.applied) {
                    let refusal = Refusal::new("storage", format!("the server cannot write it: {error}"));
                    refusals.push((Answer::refused(applied.entry.record.id.clone(), refusal), answers));
                }
            }
        }
        // After what they may have been refused for is there for all to see.
        for (answer, answers) in refusals {
            let _ = answers.send(answer);
        }
    }

    /// Writes a batch; nothing to do where documents are in memory only.
    fn write(&mut self, batch: &HashMap<String, Working>) -> io::Result<()> {
        let Some(disk) = &mut self.disk else { return Ok(()) };
        if batch.is_empty() {
            return Ok(());
        }
        let mut changes = Vec::with_capacity(batch.len());
        for (key, working) in batch {
            let loaded = self.documents.get(key);
            let state = working.document.state();
            let commits = working.applied.iter().map(|(applied, _)| &applied.entry);
            let records = commits.map(|entry| Ok((entry.version, serde_json::to_vec(&entry.record)?)));
            let is_due = loaded.is_none_or(|loaded| loaded.is_snapshot_due(working));
            let snapshot = is_due.then(|| {
                serde_json::to_vec(&Snapshot {
                    document: state.incarnation.clone(),
                    version: working.version,
                    data: &*working.value,
                })
            });
            changes.push(Change {
                key,
                snapshot: snapshot.transpose()?,
                commits: records.collect::<serde_json::Result<_>>()?,
                forget: state.forgettable(loaded.and_then(|loaded| loaded.snapshot).unwrap_or(0)),
            });
        }
        disk.write(&changes)
    }

    /// Makes the commits of a document visible, and answers them.
    fn publish(&mut self, working: Working) {
        let key = working.document.key.clone();
        let loaded = self.documents.entry(key).or_insert_with(|| Loaded {
            document: Arc::clone(&working.document),
            snapshot: None,
            unsaved: 0,
        });
        if loaded.snapshot.is_none() {
            for (prefix, listing) in &self.listings {
                if let Some(name) = working.document.key.strip_prefix(prefix) {
                    listing.insert(name);
                }
            }
        }
        let before = loaded.snapshot.unwrap_or(0);
        if loaded.is_snapshot_due(&working) {
            (loaded.snapshot, loaded.unsaved) = (Some(working.version), 0);
        } else {
            loaded.unsaved += working.bytes();
        }
        let mut state = working.document.state();
        if let Some((_, last)) = state.forgettable(before) {
            state.forget(last);
        }
        for (applied, answers) in working.applied {
            let answer = Answer::accepted(applied.entry.record.id.clone(), applied.entry.version);
            state.take_up(applied.entry, applied.value, applied.bytes);
            // Under the lock: see `Document::news`.
            let _ = answers.send(answer);
        }
        drop(state);
        working.document.announce();
    }
}

impl Loaded {
    /// Whether the batch that is being written should write the document as a whole.
    fn is_snapshot_due(&self, working: &Working) -> bool {
        let bytes = working.applied.last().map_or(0, |(applied, _)| applied.bytes);
        self.snapshot.is_none() || self.unsaved + working.bytes() > bytes.max(SNAPSHOT_BYTES)
    }
}

impl Working {
    fn apply(&mut self, commit: Commit, rules: &Rules) -> Result<Applied, Answer> {
        // Nobody has been told of a version within the batch, so the base is not there.
        let log = |base: u64| -> Option<Vec<Arc<Entry>>> {
            let applied = self.applied.iter().map(|(applied, _)| &applied.entry);
            Some(self.document.state().since(base)?.chain(applied).cloned().collect())
        };
        let applied = commit.apply(self.version, &self.value, log, rules)?;
        self.version = applied.entry.version;
        self.value = Arc::clone(&applied.value);
        Ok(applied)
    }

    fn bytes(&self) -> usize {
        self.applied.iter().map(|(applied, _)| applied.entry.bytes()).sum()
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
    let snapshot: Snapshot<Value> =
        serde_json::from_slice(&stored.snapshot).map_err(|error| broken("snapshot", &error))?;
    let (mut value, mut version, mut unsaved) = (snapshot.data, snapshot.version, 0);
    let mut log = Vec::with_capacity(stored.commits.len());
    for (number, bytes) in stored.commits {
        let record: Record = serde_json::from_slice(&bytes).map_err(|error| broken("commit", &error))?;
        let entry = Entry::new(number, record);
        if number > version {
            let delta: json_patch::Patch =
                serde_json::from_str(entry.record.delta.get()).map_err(|error| broken("commit", &error))?;
            json_patch::patch_unsafe(&mut value, &delta).map_err(|error| broken("commit", &error))?;
            version = number;
            unsaved += entry.bytes();
        }
        log.push(Arc::new(entry));
    }
    let mut state = State::new(snapshot.document, version, value);
    log.into_iter().for_each(|entry| state.remember(entry));
    let document = Arc::new(Document::new(key.to_owned(), state));
    Ok(Loaded { document, snapshot: Some(snapshot.version), unsaved })
}

/// Tells documents of one name apart that were made one after the other: by the nanosecond.
fn new_incarnation() -> String {
    let age = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{:x}", age.as_nanos())
}
