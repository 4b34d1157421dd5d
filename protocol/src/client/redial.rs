//! When a link that has lost its connection dials another one (docs/protocol.md §8.1).

use crate::Millis;

/// How long a connection may take until the server has answered RESUME. Then another is dialled.
const ATTEMPT: Millis = 10_000;

/// The time between the first two attempts; it doubles with each.
const FIRST_DELAY: Millis = 250;

/// The longest time between two attempts: a network or a server that comes back is found within it.
const LONGEST_DELAY: Millis = 1_000;

/// A connection that is no older than this is waited for even if there are signs that the network is back.
const FRESH: Millis = 1_000;

/// A link without a connection.
#[derive(Debug)]
pub(super) struct Redial {
    /// Connections that have failed, one after the other.
    failed: u32,
    /// When to dial.
    pub(super) at: Millis,
    /// When the host dialled a connection that it still waits for.
    dialled_at: Option<Millis>,
}

impl Redial {
    /// Takes in that a connection is lost, or that one could not be made. `random` spreads the attempts of many clients.
    pub(super) fn after(failed: Option<&Self>, now: Millis, random: u32) -> Self {
        let failed = failed.map_or(0, |redial| redial.failed + 1);
        Self { failed, at: now + Self::delay(failed, random), dialled_at: None }
    }

    /// Returns the time between two attempts.
    fn delay(failed: u32, random: u32) -> Millis {
        if failed == 0 {
            return 0;
        }
        let delay = (FIRST_DELAY << (failed - 1).min(16)).min(LONGEST_DELAY);
        delay / 2 + Millis::from(random) % (delay / 2)
    }

    /// Takes in a sign that the network is back.
    pub(super) fn hurry(&mut self, now: Millis) {
        if self.dialled_at.is_none_or(|at| now >= at + FRESH) {
            self.at = self.at.min(now);
        }
    }

    /// Takes in that the host dials now.
    pub(super) fn dialled(&mut self, now: Millis) {
        self.at = now + ATTEMPT;
        self.dialled_at = Some(now);
    }
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn attempts_are_spread_and_become_rarer() {
        assert_eq!(Redial::delay(0, 7), 0);
        assert_eq!((Redial::delay(1, 0), Redial::delay(1, 124)), (125, 249));
        assert_eq!((Redial::delay(2, 0), Redial::delay(2, 249)), (250, 499));
        assert_eq!((Redial::delay(u32::MAX, 0), Redial::delay(u32::MAX, 499)), (500, 999));
    }

    #[test]
    fn a_sign_of_the_network_brings_the_next_attempt_forward() {
        let mut redial = Redial::after(Some(&Redial::after(None, 0, 0)), 0, 124);
        assert_eq!(redial.at, 249);
        redial.hurry(100);
        assert_eq!(redial.at, 100);
        redial.dialled(100);
        redial.hurry(1_099);
        assert_eq!(redial.at, 100 + ATTEMPT, "a fresh attempt is not given up");
        redial.hurry(1_100);
        assert_eq!(redial.at, 1_100, "an old one is: its messages may be lost");
    }
}
