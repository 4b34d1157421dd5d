//! A delta, RFC 6902 JSON Patch, applied to a document: what it touches, and what it may cost.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use json_patch::{PatchError, PatchErrorKind, PatchOperation};
use serde_json::Value;

use super::equal::equal;

/// How deeply arrays and objects may nest. serde_json reads 128 levels, and a message has some around the document.
const MAX_DEPTH: usize = 100;

/// Values that one delta may move about: copies, and array elements that shift. Some 50 ms of work; a delta of a few
/// kilobytes could ask for minutes.
const MAX_WORK: usize = 5_000_000;

/// So many bytes of keys and text are as much work as a value, and about as much memory: a delta of 170 KB had 4,000 copies made of a
/// text of 250 KB, 1 GB, before anybody looked at how large the document would be.
const BYTES_OF_WORK: usize = 32;

/// A place that an operation depends on.
#[derive(Debug, Clone)]
pub(super) struct Touch {
    /// The operation's place in the delta.
    pub(super) operation: usize,
    /// RFC 6901 pointer. An array whose elements shift is touched as a whole; one that is appended to, at [`END`].
    pub(super) path: String,
    /// False where the operation only reads: `test`, and the source of `copy`.
    pub(super) writes: bool,
}

/// What is touched of an array that is appended to. No pointer ends like that, not even that of a member named `-`.
const END: &str = "/~-";

/// Why a delta does not fit the document.
#[derive(Debug)]
pub(super) enum Misfit {
    /// It would be refused whatever others had committed.
    Refused(String),
    /// This operation failed, which commits in between may be the reason of.
    Failed(usize, String),
}

/// Applies a delta to `value`, which is of no use if that fails. `touches` gets what it touches, up to the failure.
pub(super) fn apply(
    value: &mut Value,
    delta: &[PatchOperation],
    touches: &mut Vec<Touch>,
) -> Result<(), Misfit> {
    let mut work = 0;
    // Arrays that this delta has appended to.
    let mut appended: HashSet<String> = HashSet::new();
    for (operation, patch) in delta.iter().enumerate() {
        let path = patch.path().as_str();
        let named = [Some(path), from(patch)].into_iter().flatten();
        // Before anything else: what follows looks at each place above these.
        if named.clone().any(|path| depth_of(path) > MAX_DEPTH) {
            return Err(Misfit::Refused(format!("operation {operation}: a path more than {MAX_DEPTH} deep")));
        }
        let mut touch = |path: &str, writes| touches.push(Touch { operation, path: path.to_owned(), writes });
        // What it has appended has another index if others have appended, too: whoever names an element by its index after
        // that may mean this one, and so depends on the whole of the array.
        if !appended.is_empty() {
            let arrays =
                named.flat_map(|path| lineage(path).skip(1).filter(move |array| !is_end(path, array)));
            arrays.filter(|array| appended.contains(*array)).for_each(|array| touch(array, true));
        }
        if let Some(array) = path.strip_suffix("/-")
            && value.pointer(array).is_some_and(Value::is_array)
        {
            appended.insert(array.to_owned());
        }
        let mut depth = depth_of(path);
        match patch {
            PatchOperation::Test(_) => touch(path, false),
            PatchOperation::Replace(replace) => {
                touch(path, true);
                depth += measure(&replace.value).depth;
            }
            PatchOperation::Add(add) => {
                touch(&place(value, path, &mut work), true);
                depth += measure(&add.value).depth;
            }
            PatchOperation::Remove(_) => touch(&place(value, path, &mut work), true),
            PatchOperation::Move(_) | PatchOperation::Copy(_) => {
                let Some(from) = from(patch) else { continue };
                let moves = matches!(patch, PatchOperation::Move(_));
                let source = value.pointer(from).map_or(Measure::default(), measure);
                work += source.values + source.bytes / BYTES_OF_WORK;
                depth += source.depth;
                let source = if moves { place(value, from, &mut work) } else { from.into() };
                touch(&source, moves);
                touch(&place(value, path, &mut work), true);
            }
        }
        if depth > MAX_DEPTH {
            return Err(Misfit::Refused(format!("{path}: nested more than {MAX_DEPTH} deep")));
        }
        if work > MAX_WORK {
            return Err(Misfit::Refused(format!(
                "{path}: the delta moves more than {MAX_WORK} values about; send the result instead"
            )));
        }
        let failed = |why: &dyn fmt::Display| {
            Misfit::Failed(operation, format!("operation {operation} at {path:?}: {why}"))
        };
        match patch {
            // Not by the library: for it, 1 and 1.0 are different.
            PatchOperation::Test(test) => match value.pointer(path) {
                Some(there) if equal(there, &test.value) => {}
                Some(_) => return Err(failed(&PatchErrorKind::TestFailed)),
                None => return Err(failed(&PatchErrorKind::InvalidPointer)),
            },
            _ => json_patch::patch_unsafe(value, std::slice::from_ref(patch))
                .map_err(|error| failed(&error.kind))?,
        }
    }
    Ok(())
}

