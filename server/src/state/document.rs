//! One document in memory: its value, the commits that led to it, and the messages that its sockets share.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::ws::Utf8Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex as AsyncMutex, watch};

use super::log::{Entry, LOG_MEMORY, Log};
use super::memory::{Memory, Share};
use super::tree::{Json, allocation};
use crate::lane::{LIGHT, Lane};

/// The memory of a loaded document beside its key, value and commits: its state with its locks and its watch channel, some
/// 500 bytes, and its entries in the tables of its store.
const DOCUMENT_BYTES: u64 = 1024;

/// The longest name, in bytes: as for a file on most file systems.
pub(super) const MAX_NAME: usize = 255;

/// A document that is open.
#[derive(Debug)]
pub(super) struct Document {
    /// Collection and name.
    pub(super) key: String,
    state: Mutex<State>,
    changed: watch::Sender<()>,
    /// Locked by the socket that serialises the document. Others wait, and then find the text.
    writing: AsyncMutex<()>,
}

/// The committed state of a document.
#[derive(Debug)]
pub(super) struct State {
    /// A random id. It distinguishes this document from an earlier one of the same name.
    pub(super) incarnation: String,
    pub(super) version: u64,
    value: Json,
    log: Log,
    /// Set once the document was deleted, or another document has its name.
    has_ended: bool,
    /// The message with the whole document, and the version in it.
    cached_snapshot: Option<(u64, Utf8Bytes)>,
    /// The number of sockets that wait for this message.
    awaiting: usize,
    /// The last message with several commits, and its first and last version. Sockets tend to ask for the same range.
    cached_delta: Option<(u64, u64, Utf8Bytes)>,
    /// The document's share of the store's memory; `None` until the state is part of a document.
    memory: Option<Share>,
    /// The part of the share that never changes.
    fixed_memory: u64,
}

/// A snapshot on disk.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Snapshot<V> {
    pub(super) document: String,
    pub(super) version: u64,
    pub(super) data: V,
}

impl State {
    pub(super) fn new(incarnation: String, version: u64, value: Json) -> Self {
        Self {
            incarnation,
            version,
            value,
            log: Log::default(),
            has_ended: false,
            cached_snapshot: None,
            awaiting: 0,
            cached_delta: None,
            memory: None,
            fixed_memory: 0,
        }
    }

    /// Returns a document without commits.
    pub(super) fn unwritten(initial: &Json) -> io::Result<Self> {
        // The id is random and not from the clock, since clocks are set back.
        Ok(Self::new(format!("{:016x}", getrandom::u64()?), 0, initial.clone()))
    }

    /// Updates the document's share of the store's memory.
    fn settle(&mut self) {
        let text = |message: Option<&Utf8Bytes>| message.map_or(0, |message| allocation(message.len()));
        let dispensable = self.log.memory()
            + text(self.cached_snapshot.as_ref().map(|(_, message)| message))
            + text(self.cached_delta.as_ref().map(|(_, _, message)| message));
        let held = self.fixed_memory + self.value.size().memory + dispensable;
        if let Some(memory) = &mut self.memory {
            memory.set(held, dispensable);
        }
    }

    /// Adds commits; `value` is the value that they made. Returns the value before.
    pub(super) fn take_up(&mut self, entries: Vec<Arc<Entry>>, value: Json) -> Json {
        for entry in entries {
            self.version = entry.version;
            self.log.push(entry);
        }
        self.log.forget_beyond(LOG_MEMORY);
        self.replace(value)
    }

    /// Adds commits of another process: `version` is the later version, and `log` has the commits that led to it, or the
    /// last of them.
    pub(super) fn catch_up(&mut self, version: u64, value: Json, log: Vec<Arc<Entry>>) -> Json {
        if log.first().is_none_or(|entry| entry.version > self.version + 1) {
            self.log.clear();
        }
        self.version = version;
        self.remember(log);
        self.replace(value)
    }

    fn replace(&mut self, value: Json) -> Json {
        let old = std::mem::replace(&mut self.value, value);
        self.cached_delta = None;
        // Sockets that wait for this message get it as it is, and the later commits after it.
        if self.awaiting == 0 {
            self.cached_snapshot = None;
        }
        self.settle();
        old
    }

    /// Remembers commits that are already part of the value, except those that the log has.
    pub(super) fn remember(&mut self, log: Vec<Arc<Entry>>) {
        let known = self.log.last().unwrap_or(0);
        log.into_iter().filter(|entry| entry.version > known).for_each(|entry| self.log.push(entry));
        self.log.forget_beyond(LOG_MEMORY);
        self.settle();
    }

    /// Frees memory that can be spared: the commits beyond a limit, and the messages cached for further readers.
    pub(super) fn give_up(&mut self, limit: u64) {
        self.log.forget_beyond(limit);
        (self.cached_snapshot, self.cached_delta) = (None, None);
        self.settle();
    }

    /// Returns the version of the oldest remembered commit, or the next version if there is none.
    pub(super) fn remembered_from(&self) -> u64 {
        self.log.first().unwrap_or(self.version + 1)
    }

    /// Returns the version and its value.
    pub(super) fn current(&self) -> (u64, Json) {
        (self.version, self.value.clone())
    }

    /// Returns the remembered commits.
    pub(super) fn remembered(&self) -> impl DoubleEndedIterator<Item = &Arc<Entry>> + Clone {
        self.log.iter()
    }

    /// Returns the commits after `version`; `None` if the document has forgotten some of them.
    pub(super) fn since(&self, version: u64) -> Option<impl Iterator<Item = &Arc<Entry>> + Clone> {
        self.log.tail(usize::try_from(self.version.checked_sub(version)?).ok()?)
    }

