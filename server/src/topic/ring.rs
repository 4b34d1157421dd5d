//! The messages of one topic: each is held once, for all subscribers that have still to read it and for new ones.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::mem::size_of;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::ws::Message;
use bytes::Bytes;
use tokio::time::Instant;

use crate::budget::compact;
use crate::waiters::Waiters;

use super::limits::TopicLimits;
use super::lock::lock;
use super::memory::{Shed, TopicUsage};
use super::positions::{Beginning, Since};

/// The bytes of memory that a message costs besides its content and its slot: two blocks of the allocator, and the counter of
/// references to the content.
const MESSAGE: usize = 96;

/// The bytes of memory that a slot costs: at most half of them are free.
const SLOT: usize = 2 * size_of::<BufferedMessage>();

/// The bytes of memory that a subscriber costs here: its number and waker in a tree whose nodes are half full.
const SUBSCRIBER: usize = 64;

/// Slots that a ring may keep allocated, however few it needs: a topic's base cost includes them.
const SPARE_SLOTS: usize = 8;

/// A larger message is not copied: the buffer that it came in is then hardly larger than the message.
const MAX_COPY: usize = 1 << 20;

/// The messages of a topic for its subscribers in this process.
#[derive(Debug)]
pub(super) struct Ring {
    state: Mutex<State>,
    limits: TopicLimits,
    /// The bytes that the topic costs without messages and subscribers.
    base: usize,
    /// The bytes that the topic holds, as counted in `memory`.
    own: Arc<AtomicUsize>,
    memory: Arc<TopicUsage>,
    number: u64,
    /// Distinguishes this topic from an earlier one of the same name.
    epoch: Box<str>,
}

#[derive(Debug, Default)]
struct State {
    slots: VecDeque<BufferedMessage>,
    /// The position of the oldest slot.
    first: u64,
    subscribers: usize,
    waiters: Waiters,
    /// The bytes of all messages and of their events, and of their slots.
    content: usize,
    is_lost: bool,
}

#[derive(Debug)]
struct BufferedMessage {
    /// `None`: an unknown number of messages may be missing here.
    message: Option<Message>,
    /// The message in each other [`Form`], once a subscriber has asked for it.
    forms: [Option<Box<Bytes>>; 2],
    /// The subscribers that have still to read it.
    unread: usize,
    /// The subscriber that sent it.
    from: Option<u64>,
    at: Instant,
}

/// A form of a message that its subscribers share.
#[derive(Debug, Clone, Copy)]
pub(super) enum Form {
    /// A Server-Sent Event.
    Event,
    /// With its number.
    Numbered,
}

/// An item that a subscriber reads.
#[derive(Debug)]
pub(super) enum Item {
    /// A message, and its position.
    Message(Message, u64),
    /// A message that this subscriber does not get.
    Skipped,
    /// Messages that are missing here; `None` if their number is not known.
    Missed(Option<u64>),
    /// The topic is lost: its numbers mean nothing any more.
    Lost,
}

/// The state of a message in the ring.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Published {
    /// The subscribers in this process.
    pub(super) subscribers: usize,
    /// Its number; `None` if it was lost.
    pub(super) number: Option<u64>,
}

/// A topic as a file has it.
#[derive(Debug)]
pub(super) struct Saved {
    pub(super) epoch: Box<str>,
    /// The number of the last message that the topic has had.
    pub(super) last: u64,
    /// Those that are kept, in order.
    pub(super) messages: Vec<SavedMessage>,
}

/// A message that a file has.
#[derive(Debug)]
pub(super) struct SavedMessage {
    pub(super) number: u64,
    /// `None`: it is damaged.
    pub(super) message: Option<Message>,
    pub(super) age: Duration,
}

/// A subscriber's place in a ring.
#[derive(Debug)]
pub(super) struct Cursor {
    position: u64,
    number: u64,
}

impl Cursor {
    /// Returns the number of the last message before it: the first one of a topic has the number 1.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Returns the subscriber.
    pub(super) fn number(&self) -> u64 {
        self.number
    }
}

