//! The JSON tree of a document: copies share nodes, and each value knows its memory.
//!
//! A commit changes a few places of a document, while readers still need the version before it. With shared nodes a
//! copy costs one reference, a change copies the nodes above its place, and a commit that is refused costs nothing. Wide
//! arrays and objects are cut into chunks, so that a change copies some kilobytes of them and not all.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};
use serde_json::Number;

/// The most items of a chunk. With 128, an array of half a million numbers, the most that fit into 1 MiB, has 4,096
/// chunks: a change copies their list, some 100 KiB, and one chunk, at most 5 KiB.
const CHUNK: usize = 128;

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

/// The elements of an array, or the members of an object in the order of their keys.
#[derive(Debug, Clone)]
pub(super) struct Run<T> {
    /// The size of all items, and of the memory that holds them.
    size: Size,
    /// The depth of the deepest item.
    depth: usize,
    items: Items<T>,
}

#[derive(Debug, Clone)]
enum Items<T> {
    Few(Vec<T>),
    Many { length: usize, chunks: Vec<Chunk<T>> },
}

/// One or more neighbouring items.
#[derive(Debug, Clone)]
struct Chunk<T> {
    length: usize,
    depth: usize,
    items: Arc<Vec<T>>,
}

/// The position of an item, or the position at which one could be inserted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    chunk: usize,
    offset: usize,
}

