//! One document in memory: its value, the commits that led there, and what each socket has yet to hear of it.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::ws::Utf8Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::watch;

use super::commit::Answer;
use super::patch::measure;

/// Bytes of commits that a document remembers. A page that comes back catches up from them, and a commit against an older
/// version is checked with them: the more, the longer a page may be away. A socket's worth of memory for each document
/// that is open.
pub(super) const LOG_BYTES: usize = 1 << 20;

/// What a commit takes beside its delta, id and paths; floods of tiny ones count too.
const ENTRY_BYTES: usize = 128;

/// A document that is open.
#[derive(Debug)]
pub(super) struct Document {
    /// Collection and name.
    pub(super) key: String,
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

/// What is committed.
#[derive(Debug)]
pub(super) struct State {
    /// Tells this document from one of the same name that is gone.
    pub(super) incarnation: String,
    pub(super) version: u64,
    pub(super) value: Arc<Value>,
    /// Bytes of the value as JSON, about.
    pub(super) bytes: usize,
    pub(super) log: VecDeque<Arc<Entry>>,
    log_bytes: usize,
    /// Whether the document is no more, or another has its name.
    has_ended: bool,
    /// The message that has the whole of this version.
    whole: Option<Utf8Bytes>,
    /// The last message with several commits, and what it spans: sockets tend to ask for the same.
    span: Option<(u64, u64, Utf8Bytes)>,
}

/// A commit that has been applied.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) version: u64,
    pub(super) record: Record,
    /// The message that tells others, encoded once for all.
    message: Utf8Bytes,
}

/// What is kept of a commit, in memory and on disk.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) id: String,
    pub(super) delta: Box<RawValue>,
    /// The places it wrote.
    pub(super) wrote: Vec<String>,
}

/// A snapshot on disk.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Snapshot<V> {
    pub(super) document: String,
    pub(super) version: u64,
    pub(super) data: V,
}

impl Entry {
    pub(super) fn new(version: u64, record: Record) -> Self {
        let message = format!(r#"{{"version":{version},"delta":{}}}"#, record.delta).into();
        Self { version, record, message }
    }

    pub(super) fn bytes(&self) -> usize {
        let wrote: usize = self.record.wrote.iter().map(String::len).sum();
        self.record.delta.get().len() + self.record.id.len() + wrote + ENTRY_BYTES
    }
}

impl State {
    pub(super) fn new(incarnation: String, version: u64, value: Value) -> Self {
        Self {
            incarnation,
            version,
            bytes: measure(&value).bytes,
            value: Arc::new(value),
            log: VecDeque::new(),
            log_bytes: 0,
            has_ended: false,
            whole: None,
            span: None,
        }
    }

    /// A document that nobody has committed to.
    pub(super) fn unwritten(initial: &Value) -> io::Result<Self> {
        // What tells it from others of its name is of chance, since clocks are set back.
        Ok(Self::new(format!("{:016x}", getrandom::u64()?), 0, initial.clone()))
    }

    /// Takes up a commit; `value` is what it made.
    pub(super) fn take_up(&mut self, entry: Arc<Entry>, value: Arc<Value>, bytes: usize) {
        self.version = entry.version;
        (self.value, self.bytes) = (value, bytes);
        (self.whole, self.span) = (None, None);
        self.remember(entry);
    }

    /// Takes up what was committed elsewhere: a later version, and the commits that led there, or the last of them.
    pub(super) fn catch_up(&mut self, version: u64, value: Value, log: Vec<Arc<Entry>>) {
        if log.first().is_none_or(|entry| entry.version > self.version + 1) {
            self.log.clear();
            self.log_bytes = 0;
        }
        let known = self.log.back().map_or(0, |entry| entry.version);
        log.into_iter().filter(|entry| entry.version > known).for_each(|entry| self.remember(entry));
        (self.version, self.bytes, self.value) = (version, measure(&value).bytes, Arc::new(value));
        (self.whole, self.span) = (None, None);
        self.forget_to(version);
    }

    /// The bytes of the value, and of the commits that are remembered.
    pub(super) fn memory(&self) -> usize {
        self.bytes + self.log_bytes
    }

    pub(super) fn remember(&mut self, entry: Arc<Entry>) {
        self.log_bytes += entry.bytes();
        self.log.push_back(entry);
    }

    /// The oldest commits beyond the limit, none of them after `snapshot`: the first version and the last.
    pub(super) fn forgettable(&self, snapshot: u64) -> Option<(u64, u64)> {
        let first = self.log.front()?.version;
        let mut excess = self.log_bytes.checked_sub(LOG_BYTES)?;
        let mut last = None;
        for entry in self.log.iter().take_while(|entry| entry.version <= snapshot) {
            last = Some((first, entry.version));
            match excess.checked_sub(entry.bytes()) {
                Some(rest) if rest > 0 => excess = rest,
                _ => break,
            }
        }
        last
    }

