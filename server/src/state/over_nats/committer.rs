//! The one who commits to a document on NATS, and takes up what other processes have committed.

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tracing::{debug, error, warn};

use super::Names;
use super::bucket::{Bucket, Written};
use crate::json::Object;
use crate::state::batch::Batch;
use crate::state::commit::{Answer, Refusal, read_delta};
use crate::state::document::{Document, Entry, Record, State};
use crate::state::patch::replay;
use crate::state::store::{MAX_BATCH, Submission, too_many};

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
    document: Arc<Document>,
    /// The last message of its key that is known.
    revision: u64,
}

/// The value of a document's key.
#[derive(Serialize, Deserialize)]
struct Stored<V, R> {
    /// Tells it from one of the same name that is gone.
    document: String,
    version: u64,
    data: V,
    /// Its last commits, as many as there is room for; the last one made this version.
    log: Vec<R>,
}

/// A document as it was read.
type Read = Stored<Value, Arc<Entry>>;

/// Submissions that have been applied, and what is to be written of it.
struct Prepared {
    submissions: Vec<Submission>,
    batch: Batch,
    value: Encoded,
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
        key: &str,
        initial: &Value,
        must_exist: bool,
    ) -> io::Result<Option<(Self, Arc<Document>)>> {
        let (revision, stored) = read(&bucket, key).await?;
        let state = match stored {
            Some(stored) => {
                let mut state = State::new(stored.document, stored.version, stored.data);
                stored.log.into_iter().for_each(|entry| state.remember(entry));
                state
            }
            None if must_exist => return Ok(None),
            None => State::unwritten(initial)?,
        };
        let document = Arc::new(Document::new(key.to_owned(), state));
        Ok(Some((Self { bucket, names, document: Arc::clone(&document), revision }, document)))
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    /// Serves the document until nobody has it open, or it is no more.
    pub(super) async fn run(
        mut self,
        mut commits: mpsc::Receiver<Submission>,
        mut newest: watch::Receiver<u64>,
    ) {
        let mut waiting = Vec::new();
        while !self.document.has_ended() {
            tokio::select! {
                count = commits.recv_many(&mut waiting, MAX_BATCH) => match count {
                    0 => return,
                    _ => self.commit(std::mem::take(&mut waiting), &mut commits).await,
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
    async fn commit(&mut self, submissions: Vec<Submission>, queue: &mut mpsc::Receiver<Submission>) {
        for submission in self.commit_together(submissions, queue).await {
            self.commit_together(vec![submission], queue).await;
        }
    }

    /// Commits, and gives back several that together are too large.
    async fn commit_together(
        &mut self,
        mut submissions: Vec<Submission>,
        queue: &mut mpsc::Receiver<Submission>,
    ) -> Vec<Submission> {
        // Whether an attempt may have been kept though nobody has said so.
        let mut is_in_doubt = false;
        while !self.document.has_ended() {
            let (document, count, max) =
                (Arc::clone(&self.document), self.names.count(), self.bucket.max_value());
            let prepared = spawn_blocking(move || prepare(&document, submissions, count, max)).await;
            let Ok(prepared) = prepared else {
                // A defect of ours: the sockets wait for answers until they send again.
                error!(key = self.document.key, "commits were lost");
                break;
            };
            submissions = prepared.submissions;
            let batch = prepared.batch;
            let value = match prepared.value {
                Encoded::Value(value) => value,
                Encoded::Nothing => {
                    batch.publish();
                    break;
                }
                Encoded::TooLarge(_) if submissions.len() > 1 => return submissions,
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
                    let version = batch.version();
                    batch.publish();
                    self.document.state().forget_to(version);
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
                refuse_for(RETRY, queue).await;
            }
        }
        Vec::new()
    }

    /// Takes up what others have committed.
    async fn refresh(&mut self) -> io::Result<()> {
        let (revision, stored) = read(&self.bucket, &self.document.key).await?;
        if revision == self.revision {
            return Ok(());
        }
        let ours = self.document.state();
        let (version, incarnation) = (ours.version, ours.incarnation.clone());
        let initial = (version == 0).then(|| Arc::clone(&ours.value));
        drop(ours);
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

async fn read(bucket: &Bucket, key: &str) -> io::Result<(u64, Option<Read>)> {
    let (revision, value) = bucket.get(key).await?;
    let Some(value) = value else { return Ok((revision, None)) };
    let read = move || serde_json::from_slice(&value).map(|Object(stored)| Stored::numbered(stored));
    let stored = spawn_blocking(read).await.map_err(io::Error::other)?.map_err(|error| {
        io::Error::new(io::ErrorKind::InvalidData, format!("the document {key:?} on NATS is broken: {error}"))
    })?;
    Ok((revision, Some(stored)))
}

impl Stored<Value, Object<Record>> {
    /// The same with the version of each commit.
    fn numbered(self) -> Read {
        let Self { document, version, data, log } = self;
        let first = version.saturating_sub(log.len() as u64) + 1;
        let log = (first..).zip(log).map(|(version, Object(record))| Arc::new(Entry::new(version, record)));
        Stored { document, version, data, log: log.collect() }
    }
}

/// Whether a document was that value before anybody committed to it, as far as its commits tell.
fn is_start(initial: &Value, stored: &Read) -> bool {
    let mut value = initial.clone();
    let mut apply = |entry: &Arc<Entry>| {
        let delta = read_delta(entry.record.delta.get());
        delta.is_ok_and(|delta| replay(&mut value, &delta).is_ok())
    };
    stored.log.len() as u64 == stored.version && stored.log.iter().all(&mut apply) && value == stored.data
}

/// Applies commits, and encodes the document that they make. `count` is how many documents there are, `max` the bytes of the
/// largest value.
fn prepare(document: &Arc<Document>, submissions: Vec<Submission>, count: usize, max: usize) -> Prepared {
    let mut batch = Batch::new(document);
    for Submission { commit, rules, answers, .. } in &submissions {
        if batch.version() == 0 && count >= rules.max_documents {
            batch.answer(too_many(commit, count), answers);
        } else {
            batch.add(commit, rules, answers);
        }
    }
    let value = if batch.is_empty() { Encoded::Nothing } else { encode(&batch, max) };
    Prepared { submissions, batch, value }
}

/// The value of a document with a batch, and with as many of its last commits as there is room for.
fn encode(batch: &Batch, max: usize) -> Encoded {
    let state = batch.document().state();
    let (incarnation, before) =
        (state.incarnation.clone(), state.log.iter().rev().cloned().collect::<Vec<_>>());
    drop(state);
    let mut room = max.saturating_sub(batch.value_bytes());
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
        log.push(&entry.record);
    }
    log.reverse();
    // Their size was an estimate: strings with many escapes take more.
    for log in [log, Vec::new()] {
        let stored =
            Stored { document: incarnation.clone(), version: batch.version(), data: batch.value(), log };
        // JSON values and strings: nothing that could fail.
        let value = serde_json::to_vec(&stored).unwrap_or_default();
        if value.len() <= max {
            return Encoded::Value(value);
        }
        room = value.len();
    }
    Encoded::TooLarge(room)
}

/// Refuses the commits that come within a time.
async fn refuse_for(time: Duration, queue: &mut mpsc::Receiver<Submission>) {
    let refuse = async {
        while let Some(Submission { commit, answers, .. }) = queue.recv().await {
            let refusal = Refusal::new("storage", "the server cannot write it: NATS is away");
            let _ = answers.send(Answer::refused(commit.id, refusal));
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
    use serde_json::json;

    #[test]
    fn a_value_is_never_larger_than_it_may_be_and_leaves_out_commits_rather_than_the_document() {
        let state = State::new("first".into(), 0, json!({"list": [], "\u{1}": 0}));
        let document = Arc::new(Document::new("a/b".into(), state));
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
                batch.add(&Commit::read(&message).unwrap(), &rules, &answers);
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
                    let stored: Stored<Value, Object<Record>> = serde_json::from_slice(&value).unwrap();
                    let stored = stored.numbered();
                    assert_eq!((stored.version, &stored.data), (6, batch.value()));
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
