//! A commit on its way through a store: whom it is from, what it may be, and who waits for the answer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::budget::Reservation;

use super::answer::{Answer, Refusal};
use super::commit::{Commit, Rules};
use super::document::Document;
use crate::lane::turns::Rounds;

/// Commits that are kept together, at most. What they share is one sync of the disk, or one message to NATS and back: beyond
/// some hundreds it no longer counts, and the first would wait for the last.
pub(super) const MAX_BATCH: usize = 256;

/// Bytes of deltas that are kept together, at most, beyond the first commit: as much as one commit may have. While a batch
/// is under way its values are in memory beside those that they replace.
pub(super) const MAX_BATCH_BYTES: usize = 256 << 10;

/// How long commits are applied before what has passed is written. A sync of the disk takes about as long; more would keep
/// those waiting whose commits have passed already, and all who wait for the thread.
pub(super) const MAX_ROUND: Duration = Duration::from_millis(2);

/// Commits of one link, or native socket, that wait for their answers. A batch of them: a link alone gets as many commits a
/// second as there can be, and one that sends more waits.
const MAX_WAITING: usize = MAX_BATCH;

/// Peers that are let be before those that have nothing waiting are looked for.
const SWEEP_AT: usize = 1024;

/// A commit, and whom to answer.
pub(super) struct Submission {
    /// The link or the native socket that it came by.
    pub(super) peer: u64,
    pub(super) document: Arc<Document>,
    pub(super) commit: Commit,
    pub(super) rules: Rules,
    pub(super) reply: Reply,
}

/// The way back to the socket. If it is given up without an answer, after a panic, the socket ends: the page connects again,
/// and sends the commit again under its id. Nobody can say then whether it was kept.
pub(super) struct Reply {
    id: Box<str>,
    commit_bytes: usize,
    answers: Option<mpsc::UnboundedSender<Reached>>,
    /// What the link holds for the commit, and then for the answer.
    memory: Option<Reservation>,
    _place: Option<OwnedSemaphorePermit>,
}

/// An answer that has reached its socket, and what it holds of its link's memory.
#[derive(Debug)]
pub(super) struct Reached {
    /// `None`: the commit was given up.
    pub(super) answer: Option<Answer>,
    /// The bytes of the commit that it answers.
    pub(super) commit_bytes: usize,
    _memory: Option<Reservation>,
}

/// The commits whose turn it is.
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

/// Puts commits back that were taken and not come to.
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
        // Whoever committed may be gone.
        let _ = answers.send(Reached { answer, commit_bytes: self.commit_bytes, _memory: memory });
    }
}

impl Reached {
    /// An answer to a commit that goes no further.
    pub(super) fn at_once(answer: Answer) -> Self {
        Self { answer: Some(answer), commit_bytes: 0, _memory: None }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.pass(None);
    }
}

/// Bounds what each peer has waiting in a store.
#[derive(Debug, Default)]
pub(super) struct Admission {
    peers: Mutex<HashMap<u64, Arc<Semaphore>>>,
}

impl Admission {
    /// Waits while the peer has too much waiting. The place is taken until what is returned is dropped.
    pub(super) async fn admit(&self, peer: u64) -> Option<OwnedSemaphorePermit> {
        let places = {
            let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
            // Each time that there are twice as many.
            if peers.len() >= SWEEP_AT && peers.len().is_power_of_two() {
                peers.retain(|_, places| Arc::strong_count(places) > 1);
            }
            let new = || Arc::new(Semaphore::new(MAX_WAITING));
            Arc::clone(peers.entry(peer).or_insert_with(new))
        };
        // It is never closed.
        places.acquire_owned().await.ok()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn a_peer_has_so_many_commits_waiting_and_others_have_their_own_places() {
        let admission = Admission::default();
        let mut places: Vec<_> =
            (0..MAX_WAITING).map(|_| admission.admit(1).now_or_never().unwrap().unwrap()).collect();
        assert!(admission.admit(1).now_or_never().is_none());
        assert!(admission.admit(2).now_or_never().is_some());
        places.pop();
        assert!(admission.admit(1).now_or_never().is_some());
        // Peers that are gone are forgotten, one that has something waiting is not.
        for peer in 2..10_000 {
            admission.admit(peer).now_or_never().unwrap();
        }
        assert!(admission.peers.lock().unwrap().len() <= 2 * SWEEP_AT);
        assert_eq!(admission.peers.lock().unwrap()[&1].available_permits(), 1);
    }
}
