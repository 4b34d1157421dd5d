//! Conditions that must hold once the network has healed, and at the end.

use super::super::observer::Way;
use super::life::Seen;
use super::link::Link;
use super::{CALM, State, World};

/// Messages with so many bytes are acknowledged even if nothing else is to be sent (docs/protocol.md §8.1).
const MOST_UNACKNOWLEDGED: usize = 128 * 1024;

impl World {
    /// Messages and channels that must have arrived, been read or ended, and have not.
    pub(super) fn unrest(&self) -> Option<String> {
        if self.servers.iter().any(|server| server.state == State::Draining) {
            return Some("the end of a server".into());
        }
        for (number, link) in self.links.iter().enumerate().filter(|(_, link)| !link.is_over()) {
            let [Some(client), Some(server)] = &link.ends else {
                return Some(format!("an end of link {number}"));
            };
            if link.is_held(self.now)
                || !(client.up && server.up)
                || client.endpoint.is_interrupted()
                || client.is_asleep(self.now)
                || server.is_asleep(self.now)
            {
                return Some(format!("a sign of life on link {number}"));
            }
            for end in [client, server] {
                let open = end.serials.values().filter(|&&serial| self.lives[serial].is_open()).count();
                if end.endpoint.channels() as usize != open {
                    let channels = (end.endpoint.channels(), open, &end.observer);
                    let halves = end.serials.values().map(|&serial| (serial, &self.lives[serial].halves));
                    let halves: Vec<_> =
                        halves.filter(|(serial, _)| !self.lives[*serial].is_open()).collect();
                    return Some(format!("the end of channels of link {number}: {channels:?} {halves:?}"));
                }
            }
            for (channel, serial) in &client.serials {
                let [client, server] = &self.lives[*serial].halves;
                let all = client.sent.len() == server.heard && server.sent.len() == client.heard;
                let is_read = client.unread.is_empty() && server.unread.is_empty();
                if self.lives[*serial].is_open() && !(all && is_read) {
                    return Some(format!(
                        "messages on channel {channel} of link {number}: {client:?} {server:?}"
                    ));
                }
            }
        }
        None
    }

    pub(super) fn unended(&self) -> Option<String> {
        let link = self.links.iter().position(|link| !link.is_over())?;
        Some(format!("the end of link {link}"))
    }

    /// Nothing is on its way: both sides must agree about everything.
    pub(super) fn check_rest(&mut self) {
        self.links.iter_mut().for_each(Link::forget_abandoned);
        for (number, link) in self.links.iter().enumerate().filter(|(_, link)| !link.is_over()) {
            let [Some(client), Some(server)] = &link.ends else { panic!("half of link {number}") };
            for end in [client, server] {
                assert_eq!(
                    end.endpoint.channels() as usize,
                    end.observer.channels(),
                    "a channel of link {number} has leaked"
                );
                assert!(
                    end.owes_pong.is_none_or(|since| self.now - since < CALM),
                    "link {number}: a PING without an answer"
                );
                assert!(end.keeps_its_promise(self.now), "link {number}: a PING is overdue");
                assert_eq!(end.endpoint.unfinished(), 0);
                let (_, cost) = end.observer.unacknowledged();
                assert!(cost < MOST_UNACKNOWLEDGED, "link {number}: {cost} bytes without an ACK");
            }
            for (&channel, &serial) in &client.serials {
                if !self.lives[serial].is_open() {
                    continue;
                }
                for (from, to) in [(client, server), (server, client)] {
                    assert_eq!(from.endpoint.queued(channel), 0);
                    let credit = from.observer.credit(channel, Way::Sent);
                    let granted = to.observer.credit(channel, Way::Received);
                    assert_eq!(credit, granted, "channel {channel} of {serial}: credit is conserved");
                    let window = to.observer.window();
                    assert!(
                        credit > window / 2,
                        "all is read, and there is a credit of {credit} of {window}"
                    );
                }
            }
        }
        self.check_kept();
    }

    /// Nothing is kept of messages that have been read, or can no longer be read, but for another carrier.
    pub(super) fn check_kept(&self) {
        for life in &self.lives {
            for (half, end) in life.halves.iter().zip(&self.links[life.link].ends) {
                let unacknowledged = end.as_ref().map_or(0, |end| end.observer.unacknowledged().0);
                assert!(half.kept() <= unacknowledged, "messages are kept: {half:?}");
            }
        }
    }

    pub(super) fn check_end(&mut self) {
        for (serial, life) in self.lives.iter().enumerate() {
            let [client, server] = &life.halves;
            assert!(client.is_over(), "channel {serial} never ended at its client: {client:?}");
            let known = server.asked || server.open || server.refused_here.is_some();
            assert!(!known || server.is_over(), "channel {serial} never ended at its server: {server:?}");
            for half in &life.halves {
                self.counts.lost += usize::from(half.seen == Some(Seen::Lost));
                self.counts.messages += half.heard;
            }
        }
        self.check_kept();
    }
}
