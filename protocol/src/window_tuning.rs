//! The size of a channel's window, from the round trip of the link and the rate of the channel (§6).
//!
//! A window must hold the data of one round trip; with a smaller one, the sender waits for credit. A larger window fills
//! buffers, and the data of other channels waits behind it. So a window follows the product of the channel's rate and
//! the round trip. Slack is added only while no other channel is active.

use crate::{Channel, Millis};

/// The shortest time over which a rate is measured. A rate over one millisecond would measure the scheduler.
const INTERVAL: Millis = 25;

/// The slack of a window while its channel is the only active one. Browsers hand messages from process to process, and
/// the sender continues meanwhile. Messages of 1 MiB reach 0.61 of a native socket's rate without slack, 0.97 with it.
/// Data queues for at most this long ahead of another channel that begins to send.
const SLACK: Millis = 25;

/// Two channels that both received data within this time compete. Their windows get no slack, since each millisecond of
/// slack is one of latency. 100 ms: ten messages a second are a conversation.
const QUIET: Millis = 100;

/// Estimates the round trip of a link, and notices when channels compete.
#[derive(Debug, Default)]
pub(crate) struct RttEstimator {
    /// The smallest measurement. Queues delayed all others.
    round_trip: Option<Millis>,
    /// The time at which the first unanswered PING was requested.
    pinged_at: Option<Millis>,
    /// The channel that received data last; 0 before the first data.
    last_data_channel: Channel,
    last_data_at: Millis,
    /// The last time at which another channel received data.
    other_data_at: Option<Millis>,
}

impl RttEstimator {
    /// Records that a channel received data.
    pub(crate) fn data_received(&mut self, channel: Channel, now: Millis) {
        if channel != self.last_data_channel {
            self.other_data_at = (self.last_data_channel != 0).then_some(self.last_data_at);
            self.last_data_channel = channel;
        }
        self.last_data_at = now;
    }

    /// Records that a PING will be sent.
    pub(crate) fn ping_due(&mut self, now: Millis) {
        self.pinged_at.get_or_insert(now);
    }

    /// Records that a PONG arrived.
    pub(crate) fn pong_received(&mut self, now: Millis) {
        if let Some(pinged_at) = self.pinged_at.take() {
            let measured = now - pinged_at;
            self.round_trip = Some(self.round_trip.map_or(measured, |least| least.min(measured)));
        }
    }

    /// Returns whether a PING is needed to measure the round trip.
    pub(crate) fn needs_ping(&self) -> bool {
        self.round_trip.is_none() && self.pinged_at.is_none()
    }

    /// Returns the window for a channel, and begins a new measurement of its rate. `None` until the round trip is known
    /// and the rate was measured for long enough.
    pub(crate) fn window(&self, rate: &mut RateEstimator, now: Millis) -> Option<u32> {
        let round_trip = self.round_trip?;
        let elapsed = now - rate.since;
        if elapsed < INTERVAL.max(round_trip) {
            return None;
        }
        let alone = self.other_data_at.is_none_or(|at| now - at >= QUIET);
        // Twice the round trip: GRANTs return credit in halves of a window, so that at times only half of it is in flight.
        let hold = 2 * round_trip + if alone { SLACK } else { 0 };
        let window = u64::from(rate.units).saturating_mul(hold).checked_div(elapsed)?;
        *rate = RateEstimator { since: now, units: 0 };
        Some(u32::try_from(window).unwrap_or(u32::MAX))
    }
}

/// Counts the units that arrived on a channel since a time.
#[derive(Debug, Default)]
pub(crate) struct RateEstimator {
    since: Millis,
    units: u32,
}

impl RateEstimator {
    /// Counts units that arrived.
    pub(crate) fn count(&mut self, units: u32) {
        self.units = self.units.saturating_add(units);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn estimator(round_trip: Millis) -> RttEstimator {
        let mut estimator = RttEstimator::default();
        estimator.ping_due(0);
        estimator.pong_received(round_trip);
        estimator
    }

    #[test]
    fn the_window_follows_rate_and_round_trip() {
        let rtt = estimator(100);
        let mut rate = RateEstimator::default();
        rate.count(1_000_000);
        assert_eq!(rtt.window(&mut rate, 99), None, "less than a round trip");
        // 10,000 units a millisecond, for 2 × 100 + 25 ms.
        assert_eq!(rtt.window(&mut rate, 100), Some(2_250_000));
        rate.count(1_000);
        assert_eq!(rtt.window(&mut rate, 200), Some(2_250), "each measurement begins anew");
    }

    #[test]
    fn a_window_gets_slack_while_no_other_channel_is_active() {
        let mut rtt = estimator(0);
        for (now, channel, expected) in
            [(100, 1, 25_000), (150, 2, 0), (175, 1, 0), (249, 1, 0), (250, 1, 25_000), (1000, 2, 25_000)]
        {
            let mut rate = RateEstimator { since: now - 25, units: 25_000 };
            rtt.data_received(channel, now);
            assert_eq!(rtt.window(&mut rate, now), Some(expected), "at {now}");
        }
    }

    #[test]
    fn the_smallest_round_trip_counts_and_each_ping_once() {
        let mut rtt = RttEstimator::default();
        assert!(rtt.needs_ping());
        rtt.ping_due(10);
        rtt.ping_due(20);
        assert!(!rtt.needs_ping());
        rtt.pong_received(40);
        rtt.pong_received(41);
        assert_eq!(rtt.round_trip, Some(30));
        rtt.ping_due(100);
        rtt.pong_received(200);
        assert_eq!(rtt.round_trip, Some(30));
    }
}
