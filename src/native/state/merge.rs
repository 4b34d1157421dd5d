//! Merges the changes of two sides to the same JSON.

use std::collections::{BTreeSet, HashSet};

use json_patch::jsonptr::Pointer;
use serde_json::Value;

use super::align::align;
use super::error::Conflict;
use super::tree::{is_same, is_same_at};

/// Merges the changes of others into ours: both began with `ancestor`. Where both have changed the same place, `mine` stays, and
/// `conflicts` gets both sides. Returns the value for the place of `mine`; `None` if there is none.
pub(super) fn merge(
    ancestor: Option<&Value>,
    mine: Option<&Value>,
    theirs: Option<&Value>,
    conflicts: &mut Vec<Conflict>,
    path: &Pointer,
) -> Option<Value> {
    if is_same_at(ancestor, theirs) {
        return mine.cloned();
    }
    match (ancestor, mine, theirs) {
        (Some(Value::Object(ancestor)), Some(Value::Object(mine)), Some(Value::Object(theirs))) => {
            let mut merged = mine.clone();
            for key in ancestor.keys().chain(theirs.keys()).collect::<BTreeSet<_>>() {
                let (before, others) = (ancestor.get(key), theirs.get(key));
                if is_same_at(before, others) {
                    continue;
                }
                match merge(before, mine.get(key), others, conflicts, &path.with_trailing_token(key)) {
                    Some(value) => merged.insert(key.clone(), value),
                    None => merged.remove(key),
                };
            }
            return Some(Value::Object(merged));
        }
        (Some(Value::Array(ancestor)), Some(Value::Array(mine)), Some(Value::Array(theirs))) => {
            if let Some(elements) = merge_elements(ancestor, mine, theirs, conflicts, path) {
                return Some(Value::Array(elements));
            }
        }
        _ => {}
    }
    if is_same_at(mine, theirs) {
        return mine.cloned();
    }
    if is_same_at(ancestor, mine) {
        return theirs.cloned();
    }
    conflicts.push(Conflict { path: path.to_string(), mine: mine.cloned(), theirs: theirs.cloned() });
    mine.cloned()
}

/// Returns the elements that an array gets; `None` if both have put other elements into it, or one has edited an element that the
/// other has removed.
fn merge_elements(
    ancestor: &[Value],
    mine: &[Value],
    theirs: &[Value],
    conflicts: &mut Vec<Conflict>,
    path: &Pointer,
) -> Option<Vec<Value>> {
    let length = ancestor.len();
    let mut element = |before: usize, own: usize, others: usize, at: usize| {
        let path = path.with_trailing_token(at);
        merge(ancestor.get(before), mine.get(own), theirs.get(others), conflicts, &path)
    };
    let others = align(ancestor, theirs);
    if others.is_in_place(length) {
        let edited: Vec<usize> = (0..length).filter(|at| !is_same(&ancestor[*at], &theirs[*at])).collect();
        if mine.len() == length && edited.iter().all(|at| is_same(&ancestor[*at], &mine[*at])) {
            return (0..length).map(|at| element(at, at, at, at)).collect();
        }
        let own = align(ancestor, mine);
        let left: HashSet<usize> = own.source.iter().flatten().copied().collect();
        if !edited.iter().all(|at| left.contains(at)) {
            return None;
        }
        return mine
            .iter()
            .enumerate()
            .map(|(at, value)| match own.source[at] {
                Some(place) => element(place, at, place, at),
                None => Some(value.clone()),
            })
            .collect();
    }
    if mine.len() == length && align(ancestor, mine).is_in_place(length) {
        let left: HashSet<usize> = others.source.iter().flatten().copied().collect();
        if !(0..length).all(|at| left.contains(&at) || is_same(&ancestor[at], &mine[at])) {
            return None;
        }
        return theirs
            .iter()
            .enumerate()
            .map(|(at, value)| match others.source[at] {
                Some(place) => element(place, place, at, at),
                None => Some(value.clone()),
            })
            .collect();
    }
    let has_grown = |array: &[Value]| {
        array.len() > length && array.iter().zip(ancestor).all(|(value, before)| is_same(value, before))
    };
    let is_equal = mine.len() == theirs.len() && mine.iter().zip(theirs).all(|(a, b)| is_same(a, b));
    if !has_grown(mine) || !has_grown(theirs) || is_equal {
        return None;
    }
    // Both have appended: theirs came first.
    Some(theirs.iter().chain(&mine[length..]).cloned().collect())
}
