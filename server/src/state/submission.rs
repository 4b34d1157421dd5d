//! A commit on its way through a store: its sender, its limits, and the channel for its answer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::budget::Reservation;

use super::answer::{Answer, Refusal};
use super::commit::{Commit, Rules};
use super::document::Document;
use crate::lane::turns::Rounds;

/// The most commits that the store writes together. They share one sync of the disk, or one round trip to NATS. Beyond some
/// hundreds that saves little more, and the first commit would wait for the last.
pub(super) const MAX_BATCH: usize = 256;

/// The most bytes of deltas that the store writes together, beyond the first commit: the size of one largest commit. During
/// a batch its values are in memory beside those that they replace.
pub(super) const MAX_BATCH_BYTES: usize = 256 << 10;

/// How long the store applies commits before it writes them. A sync of the disk takes about as long. A longer round would
/// delay the commits already applied, and all others that wait for the thread.
pub(super) const MAX_ROUND: Duration = Duration::from_millis(2);

/// The most commits of one link, or native socket, that wait for their answers: one full batch. So a single link still
/// reaches the full commit rate, and one that sends more waits.
const MAX_WAITING: usize = MAX_BATCH;

/// The number of known peers from which on the store looks for peers with nothing waiting, and forgets them.
const SWEEP_AT: usize = 1024;

/// A commit, and the channel for its answer.
pub(super) struct Submission {
    /// The link or the native socket that sent the commit.
    pub(super) peer: u64,
    pub(super) document: Arc<Document>,
    pub(super) commit: Commit,
    pub(super) rules: Rules,
    pub(super) reply: Reply,
}

/// The channel to the socket. If the store drops it without an answer, after a panic, the socket closes. The page then
/// connects again, and resends the commit under its id: the server cannot say whether it stored the commit.
pub(super) struct Reply {
    id: Box<str>,
    commit_bytes: usize,
    answers: Option<mpsc::UnboundedSender<Reached>>,
    /// The link's memory reservation, for the commit and then for the answer.
    memory: Option<Reservation>,
    _place: Option<OwnedSemaphorePermit>,
}

/// An answer that has reached its socket, with its share of the link's memory.
#[derive(Debug)]
pub(super) struct Reached {
    /// `None`: the store dropped the commit.
    pub(super) answer: Option<Answer>,
    /// The bytes of the commit that this answers.
    pub(super) commit_bytes: usize,
    _memory: Option<Reservation>,
}

/// Removes the next batch of commits from the queue.
pub(super) fn next_batch(waiting: &mut Rounds<Submission>) -> Vec<Submission> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while batch.len() < MAX_BATCH
        && bytes < MAX_BATCH_BYTES
        && let Some(submission) = waiting.pop()
    {
        bytes += submission.commit.delta.len();
        batch.push(submission);
    }
    batch
}

/// Returns commits to the front of the queue for which there was no time.
pub(super) fn put_back(waiting: &mut Rounds<Submission>, rest: Vec<Submission>) {
    for submission in rest.into_iter().rev() {
        waiting.put_back(submission.peer, submission);
    }
}

impl Reply {
    pub(super) fn new(
        commit: &Commit,
        answers: mpsc::UnboundedSender<Reached>,
        mut memory: Option<Reservation>,
        place: Option<OwnedSemaphorePermit>,
    ) -> Self {
        if let Some(memory) = &mut memory {
            memory.set(Reservation::cost(commit.delta.len()));
        }
        let commit_bytes = commit.delta.len();
        Self { id: commit.id.clone(), commit_bytes, answers: Some(answers), memory, _place: place }
    }

    pub(super) fn accept(self, version: u64) {
        let id = self.id.clone();
        self.send(Answer::accepted(id, version));
    }

    pub(super) fn refuse(self, refusal: Refusal) {
        let id = self.id.clone();
        self.send(Answer::refused(id, refusal));
    }

    pub(super) fn send(mut self, answer: Answer) {
        self.pass(Some(answer));
    }

    fn pass(&mut self, answer: Option<Answer>) {
        let Some(answers) = self.answers.take() else { return };
        let mut memory = self.memory.take();
        if let Some(memory) = &mut memory {
            memory.set(Reservation::cost(answer.as_ref().map_or(0, Answer::bytes)));
        }
        // The socket may be gone.
        let _ = answers.send(Reached { answer, commit_bytes: self.commit_bytes, _memory: memory });
    }
}

impl Reached {
    /// Wraps an answer to a commit that never reached the store.
    pub(super) fn at_once(answer: Answer) -> Self {
        Self { answer: Some(answer), commit_bytes: 0, _memory: None }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.pass(None);
    }
}

/// Limits the commits that each peer has waiting in a store.
#[derive(Debug, Default)]
pub(super) struct Admission {
    peers: Mutex<HashMap<u64, Arc<Semaphore>>>,
}

impl Admission {
    /// Waits while the peer has too many commits waiting. The permit frees the place when it is dropped.
    pub(super) async fn admit(&self, peer: u64) -> Option<OwnedSemaphorePermit> {
        let places = {
            let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
            // This runs each time the number has doubled, so that the cost stays small per peer.
            if peers.len() >= SWEEP_AT && peers.len().is_power_of_two() {
                peers.retain(|_, places| Arc::strong_count(places) > 1);
            }
            let new = || Arc::new(Semaphore::new(MAX_WAITING));
            Arc::clone(peers.entry(peer).or_insert_with(new))
        };
        // The semaphore is never closed.
        places.acquire_owned().await.ok()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn each_peer_has_a_limit_of_waiting_commits() {
        let admission = Admission::default();
        let mut places: Vec<_> =
            (0..MAX_WAITING).map(|_| admission.admit(1).now_or_never().unwrap().unwrap()).collect();
        assert!(admission.admit(1).now_or_never().is_none());
        assert!(admission.admit(2).now_or_never().is_some());
        places.pop();
        assert!(admission.admit(1).now_or_never().is_some());
        // The sweep forgets peers that are gone, but not one that has a commit waiting.
        for peer in 2..10_000 {
            admission.admit(peer).now_or_never().unwrap();
        }
        assert!(admission.peers.lock().unwrap().len() <= 2 * SWEEP_AT);
        assert_eq!(admission.peers.lock().unwrap()[&1].available_permits(), 1);
    }
}