/// Applies a delta that was applied before to the same value. What it tests was tested then.
pub(super) fn replay(value: &mut Value, delta: &[PatchOperation]) -> Result<(), PatchError> {
    delta
        .iter()
        .filter(|operation| !matches!(operation, PatchOperation::Test(_)))
        .try_for_each(|operation| json_patch::patch_unsafe(value, std::slice::from_ref(operation)))
}

/// Where an operation takes something from.
fn from(operation: &PatchOperation) -> Option<&str> {
    match operation {
        PatchOperation::Move(moved) => Some(moved.from.as_str()),
        PatchOperation::Copy(copied) => Some(copied.from.as_str()),
        _ => None,
    }
}

/// Whether a path is the place behind the last element of an array.
fn is_end(path: &str, array: &str) -> bool {
    path.strip_prefix(array) == Some("/-")
}

/// What adding or removing at `path` touches: an array as a whole if elements shift.
fn place<'a>(value: &Value, path: &'a str, work: &mut usize) -> Cow<'a, str> {
    let Some((parent, last)) = path.rsplit_once('/') else { return path.into() };
    match value.pointer(parent) {
        Some(Value::Array(_)) if last == "-" => format!("{parent}{END}").into(),
        Some(Value::Array(elements)) => {
            *work += elements.len();
            parent.into()
        }
        _ => path.into(),
    }
}

fn depth_of(path: &str) -> usize {
    path.bytes().filter(|byte| *byte == b'/').count()
}

/// What a value amounts to.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Measure {
    /// Values in it, itself included.
    values: usize,
    /// Levels of nesting in it.
    depth: usize,
    /// Bytes as JSON, without counting what escapes add.
    pub(super) bytes: usize,
}

pub(super) fn measure(value: &Value) -> Measure {
    let mut inside = Measure::default();
    let mut add = |child: Measure, punctuation: usize| {
        inside.values += child.values;
        inside.depth = inside.depth.max(child.depth);
        inside.bytes += child.bytes + punctuation;
    };
    match value {
        Value::Null | Value::Bool(true) => add(Measure::default(), 4),
        Value::Bool(false) => add(Measure::default(), 5),
        // As long as most are: writing it out to count would take longer than all the rest.
        Value::Number(_) => add(Measure::default(), 8),
        Value::String(text) => add(Measure::default(), text.len() + 2),
        Value::Array(elements) => elements.iter().for_each(|element| add(measure(element), 1)),
        Value::Object(members) => {
            members.iter().for_each(|(key, member)| add(measure(member), key.len() + 4));
        }
    }
    let is_container = value.is_array() || value.is_object();
    Measure {
        values: inside.values + 1,
        depth: inside.depth + usize::from(is_container),
        bytes: inside.bytes + if is_container { 2 } else { 0 },
    }
}

/// Finds what of `touches` overlaps with what others have written: the same place, one above it or one below.
pub(super) struct Overlap<'a> {
    touched: HashSet<&'a str>,
    /// The places touched and all above them.
    lineage: HashSet<&'a str>,
}

impl<'a> Overlap<'a> {
    pub(super) fn new(touches: &'a [Touch]) -> Self {
        let touched: HashSet<&str> = touches.iter().map(|touch| touch.path.as_str()).collect();
        let lineage = touched.iter().flat_map(|path| lineage(path)).collect();
        Self { touched, lineage }
    }

    pub(super) fn with(&self, written: &str) -> bool {
        // If both append to the same array, one does so after the other, and each finds its element there.
        let appends = written.ends_with(END);
        let mut above = lineage(written).skip(usize::from(appends));
        !appends && self.lineage.contains(written) || above.any(|above| self.touched.contains(above))
    }
}

