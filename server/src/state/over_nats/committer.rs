//! The task that commits to a document on NATS, and adopts the commits of other processes.

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tracing::{debug, error, warn};

use super::bucket::{Bucket, Written};
use super::names::Names;
use crate::json::Object;
use crate::lane::turns::Rounds;
use crate::state::answer::Refusal;
use crate::state::backend::{Tools, too_many};
use crate::state::batch::Batch;
use crate::state::document::{Document, State};
use crate::state::log::{Entry, Record};
use crate::state::patch::replay;
use crate::state::submission::{Submission, next_batch, put_back};
use crate::state::tree::Json;
use crate::ws::peer::SERVER;

/// The approximate bytes of commits stored with a document. From them another process sees whether it has applied a resent
/// commit, whether a commit conflicts, and which commits its sockets lack. These are some hundred commits. Each write has
/// all of them, so more would cost more than they are worth.
const LOG_BYTES: usize = 64 << 10;

/// The delay before the task asks NATS again whether it has stored a commit.
const RETRY: Duration = Duration::from_millis(100);

/// Stands for an unknown revision: the document may have changed.
pub(super) const LOOK: u64 = 0;

pub(super) struct Keeper {
    bucket: Arc<Bucket>,
    names: Arc<Names>,
    tools: Tools,
    document: Arc<Document>,
    /// The waiting commits. Peers that share the document take turns.
    waiting: Rounds<Submission>,
    /// The last known revision of its key.
    revision: u64,
}

/// The stored value of a document's key.
#[derive(Deserialize)]
struct Stored<V, R> {
    /// Distinguishes it from an earlier document of the same name.
    document: String,
    version: u64,
    data: V,
    /// Its last commits, as many as fit. The last one made this version.
    log: Vec<R>,
}

/// A document as read from NATS.
type Read = Stored<Json, Arc<Entry>>;

/// Applied commits, and the value to write.
struct Prepared {
    batch: Batch,
    value: Encoded,
    /// The commits for which there was no time.
    rest: Vec<Submission>,
}

enum Encoded {
    /// There is nothing to write.
    Nothing,
    Value(Vec<u8>),
    /// The value has this many bytes, which is more than NATS accepts.
    TooLarge(usize),
}

