//! A commit as a page sends it, and the checks that it must pass.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;
use tracing::error;

use crate::json::Object;
use crate::surrogates::well_formed;

use super::answer::{Answer, Conflict, MAX_SHOWN, Refusal};
use super::committed::Hook;
use super::log::Entry;
use super::patch::{Action, Misfit, Operation, Overlap, Touch, apply};
use super::tree::Json;

/// The longest id of a commit, in bytes. A UUID has 36.
const MAX_ID: usize = 64;

/// The most conflicts that an answer lists. Nobody reads more.
const MAX_CONFLICTS: usize = 100;

/// A commit as the page sends it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Message {
    id: Box<str>,
    pub(super) base: u64,
    delta: Box<RawValue>,
}

/// A commit with a valid id. Its delta stays text until the commit's turn: parsed operations take some sixty times as much
/// memory.
#[derive(Debug)]
pub(super) struct Commit {
    pub(super) id: Box<str>,
    pub(super) base: u64,
    pub(super) delta: Box<str>,
}

/// A validation hook. It returns the reason if it refuses a commit.
pub(super) type Check = dyn Fn(&Step<'_>) -> Result<(), String> + Send + Sync;

/// The effect of a commit on a document.
#[derive(Debug)]
pub(super) struct Step<'a> {
    pub(super) before: &'a Json,
    /// The document after it, as JSON.
    pub(super) after: &'a str,
}

/// The limits that a commit must keep.
#[derive(Clone)]
pub(super) struct Rules {
    pub(super) checks: Vec<Arc<Check>>,
    pub(super) max_bytes: usize,
    pub(super) max_documents: usize,
    pub(super) hooks: Vec<Arc<Hook>>,
}

/// A commit that has been applied but not yet stored.
#[derive(Debug)]
pub(super) struct Applied {
    pub(super) entry: Arc<Entry>,
    pub(super) value: Json,
}

/// The reason why a message is not a commit.
#[derive(Debug)]
pub(super) enum Unreadable {
    /// The message has an id, so the server answers it.
    Answered(Answer),
    /// The message has no valid id. The server closes the socket with this reason.
    Nameless(String),
}

impl Commit {
    /// Creates a commit of the server's own, with a random id.
    pub(super) fn new(base: u64, delta: String) -> Result<Self, getrandom::Error> {
        let id = format!("{:016x}{:016x}", getrandom::u64()?, getrandom::u64()?);
        Ok(Self { id: id.into(), base, delta: delta.into() })
    }

    /// Parses a message.
    pub(super) fn read(text: &str) -> Result<Self, Unreadable> {
        let text = &*well_formed(text);
        let Object(message) = serde_json::from_str::<Object<Message>>(text).map_err(|error| {
            #[derive(Deserialize)]
            struct Id {
                id: Box<str>,
            }
            let problem = format!("a commit is {{\"id\":…,\"base\":…,\"delta\":[…]}}: {error}");
            match serde_json::from_str::<Object<Id>>(text) {
                Ok(Object(Id { id })) if id.len() <= MAX_ID => {
                    Unreadable::Answered(Answer::refused(id, Refusal::invalid(problem)))
                }
                _ => Unreadable::Nameless(problem),
            }
        })?;
        if message.id.is_empty() || message.id.len() > MAX_ID {
            return Err(Unreadable::Nameless(format!("a commit's id has 1 to {MAX_ID} bytes")));
        }
        let delta = Box::<str>::from(message.delta);
        Ok(Self { id: message.id, base: message.base, delta })
    }

