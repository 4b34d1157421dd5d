//! Makes a JSON Patch (RFC 6902) of two values.

use std::collections::HashSet;

use json_patch::jsonptr::Pointer;
use json_patch::{AddOperation, MoveOperation, PatchOperation, RemoveOperation, ReplaceOperation};
use serde_json::{Map, Value};

use super::align::{Alignment, align};
use super::tree::{is_same, size_of};

/// A delta of an array that is shorter is not replaced by the array, though that may be shorter: others may edit other elements.
const MAX_FINE: usize = 65_536;

/// Elements of an array that are moved one by one: applying one costs as much as the array is long.
const MAX_MOVED: usize = 1000;

/// Returns the delta that turns one value into another.
pub(super) fn diff(from: &Value, to: &Value, path: &Pointer) -> Vec<PatchOperation> {
    match (from, to) {
        (Value::Object(from), Value::Object(to)) => diff_objects(from, to, path),
        (Value::Array(from), Value::Array(to)) => diff_arrays(from, to, path),
        _ if is_same(from, to) => Vec::new(),
        _ => vec![replace(path, to)],
    }
}

fn replace(path: &Pointer, value: &Value) -> PatchOperation {
    PatchOperation::Replace(ReplaceOperation { path: path.to_buf(), value: value.clone() })
}

fn diff_objects(from: &Map<String, Value>, to: &Map<String, Value>, path: &Pointer) -> Vec<PatchOperation> {
    let mut delta = Vec::new();
    for (key, before) in from {
        let place = path.with_trailing_token(key);
        match to.get(key) {
            Some(after) => delta.append(&mut diff(before, after, &place)),
            None => delta.push(PatchOperation::Remove(RemoveOperation { path: place })),
        }
    }
    for (key, value) in to {
        if !from.contains_key(key) {
            let path = path.with_trailing_token(key);
            delta.push(PatchOperation::Add(AddOperation { path, value: value.clone() }));
        }
    }
    delta
}

fn diff_arrays(from: &[Value], to: &[Value], path: &Pointer) -> Vec<PatchOperation> {
    let alignment = align(from, to);
    let is_edited = alignment.is_in_place(from.len());
    let mut delta = Vec::new();
    // First the edits: their places are the old ones.
    for (at, place) in alignment.source.iter().enumerate() {
        let Some(place) = *place else { continue };
        let element = path.with_trailing_token(place);
        let mut edit = diff(&from[place], &to[at], &element);
        if !is_edited && edit.len() > 1 {
            // Other elements change their places: then nobody else can edit a part of this one anyway.
            let value = replace(&element, &to[at]);
            if size_of(&value) < size_of(&edit) {
                edit = vec![value];
            }
        }
        delta.append(&mut edit);
    }
    let is_appended = to.len() > from.len()
        && alignment.source.iter().enumerate().all(|(at, place)| *place == (at < from.len()).then_some(at));
    if is_appended {
        // Two replicas may append at the same time if both write so.
        for value in &to[from.len()..] {
            let path = path.with_trailing_token("-");
            delta.push(PatchOperation::Add(AddOperation { path, value: value.clone() }));
        }
        return delta;
    }
    if !is_edited {
        rearrange(from.len(), to, &alignment, path, &mut delta);
    }
    let whole = PatchOperation::Replace(ReplaceOperation { path: path.to_buf(), value: to.into() });
    let size = size_of(&delta);
    let least = if is_edited { MAX_FINE } else { 0 };
    if alignment.moved.len() > MAX_MOVED || (size > least && size > size_of(&[&whole])) {
        return vec![whole];
    }
    delta
}

/// Adds the operations that remove, add and move elements. Those that stay are equal already.
fn rearrange(
    length: usize,
    to: &[Value],
    alignment: &Alignment,
    path: &Pointer,
    delta: &mut Vec<PatchOperation>,
) {
    let Alignment { source, moved } = alignment;
    let left: HashSet<usize> = source.iter().flatten().copied().collect();
    for place in (0..length).rev().filter(|place| !left.contains(place)) {
        delta.push(PatchOperation::Remove(RemoveOperation { path: path.with_trailing_token(place) }));
    }
    // Those that will move on are among the others, until it is their turn.
    let mut waiting = Counter::new(length);
    for place in moved.iter().filter_map(|at| source[*at]) {
        waiting.add(place, 1);
    }
    let is_anchor = |at: usize| source[at].is_some() && !moved.contains(&at);
    // For each place in the old array, where in `to` the next one is that does not move.
    let mut next_at = vec![to.len(); length + 1];
    // For each place in `to`, how many before it are added or move.
    let mut others = vec![0; to.len() + 1];
    for (at, place) in source.iter().enumerate() {
        if let Some(place) = place.filter(|_| is_anchor(at)) {
            next_at[place] = at;
        }
        others[at + 1] = others[at] + usize::from(!is_anchor(at));
    }
    for place in (0..length).rev() {
        next_at[place] = next_at[place].min(next_at[place + 1]);
    }
    // Behind the last place in the old array of one that did not move.
    let mut behind = 0;
    for (at, place) in source.iter().enumerate() {
        match *place {
            Some(place) if is_anchor(at) => behind = place + 1,
            None => {
                let path = path.with_trailing_token(at + waiting.below(behind));
                delta.push(PatchOperation::Add(AddOperation { path, value: to[at].clone() }));
            }
            Some(place) => {
                let next = next_at[place];
                let begin = next + others[at.min(next)] + waiting.below(place) - others[next];
                waiting.add(place, -1);
                let end = at + waiting.below(behind);
                if begin != end {
                    delta.push(PatchOperation::Move(MoveOperation {
                        from: path.with_trailing_token(begin),
                        path: path.with_trailing_token(end),
                    }));
                }
            }
        }
    }
}

/// Counts the added numbers below a place, in logarithmic time (a Fenwick tree).
struct Counter {
    sums: Vec<isize>,
}

impl Counter {
    fn new(length: usize) -> Self {
        Self { sums: vec![0; length + 1] }
    }

    fn add(&mut self, place: usize, count: isize) {
        let mut at = place + 1;
        while let Some(sum) = self.sums.get_mut(at) {
            *sum += count;
            at += at & at.wrapping_neg();
        }
    }

    fn below(&self, place: usize) -> usize {
        let (mut sum, mut at) = (0, place);
        while at > 0 {
            sum += self.sums[at];
            at -= at & at.wrapping_neg();
        }
        usize::try_from(sum).unwrap_or(0)
    }
}
