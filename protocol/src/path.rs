//! How large a channel's window should be, from what a link has learnt of its path (§6).
//!
//! A window has to hold what arrives in one round trip, or the sender stands waiting for credit. What it holds beyond
//! that waits in buffers, and whatever other channels send waits behind it. So a window follows the rate at which its
//! channel's data arrives times the round trip, with some slack that is small where others would notice.

use crate::{Channel, Millis};

/// A rate is taken over at least this long: a grant every millisecond would measure the scheduler.
const INTERVAL: Millis = 25;

/// How far data may queue ahead of a channel that begins to talk. Browsers hand messages from process to process, and
/// the sender goes on meanwhile: 1 MiB messages ran at 0.61 of the rate of a native socket without it, 0.97 with it.
const SLACK: Millis = 25;

/// Channels that have been heard from within this time compete: then no slack, since each millisecond of it is one of
/// latency. Ten messages a second are a conversation.
const QUIET: Millis = 100;

/// The smallest round trip of the link, and who has been talking.
#[derive(Debug, Default)]
pub(crate) struct Path {
    /// The least that was measured: all others were measured behind queues.
    round_trip: Option<Millis>,
    /// When the first PING that has no answer yet was asked for.
    pinged: Option<Millis>,
    /// The channel of the last data, when that came, and when it was last another's.
    speaker: Channel,
    heard: Millis,
    switched: Option<Millis>,
}

impl Path {
    /// Data has come on a channel.
    pub(crate) fn heard(&mut self, channel: Channel, now: Millis) {
        if channel != self.speaker {
            // Nobody's before the first.
            self.switched = (self.speaker != 0).then_some(self.heard);
            self.speaker = channel;
        }
        self.heard = now;
    }

    /// A PING is to be sent.
    pub(crate) fn pinged(&mut self, now: Millis) {
        self.pinged.get_or_insert(now);
    }

    /// A PONG has come.
    pub(crate) fn answered(&mut self, now: Millis) {
        if let Some(pinged) = self.pinged.take() {
            let measured = now - pinged;
            self.round_trip = Some(self.round_trip.map_or(measured, |least| least.min(measured)));
        }
    }

    /// Whether a PING would tell something.
    pub(crate) fn wants_ping(&self) -> bool {
        self.round_trip.is_none() && self.pinged.is_none()
    }

    /// The window for a channel, once its rate can be told.
    pub(crate) fn window(&self, rate: &mut Rate, now: Millis) -> Option<u32> {
        let round_trip = self.round_trip?;
        let elapsed = now - rate.since;
        if elapsed < INTERVAL.max(round_trip) {
            return None;
        }
        let alone = self.switched.is_none_or(|at| now - at >= QUIET);
        // Twice: credit comes back in halves of a window, so that at times only half of it is on its way.
        let hold = 2 * round_trip + if alone { SLACK } else { 0 };
        let window = u64::from(rate.units).saturating_mul(hold) / elapsed;
        *rate = Rate { since: now, units: 0 };
        Some(u32::try_from(window).unwrap_or(u32::MAX))
    }
}

/// What has arrived on a channel, since when.
#[derive(Debug, Default)]
pub(crate) struct Rate {
    since: Millis,
    units: u32,
}

impl Rate {
    pub(crate) fn count(&mut self, units: u32) {
        self.units = self.units.saturating_add(units);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(round_trip: Millis) -> Path {
        let mut path = Path::default();
        path.pinged(0);
        path.answered(round_trip);
        path
    }

    #[test]
    fn the_window_follows_rate_and_round_trip() {
        let path = path(100);
        let mut rate = Rate::default();
        rate.count(1_000_000);
        assert_eq!(path.window(&mut rate, 99), None, "less than a round trip");
        // 10,000 units a millisecond, for 2 × 100 + 25 ms.
        assert_eq!(path.window(&mut rate, 100), Some(2_250_000));
        rate.count(1_000);
        assert_eq!(path.window(&mut rate, 200), Some(2_250), "anew each time");
    }

    #[test]
    fn slack_is_for_those_who_are_alone() {
        let mut path = path(0);
        for (now, speaker, expected) in
            [(100, 1, 25_000), (150, 2, 0), (175, 1, 0), (249, 1, 0), (250, 1, 25_000), (1000, 2, 25_000)]
        {
            let mut rate = Rate { since: now - 25, units: 25_000 };
            path.heard(speaker, now);
            assert_eq!(path.window(&mut rate, now), Some(expected), "at {now}");
        }
    }

    #[test]
    fn the_least_round_trip_counts_and_each_ping_once() {
        let mut path = Path::default();
        assert!(path.wants_ping());
        path.pinged(10);
        path.pinged(20);
        assert!(!path.wants_ping());
        path.answered(40);
        path.answered(41);
        assert_eq!(path.round_trip, Some(30));
        path.pinged(100);
        path.answered(200);
        assert_eq!(path.round_trip, Some(30));
    }
}