impl Keeper {
    /// Reads a document. If it does not exist, creates it with the `initial` value, or returns `None` without one.
    pub(super) async fn load(
        bucket: Arc<Bucket>,
        names: Arc<Names>,
        tools: Tools,
        key: &str,
        initial: Option<&Json>,
        peer: u64,
    ) -> io::Result<Option<(Self, Arc<Document>)>> {
        let (revision, stored) = read(&bucket, &tools, key, peer).await?;
        let state = match (stored, initial) {
            (Some(stored), _) => {
                let mut state = State::new(stored.document, stored.version, stored.data);
                state.remember(stored.log);
                state
            }
            (None, Some(initial)) => State::unwritten(initial)?,
            (None, None) => return Ok(None),
        };
        let document = Arc::new(Document::new(key.to_owned(), state, &tools.memory));
        let waiting = Rounds::default();
        let keeper = Self { bucket, names, tools, document: Arc::clone(&document), waiting, revision };
        Ok(Some((keeper, document)))
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    /// Serves the document until nobody has it open, or until it is deleted.
    pub(super) async fn run(
        mut self,
        mut commits: mpsc::UnboundedReceiver<Submission>,
        mut newest: watch::Receiver<u64>,
    ) {
        while !self.document.has_ended() {
            while let Ok(submission) = commits.try_recv() {
                self.waiting.push(submission.peer, submission);
            }
            let batch = next_batch(&mut self.waiting);
            if !batch.is_empty() {
                self.commit(batch, &mut commits).await;
                continue;
            }
            tokio::select! {
                submission = commits.recv() => match submission {
                    Some(submission) => self.waiting.push(submission.peer, submission),
                    None => return,
                },
                Ok(()) = newest.changed() => {
                    let newest = *newest.borrow_and_update();
                    if (newest == LOOK || newest > self.revision)
                        && let Err(error) = self.refresh().await
                    {
                        // The task reads again when NATS is back, or with the next commit.
                        warn!(%error, key = self.document.key, "cannot read the commits of other servers");
                    }
                }
            }
        }
    }

    /// Commits the submissions in their order, together if NATS accepts that much in one message.
    async fn commit(
        &mut self,
        submissions: Vec<Submission>,
        queue: &mut mpsc::UnboundedReceiver<Submission>,
    ) {
        for submission in self.commit_together(submissions, queue).await {
            self.commit_together(vec![submission], queue).await;
        }
    }

    /// Commits the submissions together. Returns them if there are several and the value is too large.
    async fn commit_together(
        &mut self,
        mut submissions: Vec<Submission>,
        queue: &mut mpsc::UnboundedReceiver<Submission>,
    ) -> Vec<Submission> {
        // Whether NATS may have stored an attempt without an acknowledgement.
        let mut is_in_doubt = false;
        while !self.document.has_ended() {
            let (document, count, max) =
                (Arc::clone(&self.document), self.names.count(), self.bucket.max_value());
            let peer = submissions.first().map_or(SERVER, |submission| submission.peer);
            let preparing = move || prepare(&document, submissions, count, max);
            let Some(Prepared { batch, value, rest }) = self.tools.lane.run(peer, preparing).await else {
                // This is a bug in the server. Dropping the commits has answered them.
                error!(key = self.document.key, "commits were dropped after a panic");
                break;
            };
            put_back(&mut self.waiting, rest);
            let value = match value {
                Encoded::Value(value) => value,
                Encoded::Nothing => {
                    batch.publish();
                    break;
                }
                Encoded::TooLarge(_) if batch.len() > 1 => return batch.into_submissions(),
                Encoded::TooLarge(bytes) => {
                    let message = format!("the document would take {bytes} bytes, and NATS takes {max}");
                    batch.refuse("too-large", &message);
                    break;
                }
            };
            match self.bucket.put(&self.document.key, value, self.revision).await {
                Written::Kept(revision) => {
                    self.revision = revision;
                    self.names.note(&self.document.key, Some(revision));
                    batch.publish();
                    break;
                }
                Written::Refused(reason) if !is_in_doubt => {
                    warn!(
                        reason,
                        key = self.document.key,
                        "NATS refused commits; the server refuses them, too"
                    );
                    batch.refuse("storage", &format!("the server cannot write it: {reason}"));
                    break;
                }
                Written::Unknown => is_in_doubt = true,
                Written::Refused(_) | Written::Late => {}
            }
            // Another process has written, or NATS stored our write without an acknowledgement. The new value contains the
            // commits, or the next attempt applies them to it.
            while let Err(error) = self.refresh().await {
                if !is_in_doubt || error.kind() == io::ErrorKind::InvalidData {
                    batch.refuse("storage", &format!("the server cannot write it: {error}"));
                    return Vec::new();
                }
                debug!(%error, key = self.document.key, "cannot find out yet whether NATS stored the commits");
                while let Some(Submission { reply, .. }) = self.waiting.pop() {
                    reply.refuse(away());
                }
                refuse_for(RETRY, queue).await;
            }
            submissions = batch.into_submissions();
        }
        Vec::new()
    }

    /// Adopts the commits of other processes.
    async fn refresh(&mut self) -> io::Result<()> {
        let (revision, stored) = read(&self.bucket, &self.tools, &self.document.key, SERVER).await?;
        if revision == self.revision {
            return Ok(());
        }
        let (version, value) = self.document.current();
        let incarnation = self.document.state().incarnation.clone();
        let initial = (version == 0).then_some(value);
        match (stored, initial) {
            // The key was deleted before anybody committed.
            (None, Some(_)) => {}
            // Another process was the first to commit, so its document replaces ours.
            (Some(mut stored), Some(initial)) => {
                if !is_start(&initial, &stored) {
                    // Pages that have our initial value then get the whole document.
                    stored.log.retain(|entry| entry.version > 1);
                }
                let mut state = self.document.state();
                state.incarnation = stored.document;
                state.catch_up(stored.version, stored.data, stored.log);
            }
            (Some(stored), None) if stored.document == incarnation && stored.version >= version => {
                self.document.state().catch_up(stored.version, stored.data, stored.log);
            }
            // The document was deleted, created anew, or restored to an earlier state.
            (_, None) => {
                self.document.end();
                return Ok(());
            }
        }
        self.revision = revision;
        self.document.announce();
        Ok(())
    }
}

/// Reads the id of a document's stored value.
pub(super) fn id_of(value: &[u8]) -> io::Result<String> {
    let stored: Stored<IgnoredAny, IgnoredAny> = serde_json::from_slice(value)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("no document: {error}")))?;
    Ok(stored.document)
}

