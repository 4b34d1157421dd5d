//! Documents of this process alone, on disk or in memory, and the thread that commits to them.
//!
//! A single thread is the simplest way to serialise commits, and the fastest. It applies all waiting commits, of any
//! documents, and writes them in one transaction. While the disk syncs, further commits queue up. Links take turns.
//! Expensive work runs in the store's [`Lane`](crate::lane::Lane); meanwhile only commits to that document wait.

mod apply;
mod disk;
pub(super) mod lines;
mod loaded;
mod record;
mod restore;
mod round;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::{io, thread};

use redb::ReadTransaction;
use tokio::sync::oneshot;
use tracing::{error, info};

use crate::site::listing::Listing;
use crate::ws::peer::SERVER;

use super::backend::{FULL, Opened, Tools, Wanted, relieve};
use super::batch::Batch;
use super::document::{Document, State};
use super::submission::Submission;
use crate::lane::LIGHT;
use crate::lane::turns::Turns;
use disk::{Change, Disk, Stored};
use loaded::{Loaded, Wrote, restore};
use round::{Busy, Deleted, Round};

/// The number of loaded documents from which on the store looks for those that nobody has open, and unloads them.
const SWEEP_AT: usize = 1024;

/// The most bytes of snapshots in one transaction; the others wait for the next: this is a few milliseconds of work.
const MAX_SNAPSHOTS: usize = 1 << 20;

/// A handle to the thread. The thread ends when this is dropped.
pub(super) struct Local(Arc<Turns<Job>>);

/// A job for the thread.
enum Job {
    Open(Wanted, Reply),
    /// The lane has read a document. Several sockets may wait for it.
    Restored(String, io::Result<Loaded>),
    Commit(Submission),
    /// The lane has applied large commits; `None` if it dropped them after a panic. The last field has those for which there
    /// was no time.
    Applied(Arc<Document>, Option<Batch>, Vec<Submission>),
    /// Delete a document.
    Delete(String, Deleted),
    /// Return a view of the file as it is now.
    View(oneshot::Sender<io::Result<ReadTransaction>>),
    /// Return the names of up to `count` documents whose keys begin with `prefix`, after the name `after`.
    Names {
        prefix: String,
        after: String,
        count: usize,
        reply: oneshot::Sender<io::Result<Vec<String>>>,
    },
    /// Close the file cleanly.
    Close(oneshot::Sender<()>),
    /// Fill the listing with the names of the documents whose keys begin with `prefix`, and keep it up to date.
    List {
        prefix: String,
        listing: Listing,
    },
}

type Reply = oneshot::Sender<io::Result<Opened>>;

impl Local {
    pub(super) fn on_disk(path: &Path, tools: Tools) -> io::Result<Self> {
        let mut disk = Disk::open(path)?;
        let documents = disk.count()?;
        info!(documents, path = %path.display(), "opened the store");
        Self::start(Some(disk), documents, tools)
    }

    pub(super) fn in_memory(tools: Tools) -> io::Result<Self> {
        Self::start(None, 0, tools)
    }

    fn start(disk: Option<Disk>, count: usize, tools: Tools) -> io::Result<Self> {
        let turns = Arc::new(Turns::new());
        let worker = Worker {
            turns: Arc::clone(&turns),
            tools,
            disk,
            is_closed: false,
            documents: HashMap::new(),
            busy: HashMap::new(),
            opening: HashMap::new(),
            deleting: HashMap::new(),
            count,
            reserved: 0,
            sweep_at: SWEEP_AT,
            listings: Vec::new(),
        };
        thread::Builder::new().name("state".into()).spawn(move || worker.run())?;
        Ok(Self(turns))
    }

    pub(super) fn submit(&self, submission: Submission) {
        self.0.push(submission.peer, Job::Commit(submission));
    }

    pub(super) async fn document(&self, wanted: Wanted) -> io::Result<Opened> {
        let (reply, answer) = oneshot::channel();
        self.0.push(wanted.peer, Job::Open(wanted, reply));
        answer.await.map_err(|_| io::Error::other("the store failed to open it"))?
    }

    /// Deletes a document, and returns whether it existed.
    pub(super) async fn delete(&self, key: String, peer: u64) -> io::Result<bool> {
        let (reply, deleted) = oneshot::channel();
        self.0.push(peer, Job::Delete(key, reply));
        deleted.await.map_err(|_| io::Error::other("the store failed to delete it"))?
    }

    /// Returns a view of the file as it is now, with all acknowledged commits.
    pub(super) async fn view(&self) -> io::Result<ReadTransaction> {
        let (reply, view) = oneshot::channel();
        self.0.push(SERVER, Job::View(reply));
        view.await.map_err(|_| io::Error::other("the store failed to read the file"))?
    }

