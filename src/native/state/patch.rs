//! Applies the deltas of a server.

use json_patch::PatchOperation;
use serde_json::Value;

use super::tree::value_at;

/// Values that the copies of one delta may make, as many as the server lets one move about: a few copies of copies would fill any memory.
const MAX_COPIED: usize = 5_000_000;

/// Returns the value that a delta makes of another.
///
/// # Errors
/// Returns why the delta does not fit: a server may send anything.
pub(super) fn patched(value: &Value, delta: &[PatchOperation]) -> Result<Value, String> {
    let mut patched = value.clone();
    let mut copied = 0;
    for operation in delta {
        match operation {
            // The server has tested the base already.
            PatchOperation::Test(_) => continue,
            PatchOperation::Copy(copy) => {
                copied += value_at(&patched, &copy.from).map_or(0, count);
                if copied > MAX_COPIED {
                    return Err(format!("copies of more than {MAX_COPIED} values"));
                }
            }
            _ => {}
        }
        json_patch::patch(&mut patched, std::slice::from_ref(operation))
            .map_err(|error| error.to_string())?;
    }
    Ok(patched)
}

/// Counts the values in one, itself included.
fn count(value: &Value) -> usize {
    match value {
        Value::Array(elements) => 1 + elements.iter().map(count).sum::<usize>(),
        Value::Object(members) => 1 + members.values().map(count).sum::<usize>(),
        _ => 1,
    }
}