/// An item of a run.
pub(super) trait Item: Clone {
    fn value(&self) -> &Json;
    fn value_mut(&mut self) -> &mut Json;
    /// Returns the size that the item adds to its run.
    fn size(&self) -> Size;
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
            Self::Array(run) => run.get(run.place(index(token)?)?),
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
                let place = run.place(index(token)?)?;
                Arc::make_mut(run).update(place, |child| child.descend(tokens, change))
            }
            Self::Object(run) => {
                let place = run.find(&unescape(token)).ok()?;
                Arc::make_mut(run).update(place, |child| child.descend(tokens, change))
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

impl<T> Chunk<T> {
    /// Returns the memory of a chunk with `length` items.
    fn memory(length: usize) -> u64 {
        allocation(COUNTERS + size_of::<Vec<T>>()) + allocation(length * size_of::<T>())
    }
}

impl<T> Run<T> {
    /// Returns the size of the brackets, and the memory of the run without its items.
    fn frame(&self) -> Size {
        Size { bytes: 2, memory: allocation(COUNTERS + size_of::<Self>()) }
    }

    pub(super) fn length(&self) -> usize {
        match &self.items {
            Items::Few(items) => items.len(),
            Items::Many { length, .. } => *length,
        }
    }
}

fn deepest<T: Item>(items: &[T]) -> usize {
    items.iter().map(|item| item.value().depth()).max().unwrap_or(0)
}

impl<T: Item> Run<T> {
    fn new(mut items: Vec<T>) -> Self {
        let mut size = items.iter().fold(Size::default(), |size, item| size + item.size());
        let depth = deepest(&items);
        let items = if items.len() <= CHUNK {
            items.shrink_to_fit();
            size.memory += allocation(items.len() * size_of::<T>());
            Items::Few(items)
        } else {
            let length = items.len();
            let mut chunks = Vec::with_capacity(length.div_ceil(CHUNK));
            let mut rest = items.into_iter();
            while rest.len() > 0 {
                let mut items = Vec::with_capacity(rest.len().min(CHUNK));
                items.extend(rest.by_ref().take(CHUNK));
                size.memory += Chunk::<T>::memory(items.len());
                chunks.push(Chunk { length: items.len(), depth: deepest(&items), items: Arc::new(items) });
            }
            size.memory += allocation(chunks.len() * size_of::<Chunk<T>>());
            Items::Many { length, chunks }
        };
        Self { size, depth, items }
    }

    fn get(&self, place: Place) -> Option<&Json> {
        self.item(place).map(Item::value)
    }

    fn item(&self, place: Place) -> Option<&T> {
        match &self.items {
            Items::Few(items) => items.get(place.offset),
            Items::Many { chunks, .. } => chunks.get(place.chunk)?.items.get(place.offset),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        let (few, many) = match &self.items {
            Items::Few(items) => (Some(items), None),
            Items::Many { chunks, .. } => (None, Some(chunks)),
        };
        let many = many.into_iter().flatten().flat_map(|chunk| chunk.items.iter());
        few.into_iter().flatten().chain(many)
    }

    /// Returns the position of the item with an index. For the index after the last, it is the position for an insertion.
    pub(super) fn place(&self, index: usize) -> Option<Place> {
        let Items::Many { length, chunks } = &self.items else {
            return (index <= self.length()).then_some(Place { chunk: 0, offset: index });
        };
        if index == *length {
            let last = chunks.last()?;
            return Some(Place { chunk: chunks.len() - 1, offset: last.length });
        }
        let mut offset = index;
        for (chunk, Chunk { length, .. }) in chunks.iter().enumerate() {
            if offset < *length {
                return Some(Place { chunk, offset });
            }
            offset -= length;
        }
        None
    }

    /// Returns the items of a chunk for a change. The caller must keep the chunk's length and depth correct.
    fn items_mut(&mut self, chunk: usize) -> &mut Vec<T> {
        match &mut self.items {
            Items::Few(items) => items,
            Items::Many { chunks, .. } => Arc::make_mut(&mut chunks[chunk].items),
        }
    }

    /// Changes the value of the item at a position.
    pub(super) fn update<R>(&mut self, place: Place, change: impl FnOnce(&mut Json) -> R) -> R {
        let item = &mut self.items_mut(place.chunk)[place.offset];
        let (size, depth) = (item.size(), item.value().depth());
        let result = change(item.value_mut());
        let (new_size, new_depth) = (item.size(), item.value().depth());
        self.size = self.size + new_size - size;
        self.settle_depth(place.chunk, depth, new_depth);
        result
    }

    /// Updates the depths after an item of depth `gone` has left a chunk, or one of depth `come` was added; 0 stands for
    /// neither.
    fn settle_depth(&mut self, chunk: usize, gone: usize, come: usize) {
        let settle = |depth: usize, compute: &dyn Fn() -> usize| {
            if come >= depth {
                come
            } else if gone == depth {
                compute()
            } else {
                depth
            }
        };
        match &mut self.items {
            Items::Few(items) => self.depth = settle(self.depth, &|| deepest(items)),
            Items::Many { chunks, .. } => {
                if let Some(chunk) = chunks.get_mut(chunk) {
                    chunk.depth = settle(chunk.depth, &|| deepest(&chunk.items));
                }
                let deepest = || chunks.iter().map(|chunk| chunk.depth).max().unwrap_or(0);
                self.depth = settle(self.depth, &deepest);
            }
        }
    }

    fn insert(&mut self, place: Place, item: T) {
        let depth = item.value().depth();
        self.size += item.size();
        let mut at = place.chunk;
        match &mut self.items {
            Items::Few(items) => {
                self.size.memory -= allocation(items.len() * size_of::<T>());
                // The reservation is exact: spare room would be uncounted memory.
                items.reserve_exact(1);
                items.insert(place.offset, item);
                self.size.memory += allocation(items.len() * size_of::<T>());
                if items.len() > CHUNK {
                    *self = Self::new(std::mem::take(items));
                    return;
                }
            }
            Items::Many { length, chunks } => {
                *length += 1;
                let chunk = &mut chunks[at];
                self.size.memory -= Chunk::<T>::memory(chunk.length);
                let items = Arc::make_mut(&mut chunk.items);
                items.reserve_exact(1);
                items.insert(place.offset, item);
                chunk.length += 1;
                if chunk.length > CHUNK {
                    let mut rest = items.split_off(CHUNK / 2);
                    rest.shrink_to_fit();
                    items.shrink_to_fit();
                    (chunk.length, chunk.depth) = (items.len(), deepest(items));
                    self.size.memory += Chunk::<T>::memory(chunk.length) + Chunk::<T>::memory(rest.len());
                    self.size.memory -= allocation(chunks.len() * size_of::<Chunk<T>>());
                    chunks.reserve_exact(1);
                    let rest = Chunk { length: rest.len(), depth: deepest(&rest), items: Arc::new(rest) };
                    chunks.insert(at + 1, rest);
                    self.size.memory += allocation(chunks.len() * size_of::<Chunk<T>>());
                    at += usize::from(place.offset >= CHUNK / 2);
                } else {
                    self.size.memory += Chunk::<T>::memory(chunk.length);
                }
            }
        }
        self.settle_depth(at, 0, depth);
    }

    fn remove(&mut self, place: Place) -> T {
        let item = match &mut self.items {
            Items::Few(items) => {
                self.size.memory -= allocation(items.len() * size_of::<T>());
                let item = items.remove(place.offset);
                items.shrink_to_fit();
                self.size.memory += allocation(items.len() * size_of::<T>());
                item
            }
            Items::Many { length, chunks } => {
                *length -= 1;
                let chunk = &mut chunks[place.chunk];
                self.size.memory -= Chunk::<T>::memory(chunk.length);
                let items = Arc::make_mut(&mut chunk.items);
                let item = items.remove(place.offset);
                items.shrink_to_fit();
                chunk.length -= 1;
                if chunk.length > 0 {
                    self.size.memory += Chunk::<T>::memory(chunk.length);
                } else {
                    self.size.memory -= allocation(chunks.len() * size_of::<Chunk<T>>());
                    chunks.remove(place.chunk);
                    chunks.shrink_to_fit();
                    self.size.memory += allocation(chunks.len() * size_of::<Chunk<T>>());
                }
                item
            }
        };
        if matches!(&self.items, Items::Many { length: 0, .. }) {
            self.items = Items::Few(Vec::new());
        }
        self.size = self.size - item.size();
        // If the chunk was removed too, this updates the depth of the run with the neighbouring chunk.
        self.settle_depth(place.chunk, item.value().depth(), 0);
        item
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

#[cfg(any(test, fuzzing))]
impl<T: Item> Run<T> {
    fn recount(&self) -> (Size, usize) {
        let (mut size, mut depth, mut last) = (self.frame(), 0, 0);
        let mut add = |items: &Vec<T>| {
            size.memory += allocation(items.capacity() * size_of::<T>());
            for item in items {
                let (inside, levels) = item.value().recount();
                size += item.size() - item.value().size() + inside;
                depth = levels.max(depth);
            }
        };
        match &self.items {
            Items::Few(items) => add(items),
            Items::Many { length, chunks } => {
                for chunk in chunks {
                    assert_eq!(chunk.length, chunk.items.len(), "the length of a chunk");
                    assert_eq!(chunk.depth, deepest(&chunk.items), "the depth of a chunk");
                    add(&chunk.items);
                    last += chunk.length;
                }
                assert_eq!(
                    (last, chunks.iter().any(|chunk| chunk.length == 0)),
                    (*length, false),
                    "the length"
                );
                size.memory += allocation(chunks.capacity() * size_of::<Chunk<T>>());
                size.memory += chunks.len() as u64 * allocation(COUNTERS + size_of::<Vec<T>>());
            }
        }
        (size, depth + 1)
    }
}

impl Run<Json> {
    /// Inserts an element before the one at `index`, or behind the last. Returns false if there is no such position.
    pub(super) fn insert_at(&mut self, index: usize, value: Json) -> bool {
        let place = self.place(index);
        place.map(|place| self.insert(place, value)).is_some()
    }

    pub(super) fn remove_at(&mut self, index: usize) -> Option<Json> {
        let place = self.place(index).filter(|_| index < self.length())?;
        Some(self.remove(place))
    }
}

impl Run<Member> {
    /// Returns the position of the member named `key`, or the position at which it belongs.
    fn find(&self, key: &str) -> Result<Place, Place> {
        let (chunk, items) = match &self.items {
            Items::Few(items) => (0, items),
            Items::Many { chunks, .. } => {
                let behind = chunks.partition_point(|chunk| &*chunk.items[0].key <= key);
                let chunk = behind.saturating_sub(1);
                (chunk, &*chunks[chunk].items)
            }
        };
        let place = |offset| Place { chunk, offset };
        items.binary_search_by(|member| (*member.key).cmp(key)).map(place).map_err(place)
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.find(key).is_ok()
    }

    /// Sets a member, and replaces one of the same name.
    pub(super) fn set(&mut self, key: &str, value: Json) {
        match self.find(key) {
            Ok(place) => self.update(place, |old| *old = value),
            Err(place) => self.insert(place, Member { key: key.into(), value }),
        }
    }

    pub(super) fn take(&mut self, key: &str) -> Option<Json> {
        let place = self.find(key).ok()?;
        Some(self.remove(place).value)
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Number(number) => number.serialize(serializer),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Array(run) => serializer.collect_seq(run.iter()),
            Self::Object(run) => {
                serializer.collect_map(run.iter().map(|member| (&*member.key, &member.value)))
            }
        }
    }
}

impl fmt::Display for Json {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Number::from_f64(value).map_or(Json::Null, Json::Number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Json::Array(Arc::new(Run::new(items))))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
        let mut members: Vec<Member> = Vec::new();
        while let Some((Key(key), value)) = access.next_entry()? {
            members.push(Member { key, value });
        }
        if !members.is_sorted_by(|one, two| one.key < two.key) {
            // If several members have one name, the last one counts, as in most JSON parsers.
            members.reverse();
            members.sort_by(|one, two| one.key.cmp(&two.key));
            members.dedup_by(|later, kept| later.key == kept.key);
        }
        Ok(Json::Object(Arc::new(Run::new(members))))
    }
}

/// The name of a member.
struct Key(Arc<str>);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;

        impl Visitor<'_> for KeyVisitor {
            type Value = Key;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a string")
            }

            fn visit_str<E>(self, text: &str) -> Result<Key, E> {
                Ok(Key(text.into()))
            }
        }
        deserializer.deserialize_str(KeyVisitor)
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