impl BufferedMessage {
    fn cost(&self) -> usize {
        let message = self.message.as_ref().map_or(SLOT, cost);
        let forms = self.forms.iter().flatten().map(|form| form.len() + MESSAGE);
        message + forms.sum::<usize>()
    }
}

impl State {
    /// Returns the place of a position among the slots.
    fn index(&self, position: u64) -> Option<usize> {
        usize::try_from(position.checked_sub(self.first)?).ok().filter(|&index| index < self.slots.len())
    }

    /// Returns the position behind the newest slot.
    fn end(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    fn push(&mut self, message: Option<Message>, from: Option<u64>, at: Instant) {
        let unread = self.subscribers;
        let slot = BufferedMessage { message, forms: [None, None], unread, from, at };
        self.content += slot.cost();
        self.slots.push_back(slot);
    }

    /// Makes the state from the messages of a file. A number that the file lacks is a gap.
    fn restored(last: u64, messages: Vec<SavedMessage>) -> Self {
        let now = Instant::now();
        let first = messages.first().map_or(last, |oldest| oldest.number - 1);
        let mut state = Self { first, ..Self::default() };
        for SavedMessage { number, message, age } in messages {
            while state.end() + 1 < number {
                state.push(None, None, now);
            }
            state.push(message, None, now.checked_sub(age).unwrap_or(now));
        }
        state
    }

    fn pop(&mut self) -> bool {
        let Some(slot) = self.slots.pop_front() else { return false };
        self.content -= slot.cost();
        self.first += 1;
        true
    }

    /// Drops what all have read and no later subscriber gets.
    fn trim(&mut self, limits: &TopicLimits) {
        while let Some(slot) = self.slots.front()
            && slot.unread == 0
            && !limits.keep(self.slots.len(), self.content, slot.at.elapsed())
        {
            self.pop();
        }
        let capacity = self.slots.capacity();
        if capacity > SPARE_SLOTS && self.slots.len() < capacity / 2 {
            self.slots.shrink_to(self.slots.len() + self.slots.len() / 4);
        }
    }
}

impl Ring {
    /// Makes the ring of a topic that costs `base` bytes, with the messages of a file, and counts it in `memory`.
    pub(super) fn new(
        base: usize,
        limits: TopicLimits,
        memory: &Arc<TopicUsage>,
        saved: Option<Saved>,
    ) -> Arc<Self> {
        Arc::new_cyclic(|ring| {
            let own = Arc::new(AtomicUsize::new(base));
            let number = memory.add(ring.clone() as Weak<dyn Shed>, Arc::clone(&own), base);
            let (state, epoch) = match saved {
                None => {
                    (State::default(), format!("{:x}", RandomState::new().hash_one(number)).into_boxed_str())
                }
                Some(Saved { epoch, last, messages }) => {
                    let mut state = State::restored(last, messages);
                    while !memory.fits(state.content, limits.max_memory) && state.pop() {}
                    memory.change(&own, base + state.content);
                    (state, epoch)
                }
            };
            let memory = Arc::clone(memory);
            Self { state: Mutex::new(state), limits, base, own, memory, number, epoch }
        })
    }

    /// Adds a subscriber, which first reads the history, or the messages that it has missed.
    pub(super) fn subscribe(&self, since: &Since) -> (Cursor, Beginning) {
        let mut state = lock(&self.state);
        state.trim(&self.limits);
        let length = state.slots.len();
        let (position, is_unknown) = match since {
            Since::After(number, epoch) if **epoch == *self.epoch && *number <= state.end() => {
                (*number, false)
            }
            Since::After(..) | Since::Unknown => (state.first, true),
            Since::Now => {
                let history = self.limits.history.max(usize::from(self.limits.retains_last));
                // Gaps before the first message of the history concern no new subscriber.
                let mut begin = length.saturating_sub(history)..length;
                let begin = begin.find(|&index| state.slots[index].message.is_some());
                (state.first + begin.unwrap_or(length) as u64, false)
            }
        };
        let begin = state.index(position.max(state.first)).unwrap_or(length);
        state.slots.range_mut(begin..).for_each(|slot| slot.unread += 1);
        state.subscribers += 1;
        let cursor = Cursor { position, number: state.waiters.number() };
        self.count(&state);
        (cursor, Beginning { position, is_unknown })
    }

