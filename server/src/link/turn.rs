//! Limits how long a link's task runs before it yields to other tasks.

use std::time::{Duration, Instant};

/// The longest time that a link's task runs before it yields, whatever its work: for example 16,000 channels whose
/// handlers send at once, or a batch of a million frames. A step past the end costs 0.1 ms at most.
const TURN: Duration = Duration::from_micros(500);

/// The number of small steps between two reads of the clock: about 10 µs of work.
pub(super) const STRIDE: usize = 32;

/// The bytes of messages after which the clock is read, too: a text of a mebibyte is measured in some 0.1 ms, so 32 steps of
/// them would take milliseconds.
const BYTES: usize = 64 * 1024;

/// One turn of a link's task.
pub(super) struct Turn(Option<Instant>);

impl Turn {
    pub(super) fn begin() -> Self {
        Self(Some(Instant::now() + TURN))
    }

    /// Returns a turn without a time limit.
    pub(super) fn endless() -> Self {
        Self(None)
    }

    pub(super) fn is_over(&self) -> bool {
        self.0.is_some_and(|end| Instant::now() >= end)
    }

    /// Calls `step` until it returns `None` or the turn is over. A step returns the bytes of the messages that it has passed
    /// on. Returns whether a step did anything.
    pub(super) fn until_over(&self, mut step: impl FnMut() -> Option<usize>) -> bool {
        let (mut any, mut steps, mut bytes) = (false, 0, 0);
        while let Some(passed) = step() {
            any = true;
            steps += 1;
            bytes += passed;
            if steps >= STRIDE || bytes >= BYTES {
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

    /// Returns the number of steps that a turn takes which is over at its begin.
    fn steps(bytes: usize) -> usize {
        let (over, mut steps) = (Turn(Some(Instant::now())), 0);
        over.until_over(|| {
            steps += 1;
            Some(bytes)
        });
        steps
    }

    #[test]
    fn a_turn_ends_after_few_steps_or_bytes() {
        for (bytes, expected) in [(0, STRIDE), (1000, STRIDE), (10_000, 7), (BYTES, 1), (64 << 20, 1)] {
            assert_eq!(steps(bytes), expected, "steps of {bytes} bytes");
        }
        assert!(!Turn::begin().until_over(|| None));
    }
}
