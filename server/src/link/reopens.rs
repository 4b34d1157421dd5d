//! Keeps the order of a close and the open that follows it: an open of a path waits until the handler or upstream of a socket
//! that the page has closed there has answered the close.
//!
//! A browser takes a connection to open a socket, so natively the close is there first. Servers rely on that when they keep a
//! session for a user and end it at `close`.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use manysocket_protocol::Channel;
use tokio::time::{Instant, Sleep};

/// The longest time that an open waits: several round trips to an upstream, and short enough for a user where the handler
/// reads nothing any more.
const BOUND: Duration = Duration::from_millis(500);

/// An open that waits: its place among the link's waiting opens, and its channel.
pub(super) type Held = (u64, Channel);

/// The sockets of one path that the page has closed.
#[derive(Debug, Default)]
struct Closing {
    sockets: usize,
    held: Vec<Held>,
    /// The handlers have had their time. Opens wait no longer until all of these have answered.
    is_overdue: bool,
}

/// The closes of a link that have no answer, by path, and the opens that wait for them.
#[derive(Debug, Default)]
pub(super) struct Reopens {
    closing: HashMap<Arc<str>, Closing>,
    /// When the opens of a path have waited for long enough; the earliest first.
    deadlines: VecDeque<(Instant, Arc<str>)>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Reopens {
    /// Counts a socket that the page has closed.
    pub(super) fn closed(&mut self, path: &Arc<str>) {
        self.closing.entry(Arc::clone(path)).or_default().sockets += 1;
    }

    /// Counts the answer to a close, and returns the opens that waited for it.
    pub(super) fn answered(&mut self, path: &str) -> Vec<Held> {
        let Some(closing) = self.closing.get_mut(path) else { return Vec::new() };
        closing.sockets -= 1;
        if closing.sockets > 0 {
            return Vec::new();
        }
        let held = self.closing.remove(path).map(|closing| closing.held).unwrap_or_default();
        if self.closing.is_empty() {
            *self = Self::default();
        }
        held
    }

    /// Adds an open if it has to wait; returns whether it has.
    pub(super) fn hold(&mut self, path: &str, held: Held) -> bool {
        let Some((path, _)) = self.closing.get_key_value(path) else { return false };
        let path = Arc::clone(path);
        let Some(closing) = self.closing.get_mut(&path).filter(|closing| !closing.is_overdue) else {
            return false;
        };
        closing.held.push(held);
        if closing.held.len() == 1 {
            self.deadlines.push_back((Instant::now() + BOUND, path));
        }
        true
    }

    /// Returns the opens of the next path that have waited for long enough.
    pub(super) fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<Vec<Held>> {
        let Some(&(at, _)) = self.deadlines.front() else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        if timer.deadline() != at {
            timer.as_mut().reset(at);
        }
        std::task::ready!(timer.as_mut().poll(cx));
        let path = self.deadlines.pop_front().map(|(_, path)| path);
        let closing = path.and_then(|path| self.closing.get_mut(&path));
        Poll::Ready(closing.map_or_else(Vec::new, |closing| {
            closing.is_overdue = true;
            std::mem::take(&mut closing.held)
        }))
    }
}
