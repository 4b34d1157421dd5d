//! The version that one socket has reached, and the answers that wait to be sent to it.

use std::collections::VecDeque;

use axum::extract::ws::Utf8Bytes;
use tokio::sync::mpsc;

use super::answer::Answer;
use super::document::{Document, State};
use super::submission::Reached;

/// The most commits of one socket that wait for their answers. Only a page that sends more waits.
const MAX_WAITING: usize = 64;

/// The bytes of waiting commits at which the socket stops reading: the size of the largest commit.
const MAX_WAITING_BYTES: usize = 256 << 10;

/// The messages that the socket must send now.
#[derive(Debug)]
pub(super) struct News {
    pub(super) messages: Vec<Utf8Bytes>,
    /// Whether the socket must send the whole document next, which has to be serialised first. More news may follow it.
    pub(super) needs_whole: bool,
}

/// Puts the messages of one socket into order.
#[derive(Debug)]
pub(super) struct Outbox {
    /// The version that the page has.
    heard: u64,
    sender: mpsc::UnboundedSender<Reached>,
    receiver: mpsc::UnboundedReceiver<Reached>,
    /// Answers that have arrived; those of accepted commits in the order of their versions.
    accepted: VecDeque<(u64, Reached)>,
    refused: Vec<Reached>,
    waiting: usize,
    waiting_bytes: usize,
    /// Whether the store dropped a commit without an answer.
    has_failed: bool,
}

impl Outbox {
    pub(super) fn new(heard: u64) -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        Self {
            heard,
            sender,
            receiver,
            accepted: VecDeque::new(),
            refused: Vec::new(),
            waiting: 0,
            waiting_bytes: 0,
            has_failed: false,
        }
    }

    pub(super) fn heard(&self) -> u64 {
        self.heard
    }

    /// Records that the page got the whole document of `version`.
    pub(super) fn has_whole(&mut self, version: u64) {
        self.heard = self.heard.max(version);
    }

    /// Returns whether the store dropped a commit without an answer. The socket must then close.
    pub(super) fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// Returns whether the socket may read another commit.
    pub(super) fn has_room(&self) -> bool {
        self.waiting < MAX_WAITING && self.waiting_bytes < MAX_WAITING_BYTES
    }

    /// Counts a commit of `bytes` bytes as waiting. Returns the sender for its answer.
    pub(super) fn expect(&mut self, bytes: usize) -> mpsc::UnboundedSender<Reached> {
        self.waiting += 1;
        self.waiting_bytes += bytes;
        self.sender.clone()
    }

    /// Waits for an answer.
    pub(super) async fn answered(&mut self) {
        if let Some(reached) = self.receiver.recv().await {
            self.sort(reached);
        }
    }

    fn sort(&mut self, reached: Reached) {
        self.waiting -= 1;
        self.waiting_bytes -= reached.commit_bytes;
        match reached.answer.as_ref().map(Answer::version) {
            Some(Some(version)) => {
                let at = self.accepted.partition_point(|(other, _)| *other <= version);
                self.accepted.insert(at, (version, reached));
            }
            Some(None) => self.refused.push(reached),
            None => self.has_failed = true,
        }
    }

    /// Returns the messages for the socket: other people's commits and the answers to its own, in the order of versions, then
    /// refusals. The answers are read under the lock under which commits are taken up, so that each commit that the socket
    /// hears of is answered here too. At most [`has_room`](Self::has_room) answers wait.
    pub(super) fn news(&mut self, document: &Document) -> News {
        let state = &mut *document.state();
        while let Ok(reached) = self.receiver.try_recv() {
            self.sort(reached);
        }
        let mut messages = Vec::new();
        while let Some((version, reached)) = self.accepted.front() {
            let version = *version;
            if version > self.heard {
                if version - 1 > self.heard && !self.catch_up(state, version - 1, &mut messages) {
                    return News { messages, needs_whole: true };
                }
                self.heard = self.heard.max(version);
            } else {
                messages.extend(reached.answer.as_ref().map(Answer::to_message));
                self.accepted.pop_front();
            }
        }
        if state.version > self.heard && !self.catch_up(state, state.version, &mut messages) {
            return News { messages, needs_whole: true };
        }
        messages.extend(self.refused.drain(..).filter_map(|reached| Some(reached.answer?.to_message())));
        News { messages, needs_whole: false }
    }

    /// Adds the message that takes the page to `version` or a later one. Returns false if the document has to be serialised
    /// first.
    fn catch_up(&mut self, state: &mut State, version: u64, messages: &mut Vec<Utf8Bytes>) -> bool {
        let Some((reached, message)) = state.message(self.heard, version) else { return false };
        messages.push(message);
        self.heard = reached;
        true
    }
}
