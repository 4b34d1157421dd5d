//! A commit as a page sends it, the checks that it has to pass, and the answer it gets.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use axum::extract::ws::Utf8Bytes;
use json_patch::{Patch, PatchOperation};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use tracing::error;

use crate::json::Object;

use super::document::{Entry, Record};
use super::patch::{Misfit, Overlap, Touch, apply, measure};

/// The most characters of a commit's id: a UUID has 36.
const MAX_ID: usize = 64;

/// Conflicting places that an answer lists. More would help nobody.
const MAX_CONFLICTS: usize = 100;

/// Bytes, as JSON, of the values that an answer's conflicts may have in all. They are for people to look at, and the page has the
/// document besides. A hundred operations on one place of a megabyte had an answer of a hundred megabytes.
const MAX_SHOWN: usize = 64 << 10;

/// A commit as it comes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Message {
    id: String,
    base: u64,
    delta: Box<RawValue>,
}

/// A commit that can be understood.
#[derive(Debug)]
pub(super) struct Commit {
    pub(super) id: String,
    base: u64,
    delta: Patch,
    text: Box<RawValue>,
}

/// A hook: the reason why it refuses a value, if it does.
pub(super) type Check = dyn Fn(&Value) -> Result<(), String> + Send + Sync;

/// The limits that a commit has to keep.
#[derive(Clone)]
pub(super) struct Rules {
    pub(super) checks: Vec<Arc<Check>>,
    pub(super) max_bytes: usize,
    pub(super) max_documents: usize,
}

/// What becomes of a commit.
#[derive(Debug)]
pub(super) struct Answer {
    id: String,
    outcome: Result<u64, Refusal>,
}

/// Why a commit is refused. Nothing of it has been applied.
#[derive(Debug, Serialize)]
pub(super) struct Refusal {
    error: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    conflicts: Vec<Conflict>,
}

/// One place where a commit and those before it disagree.
#[derive(Debug, Serialize)]
struct Conflict {
    path: String,
    /// What the commit would put there; absent where it removes, or after too much that is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    yours: Option<Value>,
    /// What is there; absent if nothing is, or after too much that is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    theirs: Option<Value>,
}

impl Refusal {
    pub(super) fn new(error: &'static str, message: impl Into<String>) -> Self {
        Self { error, message: message.into(), conflicts: Vec::new() }
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new("invalid", message)
    }
}

impl Answer {
    pub(super) fn accepted(id: String, version: u64) -> Self {
        Self { id, outcome: Ok(version) }
    }

    pub(super) fn refused(id: String, refusal: Refusal) -> Self {
        Self { id, outcome: Err(refusal) }
    }

    /// The refusal of the same commit.
    pub(super) fn refuse(self, refusal: Refusal) -> Self {
        Self::refused(self.id, refusal)
    }

    /// The version that the commit made, if it was accepted.
    pub(super) fn version(&self) -> Option<u64> {
        self.outcome.as_ref().ok().copied()
    }

    pub(super) fn to_message(&self) -> Utf8Bytes {
        #[derive(Serialize)]
        struct Shape<'a> {
            id: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            version: Option<u64>,
            #[serde(flatten)]
            refusal: Option<&'a Refusal>,
        }
        let shape = Shape { id: &self.id, version: self.version(), refusal: self.outcome.as_ref().err() };
        // Strings, numbers and JSON values: nothing that could fail.
        serde_json::to_string(&shape).unwrap_or_default().into()
    }
}

impl Commit {
    /// Reads a message; the answer to it, or a reason to close the socket if it has no id to answer to.
    pub(super) fn read(text: &str) -> Result<Self, Result<Answer, String>> {
        let Object(message) = serde_json::from_str::<Object<Message>>(text).map_err(|error| {
            #[derive(Deserialize)]
            struct Id {
                id: String,
            }
            let problem = format!("a commit is {{\"id\":…,\"base\":…,\"delta\":[…]}}: {error}");
            match serde_json::from_str::<Object<Id>>(text) {
                Ok(Object(Id { id })) if id.len() <= MAX_ID => {
                    Ok(Answer::refused(id, Refusal::invalid(problem)))
                }
                _ => Err(problem),
            }
        })?;
        if message.id.is_empty() || message.id.len() > MAX_ID {
            return Err(Err(format!("a commit's id has 1 to {MAX_ID} bytes")));
        }
        let refuse = |id, reason: String| Err(Ok(Answer::refused(id, Refusal::invalid(reason))));
        match read_delta(message.delta.get()) {
            Ok(delta) if delta.is_empty() => refuse(message.id, "the delta is empty".into()),
            Ok(delta) => Ok(Self { id: message.id, base: message.base, delta, text: message.delta }),
            Err(error) => refuse(message.id, format!("the delta is no JSON Patch (RFC 6902): {error}")),
        }
    }

