//! Limits how long a link's task runs, and how much work it hands to other tasks, before it yields.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// The longest time that a link's task runs before it yields, whatever its work: for example 16,000 channels whose
/// handlers send at once, or a batch of a million frames. A step past the end costs 0.1 ms at most.
const TURN: Duration = Duration::from_micros(500);

/// The number of small steps between two reads of the clock: about 10 µs of work.
const STRIDE: usize = 32;

/// The bytes of messages after which the clock is read, too: a text of a mebibyte is measured in some 0.1 ms, so 32 steps of
/// them would take milliseconds.
const BYTES: usize = 64 * 1024;

/// The work that one turn hands to other tasks, in bytes of messages: handlers check and copy 128 KiB in 0.6 ms. The runtime
/// runs tasks in the order in which they became ready: without a limit, 256 opens of one link, of
/// 20 to 80 µs each, would stand before everybody else's tasks.
const HANDED: usize = 128 * 1024;

/// The cost of an open that begins or is aborted: a turn has 16.
pub(super) const OPEN: usize = HANDED / 16;

/// The cost of a handler that is woken: a turn has 256, at 1 to 2 µs each.
pub(super) const WAKE: usize = HANDED / 256;

/// The least cost of a message: a turn has 2,048, at 0.3 µs each.
const MESSAGE: usize = HANDED / 2048;

/// One turn of a link's task.
pub(super) struct Turn {
    end: Option<Instant>,
    handed: Cell<usize>,
}

impl Turn {
    pub(super) fn begin() -> Self {
        Self { end: Some(Instant::now() + TURN), handed: Cell::new(0) }
    }

    /// Returns a turn without a limit.
    pub(super) fn endless() -> Self {
        Self { end: None, handed: Cell::new(0) }
    }

    pub(super) fn is_over(&self) -> bool {
        self.end.is_some_and(|end| self.handed.get() >= HANDED || Instant::now() >= end)
    }

    /// Counts work that another task now has: [`OPEN`] or [`WAKE`].
    pub(super) fn hand(&self, cost: usize) {
        self.handed.set(self.handed.get() + cost);
    }

    /// Counts a message for another task.
    pub(super) fn hand_message(&self, bytes: usize) {
        self.hand(bytes.max(MESSAGE));
    }

    /// Calls `step` until it returns `None` or the turn is over. A step returns the bytes of the messages that it has passed
    /// on. Returns whether a step did anything.
    pub(super) fn until_over(&self, mut step: impl FnMut() -> Option<usize>) -> bool {
        let (mut any, mut steps, mut bytes) = (false, 0, 0);
        while let Some(passed) = step() {
            any = true;
            steps += 1;
            bytes += passed;
            if steps >= STRIDE || bytes >= BYTES || self.handed.get() >= HANDED {
                if self.is_over() {
                    break;
                }
                (steps, bytes) = (0, 0);
            }
        }
        any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the number of steps that a turn takes.
    fn steps(turn: &Turn, step: impl Fn(&Turn) -> usize) -> usize {
        let mut steps = 0;
        turn.until_over(|| {
            steps += 1;
            Some(step(turn))
        });
        steps
    }

    #[test]
    fn a_turn_ends_after_few_steps_or_bytes() {
        for (bytes, expected) in [(0, STRIDE), (1000, STRIDE), (10_000, 7), (BYTES, 1), (64 << 20, 1)] {
            let over = Turn { end: Some(Instant::now()), handed: Cell::new(0) };
            assert_eq!(steps(&over, |_| bytes), expected, "steps of {bytes} bytes");
        }
        assert!(!Turn::begin().until_over(|| None));
    }

    #[test]
    fn a_turn_ends_when_other_tasks_have_enough_to_do() {
        let hand = |cost: usize| {
            // Longer than a test: only work that is handed on counts.
            let turn = Turn { end: Some(Instant::now() + Duration::from_secs(3600)), handed: Cell::new(0) };
            steps(&turn, |turn| {
                turn.hand(cost);
                0
            })
        };
        assert_eq!((hand(OPEN), hand(WAKE), hand(64 << 20)), (16, 256, 1));
        let turn = Turn { end: Some(Instant::now() + Duration::from_secs(3600)), handed: Cell::new(0) };
        let messages = steps(&turn, |turn| {
            turn.hand_message(1);
            1
        });
        assert_eq!(messages, 2048);
    }
}