    /// Returns the delta from one version to a later one; `None` if the document has forgotten commits between, or if the
    /// delta is longer than the whole document.
    fn delta(&self, from: u64, to: u64) -> Option<String> {
        let count = usize::try_from(to.checked_sub(from)?).ok()?;
        let deltas = self.since(from)?.take(count).map(|entry| entry.delta());
        let bytes: usize = deltas.clone().map(str::len).sum();
        (bytes as u64 <= self.value.size().bytes).then(|| concatenate(deltas, bytes))
    }

    /// Returns the message that takes a page from one version to a later one, and the version after it. The message has the
    /// commits between, or the whole document. Returns `None` if it needs the whole, and no socket has serialised that yet.
    pub(super) fn message(&mut self, from: u64, to: u64) -> Option<(u64, Utf8Bytes)> {
        if let Some((first, last, message)) = &self.cached_delta
            && (*first, *last) == (from, to)
        {
            return Some((to, message.clone()));
        }
        let single = self.since(from).and_then(|mut commits| commits.next()).filter(|_| to == from + 1);
        if let Some(entry) = single.filter(|entry| entry.delta().len() as u64 <= self.value.size().bytes) {
            return Some((to, entry.message()));
        }
        let Some(delta) = self.delta(from, to) else { return self.written(self.version) };
        let message = Utf8Bytes::from(format!(r#"{{"version":{to},"delta":{delta}}}"#));
        self.cached_delta = Some((from, to, message.clone()));
        self.settle();
        Some((to, message))
    }

    /// Returns the message with the whole document of `version` or a later one, if a socket has serialised it.
    fn written(&self, version: u64) -> Option<(u64, Utf8Bytes)> {
        self.cached_snapshot.clone().filter(|(written, _)| *written >= version)
    }

    /// Returns the first message on a socket whose page has a version already: the delta from there. `None` if the page
    /// needs the whole document.
    fn way_from(&self, known: Option<(&str, u64)>) -> Option<Utf8Bytes> {
        let Self { incarnation, version, .. } = self;
        let (_, since) = known.filter(|(document, _)| document == incarnation)?;
        let delta = self.delta(since, *version)?;
        Some(format!(r#"{{"document":"{incarnation}","version":{version},"delta":{delta}}}"#).into())
    }
}

/// Joins consecutive deltas into one. `bytes` is their total length.
fn concatenate<'a>(deltas: impl Iterator<Item = &'a str>, bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 2);
    for delta in deltas {
        let operations = delta.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
        text.push(if text.is_empty() { '[' } else { ',' });
        text.push_str(operations.unwrap_or_default());
    }
    if text.is_empty() {
        text.push('[');
    }
    text.push(']');
    text
}

/// A socket that waits for the whole document.
struct Awaiting<'a>(&'a Document);

impl Drop for Awaiting<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.awaiting -= 1;
        if state.awaiting == 0 && state.written(state.version).is_none() {
            state.cached_snapshot = None;
            state.settle();
        }
    }
}

impl Document {
    pub(super) fn new(key: String, mut state: State, memory: &Memory) -> Self {
        state.memory = Some(memory.share());
        state.fixed_memory = DOCUMENT_BYTES + allocation(key.len());
        state.settle();
        Self { key, state: Mutex::new(state), changed: watch::Sender::new(()), writing: AsyncMutex::new(()) }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the version and its value.
    pub(super) fn current(&self) -> (u64, Json) {
        self.state().current()
    }

    /// Returns the approximate bytes of the value as JSON.
    pub(super) fn bytes(&self) -> u64 {
        self.state().value.size().bytes
    }

    /// Closes the document's sockets, after it was deleted or replaced.
    pub(super) fn end(&self) {
        self.state().has_ended = true;
        self.announce();
    }

    pub(super) fn has_ended(&self) -> bool {
        self.state().has_ended
    }

    /// Wakes all sockets of the document.
    pub(super) fn announce(&self) {
        self.changed.send_replace(());
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Returns the message with the whole document, and its version: the newest at the time of the call, or a later one.
    /// `None` after a bug in the server.
    pub(super) async fn whole(&self, lane: &Lane, peer: u64) -> Option<(u64, Utf8Bytes)> {
        let wanted = {
            let mut state = self.state();
            if let Some(written) = state.written(state.version) {
                return Some(written);
            }
            state.awaiting += 1;
            state.version
        };
        let _awaiting = Awaiting(self);
        // Sockets that need the same message wait for one of them. So the document is serialised at most twice, however many
        // sockets wait.
        let _writing = self.writing.lock().await;
        let (incarnation, version, value) = {
            let state = self.state();
            if let Some(written) = state.written(wanted) {
                return Some(written);
            }
            (state.incarnation.clone(), state.version, state.value.clone())
        };
        let is_light = value.size().bytes <= LIGHT as u64;
        let write = move || -> Utf8Bytes {
            format!(r#"{{"document":"{incarnation}","version":{version},"data":{value}}}"#).into()
        };
        let message = if is_light { write() } else { lane.run(peer, write).await? };
        let mut state = self.state();
        state.cached_snapshot = Some((version, message.clone()));
        state.settle();
        Some((version, message))
    }

    /// Returns the first message on a socket, and the version that the page has after it. The message is the delta from the
    /// version `known` to the page, or the whole document.
    pub(super) async fn greeting(
        &self,
        known: Option<(&str, u64)>,
        lane: &Lane,
        peer: u64,
    ) -> Option<(u64, Utf8Bytes)> {
        let way = {
            let state = self.state();
            state.way_from(known).map(|message| (state.version, message))
        };
        match way {
            Some(way) => Some(way),
            None => self.whole(lane, peer).await,
        }
    }
}
