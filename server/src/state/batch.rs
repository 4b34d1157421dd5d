//! Commits to one document that the server applies one after the other, and then stores together or not at all.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use tracing::error;

use super::answer::{Answer, Refusal};
use super::commit::Applied;
use super::committed::report;
use super::document::Document;
use super::log::Entry;
use super::submission::{MAX_ROUND, Submission};
use super::tree::Json;

/// A document in the middle of a batch: the commits applied but not yet stored, and the answers to send.
pub(super) struct Batch {
    document: Arc<Document>,
    version: u64,
    /// The value after all commits. The intermediate values are never visible.
    value: Json,
    commits: Vec<(Submission, Outcome)>,
    /// The approximate bytes of the applied commits, as the store writes them.
    bytes: usize,
}

/// The outcome of a commit in a batch.
enum Outcome {
    Applied(Arc<Entry>),
    /// The commit makes no version: the server refuses it, or applied it before.
    Answered(Answer),
}

impl Batch {
    pub(super) fn new(document: &Arc<Document>) -> Self {
        let (version, value) = document.current();
        Self { document: Arc::clone(document), version, value, commits: Vec::new(), bytes: 0 }
    }

    /// Applies commits for at most [`MAX_ROUND`]. Returns those for which there was no time.
    pub(super) fn add_some(
        &mut self,
        commits: Vec<Submission>,
        refuse: impl Fn(&Self, &Submission) -> Option<Refusal>,
    ) -> Vec<Submission> {
        let (begun, mut commits) = (Instant::now(), commits.into_iter());
        while (self.commits.is_empty() || begun.elapsed() < MAX_ROUND)
            && let Some(submission) = commits.next()
        {
            match refuse(self, &submission) {
                Some(refusal) => self.refuse_one(submission, refusal),
                None => self.add(submission),
            }
        }
        commits.collect()
    }

    /// Applies a commit to the value that the earlier ones made, or notes its refusal.
    pub(super) fn add(&mut self, submission: Submission) {
        // No page has seen a version from within the batch, so the base is an earlier one.
        let log = |base: u64| -> Option<Vec<Arc<Entry>>> {
            Some(self.document.state().since(base)?.chain(self.entries()).cloned().collect())
        };
        let Submission { commit, rules, .. } = &submission;
        // A panic is a bug in the server. It must neither end the thread nor leave a page without an answer.
        let applied = catch_unwind(AssertUnwindSafe(|| commit.apply(self.version, &self.value, log, rules)));
        let outcome = match applied {
            Ok(Ok(Applied { entry, value })) => {
                (self.version, self.value) = (entry.version, value);
                self.bytes += entry.bytes();
                Outcome::Applied(entry)
            }
            Ok(Err(answer)) => Outcome::Answered(answer),
            Err(_) => {
                error!(key = self.document.key, "a commit panicked, and is refused");
                let refusal = Refusal::new("storage", "the server failed to apply it; its log says more");
                Outcome::Answered(Answer::refused(commit.id.clone(), refusal))
            }
        };
        self.commits.push((submission, outcome));
    }

    /// Adds a commit with its refusal, without applying it.
    pub(super) fn refuse_one(&mut self, submission: Submission, refusal: Refusal) {
        let answer = Answer::refused(submission.commit.id.clone(), refusal);
        self.commits.push((submission, Outcome::Answered(answer)));
    }

    /// Returns whether there is nothing to store.
    pub(super) fn is_empty(&self) -> bool {
        self.entries().next().is_none()
    }

    pub(super) fn len(&self) -> usize {
        self.commits.len()
    }

    pub(super) fn document(&self) -> &Arc<Document> {
        &self.document
    }

    /// Returns the document's version after the batch.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Returns the document's value after the batch.
    pub(super) fn value(&self) -> &Json {
        &self.value
    }

    /// Returns the applied commits.
    pub(super) fn entries(&self) -> impl DoubleEndedIterator<Item = &Arc<Entry>> + Clone {
        self.commits.iter().filter_map(|(_, outcome)| match outcome {
            Outcome::Applied(entry) => Some(entry),
            Outcome::Answered(_) => None,
        })
    }

    /// Returns the approximate bytes of the applied commits.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the commits as they arrived, to apply them anew.
    pub(super) fn into_submissions(self) -> Vec<Submission> {
        self.commits.into_iter().map(|(submission, _)| submission).collect()
    }

