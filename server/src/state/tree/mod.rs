//! The JSON tree of a document: copies share nodes, and each value knows its memory.
//!
//! A commit changes a few places of a document, while readers still need the version before it. With shared nodes a
//! copy costs one reference, a change copies the nodes above its place, and a commit that is refused costs nothing. Wide
//! arrays and objects are cut into chunks, so that a change copies some kilobytes of them and not all.

mod run;
mod serde;

use std::ops::{Add, AddAssign, Sub};
use std::sync::Arc;

use serde_json::Number;

pub(super) use self::run::{Item, Run};

/// The bytes of an `Arc` beside its content: two counters.
const COUNTERS: usize = 16;

/// A JSON value.
#[derive(Debug, Clone)]
pub(super) enum Json {
    Null,
    Bool(bool),
    Number(Number),
    Text(Arc<str>),
    Array(Arc<Run<Json>>),
    Object(Arc<Run<Member>>),
}

/// A member of an object.
#[derive(Debug, Clone)]
pub(super) struct Member {
    key: Arc<str>,
    value: Json,
}

/// The size of a value. The fields are 64 bits wide on every machine: copies share memory, so a sum may be far larger than
/// the memory.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    /// Bytes as JSON, without those that escapes add. A number counts as 8.
    pub(super) bytes: u64,
    /// Bytes of memory, as an allocator rounds them up. Shared nodes count at each place that has them.
    pub(super) memory: u64,
}

/// Returns the bytes that an allocator uses for a block: a header of 8, in steps of 16 from 32 on, as in glibc.
pub(super) fn allocation(bytes: usize) -> u64 {
    if bytes == 0 { 0 } else { (bytes as u64 + 8).next_multiple_of(16).max(32) }
}

impl Add for Size {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { bytes: self.bytes + other.bytes, memory: self.memory + other.memory }
    }
}

impl AddAssign for Size {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for Size {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self { bytes: self.bytes - other.bytes, memory: self.memory - other.memory }
    }
}

impl Item for Json {
    fn value(&self) -> &Json {
        self
    }

    fn value_mut(&mut self) -> &mut Json {
        self
    }

    fn size(&self) -> Size {
        // And a comma.
        Json::size(self) + Size { bytes: 1, memory: 0 }
    }
}

impl Item for Member {
    fn value(&self) -> &Json {
        &self.value
    }

    fn value_mut(&mut self) -> &mut Json {
        &mut self.value
    }

    fn size(&self) -> Size {
        // Two quotes, a colon and a comma.
        let key = Size { bytes: self.key.len() as u64 + 4, memory: allocation(COUNTERS + self.key.len()) };
        self.value.size() + key
    }
}

impl Json {
    /// Returns the size of the value, without the slot that holds it.
    pub(super) fn size(&self) -> Size {
        let plain = |bytes: usize| Size { bytes: bytes as u64, memory: 0 };
        match self {
            Self::Null | Self::Bool(true) => plain(4),
            Self::Bool(false) => plain(5),
            // Most numbers have about this length. Serialising a number to measure it would take longer than everything else
            // here.
            Self::Number(_) => plain(8),
            Self::Text(text) => {
                Size { bytes: text.len() as u64 + 2, memory: allocation(COUNTERS + text.len()) }
            }
            Self::Array(run) => run.size + run.frame(),
            Self::Object(run) => run.size + run.frame(),
        }
    }

    /// Returns the levels of nesting in the value.
    pub(super) fn depth(&self) -> usize {
        match self {
            Self::Array(run) => run.depth + 1,
            Self::Object(run) => run.depth + 1,
            _ => 0,
        }
    }

    /// Returns the value at an RFC 6901 pointer.
    pub(super) fn pointer(&self, pointer: &str) -> Option<&Self> {
        tokens(pointer)?.try_fold(self, |value, token| match value {
            Self::Array(run) => run.get(run.position(index(token)?)?),
            Self::Object(run) => run.get(run.find(&unescape(token)).ok()?),
            _ => None,
        })
    }

    /// Changes the value at a pointer; `None` if there is none.
    pub(super) fn change<R>(&mut self, pointer: &str, change: impl FnOnce(&mut Self) -> R) -> Option<R> {
        // The search precedes the change: a change copies shared nodes on the way.
        self.pointer(pointer)?;
        self.descend(&mut tokens(pointer)?, change)
    }

    fn descend<R>(
        &mut self,
        tokens: &mut dyn Iterator<Item = &str>,
        change: impl FnOnce(&mut Self) -> R,
    ) -> Option<R> {
        let Some(token) = tokens.next() else { return Some(change(self)) };
        match self {
            Self::Array(run) => {
                let position = run.position(index(token)?)?;
                Arc::make_mut(run).update(position, |child| child.descend(tokens, change))
            }
            Self::Object(run) => {
                let position = run.find(&unescape(token)).ok()?;
                Arc::make_mut(run).update(position, |child| child.descend(tokens, change))
            }
            _ => None,
        }
    }
}

