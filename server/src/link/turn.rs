//! Limits how long a link's task runs before it yields to other tasks.

use std::time::{Duration, Instant};

/// The longest time that a link's task runs before it yields, whatever its work: for example 16,000 channels whose
/// handlers send at once, or a batch of a million frames. A step past the end costs 0.1 ms at most.
const TURN: Duration = Duration::from_micros(500);

/// The number of steps between two reads of the clock: about 10 µs of work.
pub(super) const STRIDE: usize = 32;

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

    /// Calls `step` until it returns false or the turn is over. Returns whether a step did anything.
    pub(super) fn until_over(&self, mut step: impl FnMut() -> bool) -> bool {
        let mut steps = 0;
        while step() {
            steps += 1;
            if steps % STRIDE == 0 && self.is_over() {
                break;
            }
        }
        steps > 0
    }
}
