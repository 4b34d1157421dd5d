//! The two ends of a link: they take in, write, watch the time, and leave.

use manysocket_protocol::{Endpoint, Event, Side};

use super::super::observer::Way;
use super::super::wire::length;
use super::life::Seen;
use super::link::{End, NEVER, Packet};
use super::{Action, Phase, State, World};

impl World {
    pub(super) fn send(&mut self, link: usize, carrier: usize, to: Side, packet: Packet) {
        self.tell(|| format!("link {link} over {carrier} to {to:?}: {packet:?}"));
        let at = self.links[link].send(carrier, to, packet, self.now, &mut self.rng);
        if at < NEVER {
            self.at(at, Action::Arrive { link, carrier, side: to as usize });
        }
    }

    /// Takes in the messages that have arrived over a carrier.
    pub(super) fn deliver(&mut self, link: usize, carrier: usize, side: Side) {
        let other = if side == Side::Client { Side::Server } else { Side::Client };
        while let Some(packet) = self.links[link].carriers[carrier].wires[side as usize].arrived(self.now) {
            let end = self.links[link].ends[side as usize].as_mut();
            let is_used = end.as_ref().is_some_and(|end| end.carrier == Some(carrier));
            if let Some(end) = end.filter(|_| is_used) {
                end.heard_at = self.now;
            }
            match packet {
                Packet::Dial(first_batch) => self.welcome(link, first_batch.as_deref()),
                Packet::Redial => self.welcome_again(link, carrier),
                Packet::Message(message) if side == Side::Server && !is_used && carrier > 0 => {
                    self.claim(link, carrier, &message);
                }
                _ if self.links[link].ends[side as usize].is_none() => {
                    if !self.links[link].left[side as usize]
                        && !matches!(packet, Packet::Close(_) | Packet::Reset)
                    {
                        self.send(link, carrier, other, Packet::Reset);
                    }
                }
                // From a carrier that has been abandoned.
                _ if !is_used => {}
                Packet::Close(code) => self.closed_by_peer(link, side, code),
                Packet::Reset => self.lose(link, side),
                Packet::Welcome => self.welcomed(link),
                Packet::Message(message) => {
                    let end = self.links[link].end(side);
                    end.observer.see(Way::Received, &message);
                    if end.observer.owes_pong() {
                        end.owes_pong.get_or_insert(self.now);
                    }
                    let now = self.now + end.ahead;
                    end.endpoint.receive(now, message).expect("a correct peer");
                    if end.lost_at.is_some() && !end.endpoint.is_interrupted() {
                        end.lost_at = None;
                        end.begin_carrier(self.now);
                    }
                    self.events(link, side);
                }
            }
        }
        // Some answer at once, some after others have had their turn.
        if self.rng.one_in(4) {
            self.soon(5, Action::Write { link, side: side as usize });
        } else {
            self.write(link, side);
        }
    }

    /// A handshake has come to a server.
    fn welcome(&mut self, link: usize, first_batch: Option<&str>) {
        let server = self.links[link].server;
        if self.servers[server].state != State::Up {
            return self.send(link, 0, Side::Client, Packet::Reset);
        }
        let own = self.servers[server].settings;
        let peer = self.slots[self.links[link].slot].settings;
        let mut end = End::new(Side::Server, own, peer, self.now, &mut self.rng);
        end.endpoint.allow_resumption(self.token());
        if let Some(batch) = first_batch {
            end.observer.see_handshake(Way::Received, batch);
            end.endpoint.receive_handshake(self.now + end.ahead, batch).expect("a correct first batch");
        }
        self.links[link].ends[1] = Some(end);
        self.send(link, 0, Side::Client, Packet::Welcome);
        self.events(link, Side::Server);
    }

    /// Writes the output of an end, as far as there is room.
    pub(super) fn write(&mut self, link: usize, side: Side) {
        let other = if side == Side::Client { Side::Server } else { Side::Client };
        loop {
            if !self.links[link].ends[side as usize].as_ref().is_some_and(|end| end.up) {
                return;
            }
            let Some(carrier) = self.links[link].end(side).carrier else { return };
            if let Some(clear) = self.links[link].blocked(carrier, other, self.now) {
                if clear < NEVER / 2 {
                    self.at(clear, Action::Write { link, side: side as usize });
                }
                self.events(link, side);
                break;
            }
            let end = self.links[link].end(side);
            let message = end.endpoint.poll_transmit();
            if let Some(message) = message {
                end.observer.see(Way::Sent, &message);
                if end.observer.take_ping() {
                    end.pinged_at = self.now;
                }
                end.owes_pong = end.owes_pong.filter(|_| end.observer.owes_pong());
                let size = length(&message) as u64;
                let mixed =
                    self.counts.trace.rotate_left(5) ^ self.now ^ (size << 20) ^ ((link as u64) << 44);
                self.counts.trace = mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                self.send(link, carrier, other, Packet::Message(message));
            } else if !self.events(link, side) {
                self.links[link].end(side).observer.check_windows();
                self.may_leave(link, side);
                break;
            }
        }
        self.set_timer(link, side);
    }

    /// A link without channels ends when its server shuts down, or the run does.
    fn may_leave(&mut self, link: usize, side: Side) {
        let leaves = match side {
            Side::Server => self.servers[self.links[link].server].state == State::Draining,
            Side::Client => self.phase == Phase::Ending,
        };
        let is_idle = self.links[link].end(side).endpoint.channels() == 0;
        if leaves && is_idle {
            self.leave(link, side, if side == Side::Server { 1001 } else { 1000 });
        }
    }

