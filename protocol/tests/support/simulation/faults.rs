//! Faults of the network and of servers.

use manysocket_protocol::{Millis, Side};

use super::super::pair::SIDES;
use super::link::NEVER;
use super::{Action, DRAIN, Phase, State, World};

impl World {
    pub(super) fn fault(&mut self, link: usize) {
        if self.phase != Phase::Playing || self.links[link].is_over() {
            return;
        }
        let newest = self.links[link].newest();
        match self.rng.below(8) {
            // Everything stands still for a while.
            0 | 1 => {
                let until = self.now + self.rng.below(15_000) as Millis;
                for side in SIDES {
                    self.links[link].hold(newest, side, until);
                    self.at(until, Action::Arrive { link, carrier: newest, side: side as usize });
                }
                self.counts.stalls += 1;
                self.soon(20_000, Action::Fault { link });
            }
            // Everything vanishes from now on, one way or both, without notice.
            2 => {
                let both = self.rng.one_in(2);
                let first = SIDES[self.rng.below(2)];
                for side in SIDES.into_iter().filter(|&side| both || side == first) {
                    self.links[link].hold(newest, side, NEVER);
                }
                self.counts.stalls += 1;
            }
            // An end sleeps: a laptop that is closed, a machine that swaps.
            3 => {
                let until = self.now + self.rng.below(40_000) as Millis;
                self.links[link].disturbed = true;
                let side = self.rng.below(2);
                if let Some(end) = &mut self.links[link].ends[side] {
                    end.asleep_until = until.max(end.asleep_until);
                }
                self.soon(20_000, Action::Fault { link });
            }
            // The client moves to another network, and the server does not learn of it.
            4 => self.lose(link, Side::Client),
            _ => {
                for side in SIDES {
                    let kept = self.rng.below(5);
                    self.cut(link, newest, side, kept);
                }
                if self.rng.one_in(2) {
                    let away = [2_000, 60_000][self.rng.below(2)];
                    self.links[link].away_until = self.now + self.rng.below(away) as Millis;
                }
                self.counts.cuts += 1;
                self.soon(5_000, Action::Fault { link });
            }
        }
    }

    pub(super) fn cut(&mut self, link: usize, carrier: usize, to: Side, kept: usize) {
        let at = self.links[link].break_towards(carrier, to, kept, self.now, &mut self.rng);
        self.at(at, Action::Arrive { link, carrier, side: to as usize });
    }

    pub(super) fn turn_of_server(&mut self, server: usize) {
        let links = (0..self.links.len()).filter(|&link| self.links[link].server == server);
        let links: Vec<_> = links.filter(|&link| self.links[link].ends[1].is_some()).collect();
        match self.servers[server].state {
            State::Down => self.servers[server].state = State::Up,
            // The rest of the agenda from the time of faults.
            State::Up if self.phase == Phase::Healed => {}
            State::Draining => {}
            State::Up if self.phase == Phase::Playing && self.rng.one_in(3) => {
                // It dies, and with some luck its system resets the connections.
                self.counts.crashes += 1;
                self.servers[server].state = State::Down;
                let tells = !self.rng.one_in(3);
                for link in links {
                    let newest = self.links[link].newest();
                    if tells {
                        let kept = self.rng.below(5);
                        self.cut(link, newest, Side::Client, kept);
                    } else {
                        self.links[link].hold(newest, Side::Client, NEVER);
                        self.links[link].hold(newest, Side::Server, NEVER);
                    }
                    self.end_one(link, Side::Server);
                }
                self.soon(3_000, Action::Server { server });
            }
            State::Up => {
                self.counts.drains += 1;
                self.servers[server].state = State::Draining;
                for &link in &links {
                    self.drain(link);
                    self.at(self.now + DRAIN, Action::OutOfTime { link });
                }
                self.after_drain(server);
            }
        }
    }

    /// Once the last link of a server that shuts down has ended, it is gone, and started again.
    pub(super) fn after_drain(&mut self, server: usize) {
        let mut links = self.links.iter().filter(|link| link.server == server);
        if self.servers[server].state == State::Draining && links.all(|link| link.ends[1].is_none()) {
            self.servers[server].state = State::Down;
            self.soon(3_000, Action::Server { server });
        }
    }
}