/// A pointer and all above it: `/a/b`, `/a`, and the root, which is empty.
fn lineage(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |path| path.rsplit_once('/').map(|(above, _)| above))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    fn touched(before: Value, delta: &Value) -> Result<Vec<Touch>, Misfit> {
        let delta: json_patch::Patch = serde_json::from_value(delta.clone()).unwrap();
        let (mut value, mut touches) = (before, Vec::new());
        apply(&mut value, &delta, &mut touches).map(|()| touches)
    }

    fn overlap(mine: &Value, theirs: &Value) -> bool {
        let before = json!({"cells": {"a": 1, "b": 2, "7": 0}, "list": [1, 2, 3], "x/y": {"~": 1}});
        let mine = touched(before.clone(), mine).unwrap();
        let theirs = touched(before, theirs).unwrap();
        let overlap = Overlap::new(&mine);
        theirs.iter().any(|touch| touch.writes && overlap.with(&touch.path))
    }

    #[test]
    fn places_overlap_with_themselves_and_what_is_above_and_below() {
        let set = |path: &str| json!([{"op": "add", "path": path, "value": 9}]);
        let remove = |path: &str| json!([{"op": "remove", "path": path}]);
        let replace = |path: &str| json!([{"op": "replace", "path": path, "value": 9}]);
        let append = json!({"op": "add", "path": "/list/-", "value": 9});
        let append_only = json!([append]);
        for (mine, theirs, expected) in [
            (set("/cells/a"), set("/cells/a"), true),
            (set("/cells/a"), set("/cells/b"), false),
            (set("/cells/new"), set("/cells/new"), true),
            (set("/cells/7"), set("/cells/8"), false),
            (set("/cells/a"), replace("/cells"), true),
            (replace("/cells"), remove("/cells/b"), true),
            (set("/cells/a"), set(""), true),
            (set("/cells/ab"), set("/cells/a"), false),
            (set("/x~1y/~0"), remove("/x~1y"), true),
            (set("/list/0"), set("/list/2"), true),
            (set("/list/0"), replace("/list/2"), true),
            (replace("/list/0"), replace("/list/2"), false),
            (replace("/list/0"), remove("/list/2"), true),
            (set("/list/-"), set("/list/-"), false),
            (set("/list/-"), replace("/list/0"), false),
            (set("/list/-"), remove("/list/0"), true),
            (set("/cells/-"), set("/cells/-"), true),
            (json!([{"op": "replace", "path": "/list/0", "value": 9}, append]), append_only.clone(), false),
            (json!([append, append]), append_only.clone(), false),
            (json!([append, {"op": "replace", "path": "/list/3", "value": 9}]), append_only.clone(), true),
            (json!([append, {"op": "copy", "from": "/list/3", "path": "/n"}]), append_only.clone(), true),
            (json!([append, {"op": "replace", "path": "/list/3", "value": 9}]), set("/cells/a"), false),
            (append_only, json!([append, {"op": "replace", "path": "/list/3", "value": 9}]), true),
            (json!([{"op": "test", "path": "/cells/a", "value": 1}]), set("/cells/a"), true),
            (set("/cells/a"), json!([{"op": "test", "path": "/cells/a", "value": 1}]), false),
            (json!([{"op": "copy", "from": "/cells/a", "path": "/n"}]), set("/cells/a"), true),
            (set("/cells/a"), json!([{"op": "copy", "from": "/cells/a", "path": "/n"}]), false),
            (set("/cells/a"), json!([{"op": "move", "from": "/cells/a", "path": "/n"}]), true),
        ] {
            assert_eq!(overlap(&mine, &theirs), expected, "{mine} and {theirs}");
        }
    }

    #[test]
    fn a_small_delta_cannot_make_a_deep_or_a_huge_value() {
        let deep = "/a".repeat(MAX_DEPTH + 1);
        assert!(touched(json!({}), &json!([{"op": "add", "path": deep, "value": 1}])).is_err());
        let copies: Vec<Value> =
            (0..40).map(|n| json!({"op": "copy", "from": "", "path": format!("/{n}")})).collect();
        let Err(Misfit::Refused(reason)) = touched(json!({"a": [1, 2]}), &json!(copies)) else {
            panic!("copied a terabyte");
        };
        assert!(reason.contains("deep") || reason.contains("values"), "{reason}");
        let wide: Vec<Value> = (0..40)
            .map(|n| json!({"op": "copy", "from": "/a", "path": format!("/a{n}")}))
            .chain((0..200).map(|n| json!({"op": "copy", "from": "/big", "path": format!("/b{n}")})))
            .collect();
        assert!(touched(json!({"a": 1, "big": vec![0; 100_000]}), &json!(wide)).is_err());
        let texts: Vec<Value> =
            (0..2000).map(|n| json!({"op": "copy", "from": "/big", "path": format!("/{n}")})).collect();
        assert!(touched(json!({"big": "x".repeat(250_000)}), &json!(texts)).is_err());
    }

    #[test]
    fn a_path_is_not_followed_deeper_than_there_can_be_anything() {
        // To look at each place above one of these takes seconds; a commit has room for ten times as deep a path.
        let deep = "/a".repeat(20_000);
        let append = json!({"op": "add", "path": "/list/-", "value": 1});
        for operation in [
            json!({"op": "add", "path": deep, "value": 1}),
            json!({"op": "copy", "from": deep, "path": "/a"}),
        ] {
            let misfit = touched(json!({"list": []}), &json!([append, operation]));
            assert!(matches!(&misfit, Err(Misfit::Refused(reason)) if reason.contains("deep")), "{misfit:?}");
        }
    }
}
