//! Applies deltas (RFC 6902 JSON Patch) to documents, notes the places that they touch, and limits their cost.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, Error};

use crate::json::Object;

use super::equal::equal;
use super::tree::{Json, index, unescape};

/// The deepest nesting of arrays and objects. serde_json reads 128 levels, and a message adds some around the document.
const MAX_DEPTH: usize = 100;

/// The factor by which a document may exceed its limit between two operations of a delta. A factor of 2 lets a delta add a
/// new value before it removes the old one. Without a limit, a delta that copies its own copies would double the document
/// with each operation.
const MAX_SURPLUS: u64 = 4;

/// One operation of a delta.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) path: Box<str>,
    pub(super) action: Action,
}

/// The action of an operation at its path.
#[derive(Debug)]
pub(super) enum Action {
    Add(Json),
    Remove,
    Replace(Json),
    Move(Box<str>),
    Copy(Box<str>),
    Test(Json),
}

/// A place that an operation depends on.
#[derive(Debug, Clone)]
pub(super) struct Touch {
    /// The index of the operation in the delta.
    pub(super) operation: usize,
    /// An RFC 6901 pointer. If the elements of an array shift, the operation touches the whole array; if it appends, the
    /// place [`END`].
    pub(super) path: Box<str>,
    /// False where the operation only reads: `test`, and the source of `copy`.
    pub(super) writes: bool,
}

/// The path of an append. No pointer ends like this, not even one to a member named `-`.
const END: &str = "/~-";

/// The reason why a delta does not fit the document.
#[derive(Debug)]
pub(super) enum Misfit {
    /// The server would refuse the delta on any version, because of this operation.
    Refused(usize, String),
    /// This operation failed, perhaps because of commits since the base.
    Failed(usize, String),
}

/// The reasons why an operation fails.
const NO_PATH: &str = "path is invalid";
const NO_FROM: &str = "\"from\" path is invalid";
const INSIDE_ITSELF: &str = "cannot move the value inside itself";
const DIFFERS: &str = "value did not match";

impl Operation {
    /// Returns the path of the source of `move` and `copy`.
    fn from(&self) -> Option<&str> {
        match &self.action {
            Action::Move(from) | Action::Copy(from) => Some(from),
            _ => None,
        }
    }

    /// Returns the value that the operation would write or test at its path.
    pub(super) fn value(&self) -> Option<&Json> {
        match &self.action {
            Action::Add(value) | Action::Replace(value) | Action::Test(value) => Some(value),
            Action::Remove | Action::Move(_) | Action::Copy(_) => None,
        }
    }

    /// Applies the operation. After an error the document is unusable.
    fn apply(&self, document: &mut Json) -> Result<(), &'static str> {
        let path = &*self.path;
        match &self.action {
            Action::Add(value) => add(document, path, value.clone()),
            Action::Remove => remove(document, path).map(drop).ok_or(NO_PATH),
            Action::Replace(value) => document.change(path, |target| *target = value.clone()).ok_or(NO_PATH),
            Action::Move(from) => {
                if path.strip_prefix(&**from).is_some_and(|rest| rest.starts_with('/')) {
                    return Err(INSIDE_ITSELF);
                }
                let value = remove(document, from).ok_or(NO_FROM)?;
                add(document, path, value)
            }
            Action::Copy(from) => {
                let value = document.pointer(from).ok_or(NO_FROM)?.clone();
                add(document, path, value)
            }
            Action::Test(expected) => {
                let value = document.pointer(path).ok_or(NO_PATH)?;
                if equal(value, expected) { Ok(()) } else { Err(DIFFERS) }
            }
        }
    }
}

fn add(document: &mut Json, path: &str, value: Json) -> Result<(), &'static str> {
    let Some((parent, last)) = path.rsplit_once('/') else {
        *document = value;
        return Ok(());
    };
    // This check precedes any change: a change copies shared nodes on the way.
    match document.pointer(parent).ok_or(NO_PATH)? {
        Json::Array(elements) => {
            let at = if last == "-" { elements.length() } else { index(last).ok_or(NO_PATH)? };
            if at > elements.length() {
                return Err(NO_PATH);
            }
            let insert = |array: &mut Json| match array {
                Json::Array(elements) => Arc::make_mut(elements).insert_at(at, value),
                _ => false,
            };
            document.change(parent, insert).filter(|done| *done).map(drop).ok_or(NO_PATH)
        }
        Json::Object(_) => {
            let set = |object: &mut Json| {
                if let Json::Object(members) = object {
                    Arc::make_mut(members).set(&unescape(last), value);
                }
            };
            document.change(parent, set).ok_or(NO_PATH)
        }
        _ => Err(NO_PATH),
    }
}

fn remove(document: &mut Json, path: &str) -> Option<Json> {
    let (parent, last) = path.rsplit_once('/')?;
    match document.pointer(parent)? {
        Json::Array(elements) => {
            let at = index(last).filter(|at| *at < elements.length())?;
            document.change(parent, |array| match array {
                Json::Array(elements) => Arc::make_mut(elements).remove_at(at),
                _ => None,
            })?
        }
        Json::Object(members) if members.has(&unescape(last)) => {
            document.change(parent, |object| match object {
                Json::Object(members) => Arc::make_mut(members).take(&unescape(last)),
                _ => None,
            })?
        }
        _ => None,
    }
}

