//! Links that lose a carrier, and go on over another (`docs/protocol.md` §8.1).

use manysocket_protocol::{Physical, Resume, Side, Token};

use super::super::observer::Way;
use super::link::{Carrier, Packet};
use super::{Action, State, World};

/// How long a client waits at most for the answer to RESUME. Often less, so that attempts overtake each other.
const ATTEMPTS: [usize; 3] = [100, 1_000, 10_000];

impl World {
    pub(super) fn token(&mut self) -> Token {
        let (high, low) = (self.rng.next().to_be_bytes(), self.rng.next().to_be_bytes());
        Token::new(std::array::from_fn(|at| if at < 8 { high[at] } else { low[at - 8] }))
    }

    /// The peer has closed a carrier.
    pub(super) fn closed_by_peer(&mut self, link: usize, side: Side, code: u16) {
        match (side, code) {
            // A page that leaves.
            (Side::Server, 1000 | 1001) => self.end_one(link, side),
            (Side::Client, 4404) => {
                let server = self.links[link].ends[1].as_ref();
                assert!(
                    server.is_none_or(|end| !end.observer.can_resume()),
                    "a link that waits for its client has refused it"
                );
                self.end_one(link, side);
            }
            _ => self.lose(link, side),
        }
    }

    /// An end has lost its carrier: the link waits for another one, or ends.
    pub(super) fn lose(&mut self, link: usize, side: Side) {
        self.check_found_out(link, side);
        let Some(end) = &mut self.links[link].ends[side as usize] else { return };
        let must = end.observer.can_resume();
        let waits = end.endpoint.carrier_lost(self.now + end.ahead);
        assert!(
            waits || !must || end.lost_at.is_some(),
            "a link that could be resumed ends with its carrier"
        );
        if !waits {
            return self.end_one(link, side);
        }
        (end.carrier, end.up) = (None, false);
        end.lost_at.get_or_insert(self.now);
        self.links[link].disturbed = true;
        self.set_timer(link, side);
        if side == Side::Client {
            let within = [1, 1_000][self.rng.below(2)];
            self.soon(within, Action::Redial { link });
        }
    }

    /// Nobody has resumed a link in time.
    pub(super) fn out_of_patience(&mut self, link: usize, side: Side) {
        let kept = self.servers[self.links[link].server].settings.resume_timeout;
        let waited = self.links[link].end(side).lost_at.map(|at| self.now - at);
        assert!(waited.is_some_and(|waited| waited >= kept), "{waited:?} of {kept} ms");
        self.counts.out_of_patience += 1;
        self.end_one(link, side);
    }

    /// A client dials another carrier.
    pub(super) fn redial(&mut self, link: usize) {
        let Some(end) = &self.links[link].ends[0] else { return };
        if end.carrier.is_some() {
            return;
        }
        let carrier = self.links[link].carriers.len();
        let new = Carrier::new(&mut self.rng);
        self.links[link].carriers.push(new);
        self.links[link].end(Side::Client).carrier = Some(carrier);
        if self.now < self.links[link].away_until {
            return self.send(link, carrier, Side::Client, Packet::Reset);
        }
        self.send(link, carrier, Side::Server, Packet::Redial);
        let within = ATTEMPTS[self.rng.below(3)];
        self.soon(within, Action::GiveUpCarrier { link, carrier });
    }

    pub(super) fn give_up_carrier(&mut self, link: usize, carrier: usize) {
        let Some(end) = &self.links[link].ends[0] else { return };
        if end.carrier != Some(carrier) || end.up && !end.endpoint.is_interrupted() {
            return;
        }
        self.send(link, carrier, Side::Server, Packet::Close(4003));
        self.lose(link, Side::Client);
    }

    /// The handshake of a carrier that is to resume a link has come to a server.
    pub(super) fn welcome_again(&mut self, link: usize, carrier: usize) {
        let is_there = self.servers[self.links[link].server].state != State::Down;
        let answer = if is_there { Packet::Welcome } else { Packet::Reset };
        self.send(link, carrier, Side::Client, answer);
    }

    /// A server has answered the handshake of the client's carrier.
    pub(super) fn welcomed(&mut self, link: usize) {
        let now = self.now;
        let end = self.links[link].end(Side::Client);
        if end.carrier == Some(0) {
            end.up = true;
        } else {
            end.begin_carrier(now);
            end.endpoint.redialled(now + end.ahead);
        }
    }

    /// The first message of a carrier has come to a server.
    pub(super) fn claim(&mut self, link: usize, carrier: usize, message: &Physical) {
        // The server may have given the carrier up meanwhile.
        if std::mem::replace(&mut self.links[link].carriers[carrier].has_begun, true) {
            return;
        }
        let Physical::Binary(first) = message else { panic!("RESUME is a batch") };
        let resume = Resume::read(first).expect("RESUME");
        let token = self.token();
        let Some(end) = &mut self.links[link].ends[1] else {
            return self.send(link, carrier, Side::Client, Packet::Close(4404));
        };
        if !end.endpoint.accepts(&resume) {
            return self.send(link, carrier, Side::Client, Packet::Close(4404));
        }
        (end.carrier, end.lost_at) = (Some(carrier), None);
        let before = std::mem::replace(&mut self.links[link].accepted, carrier);
        assert!(carrier > before, "a client goes on with carrier {before}, and the server with {carrier}");
        let end = self.links[link].end(Side::Server);
        end.begin_carrier(self.now);
        end.observer.see(Way::Received, message);
        end.endpoint.resume(self.now + end.ahead, &resume, token);
        self.counts.resumed += 1;
    }

    /// An end that hears nothing any more must give its carrier up in time.
    pub(super) fn check_found_out(&self, link: usize, side: Side) {
        let Some(end) = &self.links[link].ends[side as usize] else { return };
        if let Some(by) = end
            .finds_out_by()
            .filter(|_| end.carrier.is_some_and(|carrier| self.links[link].is_silent(carrier, side)))
        {
            assert!(self.now <= by, "found dead at {}, and should have been by {by}", self.now);
        }
    }
}