    /// Closes the physical WebSocket.
    pub(super) fn leave(&mut self, link: usize, side: Side, code: u16) {
        let other = if side == Side::Client { Side::Server } else { Side::Client };
        self.links[link].left[side as usize] = true;
        let end = self.links[link].end(side);
        if let Some(carrier) = end.carrier.filter(|_| end.up) {
            end.endpoint.forbid_resumption();
            // An end that leaves sends a Close, and does not wait.
            let last: Vec<_> = std::iter::from_fn(|| end.endpoint.poll_transmit()).collect();
            for message in last {
                self.links[link].end(side).observer.see(Way::Sent, &message);
                self.send(link, carrier, other, Packet::Message(message));
            }
            self.send(link, carrier, other, Packet::Close(code));
        }
        self.end_one(link, side);
    }

    /// Sets the timer that the endpoint asks for, if none runs: it only ever asks for a later one.
    pub(super) fn set_timer(&mut self, link: usize, side: Side) {
        let Some(end) = &mut self.links[link].ends[side as usize] else { return };
        // A carrier that is lost sets an earlier time than the last.
        if let Some(at) = end.endpoint.poll_timeout()
            && end.timer.is_none_or(|timer| at - end.ahead < timer)
        {
            let at = at - end.ahead;
            end.timer = Some(at);
            self.at(at, Action::Timer { link, side: side as usize });
        }
    }

    pub(super) fn timer(&mut self, link: usize, side: Side) {
        let now = self.now;
        let end = self.links[link].end(side);
        if end.timer.is_none_or(|timer| timer > now) {
            return;
        }
        end.timer = None;
        let is_due = end.endpoint.poll_timeout().is_some_and(|at| at <= now + end.ahead);
        let found = if is_due { end.endpoint.handle_timeout(now + end.ahead) } else { Ok(()) };
        if found.is_err() {
            let gone = self.links[link].ends.iter().any(Option::is_none);
            assert!(self.links[link].disturbed || gone, "a link that works was given up");
            self.counts.found_dead += 1;
            // It closes the connection; the network decides whether the peer notices.
            if let Some(carrier) = self.links[link].end(side).carrier {
                let other = if side == Side::Client { Side::Server } else { Side::Client };
                self.send(link, carrier, other, Packet::Close(4003));
            }
            return self.lose(link, side);
        }
        if end.lost_at.is_some() && !end.endpoint.can_resume() {
            return self.out_of_patience(link, side);
        }
        self.write(link, side);
        self.set_timer(link, side);
    }

    /// A link has ended for one of its ends.
    pub(super) fn end_one(&mut self, link: usize, side: Side) {
        self.check_found_out(link, side);
        let Some(end) = self.links[link].ends[side as usize].take() else { return };
        for &serial in end.serials.values() {
            let half = self.half(serial, side);
            if half.seen.is_none() && half.refused_here.is_none() || half.can_close() {
                half.seen = Some(Seen::Lost);
            }
            half.asked = false;
        }
        drop(end);
        self.links[link].forget_abandoned();
        match side {
            Side::Client => {
                // Its system informs the server sooner or later, if keep-alive does not.
                if let Some(server) = &self.links[link].ends[1]
                    && let Some(carrier) = server.carrier
                    && self.phase != Phase::Playing
                    && !self.links[link].left[0]
                {
                    self.cut(link, carrier, Side::Server, 0);
                }
                let slot = self.links[link].slot;
                self.soon(2_000, Action::Dial { slot });
            }
            Side::Server => self.after_drain(self.links[link].server),
        }
    }

    /// Delivers the events to the applications; returns whether there were any.
    pub(super) fn events(&mut self, link: usize, side: Side) -> bool {
        let mut any = false;
        // Events that waited already when a channel was given up still come.
        let mut given_up = Vec::new();
        while let Some(event) = self.links[link].end(side).endpoint.poll_event() {
            any = true;
            let (Event::Open { channel, .. }
            | Event::Cookies { channel, .. }
            | Event::Accepted { channel, .. }
            | Event::Refused { channel, .. }
            | Event::Message { channel, .. }
            | Event::Closed { channel, .. }
            | Event::Oversize { channel }
            | Event::Drained { channel }) = event;
            self.tell(|| format!("link {link} {side:?}: {event:?}"));
            if given_up.contains(&channel) {
                continue;
            }
            self.hear(link, side, event);
            if let Some(&serial) = self.links[link].end(side).serials.get(&channel) {
                let half = self.half(serial, side);
                if half.gave_up || half.refused_here.is_some() {
                    given_up.push(channel);
                }
            }
        }
        for (serial, side) in std::mem::take(&mut self.deaf) {
            assert!(self.half(serial, side).seen.is_some(), "an open channel takes messages");
        }
        any
    }

    pub(super) fn endpoint(&mut self, link: usize, side: Side) -> &mut Endpoint {
        &mut self.links[link].end(side).endpoint
    }

    /// A server that shuts down closes every channel of a link.
    pub(super) fn drain(&mut self, link: usize) {
        let serials: Vec<_> = self.links[link].end(Side::Server).serials.values().copied().collect();
        for serial in serials {
            if self.half(serial, Side::Server).asked {
                self.refuse(serial, 503);
            } else {
                self.close(serial, Side::Server, Some(1001), "the server is shutting down");
            }
        }
        self.write(link, Side::Server);
    }

    pub(super) fn is_draining(&self, link: usize) -> bool {
        self.servers[self.links[link].server].state == State::Draining
    }
}