/// Applies a delta to `document`, which may have at most `max_bytes` as JSON afterwards. Adds the touched places to
/// `touches`, up to the failing operation. After an error the document is unusable.
pub(super) fn apply(
    document: &mut Json,
    delta: &[Operation],
    max_bytes: u64,
    touches: &mut Vec<Touch>,
) -> Result<(), Misfit> {
    // The arrays to which this delta has appended.
    let mut appended: HashSet<&str> = HashSet::new();
    for (number, operation) in delta.iter().enumerate() {
        let path = &*operation.path;
        let named = [Some(path), operation.from()].into_iter().flatten();
        // This check is first: the following code looks at each place above these.
        if named.clone().any(|path| depth_of(path) > MAX_DEPTH) {
            return Err(Misfit::Refused(
                number,
                format!("operation {number}: a path more than {MAX_DEPTH} deep"),
            ));
        }
        let mut touch =
            |path: &str, writes| touches.push(Touch { operation: number, path: path.into(), writes });
        // An appended element gets another index if others have appended, too. A later operation that names an element by
        // its index may mean this one, so it depends on the whole array.
        if !appended.is_empty() {
            let arrays =
                named.flat_map(|path| lineage(path).skip(1).filter(move |array| !is_end(path, array)));
            arrays.filter(|array| appended.contains(*array)).for_each(|array| touch(array, true));
        }
        if let Some(array) = path.strip_suffix("/-")
            && matches!(document.pointer(array), Some(Json::Array(_)))
        {
            appended.insert(array);
        }
        let mut depth = depth_of(path);
        match &operation.action {
            Action::Test(_) => touch(path, false),
            Action::Replace(value) => {
                touch(path, true);
                depth += value.depth();
            }
            Action::Add(value) => {
                touch(&place(document, path), true);
                depth += value.depth();
            }
            Action::Remove => touch(&place(document, path), true),
            Action::Move(from) => {
                depth += document.pointer(from).map_or(0, Json::depth);
                touch(&place(document, from), true);
                touch(&place(document, path), true);
            }
            Action::Copy(from) => {
                depth += document.pointer(from).map_or(0, Json::depth);
                touch(from, false);
                touch(&place(document, path), true);
            }
        }
        if depth > MAX_DEPTH {
            return Err(Misfit::Refused(number, format!("{path}: nested more than {MAX_DEPTH} deep")));
        }
        operation
            .apply(document)
            .map_err(|reason| Misfit::Failed(number, format!("operation {number} at {path:?}: {reason}")))?;
        if document.size().bytes > max_bytes.saturating_mul(MAX_SURPLUS) {
            return Err(Misfit::Refused(
                number,
                format!(
                    "{path}: the values in the document would have more than {MAX_SURPLUS} times the {max_bytes} bytes that it may have"
                ),
            ));
        }
    }
    Ok(())
}

/// Applies a delta again, to the version to which it was applied before.
pub(super) fn replay(document: &mut Json, delta: &str) -> Result<(), String> {
    let delta: Vec<Operation> = serde_json::from_str(delta).map_err(|error| error.to_string())?;
    delta.iter().try_for_each(|operation| Ok(operation.apply(document)?))
}

/// Returns whether a path names the place behind the last element of an array.
fn is_end(path: &str, array: &str) -> bool {
    path.strip_prefix(array) == Some("/-")
}

/// Returns the place that adding or removing at `path` touches: the whole array if elements shift.
fn place<'a>(document: &Json, path: &'a str) -> Cow<'a, str> {
    let Some((parent, last)) = path.rsplit_once('/') else { return path.into() };
    match document.pointer(parent) {
        Some(Json::Array(_)) if last == "-" => format!("{parent}{END}").into(),
        Some(Json::Array(_)) => parent.into(),
        _ => path.into(),
    }
}

fn depth_of(path: &str) -> usize {
    path.bytes().filter(|byte| *byte == b'/').count()
}

/// Finds the touched places that overlap with a path that others have written: the same place, one above it or one below it.
/// It is a tree of the names in the paths, so that a look-up costs the length of its path, however deep the path is.
pub(super) struct Overlap<'a> {
    /// The places directly below this one, by name.
    below: HashMap<(usize, &'a str), usize>,
    /// Whether the place itself is touched, and not only one below it.
    is_touched: Vec<bool>,
}

impl<'a> Overlap<'a> {
    pub(super) fn new(touches: &'a [Touch]) -> Self {
        let (mut below, mut is_touched) = (HashMap::new(), Vec::new());
        for touch in touches {
            if is_touched.is_empty() {
                is_touched.push(false);
            }
            let mut place = 0;
            for name in touch.path.split('/').skip(1) {
                place = *below.entry((place, name)).or_insert_with(|| {
                    is_touched.push(false);
                    is_touched.len() - 1
                });
            }
            is_touched[place] = true;
        }
        Self { below, is_touched }
    }

