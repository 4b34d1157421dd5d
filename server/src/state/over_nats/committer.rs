//! The one who commits to a document on NATS, and takes up what other processes have committed.

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
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

/// Bytes of commits that are written along with a document, about: from them another process tells whether a commit that was sent
/// again has been applied, whether one conflicts, and what its sockets have to hear. Some hundred commits; each write has
/// them all, so more would cost more than they give.
const LOG_BYTES: usize = 64 << 10;

/// How long to wait before NATS is asked again whether a commit is kept.
const RETRY: Duration = Duration::from_millis(100);

/// In place of a revision: something may have been written.
pub(super) const LOOK: u64 = 0;

pub(super) struct Keeper {
    bucket: Arc<Bucket>,
    names: Arc<Names>,
    tools: Tools,
    document: Arc<Document>,
    /// Commits that wait. Those who share the document take turns.
    waiting: Rounds<Submission>,
    /// The last message of its key that is known.
    revision: u64,
}

/// The value of a document's key.
#[derive(Deserialize)]
struct Stored<V, R> {
    /// Tells it from one of the same name that is gone.
    document: String,
    version: u64,
    data: V,
    /// Its last commits, as many as there is room for; the last one made this version.
    log: Vec<R>,
}

/// A document as it was read.
type Read = Stored<Json, Arc<Entry>>;

/// Commits that have been applied, and what is to be written of it.
struct Prepared {
    batch: Batch,
    value: Encoded,
    /// Commits for which there was no time.
    rest: Vec<Submission>,
}

enum Encoded {
    /// There is nothing to write.
    Nothing,
    Value(Vec<u8>),
    /// It has so many bytes, which is more than NATS takes.
    TooLarge(usize),
}

impl Keeper {
    /// Reads a document, or makes one where there is none and that may be.
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