    /// Returns the epoch, which distinguishes the positions of this topic from those of an earlier one.
    pub(super) fn epoch(&self) -> &str {
        &self.epoch
    }

    /// Returns whether the topic, which has had no subscribers since `idle`, has nothing for later ones.
    pub(super) fn is_over(&self, idle: Instant) -> bool {
        let newest = lock(&self.state).slots.back().map(|slot| slot.at);
        let age = newest.map_or(idle, |newest| newest.max(idle)).elapsed();
        self.limits.is_over(age, newest.is_none())
    }

    /// Removes a subscriber.
    pub(super) fn unsubscribe(&self, cursor: &Cursor) {
        let mut state = lock(&self.state);
        let begin = state.index(cursor.position.max(state.first)).unwrap_or(state.slots.len());
        state.slots.range_mut(begin..).for_each(|slot| slot.unread -= 1);
        state.subscribers -= 1;
        state.waiters.forget(cursor.number);
        state.trim(&self.limits);
        self.count(&state);
    }

    /// Returns the number of subscribers in this process.
    pub(super) fn subscribers(&self) -> usize {
        lock(&self.state).subscribers
    }

    /// Reads the next item; `None` if there is none yet.
    pub(super) fn read(&self, cursor: &mut Cursor) -> Option<Item> {
        self.read_locked(&mut lock(&self.state), cursor)
    }

    /// Reads the next item, or has the task woken when there is one.
    pub(super) fn poll_read(&self, cursor: &mut Cursor, cx: &Context<'_>) -> Poll<Item> {
        let mut state = lock(&self.state);
        match self.read_locked(&mut state, cursor) {
            Some(item) => Poll::Ready(item),
            None => {
                state.waiters.wait(cursor.number, cx);
                Poll::Pending
            }
        }
    }

    fn read_locked(&self, state: &mut State, cursor: &mut Cursor) -> Option<Item> {
        if state.is_lost {
            return Some(Item::Lost);
        }
        if cursor.position < state.first {
            let missed = state.first - cursor.position;
            cursor.position = state.first;
            return Some(Item::Missed(Some(missed)));
        }
        let index = state.index(cursor.position)?;
        let slot = &mut state.slots[index];
        slot.unread -= 1;
        let is_last = slot.unread == 0;
        let is_own = self.limits.skips_sender && slot.from == Some(cursor.number);
        let item = match &slot.message {
            Some(_) if is_own => Item::Skipped,
            Some(message) => Item::Message(message.clone(), cursor.position),
            None => Item::Missed(None),
        };
        cursor.position += 1;
        if is_last && index == 0 {
            state.trim(&self.limits);
            self.count(state);
        }
        Some(item)
    }

    /// Returns a form of the message at a position: made by the first subscriber that asks, and shared by the others.
    pub(super) fn form(&self, position: u64, form: Form, make: impl FnOnce() -> Bytes) -> Bytes {
        let shared = || {
            let state = lock(&self.state);
            state.slots[state.index(position)?].forms[form as usize].as_deref().cloned()
        };
        if let Some(made) = shared() {
            return made;
        }
        // Not under the lock: it takes as long as the message.
        let made = make();
        let mut state = lock(&self.state);
        if let Some(index) = state.index(position)
            // For the last one that reads it, it is not worth the memory.
            && state.slots[index].unread > 0
            && state.slots[index].forms[form as usize].is_none()
            && self.memory.fits(made.len() + MESSAGE, self.limits.max_memory)
        {
            state.slots[index].forms[form as usize] = Some(Box::new(made.clone()));
            state.content += made.len() + MESSAGE;
            self.count(&state);
        }
        made
    }

    /// Gives a message to the subscribers in this process; `from` is the one that sent it. Where there is no memory for the message, the
    /// topic loses its oldest ones as well, and the subscribers learn that messages are missing.
    pub(super) fn publish(&self, message: Message, from: Option<u64>) -> Published {
        if !self.admits(&message) {
            return Published { subscribers: self.evict(&message), number: None };
        }
        self.push(Some(copy(message)), from)
    }