/// Returns the escaped tokens of a pointer; `None` if the text is not a pointer.
fn tokens(pointer: &str) -> Option<impl Iterator<Item = &str>> {
    let mut tokens = pointer.split('/');
    (tokens.next() == Some("")).then_some(tokens)
}

/// Returns the name that a token stands for.
pub(super) fn unescape(token: &str) -> std::borrow::Cow<'_, str> {
    if token.contains('~') { token.replace("~1", "/").replace("~0", "~").into() } else { token.into() }
}

/// Returns the index that a token stands for.
pub(super) fn index(token: &str) -> Option<usize> {
    let is_canonical = token == "0" || !token.starts_with(['0', '+']);
    if is_canonical { token.parse().ok() } else { None }
}

impl Member {
    pub(super) fn key(&self) -> &str {
        &self.key
    }
}

#[cfg(any(test, fuzzing))]
impl Json {
    /// Recomputes the size and depth from the values.
    pub(super) fn recount(&self) -> (Size, usize) {
        match self {
            Self::Array(run) => run.recount(),
            Self::Object(run) => run.recount(),
            _ => (self.size(), 0),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(value: &Value) -> Json {
        serde_json::from_value(value.clone()).unwrap()
    }

    fn check(tree: &Json, value: &Value) {
        assert_eq!(tree.to_string(), value.to_string());
        assert_eq!((tree.size(), tree.depth()), tree.recount());
        assert_eq!(tree.size().bytes, read(value).size().bytes);
        assert_eq!(tree.depth(), read(value).depth());
    }

    #[test]
    fn a_tree_reads_and_writes_what_the_library_does() {
        for text in [
            "null",
            "[]",
            "{}",
            r#"{"b":[1,-2,3.5,1e300],"a":{"":[[]]},"b":false,"é\n":"\u0000"}"#,
            r#"[18446744073709551615,-9223372036854775808,0.1,1.0]"#,
        ] {
            let (tree, value): (Json, Value) =
                (serde_json::from_str(text).unwrap(), serde_json::from_str(text).unwrap());
            check(&tree, &value);
        }
        let wide = json!((0..1000).map(|n| json!({ "n": n })).collect::<Vec<_>>());
        check(&read(&wide), &wide);
        let wide: Value =
            (0..1000).map(|n| (n.to_string(), json!([n]))).collect::<serde_json::Map<_, _>>().into();
        check(&read(&wide), &wide);
    }

    #[test]
    fn wide_arrays_stay_what_they_are_through_insertions_and_removals_and_copies_stay_as_they_were() {
        let (mut model, mut seed) = (vec![json!(0)], 7_usize);
        let mut tree = read(&json!({ "a": model }));
        let mut next = |bound: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % bound
        };
        let mut copies = Vec::new();
        for round in 0..3000 {
            // The array grows, and then shrinks.
            let grows = next(10) < if round < 1500 { 8 } else { 2 };
            if grows || model.is_empty() {
                let (at, value) =
                    (next(model.len() + 1), json!((0..next(3)).map(|n| [n]).collect::<Vec<_>>()));
                let inserted = tree.change("/a", |array| match array {
                    Json::Array(elements) => Arc::make_mut(elements).insert_at(at, read(&value)),
                    _ => false,
                });
                assert_eq!(inserted, Some(true));
                model.insert(at, value);
            } else {
                let at = next(model.len());
                let removed = tree.change("/a", |array| match array {
                    Json::Array(elements) => Arc::make_mut(elements).remove_at(at),
                    _ => None,
                });
                assert_eq!(removed.unwrap().unwrap().to_string(), model.remove(at).to_string());
            }
            if round % 500 == 0 {
                copies.push((tree.clone(), json!({ "a": model })));
                check(&tree, &json!({ "a": model }));
            }
        }
        copies.push((tree, json!({ "a": model })));
        for (tree, value) in copies {
            check(&tree, &value);
        }
    }

    #[test]
    fn wide_objects_keep_their_members_in_order() {
        let (mut model, mut tree) = (serde_json::Map::new(), read(&json!({})));
        for n in 0..2000_u64 {
            let key = (n * 7919 % 2003).to_string();
            if let Json::Object(members) = &mut tree {
                Arc::make_mut(members).set(&key, Json::Bool(true));
            }
            model.insert(key, json!(true));
        }
        check(&tree, &Value::Object(model.clone()));
        for n in (0..2003_u64).step_by(2) {
            let key = n.to_string();
            let Json::Object(members) = &mut tree else { panic!("an object") };
            assert_eq!(Arc::make_mut(members).take(&key).is_some(), model.remove(&key).is_some());
        }
        check(&tree, &Value::Object(model));
    }

    #[test]
    fn to_look_in_vain_copies_nothing() {
        let tree = read(&json!({"a": (0..1000).collect::<Vec<_>>()}));
        let mut copy = tree.clone();
        assert_eq!(copy.change("/a/1000", |_| ()), None);
        assert_eq!(copy.change("/b/1", |_| ()), None);
        let (Json::Object(one), Json::Object(two)) = (&tree, &copy) else { panic!("objects") };
        assert!(Arc::ptr_eq(one, two));
    }
}
