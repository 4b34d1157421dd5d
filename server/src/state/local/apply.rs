//! Applies commits before the thread writes them: small commits in place, large ones in the lane.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::lane::LIGHT;
use crate::lane::turns::Rounds;
use crate::state::answer::Refusal;
use crate::state::backend::{FULL, deleted, too_many};
use crate::state::batch::Batch;
use crate::state::document::Document;
use crate::state::submission::{Submission, next_batch, put_back};
use crate::ws::peer::SERVER;

use super::round::{Busy, Round};
use super::{Job, Worker};

impl Worker {
    /// Applies a commit to its document's batch in this round, or queues it for the lane.
    pub(super) fn commit(&mut self, submission: Submission, round: &mut Round) {
        let document = Arc::clone(&submission.document);
        if document.has_ended() {
            return submission.reply.refuse(deleted());
        }
        if let Some(busy) = self.busy.get_mut(&document.key) {
            return busy.waiting.push(submission.peer, submission);
        }
        round.commits += 1;
        if self.tools.memory.is_full() && !round.has_relieved {
            round.has_relieved = true;
            self.sweep();
            self.relieve();
        }
        let batch = round.batches.get(&document.key);
        let is_new = self.is_unwritten(&document) && batch.is_none_or(Batch::is_empty);
        let refusal = if self.tools.memory.is_full() {
            Some(Refusal::new("storage", FULL))
        } else if is_new && self.count + self.reserved + round.created >= submission.rules.max_documents {
            Some(too_many(self.count))
        } else {
            None
        };
        let is_large = submission.commit.delta.len() > LIGHT
            || (!submission.rules.checks.is_empty() && document.bytes() > LIGHT as u64);
        if is_large && refusal.is_none() {
            self.reserved += usize::from(is_new);
            let mut busy = Busy { is_reserved: is_new, waiting: Rounds::default(), deleting: Vec::new() };
            busy.waiting.push(submission.peer, submission);
            self.busy.insert(document.key.clone(), busy);
            round.next.push(document);
            return;
        }
        round.bytes += submission.commit.delta.len();
        let new = || Batch::new(&document);
        let batch = round.batches.entry(document.key.clone()).or_insert_with(new);
        match refusal {
            Some(refusal) => batch.refuse_one(submission, refusal),
            None => batch.add(submission),
        }
        round.created += usize::from(is_new && !batch.is_empty());
    }

    /// Returns whether a document has no commits.
    fn is_unwritten(&self, document: &Document) -> bool {
        self.documents.get(&document.key).is_none_or(|loaded| loaded.snapshot.is_none())
    }

    /// Passes the next commits to a busy document to the lane, or marks the document as no longer busy.
    pub(super) fn apply_large(&mut self, document: Arc<Document>) {
        let Some(busy) = self.busy.get_mut(&document.key) else { return };
        if !busy.deleting.is_empty() {
            let replies = std::mem::take(&mut busy.deleting);
            while let Some(submission) = busy.waiting.pop() {
                submission.reply.refuse(deleted());
            }
            self.busy.remove(&document.key);
            return replies.into_iter().for_each(|reply| self.delete(&document.key, reply));
        }
        let commits = next_batch(&mut busy.waiting);
        let Some(first) = commits.first() else {
            self.busy.remove(&document.key);
            return;
        };
        let (turns, peer, count) = (Arc::clone(&self.turns), first.peer, self.count);
        let is_new = self.documents.get(&document.key).is_none_or(|loaded| loaded.snapshot.is_none());
        if is_new && !busy.is_reserved && count + self.reserved < first.rules.max_documents {
            busy.is_reserved = true;
            self.reserved += 1;
        }
        let is_too_many = is_new && !busy.is_reserved;
        let is_full = self.tools.memory.is_full();
        self.tools.lane.push(peer, move || {
            let apply = || {
                let mut batch = Batch::new(&document);
                let full = || is_full.then(|| Refusal::new("storage", FULL));
                let rest = batch.add_some(commits, |_, _| full().or(is_too_many.then(|| too_many(count))));
                (batch, rest)
            };
            // Dropping a commit answers its socket.
            let applied = catch_unwind(AssertUnwindSafe(apply));
            let (batch, rest) = applied.map_or((None, Vec::new()), |(batch, rest)| (Some(batch), rest));
            turns.push(SERVER, Job::Applied(document, batch, rest));
        });
    }

    pub(super) fn applied(
        &mut self,
        document: Arc<Document>,
        batch: Option<Batch>,
        rest: Vec<Submission>,
        round: &mut Round,
    ) {
        let is_new = self.is_unwritten(&document);
        if let Some(busy) = self.busy.get_mut(&document.key) {
            put_back(&mut busy.waiting, rest);
            self.reserved -= usize::from(std::mem::take(&mut busy.is_reserved));
        }
        if let Some(batch) = batch {
            round.created += usize::from(is_new && !batch.is_empty());
            round.commits += batch.len();
            round.bytes += batch.bytes();
            round.batches.insert(document.key.clone(), batch);
        }
        round.next.push(document);
    }
}
