//! The invariants of any commits that pages send (see `crate::fuzzing`).

use std::sync::Arc;

use json_patch::{Patch, PatchOperation, patch};
use serde_json::{Value, json};

use super::answer::Answer;
use super::commit::{Commit, Rules, Unreadable};
use super::document::{Document, State};
use super::log::Entry;
use super::memory::Memory;
use super::patch::replay;
use super::tree::Json;

/// The most bytes of the document.
const MAX_BYTES: usize = 4096;

/// The first line is a document. Each further line is a commit: a digit says how many versions back its base is, and the
/// delta follows. Lines without a digit are raw messages.
pub fn commits(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let mut lines = text.lines();
    let first = lines.next().and_then(|line| serde_json::from_str(line).ok());
    let first = first.unwrap_or_else(|| to_tree(&json!({})));
    if first.size().bytes > MAX_BYTES as u64 {
        return;
    }
    let (mut values, mut log): (Vec<Json>, Vec<Arc<Entry>>) = (vec![first], Vec::new());
    for (number, line) in lines.take(20).enumerate() {
        let version = log.len();
        let message = match line.split_at_checked(1) {
            Some((digit, delta)) if digit.as_bytes()[0].is_ascii_digit() => {
                let base = version.saturating_sub(digit.parse().unwrap_or_default());
                format!(r#"{{"id":"{number}","base":{base},"delta":{delta}}}"#)
            }
            _ => line.to_owned(),
        };
        let commit = match Commit::read(&message) {
            Ok(commit) => commit,
            Err(Unreadable::Answered(answer)) => {
                check_refusal(&answer);
                continue;
            }
            Err(Unreadable::Nameless(_)) => continue,
        };
        let rules = Rules { checks: Vec::new(), max_bytes: MAX_BYTES, max_documents: 1, hooks: Vec::new() };
        let (before, mut base) = (values[version].to_string(), version);
        let applied = commit.apply(
            version as u64,
            &values[version],
            |from| {
                base = usize::try_from(from).ok()?;
                Some(log[base..].to_vec())
            },
            &rules,
        );
        assert_eq!(values[version].to_string(), before, "the version before is as it was");
        let applied = match applied {
            Ok(applied) => applied,
            Err(answer) => {
                // A repeated commit gets its first answer.
                if answer.version().is_none() {
                    check_refusal(&answer);
                }
                continue;
            }
        };
        assert_eq!(applied.entry.version, version as u64 + 1);
        assert!(applied.value.size().bytes <= MAX_BYTES as u64);
        assert_eq!((applied.value.size(), applied.value.depth()), applied.value.recount());
        // The server applied the whole delta, with the same result as another implementation.
        let after = to_value(&applied.value);
        let mut whole = to_value(&values[version]);
        patch(&mut whole, &delta(&applied.entry)).expect("a delta that has been applied");
        assert_eq!(whole, after);
        let mut replayed = values[version].clone();
        replay(&mut replayed, applied.entry.delta()).expect("a delta that has been applied");
        assert_eq!(to_value(&replayed), after);
        // The server can read the result from disk, and pages can read it.
        assert!(
            serde_json::from_str::<Value>(&json!({ "data": whole }).to_string()).is_ok(),
            "too deep to be read"
        );
        check_order(&to_value(&values[base]), &log[base..], &applied.entry, &after);
        log.push(applied.entry);
        values.push(applied.value);
    }
}

/// Checks that the server counts the memory of documents of any shape. The input is as that of [`commits`]. `allocated`
/// returns the bytes that this process has allocated.
pub fn documents(input: &[u8], allocated: impl Fn() -> usize) {
    let text = String::from_utf8_lossy(input);
    let mut lines = text.lines();
    let rules = Rules { checks: Vec::new(), max_bytes: 1 << 20, max_documents: 1, hooks: Vec::new() };
    let memory = Memory::default();
    let before = allocated();
    let first = lines.next().and_then(|line| serde_json::from_str(line).ok()).unwrap_or(Json::Null);
    let document = Document::new("fuzzing/document".into(), State::new(String::new(), 0, first), &memory);
    for (number, line) in lines.enumerate() {
        let (version, value) = document.current();
        let message = format!(r#"{{"id":"{number}","base":{version},"delta":{line}}}"#);
        let Ok(commit) = Commit::read(&message) else { continue };
        let applied = commit.apply(version, &value, |_| Some(Vec::new()), &rules);
        drop(value);
        if let Ok(applied) = applied {
            document.state().take_up(vec![applied.entry], applied.value);
        }
    }
    let held = allocated().saturating_sub(before) as u64;
    assert!(held <= memory.held() * 3 / 2, "{held} bytes are held, and {} counted", memory.held());
    assert_eq!(document.current().1.size(), document.current().1.recount().0);
    drop(document);
    assert_eq!(memory.held(), 0, "it is given back");
}

fn to_value(tree: &Json) -> Value {
    serde_json::to_value(tree).expect("JSON")
}

fn to_tree(value: &Value) -> Json {
    serde_json::from_value(value.clone()).expect("JSON")
}

/// Returns the delta without its tests: for the library, 1 and 1.0 are different.
fn delta(entry: &Entry) -> Patch {
    let mut delta: Patch = serde_json::from_str(entry.delta()).expect("a delta that was read before");
    delta.0.retain(|operation| !matches!(operation, PatchOperation::Test(_)));
    delta
}

/// Checks that an accepted commit to an older version has the same result in either order. The server accepts it only if
/// other commits have not touched the places that it touches, so it has the same result after them.
fn check_order(before: &Value, between: &[Arc<Entry>], entry: &Entry, after: &Value) {
    let mut other = before.clone();
    // No page that had the older version would send a delta that does not apply to it.
    let whole: Patch = serde_json::from_str(entry.delta()).expect("a delta that was read before");
    if between.is_empty() || patch(&mut other, &whole).is_err() {
        return;
    }
    for entry in between {
        let delta: Patch = serde_json::from_str(entry.delta()).expect("a delta that was read before");
        // Others may have read places that this commit wrote: in the other order, they would read other values.
        let reads = |operation: &PatchOperation| {
            !matches!(
                operation,
                PatchOperation::Add(_) | PatchOperation::Remove(_) | PatchOperation::Replace(_)
            )
        };
        if delta.iter().any(reads) {
            return;
        }
        patch(&mut other, &delta).expect("a commit that touches none of its places applies after it");
    }
    // If two commits append to the same array, the order of their elements may differ.
    let mut after = after.clone();
    for path in &entry.wrote {
        if let Some(array) = path.strip_suffix("/~-") {
            for value in [&mut other, &mut after] {
                if let Some(Value::Array(elements)) = value.pointer_mut(array) {
                    elements.sort_by_key(Value::to_string);
                }
            }
        }
    }
    assert_eq!(other, after, "a commit that is taken does not undo others, and others do not change it");
}

/// Checks that a refusal names its commit and a reason.
fn check_refusal(answer: &Answer) {
    let answer: Value = serde_json::from_str(&answer.to_message()).expect("JSON");
    assert!(
        answer["id"].is_string() && answer["error"].is_string() && answer["message"].is_string(),
        "{answer}"
    );
    assert!(answer.get("version").is_none(), "{answer}");
}
