//! This program's copy of a document: the committed data, the commit under way, and the edits since.
//!
//! They are states one after the other, each with the changes of those before it:
//!
//! base → commit under way → commits that wait → data
//!
//! A change by others moves the base, and the rest is rebased: each step merges the result of the one before it.

use std::collections::VecDeque;
use std::time::Duration;

use json_patch::jsonptr::Pointer;
use serde_json::Value;
use tokio::sync::oneshot;

use super::diff::diff;
use super::error::{Conflict, StateError};
use super::merge::merge;
use super::messages::{Incoming, Outgoing, Sides};
use super::patch::patched;
use super::tree::{is_same, is_same_at};
use super::withheld::{Withheld, largest};

/// The result of a commit: the version that it made.
pub(super) type Settled = Result<u64, StateError>;

struct Commit {
    after: Value,
    settle: oneshot::Sender<Settled>,
    conflicts: Vec<Conflict>,
    /// Set once the commit is under way.
    message: Option<Outgoing>,
}

pub(super) struct Replica {
    /// The document of the server, by the id that distinguishes it from others of the same name.
    pub(super) document: String,
    pub(super) version: u64,
    /// The data with all edits.
    pub(super) data: Value,
    /// The server's data.
    base: Value,
    /// The commits that are not answered yet; the first may be under way.
    commits: VecDeque<Commit>,
    /// Where others have changed edits of the data.
    conflicts: Vec<Conflict>,
    withheld: Withheld,
}

impl Replica {
    /// Begins with the first message of a server; `None` if that is no document.
    pub(super) fn new(first: Incoming) -> Option<Self> {
        let Incoming { document: Some(document), version: Some(version), data: Some(data), .. } = first
        else {
            return None;
        };
        Some(Self {
            document,
            version,
            base: data.clone(),
            data,
            commits: VecDeque::new(),
            conflicts: Vec::new(),
            withheld: Withheld::default(),
        })
    }

    /// Applies a message of the server.
    ///
    /// # Errors
    /// Returns why the message does not fit; then all is as it was.
    pub(super) fn receive(&mut self, message: Incoming) -> Result<(), String> {
        if message.id.is_some() {
            return self.answer(message);
        }
        let version = message.version.ok_or("no version")?;
        let base = match (message.data, message.delta) {
            (Some(data), _) => data,
            (None, Some(delta)) => patched(&self.base, &delta)?,
            (None, None) => return Err("neither data nor a delta".into()),
        };
        if let Some(document) = message.document.filter(|document| *document != self.document) {
            // Another document by the same name: nothing that was sent to the old one has reached it.
            for commit in &mut self.commits {
                commit.message = None;
            }
            self.document = document;
        }
        self.version = version;
        self.rebase(base);
        Ok(())
    }

    /// Takes the data as it is now for a commit.
    ///
    /// # Errors
    /// Returns the conflicts of the edits with changes by others. The next commit overwrites these.
    pub(super) fn commit(&mut self) -> Result<oneshot::Receiver<Settled>, StateError> {
        let before = self.commits.back().map_or(&self.base, |commit| &commit.after);
        let rest = self.withheld.without(&self.data, before);
        let mut conflicts = std::mem::take(&mut self.conflicts);
        conflicts
            .retain(|Conflict { path, .. }| !is_same_at(self.data.pointer(path), self.base.pointer(path)));
        if !conflicts.is_empty() {
            return Err(StateError::Conflict(conflicts));
        }
        // With nothing else to commit, the program means the refused edits.
        let after = if is_same(&rest, before) { self.data.clone() } else { rest };
        let (settle, settled) = oneshot::channel();
        self.commits.push_back(Commit { after, settle, conflicts, message: None });
        Ok(settled)
    }

    /// Gives up the edits that are in no commit.
    pub(super) fn discard(&mut self) {
        self.data = self.commits.back().map_or(&self.base, |commit| &commit.after).clone();
        self.conflicts.clear();
    }

    /// Returns the message to send next: commits are sent one after the other, each against the version it is for.
    pub(super) fn next(&mut self, new_id: impl FnOnce() -> String) -> Option<&Outgoing> {
        while let Some(commit) = self.commits.front_mut() {
            if commit.message.is_some() {
                return None;
            }
            if !commit.conflicts.is_empty() {
                let conflicts = std::mem::take(&mut commit.conflicts);
                self.refuse(&StateError::Conflict(conflicts));
                return None;
            }
            let delta = diff(&self.base, &commit.after, Pointer::root());
            if !delta.is_empty() {
                let message = Outgoing { id: new_id(), base: self.version, delta };
                return self.commits.front_mut().map(|commit| &*commit.message.insert(message));
            }
            // Somebody else has made the same change.
            if let Some(commit) = self.commits.pop_front() {
                let _ = commit.settle.send(Ok(self.version));
            }
        }
        None
    }