    /// Notifies all subscribers that the topic is lost.
    #[cfg(feature = "nats")]
    pub(super) fn lose(&self) {
        let mut state = lock(&self.state);
        state.is_lost = true;
        let woken = state.waiters.take();
        drop(state);
        woken.wake();
    }

    /// Returns whether the topic is lost.
    pub(super) fn is_lost(&self) -> bool {
        lock(&self.state).is_lost
    }

    /// Gives a message that has been stored under a number to the subscribers in this process. Where there is no memory for it, the
    /// topic loses its oldest ones.
    pub(super) fn deliver(&self, message: Message, from: Option<u64>, number: u64) {
        if !self.admits(&message) {
            self.shed(2 * cost(&message) + self.held() / 16);
        }
        let mut state = lock(&self.state);
        if state.end() + 1 != number {
            // The store decides: subscribers learn that messages are missing.
            while state.pop() {}
            state.first = number - 1;
        }
        drop(state);
        // Nobody else adds to a topic that is stored.
        self.push(Some(copy(message)), from);
    }

    fn push(&self, message: Option<Message>, from: Option<u64>) -> Published {
        let mut state = lock(&self.state);
        state.push(message, from, Instant::now());
        let published = Published { subscribers: state.subscribers, number: Some(state.end()) };
        if state.slots.len() > self.limits.most() {
            state.pop();
        }
        state.trim(&self.limits);
        self.count(&state);
        let woken = state.waiters.take();
        drop(state);
        woken.wake();
        published
    }

    /// Returns whether there is memory for a message. If all topics hold too much, those that hold most lose their oldest messages
    /// for it; a topic that holds more than its share gets nothing.
    pub(super) fn admits(&self, message: &Message) -> bool {
        self.memory.make_room(self.held(), cost(message), self.limits.max_memory)
    }

    /// Drops the oldest messages in place of a new one that there is no memory for, so that the next one has room, and notifies the
    /// subscribers that messages are missing. Returns the number of subscribers.
    pub(super) fn evict(&self, message: &Message) -> usize {
        self.shed(2 * cost(message) + self.held() / 16);
        self.gap()
    }

    /// Notifies the subscribers that messages may be missing here, and returns their number.
    pub(super) fn gap(&self) -> usize {
        let state = lock(&self.state);
        let is_told = |slot: &BufferedMessage| slot.message.is_none() && slot.unread == state.subscribers;
        if state.slots.back().is_some_and(is_told) {
            return state.subscribers;
        }
        drop(state);
        self.push(None, None).subscribers
    }

    /// Returns the bytes that the topic holds.
    fn held(&self) -> usize {
        self.own.load(Ordering::Relaxed)
    }

    /// Counts the memory that the topic holds now.
    fn count(&self, state: &State) {
        let now = self.base + state.content + state.subscribers * SUBSCRIBER;
        self.memory.change(&self.own, now);
    }
}

impl Shed for Ring {
    fn shed(&self, bytes: usize) {
        let mut state = lock(&self.state);
        let least = state.content.saturating_sub(bytes);
        while state.content > least && state.pop() {}
        state.trim(&self.limits);
        self.count(&state);
        // A subscriber that is behind finds out when it reads on.
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.memory.remove(self.number, &self.own);
    }
}

/// Returns the bytes that a message costs.
fn cost(message: &Message) -> usize {
    let content = match message {
        Message::Text(text) => text.len(),
        Message::Binary(bytes) => bytes.len(),
        Message::Ping(_) | Message::Pong(_) | Message::Close(_) => 0,
    };
    content + MESSAGE + SLOT
}

/// Copies a message out of the buffer that it came in: a small part of that would keep the whole.
fn copy(message: Message) -> Message {
    match message {
        Message::Text(text) if text.len() <= MAX_COPY => Message::Text(text.as_str().into()),
        Message::Binary(bytes) if bytes.len() <= MAX_COPY => Message::Binary(compact(&bytes)),
        message => message,
    }
}
