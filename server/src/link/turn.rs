//! How long a link works before other tasks have their turn.

use std::time::{Duration, Instant};

/// How long a link works before other tasks have their turn, whatever it has to do: handlers of sixteen thousand channels that
/// have something to send, a batch of a million frames. A step beyond it takes 0.1 ms at most.
const TURN: Duration = Duration::from_micros(500);

/// Pipes, entries and events are looked after by so many before the clock is looked at: some 10 µs.
pub(super) const STRIDE: usize = 32;

/// One turn of a link.
pub(super) struct Turn(Option<Instant>);

impl Turn {
    pub(super) fn begin() -> Self {
        Self(Some(Instant::now() + TURN))
    }

    /// A turn that no clock ends.
    pub(super) fn endless() -> Self {
        Self(None)
    }

    pub(super) fn is_over(&self) -> bool {
        self.0.is_some_and(|end| Instant::now() >= end)
    }

    /// Does steps while there are some, or until the turn is over. Returns whether there was a step.
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
