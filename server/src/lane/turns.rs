//! Work of many peers for one thread: each peer has a queue, and the thread takes one piece of work from each in turn.

use std::collections::{HashMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Queues of peers that take turns.
#[derive(Debug)]
pub(crate) struct Rounds<T> {
    queues: HashMap<u64, VecDeque<T>>,
    /// The peers with queued work, in the order of their turns.
    ring: VecDeque<u64>,
}

impl<T> Default for Rounds<T> {
    fn default() -> Self {
        Self { queues: HashMap::new(), ring: VecDeque::new() }
    }
}

impl<T> Rounds<T> {
    /// Appends work to the peer's queue.
    pub(crate) fn push(&mut self, peer: u64, work: T) {
        let queue = self.queues.entry(peer).or_default();
        if queue.is_empty() {
            self.ring.push_back(peer);
        }
        queue.push_back(work);
    }

    /// Puts work back in front of all other work, of its peer and of others.
    pub(crate) fn put_back(&mut self, peer: u64, work: T) {
        let queue = self.queues.entry(peer).or_default();
        if !queue.is_empty() {
            self.ring.retain(|other| *other != peer);
        }
        self.ring.push_front(peer);
        queue.push_front(work);
    }

    /// Removes and returns the next piece of work.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let peer = self.ring.pop_front()?;
        let queue = self.queues.get_mut(&peer)?;
        let work = queue.pop_front();
        if queue.is_empty() {
            self.queues.remove(&peer);
        } else {
            self.ring.push_back(peer);
        }
        work
    }
}

/// [`Rounds`] that threads share.
#[derive(Debug)]
pub(crate) struct Turns<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

#[derive(Debug)]
struct State<T> {
    rounds: Rounds<T>,
    is_closed: bool,
}

impl<T> Turns<T> {
    pub(crate) fn new() -> Self {
        let state = State { rounds: Rounds::default(), is_closed: false };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn push(&self, peer: u64, work: T) {
        self.state().rounds.push(peer, work);
        self.changed.notify_one();
    }

    /// Closes the queue: only the consumer may add work from now on.
    pub(crate) fn close(&self) {
        self.state().is_closed = true;
        self.changed.notify_all();
    }

    /// Returns the next piece of work, if there is one.
    pub(crate) fn try_take(&self) -> Option<T> {
        self.state().rounds.pop()
    }

    /// Waits for the next piece of work; `None` once the queue is closed and empty, unless something `is_expected`.
    pub(crate) fn take(&self, is_expected: bool) -> Option<T> {
        let mut state = self.state();
        loop {
            if let Some(work) = state.rounds.pop() {
                return Some(work);
            }
            if state.is_closed && !is_expected {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(rounds: &mut Rounds<&'static str>) -> Vec<&'static str> {
        std::iter::from_fn(|| rounds.pop()).collect()
    }

    #[test]
    fn a_peer_with_much_to_do_does_not_keep_others_waiting() {
        let mut rounds = Rounds::default();
        for work in ["a1", "a2", "a3", "a4"] {
            rounds.push(1, work);
        }
        rounds.push(2, "b1");
        rounds.push(3, "c1");
        rounds.push(3, "c2");
        assert_eq!(drain(&mut rounds), ["a1", "b1", "c1", "a2", "c2", "a3", "a4"]);
        assert!(rounds.queues.is_empty() && rounds.ring.is_empty());
    }

    #[test]
    fn returned_work_is_first() {
        let mut rounds = Rounds::default();
        for (peer, work) in [(1, "a2"), (1, "a3"), (2, "b2")] {
            rounds.push(peer, work);
        }
        // `a1` was done; these two were taken with it.
        for (peer, work) in [(2, "b1"), (3, "c1")].into_iter().rev() {
            rounds.put_back(peer, work);
        }
        assert_eq!(drain(&mut rounds), ["b1", "c1", "a2", "b2", "a3"]);
    }
}
