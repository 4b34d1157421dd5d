//! What must hold for any commits that pages send (see `crate::fuzzing`).

use std::sync::Arc;

use json_patch::{Patch, PatchOperation, patch};
use serde_json::{Value, json};

use super::commit::{Answer, Commit, Rules, read_delta};
use super::document::Entry;
use super::patch::{measure, replay};

/// The most bytes of the document.
const MAX_BYTES: usize = 4096;

/// The first line is a document; each further one a commit: a digit that says how many versions ago its base was, and the delta.
/// Lines without a digit are messages as they stand.
pub fn commits(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let mut lines = text.lines();
    let first = lines.next().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_else(|| json!({}));
    if measure(&first).bytes > MAX_BYTES {
        return;
    }
    let (mut values, mut log): (Vec<Arc<Value>>, Vec<Arc<Entry>>) = (vec![Arc::new(first)], Vec::new());
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
            Err(Ok(answer)) => {
                check_refusal(&answer);
                continue;
            }
            Err(Err(_)) => continue,
        };
        let rules = Rules { checks: Vec::new(), max_bytes: MAX_BYTES, max_documents: 1 };
        let mut base = version;
        let applied = commit.apply(
            version as u64,
            &values[version],
            |from| {
                base = usize::try_from(from).ok()?;
                Some(log[base..].to_vec())
            },
            &rules,
        );
        let applied = match applied {
            Ok(applied) => applied,
            Err(answer) => {
                // A second time, the first answer.
                if answer.version().is_none() {
                    check_refusal(&answer);
                }
                continue;
            }
        };
        assert_eq!(applied.entry.version, version as u64 + 1);
        assert!(measure(&applied.value).bytes <= MAX_BYTES);
        // All of it, and as the library does it that applies a delta as a whole.
        let mut whole = Value::clone(&values[version]);
        replay(&mut whole, &delta(&applied.entry)).expect("a delta that has been applied");
        assert_eq!(whole, *applied.value);
        // It can be read again from disk, and by pages.
        assert!(
            serde_json::from_str::<Value>(&json!({ "data": whole }).to_string()).is_ok(),
            "too deep to be read"
        );
        check_order(&values[base], &log[base..], &applied.entry, &applied.value);
        log.push(applied.entry);
        values.push(applied.value);
    }
}

fn delta(entry: &Entry) -> Patch {
    read_delta(entry.record.delta.get()).expect("a delta that was read before")
}

/// A commit to an older version means what it means there. If it is taken all the same, then because others have not
/// touched what it touches: so it comes to the same if they come after it.
fn check_order(before: &Value, between: &[Arc<Entry>], entry: &Entry, after: &Value) {
    let mut other = before.clone();
    // No page that had the older version would send what cannot be applied to it.
    if between.is_empty() || patch(&mut other, &delta(entry)).is_err() {
        return;
    }
    for entry in between {
        let delta = delta(entry);
        // What those have read may have been written by this one: in the other order, they would not be the same.
        let reads = |operation: &PatchOperation| {
            !matches!(
                operation,
                PatchOperation::Add(_) | PatchOperation::Remove(_) | PatchOperation::Replace(_)
            )
        };
        if delta.iter().any(reads) {
            return;
        }
        patch(&mut other, &delta).expect("what has touched nothing of this one's fits after it, too");
    }
    // Of two that append to the same array, one does so after the other.
    let mut after = after.clone();
    for path in &entry.record.wrote {
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

/// A refusal says which commit it is about, and why.
fn check_refusal(answer: &Answer) {
    let answer: Value = serde_json::from_str(&answer.to_message()).expect("JSON");
    assert!(
        answer["id"].is_string() && answer["error"].is_string() && answer["message"].is_string(),
        "{answer}"
    );
    assert!(answer.get("version").is_none(), "{answer}");
}
