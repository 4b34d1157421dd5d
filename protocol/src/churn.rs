//! Opens that come to nothing: what a client can have a server do for two small frames, and so is limited.

use crate::Millis;

/// The time in which all of the limit comes back. 10 s: a burst of a page that is left or reloaded is over by then.
const PERIOD: Millis = 10_000;

/// How many may still come to nothing.
#[derive(Debug)]
pub(crate) struct Churn {
    most: u32,
    left: u32,
    /// Up to when `left` has been topped up.
    counted: Millis,
}

impl Churn {
    pub(crate) fn new(most: u32, now: Millis) -> Self {
        Self { most, left: most, counted: now }
    }

    /// One more came to nothing.
    pub(crate) fn count(&mut self) {
        self.left = self.left.saturating_sub(1);
    }

    /// Whether there were too many by `now`.
    pub(crate) fn is_exhausted(&mut self, now: Millis) -> bool {
        let earned = now.saturating_sub(self.counted).saturating_mul(self.most.into()) / PERIOD;
        // What has been earned in part stays to be counted.
        if earned > 0 {
            self.left = self.most.min(self.left.saturating_add(u32::try_from(earned).unwrap_or(u32::MAX)));
            self.counted = now;
        }
        self.left == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_back_with_time_and_no_further_than_it_was() {
        let mut churn = Churn::new(10, 0);
        for _ in 0..10 {
            assert!(!churn.is_exhausted(0));
            churn.count();
        }
        assert!(churn.is_exhausted(0));
        assert!(churn.is_exhausted(PERIOD / 10 - 1));
        assert!(!churn.is_exhausted(PERIOD / 10));
        churn.count();
        assert!(churn.is_exhausted(PERIOD / 10));
        assert!(!churn.is_exhausted(100 * PERIOD));
        for _ in 0..10 {
            churn.count();
        }
        assert!(churn.is_exhausted(100 * PERIOD));
    }
}
