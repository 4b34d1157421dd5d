//! Counts the `bufferedAmount` of a socket.

use std::collections::VecDeque;

/// The bytes of a socket's messages that the network has not carried.
///
/// The physical WebSocket carries bytes in order. Its host knows how many it has carried in all; each message is marked
/// with the count at which it has left.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Unsent {
    /// Bytes that were never handed to the physical WebSocket.
    pub(super) waiting: u64,
    /// Pairs of a mark and a number of bytes, ascending: these bytes have left once the physical WebSocket has carried `mark` bytes in all.
    handed_over: VecDeque<(u64, u64)>,
}

impl Unsent {
    /// Returns the bytes that have not left once the physical WebSocket has carried `sent` bytes in all (see
    /// [`Link::sent`](super::Link::sent)).
    pub fn bytes(&self, sent: u64) -> u64 {
        let left = self.handed_over.iter().filter(|&&(mark, _)| mark > sent);
        self.waiting + left.map(|&(_, bytes)| bytes).sum::<u64>()
    }

    /// The same, with bytes that were never handed over.
    pub(super) fn with(mut self, waiting: u64) -> Self {
        self.waiting = waiting;
        self
    }

    /// Counts `bytes` that went to the physical WebSocket. They have left once it has carried `mark` bytes in all.
    pub(super) fn hand_over(&mut self, bytes: u64, mark: u64, sent: u64) {
        match self.handed_over.back_mut() {
            Some((last, sum)) if *last == mark => *sum += bytes,
            _ => {
                self.forget_sent(sent);
                self.handed_over.push_back((mark, bytes));
            }
        }
    }

    /// Forgets the bytes that the physical WebSocket has carried.
    pub(super) fn forget_sent(&mut self, sent: u64) {
        while self.handed_over.front().is_some_and(|&(mark, _)| mark <= sent) {
            self.handed_over.pop_front();
        }
    }
}
