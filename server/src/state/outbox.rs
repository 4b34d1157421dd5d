//! What one socket has heard of its document, and the answers that are on their way to it.

use std::collections::VecDeque;

use axum::extract::ws::Utf8Bytes;
use tokio::sync::mpsc;

use super::answer::Answer;
use super::document::{Document, State};
use super::submission::Reached;

/// Commits of one socket that wait for their answers. A page that sends more waits, and nobody else does.
const MAX_WAITING: usize = 64;

/// Bytes of these commits beyond which no more are read: as many as the largest has.
const MAX_WAITING_BYTES: usize = 256 << 10;

/// What a socket has to hear now.
#[derive(Debug)]
pub(super) struct News {
    pub(super) messages: Vec<Utf8Bytes>,
    /// Next it has to hear the whole document, which has to be written out first. Then there may be more.
    pub(super) needs_whole: bool,
}

/// The order of what one socket hears.
#[derive(Debug)]
pub(super) struct Outbox {
    /// The version that its page has.
    heard: u64,
    sender: mpsc::UnboundedSender<Reached>,
    receiver: mpsc::UnboundedReceiver<Reached>,
    /// Answers that have come, those of accepted commits in the order of their versions.
    accepted: VecDeque<(u64, Reached)>,
    refused: Vec<Reached>,
    waiting: usize,
    waiting_bytes: usize,
    /// Whether a commit was given up without an answer.
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

    /// The page has got the whole document of that version.
    pub(super) fn has_whole(&mut self, version: u64) {
        self.heard = self.heard.max(version);
    }

    /// Whether a commit was given up without an answer: the socket has to end.
    pub(super) fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// Whether another commit may be read.
    pub(super) fn has_room(&self) -> bool {
        self.waiting < MAX_WAITING && self.waiting_bytes < MAX_WAITING_BYTES
    }

    /// A commit of so many bytes will be answered through what is returned.
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

    /// Returns what the socket must hear: other people's commits and the answers to its own, in the order of versions, then
    /// refusals. The answers are read under the lock under which commits are taken up, so that each commit that the socket
    /// hears of is answered here too.
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

    /// Adds what takes the page to a version, or a later one; false if that has to be written out first.
    fn catch_up(&mut self, state: &mut State, version: u64, messages: &mut Vec<Utf8Bytes>) -> bool {
        let Some((reached, message)) = state.message(self.heard, version) else { return false };
        messages.push(message);
        self.heard = reached;
        true
    }
}