    /// Closes the file cleanly, and returns when that is done.
    pub(super) async fn close(&self) {
        let (reply, closed) = oneshot::channel();
        self.0.push(SERVER, Job::Close(reply));
        // The thread answers in any case.
        let _ = closed.await;
    }

    pub(super) async fn names(
        &self,
        prefix: String,
        after: String,
        count: usize,
        peer: u64,
    ) -> io::Result<Vec<String>> {
        let (reply, names) = oneshot::channel();
        self.0.push(peer, Job::Names { prefix, after, count, reply });
        names.await.map_err(|_| io::Error::other("the store failed to read the names"))?
    }

    pub(super) fn listing(&self, prefix: String) -> Listing {
        let listing = Listing::new();
        self.0.push(SERVER, Job::List { prefix, listing: listing.clone() });
        listing
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// The state of the thread.
struct Worker {
    turns: Arc<Turns<Job>>,
    tools: Tools,
    /// `None`: documents are in memory only, or the file has been closed.
    disk: Option<Disk>,
    is_closed: bool,
    /// The open documents, and some that nobody has open any longer.
    documents: HashMap<String, Loaded>,
    /// The documents whose large commits the lane applies.
    busy: HashMap<String, Busy>,
    /// The documents that the lane reads, with the requests that wait for them.
    opening: HashMap<String, Vec<(Wanted, Reply)>>,
    /// Those of them that are to be deleted.
    deleting: HashMap<String, Vec<Deleted>>,
    /// The number of documents, open or not.
    count: usize,
    /// The number of new documents that the large commits in the lane may create.
    reserved: usize,
    /// The number of loaded documents at which the next sweep runs.
    sweep_at: usize,
    /// The listings to update with new documents, each with its key prefix.
    listings: Vec<(String, Listing)>,
}

impl Worker {
    fn run(mut self) {
        while let Some(mut job) = self.turns.take(!self.busy.is_empty()) {
            let mut round = Round::new();
            loop {
                // Dropping the job answers its caller.
                if catch_unwind(AssertUnwindSafe(|| self.act(job, &mut round))).is_err() {
                    error!("the store panicked; it dropped this job and continues");
                }
                if round.is_over() {
                    break;
                }
                let Some(next) = self.turns.try_take() else { break };
                job = next;
            }
            self.finish(round);
        }
    }

    fn act(&mut self, job: Job, round: &mut Round) {
        match job {
            Job::Open(wanted, reply) => self.open(wanted, reply),
            Job::Restored(key, restored) => self.restored(&key, restored),
            Job::Commit(submission) => self.commit(submission, round),
            Job::Applied(document, batch, rest) => self.applied(document, batch, rest, round),
            Job::Delete(key, reply) => match self.opening.contains_key(&key) {
                true => self.deleting.entry(key).or_default().push(reply),
                false => round.deletions.push((key, reply)),
            },
            Job::View(reply) => drop(reply.send(self.view())),
            // The caller may have stopped waiting.
            Job::Names { prefix, after, count, reply } => {
                let _ = reply.send(self.names(&prefix, &after, count));
            }
            Job::Close(reply) => round.closing.push(reply),
            Job::List { prefix, listing } => self.list(prefix, listing),
        }
    }

    fn open(&mut self, wanted: Wanted, reply: Reply) {
        if let Some(waiting) = self.opening.get_mut(&wanted.key) {
            return waiting.push((wanted, reply));
        }
        let stored = match self.find(&wanted) {
            Ok(Found::Stored(stored)) => stored,
            Ok(Found::Opened(opened)) => return answer(reply, Ok(opened)),
            Err(error) => return answer(reply, Err(error)),
        };
        let (key, peer) = (wanted.key.clone(), wanted.peer);
        self.opening.insert(key.clone(), vec![(wanted, reply)]);
        if stored.bytes() <= LIGHT {
            return self.restored(&key, restore(&key, stored, &self.tools.memory));
        }
        let (turns, memory) = (Arc::clone(&self.turns), self.tools.memory.clone());
        self.tools.lane.push(peer, move || {
            let restoring = || restore(&key, stored, &memory);
            let restored = catch_unwind(AssertUnwindSafe(restoring));
            let restored = restored.unwrap_or_else(|_| Err(io::Error::other("reading it panicked")));
            turns.push(SERVER, Job::Restored(key, restored));
        });
    }

    /// Looks for a document in memory, then on disk, and creates it if it is in neither.
    fn find(&mut self, wanted: &Wanted) -> io::Result<Found> {
        let Wanted { key, initial, must_exist, .. } = wanted;
        if let Some(loaded) = self.documents.get(key) {
            return Ok(Found::Opened(loaded.opened(*must_exist)));
        }
        if self.documents.len() >= self.sweep_at || self.tools.memory.is_full() {
            self.sweep();
        }
        self.relieve();
        if self.tools.memory.is_full() {
            return Err(io::Error::other(FULL));
        }
        let stored = match &mut self.disk {
            Some(disk) => disk.load(key)?,
            None if self.is_closed => return Err(closed()),
            None => None,
        };
        match stored {
            Some(stored) => return Ok(Found::Stored(stored)),
            None if *must_exist => return Ok(Found::Opened(None)),
            None => {}
        }
        let document = Document::new(key.clone(), State::unwritten(initial)?, &self.tools.memory);
        let loaded = Loaded::unwritten(Arc::new(document));
        let opened = loaded.opened(false);
        self.documents.insert(key.clone(), loaded);
        Ok(Found::Opened(opened))
    }

    /// Answers the requests for a document that the lane has read.
    fn restored(&mut self, key: &str, restored: io::Result<Loaded>) {
        let waiting = self.opening.remove(key).unwrap_or_default();
        match restored {
            Ok(loaded) => {
                for (wanted, reply) in waiting {
                    answer(reply, Ok(loaded.opened(wanted.must_exist)));
                }
                self.documents.insert(key.to_owned(), loaded);
            }
            Err(error) => {
                for (_, reply) in waiting {
                    answer(reply, Err(io::Error::new(error.kind(), error.to_string())));
                }
            }
        }
        for reply in self.deleting.remove(key).into_iter().flatten() {
            self.delete(key, reply);
        }
    }

    /// Deletes a document with its commits. Its sockets end, and a later document of the name has another id.
    fn delete(&mut self, key: &str, reply: Deleted) {
        let is_loaded = self.documents.get(key).is_some_and(|loaded| loaded.snapshot.is_some());
        let existed = match &mut self.disk {
            Some(disk) => disk.delete(key),
            None if self.is_closed => Err(closed()),
            None => Ok(is_loaded),
        };
        if let Ok(true) = existed {
            self.count = self.count.saturating_sub(1);
            for (prefix, listing) in &self.listings {
                if let Some(name) = key.strip_prefix(prefix) {
                    listing.remove(name);
                }
            }
            if let Some(loaded) = self.documents.remove(key) {
                loaded.document.end();
                // Dropping a large value takes time.
                self.tools.lane.push(SERVER, move || drop(loaded));
            }
        }
        // The caller may have stopped waiting.
        let _ = reply.send(existed);
    }

    /// Unloads documents that nobody has open, if they are on disk or have no commits.
    fn sweep(&mut self) {
        let is_durable = self.disk.is_some();
        self.documents.retain(|_, loaded| {
            Arc::strong_count(&loaded.document) > 1 || (loaded.snapshot.is_some() && !is_durable)
        });
        self.sweep_at = (self.documents.len() * 2).max(SWEEP_AT);
    }

    /// Frees memory that documents can spare, if memory is full.
    fn relieve(&self) {
        relieve(&self.tools.memory, &self.documents.values().map(|loaded| &loaded.document));
    }

    fn names(&mut self, prefix: &str, after: &str, count: usize) -> io::Result<Vec<String>> {
        match &mut self.disk {
            Some(disk) => disk.names(prefix, after, count),
            None if self.is_closed => Err(closed()),
            None => {
                let committed = self.documents.iter().filter(|(_, loaded)| loaded.snapshot.is_some());
                let names = committed.filter_map(|(key, _)| key.strip_prefix(prefix));
                let mut names: Vec<_> = names.filter(|name| *name > after).map(str::to_owned).collect();
                names.sort_unstable();
                names.truncate(count);
                Ok(names)
            }
        }
    }

    fn list(&mut self, prefix: String, listing: Listing) {
        match self.names(&prefix, "", usize::MAX) {
            Ok(names) => {
                for name in names {
                    listing.insert(&name);
                }
            }
            Err(error) => error!(%error, "cannot read the names of the documents"),
        }
        self.listings.push((prefix, listing));
    }

    /// Writes the round's commits in one transaction, then answers them and wakes the sockets.
    fn finish(&mut self, round: Round) {
        let Round { batches, next, deletions, closing, .. } = round;
        if !batches.is_empty() {
            self.keep(batches);
        }
        for (key, reply) in deletions {
            match self.busy.get_mut(&key) {
                // The lane is at work on it.
                Some(busy) => busy.deleting.push(reply),
                None => self.delete(&key, reply),
            }
        }
        next.into_iter().for_each(|document| self.apply_large(document));
        if !closing.is_empty() {
            self.is_closed |= self.disk.is_some();
            // Dropping the disk closes the file.
            self.disk = None;
            for reply in closing {
                // The caller may have stopped waiting.
                let _ = reply.send(());
            }
        }
    }

    /// Writes the round's commits, and makes them visible.
    fn keep(&mut self, batches: HashMap<String, Batch>) {
        let written = catch_unwind(AssertUnwindSafe(|| self.write(&batches)));
        match written.unwrap_or_else(|_| Err(io::Error::other("the store panicked"))) {
            Ok(written) => {
                for (key, batch) in batches {
                    let change = written.get(&key).copied();
                    if catch_unwind(AssertUnwindSafe(|| self.publish(batch, change))).is_err() {
                        error!(key, "the store panicked; it reads the document again");
                        self.reload(&key);
                    }
                }
            }
            // If one document is damaged, the store writes the others one by one.
            Err(error) if error.kind() == io::ErrorKind::InvalidData && batches.len() > 1 => {
                for (key, batch) in batches {
                    self.keep(HashMap::from([(key, batch)]));
                }
            }
            Err(error) => {
                error!(%error, "cannot write to the store; commits are refused");
                let message = format!("the server cannot write it: {error}");
                batches.into_values().for_each(|batch| batch.refuse("storage", &message));
            }
        }
    }

    fn view(&mut self) -> io::Result<ReadTransaction> {
        match &mut self.disk {
            Some(disk) => disk.view(),
            None if self.is_closed => Err(closed()),
            None => Err(io::Error::new(io::ErrorKind::Unsupported, "the documents are in memory only")),
        }
    }

    /// Unloads a document that may differ from the file. Its sockets connect again, and pages resend their commits.
    fn reload(&mut self, key: &str) {
        if self.disk.is_some()
            && let Some(loaded) = self.documents.remove(key)
        {
            loaded.document.end();
        }
    }

    /// Writes batches. Returns the written part of each document; a store in memory writes nothing.
    fn write(&mut self, batches: &HashMap<String, Batch>) -> io::Result<HashMap<String, Wrote>> {
        if self.is_closed {
            return Err(closed());
        }
        let (mut written, mut changes, mut snapshots) = (HashMap::new(), Vec::new(), 0);
        for (key, batch) in batches.iter().filter(|(_, batch)| !batch.is_empty()) {
            let loaded = self.documents.get(key);
            let is_due = match loaded.filter(|loaded| loaded.snapshot.is_some()) {
                Some(loaded) => loaded.is_snapshot_due(batch) && snapshots < MAX_SNAPSHOTS,
                None => true,
            };
            let forgotten = loaded.and_then(Loaded::forgettable);
            written.insert(key.clone(), Wrote { is_whole: is_due, forgotten });
            if self.disk.is_none() {
                continue;
            }
            let snapshot = is_due.then(|| loaded::snapshot(batch)).transpose()?;
            snapshots += snapshot.as_ref().map_or(0, Vec::len);
            let records = batch.entries().map(|entry| (entry.version, entry.to_record().into_bytes()));
            changes.push(Change { key, snapshot, commits: records.collect(), forget: forgotten });
        }
        if let Some(disk) = &mut self.disk
            && !changes.is_empty()
        {
            disk.write(&changes)?;
        }
        Ok(written)
    }

    /// Makes the commits of a document visible, and answers them.
    fn publish(&mut self, batch: Batch, wrote: Option<Wrote>) {
        let Some(wrote) = wrote else {
            batch.publish();
            return;
        };
        let document = Arc::clone(batch.document());
        let loaded = self
            .documents
            .entry(document.key.clone())
            .or_insert_with(|| Loaded::unwritten(Arc::clone(&document)));
        if loaded.snapshot.is_none() {
            self.count += 1;
            for (prefix, listing) in &self.listings {
                if let Some(name) = document.key.strip_prefix(prefix) {
                    listing.insert(name);
                }
            }
        }
        loaded.wrote(&batch, wrote);
        // Dropping a large value takes time, so the lane does it.
        if let Some(old) = batch.publish()
            && old.size().memory > LIGHT as u64
        {
            self.tools.lane.push(SERVER, move || drop(old));
        }
    }
}

/// The place where the store found a document.
enum Found {
    Opened(Opened),
    Stored(Stored),
}

fn closed() -> io::Error {
    io::Error::other("the store has been closed")
}

fn answer(reply: Reply, opened: io::Result<Opened>) {
    // The caller may have stopped waiting.
    let _ = reply.send(opened);
}