    /// Serves the document until nobody has it open, or it is no more.
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
                        // Read again when NATS is back, or with the next commit.
                        warn!(%error, key = self.document.key, "cannot read what others have committed");
                    }
                }
            }
        }
    }

    /// Commits in their order, together if NATS takes that much in one message.
    async fn commit(
        &mut self,
        submissions: Vec<Submission>,
        queue: &mut mpsc::UnboundedReceiver<Submission>,
    ) {
        for submission in self.commit_together(submissions, queue).await {
            self.commit_together(vec![submission], queue).await;
        }
    }

    /// Commits, and gives back several that together are too large.
    async fn commit_together(
        &mut self,
        mut submissions: Vec<Submission>,
        queue: &mut mpsc::UnboundedReceiver<Submission>,
    ) -> Vec<Submission> {
        // Whether an attempt may have been kept though nobody has said so.
        let mut is_in_doubt = false;
        while !self.document.has_ended() {
            let (document, count, max) =
                (Arc::clone(&self.document), self.names.count(), self.bucket.max_value());
            let peer = submissions.first().map_or(SERVER, |submission| submission.peer);
            let preparing = move || prepare(&document, submissions, count, max);
            let Some(Prepared { batch, value, rest }) = self.tools.lane.run(peer, preparing).await else {
                // A defect of ours. Their answers have been sent when they were dropped.
                error!(key = self.document.key, "commits were given up");
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
                    warn!(reason, key = self.document.key, "NATS does not take commits; they are refused");
                    batch.refuse("storage", &format!("the server cannot write it: {reason}"));
                    break;
                }
                Written::Unknown => is_in_doubt = true,
                Written::Refused(_) | Written::Late => {}
            }
            // Others have written; or we have, and NATS could not say so. In what is there now, the commits are found, or
            // they are applied to it.
            while let Err(error) = self.refresh().await {
                if !is_in_doubt || error.kind() == io::ErrorKind::InvalidData {
                    batch.refuse("storage", &format!("the server cannot write it: {error}"));
                    return Vec::new();
                }
                debug!(%error, key = self.document.key, "whether commits are kept cannot be told yet");
                while let Some(Submission { reply, .. }) = self.waiting.pop() {
                    reply.refuse(away());
                }
                refuse_for(RETRY, queue).await;
            }
            submissions = batch.into_submissions();
        }
        Vec::new()
    }

    /// Takes up what others have committed.
    async fn refresh(&mut self) -> io::Result<()> {
        let (revision, stored) = read(&self.bucket, &self.tools, &self.document.key, SERVER).await?;
        if revision == self.revision {
            return Ok(());
        }
        let (version, value) = self.document.current();
        let incarnation = self.document.state().incarnation.clone();
        let initial = (version == 0).then_some(value);
        match (stored, initial) {
            // Deleted, before anybody has committed.
            (None, Some(_)) => {}
            // Others were the first to commit, and the document is theirs.
            (Some(mut stored), Some(initial)) => {
                if !is_start(&initial, &stored) {
                    // Pages that have our initial value then get the whole.
                    stored.log.retain(|entry| entry.version > 1);
                }
                let mut state = self.document.state();
                state.incarnation = stored.document;
                state.catch_up(stored.version, stored.data, stored.log);
            }
            (Some(stored), None) if stored.document == incarnation && stored.version >= version => {
                self.document.state().catch_up(stored.version, stored.data, stored.log);
            }
            // Deleted, made anew, or put back to what it was before.
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
    /// The same with the version of each commit.
    fn numbered(self) -> Read {
        let Self { document, version, data, log } = self;
        let first = version.saturating_sub(log.len() as u64) + 1;
        let log = (first..).zip(log);
        let log = log.map(|(version, Object(record))| Arc::new(Entry::from_record(version, record)));
        Stored { document, version, data, log: log.collect() }
    }
}

/// Whether a document was that value before anybody committed to it, as far as its commits tell.
fn is_start(initial: &Json, stored: &Read) -> bool {
    let mut value = initial.clone();
    let mut apply = |entry: &Arc<Entry>| replay(&mut value, entry.delta()).is_ok();
    stored.log.len() as u64 == stored.version
        && stored.log.iter().all(&mut apply)
        && value.to_string() == stored.data.to_string()
}

/// Applies commits, and encodes the document that they make. `count` is how many documents there are, `max` the bytes of the
/// largest value.
fn prepare(document: &Arc<Document>, submissions: Vec<Submission>, count: usize, max: usize) -> Prepared {
    let mut batch = Batch::new(document);
    let refuse = |batch: &Batch, submission: &Submission| {
        (batch.version() == 0 && count >= submission.rules.max_documents).then(|| too_many(count))
    };
    let rest = batch.add_some(submissions, refuse);
    let value = if batch.is_empty() { Encoded::Nothing } else { encode(&batch, max) };
    Prepared { batch, value, rest }
}

/// The value of a document with a batch, and with as many of its last commits as there is room for.
fn encode(batch: &Batch, max: usize) -> Encoded {
    let state = batch.document().state();
    let (incarnation, before) =
        (state.incarnation.clone(), state.remembered().rev().cloned().collect::<Vec<_>>());
    drop(state);
    let value_bytes = usize::try_from(batch.value().size().bytes).unwrap_or(usize::MAX);
    let mut room = max.saturating_sub(value_bytes);
    let mut bytes = 0;
    let mut log = Vec::new();
    // Those of the batch even beyond the limit: nobody else has them yet.
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
    // Their size was an estimate: strings with many escapes take more.
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

/// A [`Stored`] document.
fn write(incarnation: &str, batch: &Batch, log: &[&Arc<Entry>]) -> String {
    // A string: nothing that could fail.
    let document = serde_json::to_string(incarnation).unwrap_or_default();
    let log: Vec<String> = log.iter().map(|entry| entry.to_record()).collect();
    let (version, data, log) = (batch.version(), batch.value(), log.join(","));
    format!(r#"{{"document":{document},"version":{version},"data":{data},"log":[{log}]}}"#)
}

/// Refuses the commits that come within a time.
async fn refuse_for(time: Duration, queue: &mut mpsc::UnboundedReceiver<Submission>) {
    let refuse = async {
        while let Some(Submission { reply, .. }) = queue.recv().await {
            reply.refuse(away());
        }
        pending::<()>().await;
    };
    // That the time is over.
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
        let rules = Rules { checks: Vec::new(), max_bytes: 10_000, max_documents: 1 };
        let (answers, _answers) = mpsc::unbounded_channel();
        let batch_of = |count: usize| {
            let mut batch = Batch::new(&document);
            let base = batch.version();
            for _ in 0..count {
                let version = batch.version();
                // With an id that takes six times as much as it seems.
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
                    assert!(lengths.is_empty(), "what fits in less fits in more");
                    assert!(max < bytes && bytes < data + 100);
                }
                Encoded::Nothing => panic!("there are commits"),
            }
        }
        assert_eq!((lengths.first(), lengths.last()), (Some(&0), Some(&6)));
    }
}