    /// Returns the message that a lost connection leaves in doubt, to be sent again unchanged.
    pub(super) fn unanswered(&self) -> Option<&Outgoing> {
        self.commits.front()?.message.as_ref()
    }

    fn answer(&mut self, answer: Incoming) -> Result<(), String> {
        let is_ours = self.unanswered().is_some_and(|message| Some(&message.id) == answer.id.as_ref());
        if !is_ours {
            return Ok(());
        }
        if let Some(code) = answer.error {
            // These would be the answer again, whatever others do.
            if code == "invalid" || code == "too-large" {
                self.withhold(&code, &answer.message, answer.path.as_deref());
            } else {
                self.refuse(&self.refusal(code, answer.message, answer.conflicts, answer.retry_after));
            }
            return Ok(());
        }
        let version = answer.version.ok_or("no version")?;
        let delta = self.unanswered().map_or(&[][..], |message| &message.delta);
        // A connection that began since may have reported it as a change by others.
        let base = if version > self.version { patched(&self.base, delta)? } else { self.base.clone() };
        let Some(commit) = self.commits.pop_front() else { return Ok(()) };
        self.version = self.version.max(version);
        // Later edits were made on top of the commit as this replica saw it.
        self.base = commit.after;
        self.rebase(base);
        let _ = commit.settle.send(Ok(version));
        Ok(())
    }

    fn refusal(
        &self,
        code: String,
        message: String,
        sides: Vec<Sides>,
        retry_after: Option<u64>,
    ) -> StateError {
        if code != "conflict" {
            return StateError::Refused {
                code,
                message,
                retry_after: retry_after.map(Duration::from_millis),
            };
        }
        let own = self.commits.front().map_or(&[][..], |commit| &commit.conflicts);
        StateError::Conflict(if own.is_empty() {
            sides
                .into_iter()
                .map(|sides| Conflict { path: sides.path, mine: sides.yours, theirs: sides.theirs })
                .collect()
        } else {
            own.to_vec()
        })
    }

    /// Gives up all commits: the later ones were made on top of the first. Their edits stay in the data.
    pub(super) fn refuse(&mut self, error: &StateError) {
        for commit in self.commits.drain(..) {
            let _ = commit.settle.send(Err(error.clone()));
        }
    }

    /// Gives up the commit under way for its size or its form: for the edit at `path`, or for the largest ones. The later commits
    /// go on without them.
    pub(super) fn withhold(&mut self, code: &str, message: &str, path: Option<&str>) {
        let Some(commit) = self.commits.pop_front() else { return };
        let delta = commit.message.map(|message| message.delta).unwrap_or_default();
        let mut refused: Vec<_> =
            delta.iter().filter(|operation| Some(operation.path().as_str()) == path).collect();
        if refused.is_empty() {
            refused = largest(&delta);
        }
        let paths = self.withheld.add(&refused, &self.base, &commit.after);
        let error = StateError::Withheld { code: code.to_owned(), message: message.to_owned(), paths };
        let mut before = self.base.clone();
        for mut later in std::mem::take(&mut self.commits) {
            later.after = self.withheld.without(&later.after, &before);
            if is_same(&later.after, &before) {
                let _ = later.settle.send(Err(error.clone()));
            } else {
                before.clone_from(&later.after);
                self.commits.push_back(later);
            }
        }
        let _ = commit.settle.send(Err(error));
    }

    /// Moves the base and rebases the edits on top of it.
    fn rebase(&mut self, base: Value) {
        let mut before = std::mem::replace(&mut self.base, base);
        let mut after = self.base.clone();
        for commit in &mut self.commits {
            let merged = rebased(&before, &commit.after, &after, &mut commit.conflicts);
            before = std::mem::replace(&mut commit.after, merged);
            after.clone_from(&commit.after);
        }
        self.data = rebased(&before, &self.data, &after, &mut self.conflicts);
    }
}

/// A document always has a value, so that a merge of documents does, too.
fn rebased(before: &Value, mine: &Value, after: &Value, conflicts: &mut Vec<Conflict>) -> Value {
    merge(Some(before), Some(mine), Some(after), conflicts, Pointer::root()).unwrap_or(Value::Null)
}