async fn read(bucket: &Bucket, tools: &Tools, key: &str, peer: u64) -> io::Result<(u64, Option<Read>)> {
    let (revision, value) = bucket.get(key).await?;
    let Some(value) = value else { return Ok((revision, None)) };
    let read = move || serde_json::from_slice(&value).map(|Object(stored)| Stored::numbered(stored));
    let stored = tools.lane.run(peer, read).await.ok_or_else(|| io::Error::other("reading it panicked"))?;
    let stored = stored.map_err(|error| {
        io::Error::new(io::ErrorKind::InvalidData, format!("the document {key:?} on NATS is broken: {error}"))
    })?;
    Ok((revision, Some(stored)))
}

impl Stored<Json, Object<Record>> {
    /// Adds the version to each commit.
    fn numbered(self) -> Read {
        let Self { document, version, data, log } = self;
        let first = version.saturating_sub(log.len() as u64) + 1;
        let log = (first..).zip(log);
        let log = log.map(|(version, Object(record))| Arc::new(Entry::from_record(version, record)));
        Stored { document, version, data, log: log.collect() }
    }
}

/// Returns whether a document had this value before its first commit, as far as its commits show.
fn is_start(initial: &Json, stored: &Read) -> bool {
    let mut value = initial.clone();
    let mut apply = |entry: &Arc<Entry>| replay(&mut value, entry.delta()).is_ok();
    stored.log.len() as u64 == stored.version
        && stored.log.iter().all(&mut apply)
        && value.to_string() == stored.data.to_string()
}

/// Applies commits, and encodes the document that they make. `count` is the number of documents, `max` the largest value in
/// bytes.
fn prepare(document: &Arc<Document>, submissions: Vec<Submission>, count: usize, max: usize) -> Prepared {
    let mut batch = Batch::new(document);
    let refuse = |batch: &Batch, submission: &Submission| {
        (batch.version() == 0 && count >= submission.rules.max_documents).then(|| too_many(count))
    };
    let rest = batch.add_some(submissions, refuse);
    let value = if batch.is_empty() { Encoded::Nothing } else { encode(&batch, max) };
    Prepared { batch, value, rest }
}

/// Encodes a document after a batch, with as many of its last commits as fit.
fn encode(batch: &Batch, max: usize) -> Encoded {
    let state = batch.document().state();
    let (incarnation, before) =
        (state.incarnation.clone(), state.remembered().rev().cloned().collect::<Vec<_>>());
    drop(state);
    let value_bytes = usize::try_from(batch.value().size().bytes).unwrap_or(usize::MAX);
    let mut room = max.saturating_sub(value_bytes);
    let mut bytes = 0;
    let mut log = Vec::new();
    // The batch's commits may exceed the limit: no other process has them yet.
    for (entry, is_new) in
        batch.entries().rev().map(|entry| (entry, true)).chain(before.iter().map(|entry| (entry, false)))
    {
        bytes += entry.bytes();
        if bytes > room || (!is_new && bytes > LOG_BYTES) {
            break;
        }
        log.push(entry);
    }
    log.reverse();
    // The sizes were estimates: strings with many escapes take more.
    for log in [log, Vec::new()] {
        let value = write(&incarnation, batch, &log);
        if value.len() <= max {
            return Encoded::Value(value.into_bytes());
        }
        room = value.len();
    }
    Encoded::TooLarge(room)
}

