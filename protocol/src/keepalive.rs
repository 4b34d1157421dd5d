//! Keeping a silent link open, and finding out that it is dead (§8).

use crate::Millis;

/// How long a suspected link has to show a sign of life. The suspicion is a separate step because
/// timers lie: after a sleep, or in a background tab, one fires late and before the messages that
/// arrived meanwhile have been read. 10 s is longer than any such queue takes.
const GRACE: Millis = 10_000;

/// A timer that is later than this has slept with its machine or tab: what arrived meanwhile has not been read.
const LATE: Millis = 1_000;

/// The timers of one side.
#[derive(Debug)]
pub(crate) struct Keepalive {
    /// This side's promise to send; 0 for none.
    interval: Millis,
    next_ping: Millis,
    /// How often something must arrive; 0 for never. This side's interval, since each of its PINGs
    /// is answered, whatever the peer claims; the peer's only where this side has none.
    expected: Millis,
    /// When the last message arrived, and when the last sign of life.
    last_received: Millis,
    last_heard: Millis,
    suspected_until: Option<Millis>,
    /// When it was last looked at while it was suspected.
    checked: Millis,
}

/// The action after a timeout.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Nothing,
    Ping,
    Dead,
}

impl Keepalive {
    pub(crate) fn new(interval: Millis, now: Millis) -> Self {
        Self {
            interval,
            next_ping: now + interval,
            expected: interval,
            last_received: now,
            last_heard: now,
            suspected_until: None,
            checked: now,
        }
    }

    pub(crate) fn peer_promises(&mut self, interval: Millis) {
        if self.interval == 0 {
            self.expected = interval;
        }
    }

    /// Begins anew, with another connection.
    pub(crate) fn restart(&mut self, now: Millis) {
        self.next_ping = now + self.interval;
        self.received(now);
    }

    pub(crate) fn received(&mut self, now: Millis) {
        self.last_received = now;
        self.heard(now);
    }

    /// A sign of life that is no message.
    pub(crate) fn heard(&mut self, now: Millis) {
        self.last_heard = now;
        self.suspected_until = None;
    }

    pub(crate) fn is_suspected(&self) -> bool {
        self.suspected_until.is_some()
    }

    pub(crate) fn last_received(&self) -> Millis {
        self.last_received
    }

    /// Two intervals without a sign: one may be lost to a busy peer.
    fn suspect_at(&self) -> Option<Millis> {
        (self.expected > 0).then_some(self.last_heard + 2 * self.expected)
    }

    pub(crate) fn next(&self) -> Option<Millis> {
        let ping = (self.interval > 0).then_some(self.next_ping);
        // A sign of life may come at any time, and the next suspicion is then two intervals away: before the end of this
        // one, if those are short. A host that leaves its timer running would come too late for it.
        let look = self.suspected_until.map(|until| {
            if self.expected == 0 { until } else { until.min(self.checked + 2 * self.expected) }
        });
        let death = look.or(self.suspect_at());
        ping.into_iter().chain(death).min()
    }

    /// Suspects the peer, unless it is suspected already. Returns whether to send a PING.
    pub(crate) fn suspect(&mut self, now: Millis) -> bool {
        let is_new = self.suspected_until.is_none();
        if is_new {
            self.suspected_until = Some(now + GRACE);
            self.checked = now;
        }
        is_new
    }

    pub(crate) fn handle_timeout(&mut self, now: Millis) -> Due {
        let mut due = Due::Nothing;
        if self.interval > 0 && now >= self.next_ping {
            self.next_ping = now + self.interval;
            due = Due::Ping;
        }
        self.checked = now;
        match (self.suspected_until, self.suspect_at()) {
            (Some(until), _) if now >= until && now - until <= LATE => Due::Dead,
            (Some(until), _) if now >= until => {
                self.suspected_until = Some(now + GRACE);
                Due::Ping
            }
            (None, Some(at)) if now >= at => {
                self.suspect(now);
                Due::Ping
            }
            _ => due,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pings_every_interval() {
        let mut keepalive = Keepalive::new(100, 0);
        assert_eq!(keepalive.next(), Some(100));
        assert_eq!(keepalive.handle_timeout(99), Due::Nothing);
        assert_eq!(keepalive.handle_timeout(100), Due::Ping);
        assert_eq!(keepalive.next(), Some(200));
    }

    #[test]
    fn a_silent_peer_is_suspected_then_dead() {
        let mut keepalive = Keepalive::new(0, 0);
        assert_eq!(keepalive.next(), None);
        keepalive.peer_promises(GRACE);
        assert_eq!(keepalive.next(), Some(2 * GRACE));
        assert_eq!(keepalive.handle_timeout(2 * GRACE), Due::Ping);
        assert_eq!(keepalive.next(), Some(3 * GRACE));
        assert_eq!(keepalive.handle_timeout(3 * GRACE), Due::Dead);
    }

    #[test]
    fn a_timer_that_is_left_running_is_never_late() {
        // Silent long enough to be suspected, then one sign of life, then dead.
        let mut keepalive = Keepalive::new(0, 0);
        keepalive.peer_promises(100);
        assert_eq!(keepalive.handle_timeout(200), Due::Ping);
        let running = keepalive.next().expect("a timer");
        keepalive.received(201);
        let mut at = running;
        while keepalive.handle_timeout(at) != Due::Dead {
            at = keepalive.next().expect("a timer");
        }
        assert_eq!(at, 401 + GRACE, "two intervals and the grace after the sign of life");
    }

    #[test]
    fn a_machine_that_slept_while_the_peer_was_suspected_asks_again() {
        for interval in [0, 100] {
            let mut keepalive = Keepalive::new(0, 0);
            keepalive.peer_promises(interval);
            assert!(keepalive.suspect(0));
            assert!(!keepalive.suspect(1), "once");
            assert_eq!(keepalive.handle_timeout(GRACE + 60_000), Due::Ping, "interval {interval}");
            assert_eq!(keepalive.handle_timeout(2 * GRACE + 60_000), Due::Dead, "interval {interval}");
        }
    }

    #[test]
    fn a_peer_that_is_suspected_before_its_time_has_the_same_grace() {
        let mut keepalive = Keepalive::new(0, 0);
        assert!(keepalive.suspect(5));
        assert_eq!(keepalive.next(), Some(5 + GRACE));
        keepalive.received(6);
        assert_eq!(keepalive.next(), None);
        assert!(keepalive.suspect(7));
        assert_eq!(keepalive.handle_timeout(7 + GRACE), Due::Dead);
    }

    #[test]
    fn a_late_timer_kills_nothing() {
        let mut keepalive = Keepalive::new(0, 0);
        keepalive.peer_promises(100);
        assert_eq!(keepalive.handle_timeout(1_000_000), Due::Ping, "the machine slept");
        keepalive.received(1_000_001);
        assert_eq!(keepalive.handle_timeout(1_000_000 + GRACE), Due::Ping, "silent again for long");
        keepalive.received(1_000_002 + GRACE);
        assert_eq!(keepalive.next(), Some(1_000_202 + GRACE));
    }
}