    /// Applies the commit to the version that `log` ends with, if it may be: the commit itself was not applied before,
    /// nothing that has been committed since its base touches what it touches, and all checks let it pass.
    ///
    /// `log` has the commits since the base, or `None` if they are not all there.
    pub(super) fn apply(
        &self,
        version: u64,
        value: &Value,
        log: impl FnOnce(u64) -> Option<Vec<Arc<Entry>>>,
        rules: &Rules,
    ) -> Result<Applied, Answer> {
        let Self { id, base, delta, text } = self;
        let refuse = |id: &String, refusal| Err(Answer::refused(id.clone(), refusal));
        if *base > version {
            let message = format!("the base {base} is not yet: the document has version {version}");
            return refuse(id, Refusal::invalid(message));
        }
        let Some(since) = log(*base) else {
            let message =
                format!("too much has been committed since version {base} to tell whether this fits");
            return refuse(id, Refusal::new("expired", message));
        };
        // A page that lost its connection before the answer came sends its commit again.
        if let Some(applied) = since.iter().find(|entry| entry.record.id == *id) {
            return Err(Answer::accepted(id.clone(), applied.version));
        }
        let (mut next, mut touches) = (value.clone(), Vec::new());
        let result = apply(&mut next, delta, &mut touches);
        if let Err(Misfit::Refused(reason)) = result {
            return refuse(id, Refusal::new("too-large", reason));
        }
        let conflicts = conflicts(delta, &touches, &since, value);
        if !conflicts.is_empty() {
            let message = format!("others have changed the same since version {base}");
            return refuse(id, Refusal { error: "conflict", message, conflicts });
        }
        if let Err(Misfit::Failed(operation, reason)) = result {
            if let PatchOperation::Test(_) = delta[operation] {
                let conflicts = vec![conflict(&delta[operation], value, &mut { MAX_SHOWN })];
                return refuse(id, Refusal { error: "conflict", message: reason, conflicts });
            }
            return refuse(id, Refusal::invalid(reason));
        }
        let bytes = measure(&next).bytes;
        if bytes > rules.max_bytes {
            let message = format!("the document would have {bytes} bytes, and may have {}", rules.max_bytes);
            return refuse(id, Refusal::new("too-large", message));
        }
        if let Some(reason) = rules.checks.iter().find_map(|check| refusal_of(check.as_ref(), &next)) {
            return refuse(id, Refusal::new("refused", reason));
        }
        let wrote = touches.into_iter().filter(|touch| touch.writes).map(|touch| touch.path).collect();
        let entry = Entry::new(version + 1, Record { id: id.clone(), delta: text.clone(), wrote });
        Ok(Applied { entry: Arc::new(entry), value: Arc::new(next), bytes })
    }
}

/// Reads a JSON Patch.
pub(super) fn read_delta(text: &str) -> serde_json::Result<Patch> {
    let operations: Vec<Object<PatchOperation>> = serde_json::from_str(text)?;
    Ok(Patch(operations.into_iter().map(|Object(operation)| operation).collect()))
}

/// A commit applied, not yet kept.
#[derive(Debug)]
pub(super) struct Applied {
    pub(super) entry: Arc<Entry>,
    pub(super) value: Arc<Value>,
    pub(super) bytes: usize,
}

/// Why a hook refuses a value. One that panics refuses it, and tells the page no more.
fn refusal_of(check: &Check, value: &Value) -> Option<String> {
    match catch_unwind(AssertUnwindSafe(|| check(value))) {
        Ok(result) => result.err(),
        Err(_) => {
            error!("a validation hook panicked; the commit is refused");
            Some("the document could not be validated".into())
        }
    }
}

/// Where a commit disagrees with those since its base.
fn conflicts(delta: &Patch, touches: &[Touch], since: &[Arc<Entry>], value: &Value) -> Vec<Conflict> {
    let overlap = Overlap::new(touches);
    let theirs: Vec<Touch> = since
        .iter()
        .flat_map(|entry| &entry.record.wrote)
        .filter(|path| overlap.with(path))
        .map(|path| Touch { operation: 0, path: path.clone(), writes: true })
        .collect();
    let overlap = Overlap::new(&theirs);
    let mut operations: Vec<usize> =
        touches.iter().filter(|touch| overlap.with(&touch.path)).map(|touch| touch.operation).collect();
    operations.dedup();
    operations.truncate(MAX_CONFLICTS);
    let mut room = MAX_SHOWN;
    operations.into_iter().map(|operation| conflict(&delta[operation], value, &mut room)).collect()
}

fn conflict(operation: &PatchOperation, value: &Value, room: &mut usize) -> Conflict {
    let path = operation.path().as_str();
    let yours = match operation {
        PatchOperation::Add(add) => Some(&add.value),
        PatchOperation::Replace(replace) => Some(&replace.value),
        PatchOperation::Test(test) => Some(&test.value),
        PatchOperation::Remove(_) | PatchOperation::Move(_) | PatchOperation::Copy(_) => None,
    };
    let mut shown = |side: Option<&Value>| {
        // Not even measured once there is no room.
        let side = side.filter(|_| *room > 0)?;
        let rest = room.checked_sub(measure(side).bytes);
        *room = rest.unwrap_or(0);
        rest.map(|_| side.clone())
    };
    Conflict { path: path.to_owned(), yours: shown(yours), theirs: shown(value.pointer(path)) }
}
