//! A limit on aborted opens. Two small frames make a server run a request, so a client could abuse them (compare
//! HTTP/2 rapid reset).

use crate::Millis;

/// The time in which the whole limit is restored. 10 s: the burst of a page that is left or reloaded is over by then.
const PERIOD: Millis = 10_000;

/// Counts the aborted opens of a link, and restores the limit with time.
#[derive(Debug)]
pub(crate) struct AbortedOpenLimiter {
    max: u32,
    left: u32,
    /// The time up to which `left` has been topped up.
    counted: Millis,
}

impl AbortedOpenLimiter {
    /// Creates a limiter that accepts `max` aborted opens in ten seconds.
    pub(crate) fn new(max: u32, now: Millis) -> Self {
        Self { max, left: max, counted: now }
    }

    /// Counts one aborted open.
    pub(crate) fn count(&mut self) {
        self.left = self.left.saturating_sub(1);
    }

    /// Returns whether the limit is used up at `now`.
    pub(crate) fn is_exhausted(&mut self, now: Millis) -> bool {
        let earned = now.saturating_sub(self.counted).saturating_mul(self.max.into()) / PERIOD;
        // A fraction of an open stays in the time that is still to be counted.
        if earned > 0 {
            self.left = self.max.min(self.left.saturating_add(u32::try_from(earned).unwrap_or(u32::MAX)));
            self.counted = now;
        }
        self.left == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_restored_with_time_and_never_exceeded() {
        let mut limiter = AbortedOpenLimiter::new(10, 0);
        for _ in 0..10 {
            assert!(!limiter.is_exhausted(0));
            limiter.count();
        }
        assert!(limiter.is_exhausted(0));
        assert!(limiter.is_exhausted(PERIOD / 10 - 1));
        assert!(!limiter.is_exhausted(PERIOD / 10));
        limiter.count();
        assert!(limiter.is_exhausted(PERIOD / 10));
        assert!(!limiter.is_exhausted(100 * PERIOD));
        for _ in 0..10 {
            limiter.count();
        }
        assert!(limiter.is_exhausted(100 * PERIOD));
    }
}
