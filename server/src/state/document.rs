//! One document in memory: its value, the commits that led there, and what each socket has yet to hear of it.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::ws::Utf8Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex as AsyncMutex, watch};

use super::log::{Entry, LOG_MEMORY, Log};
use super::memory::{Memory, Share};
use super::tree::{Json, allocation};
use crate::lane::{LIGHT, Lane};

/// What a document that is loaded costs beside its key, its value and its commits: its state with its locks and the channel
/// of its news, some 500 bytes, and its places in the tables of its store.
const DOCUMENT_BYTES: u64 = 1024;

/// The longest name, in bytes: as long as that of a file.
pub(super) const MAX_NAME: usize = 255;

/// A document that is open.
#[derive(Debug)]
pub(super) struct Document {
    /// Collection and name.
    pub(super) key: String,
    state: Mutex<State>,
    changed: watch::Sender<()>,
    /// Held by the socket that has the document written out; others wait, and then find the text.
    writing: AsyncMutex<()>,
}

/// What is committed.
#[derive(Debug)]
pub(super) struct State {
    /// Tells this document from one of the same name that is gone.
    pub(super) incarnation: String,
    pub(super) version: u64,
    value: Json,
    log: Log,
    /// Whether the document is no more, or another has its name.
    has_ended: bool,
    /// The message that has the whole document, and the version that it has.
    cached_snapshot: Option<(u64, Utf8Bytes)>,
    /// How many sockets wait for it.
    awaiting: usize,
    /// The last message with several commits, and what it spans: sockets tend to ask for the same.
    cached_delta: Option<(u64, u64, Utf8Bytes)>,
    /// What all of it holds of the store's memory; `None` until it is in a document.
    memory: Option<Share>,
    /// The part of that for what never changes.
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

    /// A document that nobody has committed to.
    pub(super) fn unwritten(initial: &Json) -> io::Result<Self> {
        // What tells it from others of its name is of chance, since clocks are set back.
        Ok(Self::new(format!("{:016x}", getrandom::u64()?), 0, initial.clone()))
    }

    /// Counts anew what is held.
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

    /// Takes up commits; `value` is what they made. Returns the value before.
    pub(super) fn take_up(&mut self, entries: Vec<Arc<Entry>>, value: Json) -> Json {
        for entry in entries {
            self.version = entry.version;
            self.log.push(entry);
        }
        self.log.forget_beyond(LOG_MEMORY);
        self.replace(value)
    }

    /// Takes up what was committed elsewhere: a later version, and the commits that led there, or the last of them.
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
        // Those who wait for it take it as it is, and then hear what came after.
        if self.awaiting == 0 {
            self.cached_snapshot = None;
        }
        self.settle();
        old
    }

    /// Remembers commits that are part of the value already; those that it knows it leaves out.
    pub(super) fn remember(&mut self, log: Vec<Arc<Entry>>) {
        let known = self.log.last().unwrap_or(0);
        log.into_iter().filter(|entry| entry.version > known).for_each(|entry| self.log.push(entry));
        self.log.forget_beyond(LOG_MEMORY);
        self.settle();
    }

    /// Gives up memory that can be spared: the commits beyond a limit, and messages that are kept for further readers.
    pub(super) fn give_up(&mut self, limit: u64) {
        self.log.forget_beyond(limit);
        (self.cached_snapshot, self.cached_delta) = (None, None);
        self.settle();
    }

    /// The version of the oldest commit that is remembered, or the one to come.
    pub(super) fn remembered_from(&self) -> u64 {
        self.log.first().unwrap_or(self.version + 1)
    }

    /// The commits that are remembered.
    pub(super) fn remembered(&self) -> impl DoubleEndedIterator<Item = &Arc<Entry>> + Clone {
        self.log.iter()
    }

    /// The commits after `version`; `None` if some of them are forgotten.
    pub(super) fn since(&self, version: u64) -> Option<impl Iterator<Item = &Arc<Entry>> + Clone> {
        self.log.tail(usize::try_from(self.version.checked_sub(version)?).ok()?)
    }

    /// The delta from one version to a later one; `None` if commits between are forgotten, or longer than the whole.
    fn delta(&self, from: u64, to: u64) -> Option<String> {
        let count = usize::try_from(to.checked_sub(from)?).ok()?;
        let deltas = self.since(from)?.take(count).map(|entry| entry.delta());
        let bytes: usize = deltas.clone().map(str::len).sum();
        (bytes as u64 <= self.value.size().bytes).then(|| concatenate(deltas, bytes))
    }

    /// The message that takes a page from one version to a later one, and the version that it then has: the commits
    /// between, or the whole. `None` if that is not written out.
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

    /// The message with the whole document of some version, or a later one, if it is written out.
    fn written(&self, version: u64) -> Option<(u64, Utf8Bytes)> {
        self.cached_snapshot.clone().filter(|(written, _)| *written >= version)
    }

    /// The first message on a socket whose page has some version already: the way from there. `None` if it needs the whole.
    fn way_from(&self, known: Option<(&str, u64)>) -> Option<Utf8Bytes> {
        let Self { incarnation, version, .. } = self;
        let (_, since) = known.filter(|(document, _)| document == incarnation)?;
        let delta = self.delta(since, *version)?;
        Some(format!(r#"{{"document":"{incarnation}","version":{version},"delta":{delta}}}"#).into())
    }
}

/// Deltas one after the other are a delta. `bytes` is how many they have.
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

    /// The version, and the value that it has.
    pub(super) fn current(&self) -> (u64, Json) {
        let state = self.state();
        (state.version, state.value.clone())
    }

    /// Bytes of the value as JSON, about.
    pub(super) fn bytes(&self) -> u64 {
        self.state().value.size().bytes
    }

    /// Ends its sockets: the document is no more, or another has its name.
    pub(super) fn end(&self) {
        self.state().has_ended = true;
        self.announce();
    }

    pub(super) fn has_ended(&self) -> bool {
        self.state().has_ended
    }

    /// Tells all sockets that there is something new.
    pub(super) fn announce(&self) {
        self.changed.send_replace(());
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// The message with the whole document, and its version: the newest of now, or a later one. `None` after a defect of ours.
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
        // Sockets that want the same wait for one of them, so that it is written out twice at most, however many they are.
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

    /// The first message on a socket, given what its page has already: the way from there, or the whole; and the version that
    /// the page then has.
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