    /// Forgets the oldest commits beyond the limit, none of them after `snapshot`.
    pub(super) fn forget_to(&mut self, snapshot: u64) {
        let Some((_, last)) = self.forgettable(snapshot) else { return };
        while self.log.front().is_some_and(|entry| entry.version <= last) {
            if let Some(entry) = self.log.pop_front() {
                self.log_bytes -= entry.bytes();
            }
        }
    }

    /// The commits after `version`; `None` if some of them are forgotten.
    pub(super) fn since(&self, version: u64) -> Option<impl Iterator<Item = &Arc<Entry>> + Clone> {
        let missing = usize::try_from(self.version.checked_sub(version)?).ok()?;
        Some(self.log.iter().skip(self.log.len().checked_sub(missing)?))
    }

    /// The delta from one version to a later one; `None` if commits between are forgotten, or longer than the whole.
    fn delta(&self, from: u64, to: u64) -> Option<String> {
        let count = usize::try_from(to.checked_sub(from)?).ok()?;
        let deltas = self.since(from)?.take(count).map(|entry| &*entry.record.delta);
        let bytes: usize = deltas.clone().map(|delta| delta.get().len()).sum();
        (bytes <= self.bytes).then(|| concatenate(deltas, bytes))
    }

    /// The message that takes a page from one version to a later one, and the version that it then has: the commits
    /// between, or the whole.
    fn message(&mut self, from: u64, to: u64) -> (u64, Utf8Bytes) {
        if let Some((first, last, message)) = &self.span
            && (*first, *last) == (from, to)
        {
            return (to, message.clone());
        }
        let single = self.since(from).and_then(|mut commits| commits.next()).filter(|_| to == from + 1);
        if let Some(entry) = single.filter(|entry| entry.record.delta.get().len() <= self.bytes) {
            return (to, entry.message.clone());
        }
        let Some(delta) = self.delta(from, to) else { return (self.version, self.whole()) };
        let message = Utf8Bytes::from(format!(r#"{{"version":{to},"delta":{delta}}}"#));
        self.span = Some((from, to, message.clone()));
        (to, message)
    }

    /// The message with the whole document.
    fn whole(&mut self) -> Utf8Bytes {
        let Self { incarnation, version, value, whole, .. } = self;
        let text = || format!(r#"{{"document":"{incarnation}","version":{version},"data":{value}}}"#);
        whole.get_or_insert_with(|| text().into()).clone()
    }

    /// The first message on a socket, given what its page has already: the way from there, or the whole.
    pub(super) fn greeting(&mut self, known: Option<(&str, u64)>) -> Utf8Bytes {
        let Self { incarnation, version, .. } = &*self;
        let known = known.filter(|(document, _)| document == incarnation);
        match known.and_then(|(_, since)| self.delta(since, *version)) {
            Some(delta) => {
                format!(r#"{{"document":"{incarnation}","version":{version},"delta":{delta}}}"#).into()
            }
            None => self.whole(),
        }
    }
}

/// Deltas one after the other are a delta. `bytes` is how many they have.
fn concatenate<'a>(deltas: impl Iterator<Item = &'a RawValue>, bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 2);
    for delta in deltas {
        let operations = delta.get().strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
        text.push(if text.is_empty() { '[' } else { ',' });
        text.push_str(operations.unwrap_or_default());
    }
    if text.is_empty() {
        text.push('[');
    }
    text.push(']');
    text
}

impl Document {
    pub(super) fn new(key: String, state: State) -> Self {
        Self { key, state: Mutex::new(state), changed: watch::Sender::new(()) }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// What a socket has to hear that has heard up to `heard`: other people's commits and the answers to its own, in
    /// the order of versions, then refusals. `answers` is read under the lock under which commits are taken up, so
    /// that whatever is committed is answered here too.
    pub(super) fn news(
        &self,
        heard: &mut u64,
        mut answers: impl FnMut() -> Option<Answer>,
    ) -> Vec<Utf8Bytes> {
        let mut guard = self.state();
        let state = &mut *guard;
        let (mut accepted, mut refused) = (Vec::new(), Vec::new());
        while let Some(answer) = answers() {
            match answer.version() {
                Some(version) => accepted.push((version, answer)),
                None => refused.push(answer),
            }
        }
        accepted.sort_by_key(|(version, _)| *version);
        let mut messages = Vec::new();
        for (version, answer) in accepted {
            if version > *heard {
                if version - 1 > *heard {
                    let (reached, message) = state.message(*heard, version - 1);
                    messages.push(message);
                    *heard = reached;
                }
                *heard = version.max(*heard);
            }
            messages.push(answer.to_message());
        }
        if state.version > *heard {
            let newest = state.version;
            let (reached, message) = state.message(*heard, newest);
            messages.push(message);
            *heard = reached;
        }
        messages.extend(refused.iter().map(Answer::to_message));
        messages
    }
}