    pub(super) fn with(&self, written: &str) -> bool {
        let Some(is_root_touched) = self.is_touched.first() else { return false };
        let (appends, mut is_touched, mut place) = (written.ends_with(END), *is_root_touched, 0);
        let mut names = written.split('/').skip(1).peekable();
        while let Some(name) = names.next() {
            if is_touched {
                return true;
            }
            // If both append to the same array, both elements are added one after the other, and no append depends on an
            // index.
            if appends && names.peek().is_none() {
                return false;
            }
            let Some(next) = self.below.get(&(place, name)) else { return false };
            (place, is_touched) = (*next, self.is_touched[*next]);
        }
        // The written place, or one below it, is touched.
        true
    }
}

/// Returns a pointer and all pointers above it: `/a/b`, `/a`, and the root, which is empty.
fn lineage(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |path| path.rsplit_once('/').map(|(above, _)| above))
}

impl<'de> Deserialize<'de> for Operation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "lowercase")]
        enum Name {
            Add,
            Remove,
            Replace,
            Move,
            Copy,
            Test,
        }
        // This is not a tagged enum: serde would buffer all members before it reads the tag.
        #[derive(serde::Deserialize)]
        struct Members {
            op: Name,
            path: Box<str>,
            from: Option<Box<str>>,
            // A `null` counts as a value here.
            #[serde(default, deserialize_with = "some")]
            value: Option<Json>,
        }
        let Object(Members { op, path, from, value }) = Object::deserialize(deserializer)?;
        if [Some(&path), from.as_ref()].into_iter().flatten().any(|path| !is_pointer(path)) {
            return Err(D::Error::custom(
                "a path is empty or begins with \"/\", and has \"~\" as \"~0\" (RFC 6901)",
            ));
        }
        let value = value.ok_or_else(|| D::Error::missing_field("value"));
        let from = from.ok_or_else(|| D::Error::missing_field("from"));
        let action = match op {
            Name::Add => Action::Add(value?),
            Name::Remove => Action::Remove,
            Name::Replace => Action::Replace(value?),
            Name::Move => Action::Move(from?),
            Name::Copy => Action::Copy(from?),
            Name::Test => Action::Test(value?),
        };
        Ok(Operation { path, action })
    }
}

fn some<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Json>, D::Error> {
    Json::deserialize(deserializer).map(Some)
}

fn is_pointer(path: &str) -> bool {
    let mut escapes = path.split('~').skip(1);
    (path.is_empty() || path.starts_with('/')) && escapes.all(|rest| rest.starts_with(['0', '1']))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn touched(before: Value, delta: &Value) -> Result<Vec<Touch>, Misfit> {
        let delta: Vec<Operation> = serde_json::from_value(delta.clone()).unwrap();
        let (mut value, mut touches) = (Json::deserialize(before).unwrap(), Vec::new());
        apply(&mut value, &delta, 1 << 20, &mut touches).map(|()| touches)
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
        let Err(Misfit::Refused(_, reason)) = touched(json!({"a": [1, 2]}), &json!(copies)) else {
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
    fn a_delta_whose_first_operation_fails_copies_nothing_of_the_document() {
        let read = |value: &Value| Json::deserialize(value.clone()).unwrap();
        let document = read(&json!({"a": (0..1000).collect::<Vec<_>>(), "b": {"c": 1}}));
        for delta in [
            json!([{"op": "test", "path": "/b/c", "value": 2}]),
            json!([{"op": "test", "path": "/missing", "value": 2}]),
            json!([{"op": "add", "path": "/a/1001", "value": 2}]),
            json!([{"op": "add", "path": "/missing/a", "value": 2}]),
            json!([{"op": "remove", "path": "/a/1000"}]),
            json!([{"op": "remove", "path": "/b/d"}]),
            json!([{"op": "replace", "path": "/b/d", "value": 2}]),
            json!([{"op": "copy", "from": "/b/d", "path": "/b/e"}]),
            json!([{"op": "move", "from": "/b/d", "path": "/b/e"}]),
            json!([{"op": "move", "from": "/b", "path": "/b/e"}]),
        ] {
            let delta: Vec<Operation> = serde_json::from_value(delta).unwrap();
            let mut copy = document.clone();
            assert!(apply(&mut copy, &delta, 1 << 20, &mut Vec::new()).is_err());
            let (Json::Object(one), Json::Object(other)) = (&document, &copy) else { panic!("objects") };
            assert!(Arc::ptr_eq(one, other), "{delta:?}");
        }
    }

    #[test]
    fn a_path_is_not_followed_deeper_than_there_can_be_anything() {
        // Looking at each place above one of these takes seconds; a commit has room for a path ten times as deep.
        let deep = "/a".repeat(20_000);
        let append = json!({"op": "add", "path": "/list/-", "value": 1});
        for operation in [
            json!({"op": "add", "path": deep, "value": 1}),
            json!({"op": "copy", "from": deep, "path": "/a"}),
        ] {
            let misfit = touched(json!({"list": []}), &json!([append, operation]));
            assert!(
                matches!(&misfit, Err(Misfit::Refused(_, reason)) if reason.contains("deep")),
                "{misfit:?}"
            );
        }
    }
}
