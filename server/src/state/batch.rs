//! Commits to one document that are applied one after the other, and then kept together or not at all.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::mpsc;

use super::commit::{Answer, Applied, Commit, Refusal, Rules};
use super::document::{Document, Entry};

/// Where a socket gets its answers.
pub(super) type Answers = mpsc::UnboundedSender<Answer>;

/// A document in the middle of a batch: what is applied and not yet kept, and what there is to answer.
pub(super) struct Batch {
    document: Arc<Document>,
    version: u64,
    /// What all of them have made, and its bytes as JSON, about. Of the values between nobody hears: kept until the end, those of
    /// a batch would be hundreds of documents.
    value: Arc<Value>,
    bytes: usize,
    applied: Vec<(Arc<Entry>, Answers)>,
    /// To commits that make no version: they are refused, or were applied before.
    others: Vec<(Answer, Answers)>,
}

impl Batch {
    pub(super) fn new(document: &Arc<Document>) -> Self {
        let (version, value, bytes) = {
            let state = document.state();
            (state.version, Arc::clone(&state.value), state.bytes)
        };
        let document = Arc::clone(document);
        Self { document, version, value, bytes, applied: Vec::new(), others: Vec::new() }
    }

    /// Applies a commit to what those before it have made, or has an answer why not.
    pub(super) fn add(&mut self, commit: &Commit, rules: &Rules, answers: &Answers) {
        // Nobody has been told of a version within the batch, so the base is not there.
        let log = |base: u64| -> Option<Vec<Arc<Entry>>> {
            Some(self.document.state().since(base)?.chain(self.entries()).cloned().collect())
        };
        match commit.apply(self.version, &self.value, log, rules) {
            Ok(Applied { entry, value, bytes }) => {
                (self.version, self.value, self.bytes) = (entry.version, value, bytes);
                self.applied.push((entry, answers.clone()));
            }
            Err(answer) => self.answer(answer, answers),
        }
    }

    /// Answers a commit that is not applied.
    pub(super) fn answer(&mut self, answer: Answer, answers: &Answers) {
        self.others.push((answer, answers.clone()));
    }

    /// Whether there is nothing to keep.
    pub(super) fn is_empty(&self) -> bool {
        self.applied.is_empty()
    }

    pub(super) fn document(&self) -> &Arc<Document> {
        &self.document
    }

    /// The version that the document has with it.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// The value that the document has with it.
    pub(super) fn value(&self) -> &Value {
        &self.value
    }

    /// The bytes of that value as JSON, about.
    pub(super) fn value_bytes(&self) -> usize {
        self.bytes
    }

    /// The commits applied.
    pub(super) fn entries(&self) -> impl DoubleEndedIterator<Item = &Arc<Entry>> + Clone {
        self.applied.iter().map(|(entry, _)| entry)
    }

    /// The bytes of the commits applied.
    pub(super) fn bytes(&self) -> usize {
        self.entries().map(|entry| entry.bytes()).sum()
    }

    /// Once the batch is kept: makes its commits visible, and answers all.
    pub(super) fn publish(self) {
        let has_news = !self.is_empty();
        let mut state = self.document.state();
        for (entry, answers) in self.applied {
            let answer = Answer::accepted(entry.record.id.clone(), entry.version);
            state.take_up(entry, Arc::clone(&self.value), self.bytes);
            // Under the lock: see `Document::news`. Whoever committed may be gone.
            let _ = answers.send(answer);
        }
        drop(state);
        if has_news {
            self.document.announce();
        }
        // After what they may have been refused for is there for all to see.
        for (answer, answers) in self.others {
            let _ = answers.send(answer);
        }
    }

    /// If the batch cannot be kept: refuses its commits.
    pub(super) fn refuse(self, error: &'static str, message: &str) {
        let version = self.document.state().version;
        for (entry, answers) in self.applied {
            let id = entry.record.id.clone();
            let _ = answers.send(Answer::refused(id, Refusal::new(error, message)));
        }
        for (answer, answers) in self.others {
            // Sent twice within the batch: neither is kept.
            let is_kept = answer.version().is_none_or(|made| made <= version);
            let answer = if is_kept { answer } else { answer.refuse(Refusal::new(error, message)) };
            let _ = answers.send(answer);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::document::State;
    use super::*;
    use serde_json::json;

    #[test]
    fn a_commit_twice_in_a_batch_is_applied_once_and_neither_is_acknowledged_if_it_is_not_kept() {
        let document = Arc::new(Document::new("a/b".into(), State::new("first".into(), 0, json!([]))));
        let text = r#"{"id":"c","base":0,"delta":[{"op":"add","path":"/-","value":1}]}"#;
        let commit = Commit::read(text).unwrap();
        let rules = Rules { checks: Vec::new(), max_bytes: 100, max_documents: 1 };
        let twice = || {
            let (sender, receiver) = mpsc::unbounded_channel();
            let mut batch = Batch::new(&document);
            batch.add(&commit, &rules, &sender);
            batch.add(&commit, &rules, &sender);
            (batch, receiver)
        };
        let heard = |mut receiver: mpsc::UnboundedReceiver<Answer>| {
            let answers = [receiver.try_recv().unwrap(), receiver.try_recv().unwrap()];
            answers.map(|answer| serde_json::from_str::<Value>(&answer.to_message()).unwrap())
        };

        let (batch, answers) = twice();
        batch.refuse("storage", "full");
        let refusal = json!({"id": "c", "error": "storage", "message": "full"});
        assert_eq!(heard(answers), [refusal.clone(), refusal]);
        assert_eq!(document.state().version, 0);

        let (batch, answers) = twice();
        assert_eq!((batch.version(), batch.value()), (1, &json!([1])));
        batch.publish();
        let accepted = json!({"id": "c", "version": 1});
        assert_eq!(heard(answers), [accepted.clone(), accepted]);

        // A third time, in a batch that fails: it is there already.
        let (batch, answers) = twice();
        batch.refuse("storage", "full");
        let accepted = json!({"id": "c", "version": 1});
        assert_eq!(heard(answers), [accepted.clone(), accepted]);
    }
}