fn away() -> Refusal {
    Refusal::new("storage", "the server cannot write it: NATS is away")
}

/// Writes a [`Stored`] document as JSON.
fn write(incarnation: &str, batch: &Batch, log: &[&Arc<Entry>]) -> String {
    // A string always serialises.
    let document = serde_json::to_string(incarnation).unwrap_or_default();
    let log: Vec<String> = log.iter().map(|entry| entry.to_record()).collect();
    let (version, data, log) = (batch.version(), batch.value(), log.join(","));
    format!(r#"{{"document":{document},"version":{version},"data":{data},"log":[{log}]}}"#)
}

/// Refuses the commits that arrive within `time`.
async fn refuse_for(time: Duration, queue: &mut mpsc::UnboundedReceiver<Submission>) {
    let refuse = async {
        while let Some(Submission { reply, .. }) = queue.recv().await {
            reply.refuse(away());
        }
        pending::<()>().await;
    };
    // The timeout always ends this.
    let _ = timeout(time, refuse).await;
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::state::commit::{Commit, Rules};
    use crate::state::memory::Memory;
    use crate::state::submission::Reply;
    use serde_json::json;

    #[test]
    fn a_value_is_never_larger_than_it_may_be_and_leaves_out_commits_rather_than_the_document() {
        let value = serde_json::from_str(r#"{"list": [], "\u0001": 0}"#).unwrap();
        let state = State::new("first".into(), 0, value);
        let document = Arc::new(Document::new("a/b".into(), state, &Memory::default()));
        let rules = Rules { checks: Vec::new(), max_bytes: 10_000, max_documents: 1, hooks: Vec::new() };
        let (answers, _answers) = mpsc::unbounded_channel();
        let batch_of = |count: usize| {
            let mut batch = Batch::new(&document);
            let base = batch.version();
            for _ in 0..count {
                let version = batch.version();
                // This id takes six times as many bytes as its length.
                let id = "\u{1}".repeat(40) + &version.to_string();
                let delta = json!([{"op": "add", "path": "/list/-", "value": version}]);
                let message = json!({"id": id, "base": base, "delta": delta}).to_string();
                let commit = Commit::read(&message).unwrap();
                let reply = Reply::new(&commit, answers.clone(), None, None);
                let (document, rules) = (Arc::clone(&document), rules.clone());
                batch.add(Submission { peer: 1, document, commit, rules, reply });
            }
            batch
        };
        batch_of(3).publish();
        let batch = batch_of(3);
        let data = serde_json::to_vec(batch.value()).unwrap().len();
        let mut lengths = Vec::new();
        for max in 0..5000 {
            match encode(&batch, max) {
                Encoded::Value(value) => {
                    assert!(value.len() <= max);
                    let stored: Stored<Json, Object<Record>> = serde_json::from_slice(&value).unwrap();
                    let stored = stored.numbered();
                    assert_eq!((stored.version, stored.data.to_string()), (6, batch.value().to_string()));
                    let versions: Vec<u64> = stored.log.iter().map(|entry| entry.version).collect();
                    assert_eq!(versions, (7 - versions.len() as u64..=6).collect::<Vec<_>>(), "the last");
                    lengths.push(versions.len());
                }
                Encoded::TooLarge(bytes) => {
                    assert!(lengths.is_empty(), "a batch that fits in less fits in more");
                    assert!(max < bytes && bytes < data + 100);
                }
                Encoded::Nothing => panic!("there are commits"),
            }
        }
        assert_eq!((lengths.first(), lengths.last()), (Some(&0), Some(&6)));
    }
}
