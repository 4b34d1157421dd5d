//! The edits that the server has refused for their size or their form. They stay in the data, and would be refused again: later
//! commits leave them out while there is something else to commit.

use std::collections::BTreeMap;

use json_patch::PatchOperation;
use json_patch::jsonptr::{Pointer, PointerBuf};
use serde_json::Value;

use super::tree::{is_same_at, member, size_of, value_at};

/// Returns the operations that make a delta large: no more than half of it is in the others.
pub(super) fn largest(delta: &[PatchOperation]) -> Vec<&PatchOperation> {
    let mut sized: Vec<(usize, &PatchOperation)> =
        delta.iter().map(|operation| (size_of(operation), operation)).collect();
    sized.sort_by_key(|(size, _)| std::cmp::Reverse(*size));
    let whole: usize = sized.iter().map(|(size, _)| size).sum();
    let mut rest = whole;
    let mut large = Vec::new();
    for (size, operation) in sized {
        if 2 * rest <= whole {
            break;
        }
        rest -= size;
        large.push(operation);
    }
    large
}

/// The place that an operation changes: a whole array, where elements get other indexes.
fn place_of(operation: &PatchOperation, base: &Value) -> PointerBuf {
    let path = operation.path();
    let parent = path.parent().unwrap_or(path);
    let shifts = !matches!(operation, PatchOperation::Replace(_));
    if shifts && value_at(base, parent).is_some_and(Value::is_array) {
        parent.to_buf()
    } else {
        path.to_buf()
    }
}

/// Returns a tree with another's value at a place; `None` if that has none there.
fn restored(tree: &Value, base: &Value, path: &Pointer) -> Option<Value> {
    let Some((key, below)) = path.split_front() else { return Some(base.clone()) };
    let mut copy = tree.clone();
    match (&mut copy, base) {
        // Elements have been added or removed: an index means another element.
        (Value::Array(elements), Value::Array(others)) if elements.len() != others.len() => {
            return Some(base.clone());
        }
        (Value::Array(_) | Value::Object(_), Value::Array(_) | Value::Object(_)) => {}
        _ => return Some(copy),
    }
    let key = key.decoded();
    let before = member(base, &key);
    let value = match (before, member(tree, &key)) {
        (Some(before), Some(value)) => restored(value, before, below),
        (Some(before), None) if below.is_root() => Some(before.clone()),
        (None, _) if below.is_root() => None,
        (_, value) => value.cloned(),
    };
    match (&mut copy, value) {
        (Value::Object(members), Some(value)) => {
            members.insert(key.into_owned(), value);
        }
        (Value::Object(members), None) => {
            members.remove(key.as_ref());
        }
        (Value::Array(elements), Some(value)) => {
            if let Some(element) = key.parse().ok().and_then(|at: usize| elements.get_mut(at)) {
                *element = value;
            }
        }
        _ => {}
    }
    Some(copy)
}

/// The refused values, by their places; `None` for a removal.
#[derive(Default)]
pub(super) struct Withheld {
    edits: BTreeMap<PointerBuf, Option<Value>>,
}

impl Withheld {
    /// Notes refused operations of a delta that turns `base` into `after`. Returns the places.
    pub(super) fn add(&mut self, operations: &[&PatchOperation], base: &Value, after: &Value) -> Vec<String> {
        let mut places: Vec<PointerBuf> = Vec::new();
        for operation in operations {
            let place = place_of(operation, base);
            if !places.contains(&place) {
                places.push(place);
            }
        }
        for place in &places {
            self.edits.insert(place.clone(), value_at(after, place).cloned());
        }
        places.iter().map(ToString::to_string).collect()
    }

    /// Returns a tree without the refused edits: in their places is the value of `base`. Another value in such a place is a new edit.
    pub(super) fn without(&mut self, tree: &Value, base: &Value) -> Value {
        let mut rest = tree.clone();
        self.edits.retain(|place, value| {
            let is_refused = is_same_at(value_at(tree, place), value.as_ref());
            if is_refused && let Some(restored) = restored(&rest, base, place) {
                rest = restored;
            }
            is_refused
        });
        rest
    }
}
