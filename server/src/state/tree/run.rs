//! Holds the elements of an array or the members of an object, wide ones in chunks that copies share.

use std::sync::Arc;

use super::{COUNTERS, Json, Member, Size, allocation};

/// The most items of a chunk. With 128, an array of half a million numbers, the most that fit into 1 MiB, has 4,096
/// chunks: a change copies their list, some 100 KiB, and one chunk, at most 5 KiB.
const CHUNK: usize = 128;

/// The elements of an array, or the members of an object in the order of their keys.
#[derive(Debug, Clone)]
pub(crate) struct Run<T> {
    /// The size of all items, and of the memory that holds them.
    pub(super) size: Size,
    /// The depth of the deepest item.
    pub(super) depth: usize,
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
pub(crate) struct Position {
    chunk: usize,
    offset: usize,
}

/// An item of a run.
pub(crate) trait Item: Clone {
    fn value(&self) -> &Json;
    fn value_mut(&mut self) -> &mut Json;
    /// Returns the size that the item adds to its run.
    fn size(&self) -> Size;
}

impl<T> Chunk<T> {
    /// Returns the memory of a chunk with `length` items.
    fn memory(length: usize) -> u64 {
        allocation(COUNTERS + size_of::<Vec<T>>()) + allocation(length * size_of::<T>())
    }
}

impl<T> Run<T> {
    /// Returns the size of the brackets, and the memory of the run without its items.
    pub(super) fn frame(&self) -> Size {
        Size { bytes: 2, memory: allocation(COUNTERS + size_of::<Self>()) }
    }

    pub(crate) fn length(&self) -> usize {
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
    pub(super) fn new(mut items: Vec<T>) -> Self {
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

    pub(super) fn get(&self, position: Position) -> Option<&Json> {
        self.item(position).map(Item::value)
    }

    fn item(&self, position: Position) -> Option<&T> {
        match &self.items {
            Items::Few(items) => items.get(position.offset),
            Items::Many { chunks, .. } => chunks.get(position.chunk)?.items.get(position.offset),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        let (few, many) = match &self.items {
            Items::Few(items) => (Some(items), None),
            Items::Many { chunks, .. } => (None, Some(chunks)),
        };
        let many = many.into_iter().flatten().flat_map(|chunk| chunk.items.iter());
        few.into_iter().flatten().chain(many)
    }

    /// Returns the position of the item with an index. For the index after the last, it is the position for an insertion.
    pub(crate) fn position(&self, index: usize) -> Option<Position> {
        let Items::Many { length, chunks } = &self.items else {
            return (index <= self.length()).then_some(Position { chunk: 0, offset: index });
        };
        if index == *length {
            let last = chunks.last()?;
            return Some(Position { chunk: chunks.len() - 1, offset: last.length });
        }
        let mut offset = index;
        for (chunk, Chunk { length, .. }) in chunks.iter().enumerate() {
            if offset < *length {
                return Some(Position { chunk, offset });
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
    pub(crate) fn update<R>(&mut self, position: Position, change: impl FnOnce(&mut Json) -> R) -> R {
        let item = &mut self.items_mut(position.chunk)[position.offset];
        let (size, depth) = (item.size(), item.value().depth());
        let result = change(item.value_mut());
        let (new_size, new_depth) = (item.size(), item.value().depth());
        self.size = self.size + new_size - size;
        self.settle_depth(position.chunk, depth, new_depth);
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

    fn insert(&mut self, position: Position, item: T) {
        let depth = item.value().depth();
        self.size += item.size();
        let mut at = position.chunk;
        match &mut self.items {
            Items::Few(items) => {
                self.size.memory -= allocation(items.len() * size_of::<T>());
                // The reservation is exact: spare room would be uncounted memory.
                items.reserve_exact(1);
                items.insert(position.offset, item);
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
                items.insert(position.offset, item);
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
                    at += usize::from(position.offset >= CHUNK / 2);
                } else {
                    self.size.memory += Chunk::<T>::memory(chunk.length);
                }
            }
        }
        self.settle_depth(at, 0, depth);
    }

    fn remove(&mut self, position: Position) -> T {
        let item = match &mut self.items {
            Items::Few(items) => {
                self.size.memory -= allocation(items.len() * size_of::<T>());
                let item = items.remove(position.offset);
                items.shrink_to_fit();
                self.size.memory += allocation(items.len() * size_of::<T>());
                item
            }
            Items::Many { length, chunks } => {
                *length -= 1;
                let chunk = &mut chunks[position.chunk];
                self.size.memory -= Chunk::<T>::memory(chunk.length);
                let items = Arc::make_mut(&mut chunk.items);
                let item = items.remove(position.offset);
                items.shrink_to_fit();
                chunk.length -= 1;
                if chunk.length > 0 {
                    self.size.memory += Chunk::<T>::memory(chunk.length);
                } else {
                    self.size.memory -= allocation(chunks.len() * size_of::<Chunk<T>>());
                    chunks.remove(position.chunk);
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
        self.settle_depth(position.chunk, item.value().depth(), 0);
        item
    }
}

#[cfg(any(test, fuzzing))]
impl<T: Item> Run<T> {
    pub(super) fn recount(&self) -> (Size, usize) {
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
    pub(crate) fn insert_at(&mut self, index: usize, value: Json) -> bool {
        let position = self.position(index);
        position.map(|position| self.insert(position, value)).is_some()
    }

    pub(crate) fn remove_at(&mut self, index: usize) -> Option<Json> {
        let position = self.position(index).filter(|_| index < self.length())?;
        Some(self.remove(position))
    }
}

impl Run<Member> {
    /// Returns the position of the member named `key`, or the position at which it belongs.
    pub(super) fn find(&self, key: &str) -> Result<Position, Position> {
        let (chunk, items) = match &self.items {
            Items::Few(items) => (0, items),
            Items::Many { chunks, .. } => {
                let behind = chunks.partition_point(|chunk| &*chunk.items[0].key <= key);
                let chunk = behind.saturating_sub(1);
                (chunk, &*chunks[chunk].items)
            }
        };
        let position = |offset| Position { chunk, offset };
        items.binary_search_by(|member| (*member.key).cmp(key)).map(position).map_err(position)
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.find(key).is_ok()
    }

    /// Sets a member, and replaces one of the same name.
    pub(crate) fn set(&mut self, key: &str, value: Json) {
        match self.find(key) {
            Ok(position) => self.update(position, |old| *old = value),
            Err(position) => self.insert(position, Member { key: key.into(), value }),
        }
    }

    pub(crate) fn take(&mut self, key: &str) -> Option<Json> {
        let position = self.find(key).ok()?;
        Some(self.remove(position).value)
    }
}
