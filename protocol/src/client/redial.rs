//! When a link that has lost its connection dials another one (docs/protocol.md §8.1).

use crate::Millis;

/// How long a connection may take until the server has answered RESUME. Then another is dialled.
const ATTEMPT: Millis = 10_000;

/// The time between the first two attempts; it doubles with each.
const FIRST_DELAY: Millis = 250;

/// The longest time between two attempts: a server that comes back is found within it.
const LONGEST_DELAY: Millis = 4_000;

/// A link without a connection.
#[derive(Debug)]
pub(super) struct Redial {
    /// Connections that have failed, one after the other.
    failed: u32,
    /// When to dial.
    pub(super) at: Millis,
}

impl Redial {
    /// Takes in that a connection is lost, or that one could not be made. `random` spreads the attempts of many clients.
    pub(super) fn after(failed: Option<&Self>, now: Millis, random: u32) -> Self {
        let failed = failed.map_or(0, |redial| redial.failed + 1);
        Self { failed, at: now + Self::delay(failed, random) }
    }

    /// Returns the time between two attempts.
    fn delay(failed: u32, random: u32) -> Millis {
        if failed == 0 {
            return 0;
        }
        let delay = (FIRST_DELAY << (failed - 1).min(16)).min(LONGEST_DELAY);
        delay / 2 + Millis::from(random) % delay
    }

    /// Takes in that the host dials now.
    pub(super) fn dialled(&mut self, now: Millis) {
        self.at = now + ATTEMPT;
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
        assert_eq!((Redial::delay(1, 0), Redial::delay(1, 249)), (125, 374));
        assert_eq!((Redial::delay(3, 0), Redial::delay(3, 999)), (500, 1499));
        assert_eq!((Redial::delay(u32::MAX, 0), Redial::delay(u32::MAX, 3999)), (2000, 5999));
    }
}