    /// Applies the commit to the version that `log` ends with. Refuses it if the server has applied it before, if a commit
    /// since its base touches the same places, or if a check fails.
    ///
    /// `log` returns the commits since the base, or `None` if the document has forgotten some of them.
    pub(super) fn apply(
        &self,
        version: u64,
        value: &Json,
        log: impl FnOnce(u64) -> Option<Vec<Arc<Entry>>>,
        rules: &Rules,
    ) -> Result<Applied, Answer> {
        let Self { id, base, delta: text } = self;
        let refuse = |refusal| Answer::refused(id.clone(), refusal);
        let delta: Vec<Operation> = serde_json::from_str(text).map_err(|error| {
            let message = format!("the delta is no JSON Patch (RFC 6902): {error}");
            refuse(Refusal::invalid(message).at(first_invalid(text)))
        })?;
        if delta.is_empty() {
            return Err(refuse(Refusal::invalid("the delta is empty")));
        }
        if *base > version {
            let message = format!("the base {base} is not yet: the document has version {version}");
            return Err(refuse(Refusal::invalid(message)));
        }
        let Some(since) = log(*base) else {
            let message =
                format!("too much has been committed since version {base} to tell whether this fits");
            return Err(refuse(Refusal::new("expired", message)));
        };
        // A page that lost its connection before the answer arrived sends its commit again.
        if let Some(applied) = since.iter().find(|entry| entry.id == *id) {
            return Err(Answer::accepted(id.clone(), applied.version));
        }
        let (mut next, mut touches) = (value.clone(), Vec::new());
        let result = apply(&mut next, &delta, rules.max_bytes as u64, &mut touches);
        let path = |operation: usize| Some(delta[operation].path.clone());
        if let Err(Misfit::Refused(operation, reason)) = result {
            return Err(refuse(Refusal::new("too-large", reason).at(path(operation))));
        }
        let conflicts = conflicts(&delta, &touches, &since, value);
        if !conflicts.is_empty() {
            let message = format!("others have changed the same since version {base}");
            return Err(refuse(Refusal::conflict(message, conflicts)));
        }
        if let Err(Misfit::Failed(number, reason)) = result {
            let operation = &delta[number];
            if let Action::Test(_) = operation.action {
                let conflicts = vec![Conflict::new(operation, value, &mut { MAX_SHOWN })];
                return Err(refuse(Refusal::conflict(reason, conflicts)));
            }
            return Err(refuse(Refusal::invalid(reason).at(path(number))));
        }
        let bytes = next.size().bytes;
        if bytes > rules.max_bytes as u64 {
            let message = format!("the document would have {bytes} bytes, and may have {}", rules.max_bytes);
            return Err(refuse(Refusal::new("too-large", message)));
        }
        if let Some(reason) = refusal_of(&rules.checks, value, &next) {
            return Err(refuse(Refusal::new("refused", reason)));
        }
        let wrote = touches.into_iter().filter(|touch| touch.writes).map(|touch| touch.path).collect();
        let entry = Entry::new(version + 1, id, text, wrote);
        Ok(Applied { entry: Arc::new(entry), value: next })
    }
}

/// Returns the path of the first operation of a delta that is none. The paths of the others are of no use to a page.
fn first_invalid(delta: &str) -> Option<Box<str>> {
    #[derive(Deserialize)]
    struct Path {
        path: Box<str>,
    }
    let operations: Vec<&RawValue> = serde_json::from_str(delta).ok()?;
    let invalid =
        operations.iter().find(|operation| serde_json::from_str::<Operation>(operation.get()).is_err())?;
    let Object(Path { path }) = serde_json::from_str(invalid.get()).ok()?;
    Some(path)
}

/// Returns the reason of the first hook that refuses the document. A hook that panics refuses it; the page gets no details.
fn refusal_of(checks: &[Arc<Check>], before: &Json, document: &Json) -> Option<String> {
    if checks.is_empty() {
        return None;
    }
    let text = document.to_string();
    let step = Step { before, after: &text };
    checks.iter().find_map(|check| match catch_unwind(AssertUnwindSafe(|| check(&step))) {
        Ok(result) => result.err(),
        Err(_) => {
            error!("a validation hook panicked; the commit is refused");
            Some("the document could not be validated".into())
        }
    })
}

/// Returns the places where a commit conflicts with those since its base.
fn conflicts(delta: &[Operation], touches: &[Touch], since: &[Arc<Entry>], value: &Json) -> Vec<Conflict> {
    if since.is_empty() {
        return Vec::new();
    }
    let overlap = Overlap::new(touches);
    let theirs: Vec<Touch> = since
        .iter()
        .flat_map(|entry| &entry.wrote)
        .filter(|path| overlap.with(path))
        .map(|path| Touch { operation: 0, path: path.clone(), writes: true })
        .collect();
    let overlap = Overlap::new(&theirs);
    let mut operations: Vec<usize> =
        touches.iter().filter(|touch| overlap.with(&touch.path)).map(|touch| touch.operation).collect();
    operations.dedup();
    operations.truncate(MAX_CONFLICTS);
    let mut room = MAX_SHOWN;
    operations.into_iter().map(|operation| Conflict::new(&delta[operation], value, &mut room)).collect()
}