    /// Makes the commits visible and answers them, once the store has written the batch. Returns the value that the document
    /// had before.
    pub(super) fn publish(self) -> Option<Json> {
        let has_news = !self.is_empty();
        let entries: Vec<Arc<Entry>> = self.entries().cloned().collect();
        let (mut others, mut committed) = (Vec::new(), Vec::new());
        let mut old = None;
        {
            let mut state = self.document.state();
            if has_news {
                old = Some(state.take_up(entries, self.value));
            }
            // The lock is held here so that a socket never sees a commit before its answer: see `Outbox::news`.
            for (submission, outcome) in self.commits {
                match outcome {
                    Outcome::Applied(entry) => {
                        submission.reply.accept(entry.version);
                        committed.push((submission.rules.hooks, entry));
                    }
                    Outcome::Answered(answer) => others.push((submission.reply, answer)),
                }
            }
        }
        if has_news {
            self.document.announce();
        }
        // Refusals follow the announcement, so that the commits they conflict with are visible by then.
        for (reply, answer) in others {
            reply.send(answer);
        }
        for (hooks, entry) in committed {
            report(&hooks, &self.document.key, &entry);
        }
        old
    }

    /// Refuses the commits, when the store could not write the batch.
    pub(super) fn refuse(self, error: &'static str, message: &str) {
        let (version, _) = self.document.current();
        for (submission, outcome) in self.commits {
            match outcome {
                // A commit that is twice in the batch has an acceptance here. It holds only if its version exists already.
                Outcome::Answered(answer) if answer.version().is_none_or(|made| made <= version) => {
                    submission.reply.send(answer);
                }
                _ => submission.reply.refuse(Refusal::new(error, message)),
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::commit::{Commit, Rules};
    use super::super::document::State;
    use super::super::memory::Memory;
    use super::super::submission::{Reached, Reply};
    use super::*;
    use serde_json::{Value, json};
    use tokio::sync::mpsc;

    type Answers = mpsc::UnboundedReceiver<Reached>;

    fn document(value: &Value) -> Arc<Document> {
        let value = serde_json::from_value(value.clone()).unwrap();
        Arc::new(Document::new("a/b".into(), State::new("first".into(), 0, value), &Memory::default()))
    }

    /// Returns a batch that has the same commit twice.
    fn twice(document: &Arc<Document>, text: &str, rules: &Rules) -> (Batch, Answers) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut batch = Batch::new(document);
        for _ in 0..2 {
            let commit = Commit::read(text).unwrap();
            let reply = Reply::new(&commit, sender.clone(), None, None);
            let (document, rules) = (Arc::clone(document), rules.clone());
            batch.add(Submission { peer: 1, document, commit, rules, reply });
        }
        (batch, receiver)
    }

    fn heard(mut receiver: Answers) -> [Value; 2] {
        let answers = [receiver.try_recv().unwrap(), receiver.try_recv().unwrap()];
        answers.map(|reached| match reached.answer {
            Some(answer) => serde_json::from_str(&answer.to_message()).unwrap(),
            None => Value::Null,
        })
    }

    #[test]
    fn a_commit_twice_in_a_batch_is_applied_once_and_neither_is_acknowledged_if_it_is_not_kept() {
        let document = document(&json!([]));
        let text = r#"{"id":"c","base":0,"delta":[{"op":"add","path":"/-","value":1}]}"#;
        let rules = Rules { checks: Vec::new(), max_bytes: 100, max_documents: 1, hooks: Vec::new() };

        let (batch, answers) = twice(&document, text, &rules);
        batch.refuse("storage", "full");
        let refusal = json!({"id": "c", "error": "storage", "message": "full"});
        assert_eq!(heard(answers), [refusal.clone(), refusal]);
        assert_eq!(document.state().version, 0);

        let (batch, answers) = twice(&document, text, &rules);
        assert_eq!((batch.version(), batch.value().to_string().as_str()), (1, "[1]"));
        batch.publish();
        let accepted = json!({"id": "c", "version": 1});
        assert_eq!(heard(answers), [accepted.clone(), accepted]);

        // The third time, in a batch that fails: the document has the commit already.
        let (batch, answers) = twice(&document, text, &rules);
        batch.refuse("storage", "full");
        let accepted = json!({"id": "c", "version": 1});
        assert_eq!(heard(answers), [accepted.clone(), accepted]);
    }

    #[test]
    fn dropped_commits_get_an_answer() {
        let document = document(&json!([]));
        let text = r#"{"id":"c","base":0,"delta":[{"op":"add","path":"/-","value":1}]}"#;
        let rules = Rules { checks: Vec::new(), max_bytes: 100, max_documents: 1, hooks: Vec::new() };
        let (batch, answers) = twice(&document, text, &rules);
        drop(batch);
        assert_eq!(heard(answers), [Value::Null, Value::Null]);
    }
}
