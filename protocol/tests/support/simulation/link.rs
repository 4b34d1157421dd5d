//! A link of the simulated network: two ends, the carriers between them with the messages in flight, and the faults that hit
//! these.

use std::collections::BTreeMap;

use manysocket_protocol::{Channel, Endpoint, Millis, Physical, Settings, Side};

use super::super::observer::Observer;
use super::super::rng::Rng;
use super::super::wire::Wire;

/// While a socket's buffer needs longer than this to empty, nothing more is written.
const BUFFER: Millis = 200;

/// After the time that an end should have taken to find its link dead (docs/protocol.md §8).
const GRACE: Millis = 10_000;

/// Longer than any time of the simulation.
pub(super) const NEVER: Millis = Millis::MAX / 4;

/// A message in flight.
#[derive(Debug)]
pub(super) enum Packet {
    /// The physical handshake, with the first batch or without.
    Dial(Option<String>),
    /// The physical handshake of a carrier that is to resume a link.
    Redial,
    Welcome,
    Message(Physical),
    /// A close of the physical WebSocket, with its code.
    Close(u16),
    /// The connection has broken, or there is nobody.
    Reset,
}

/// How a direction carries.
#[derive(Debug, Clone, Copy)]
pub(super) struct Path {
    latency: usize,
    jitter: usize,
    bandwidth: Option<usize>,
    held_until: Millis,
}

impl Path {
    fn new(rng: &mut Rng) -> Self {
        Self {
            latency: [1, 20, 150][rng.below(3)],
            jitter: [0, 5, 100][rng.below(3)],
            // 50 kB/s to 5 MB/s.
            bandwidth: [None, Some(5_000), Some(500), Some(50)][rng.below(4)],
            held_until: 0,
        }
    }
}

/// One end that lives.
pub(super) struct End {
    pub(super) endpoint: Endpoint,
    pub(super) observer: Observer,
    /// Its clock is ahead of the simulation's by this.
    pub(super) ahead: Millis,
    /// The life of each channel that it knows.
    pub(super) serials: BTreeMap<Channel, usize>,
    /// The carrier that it uses, or dials.
    pub(super) carrier: Option<usize>,
    /// The handshake of that is through.
    pub(super) up: bool,
    /// Since when it has had no carrier, not even one that waits for the answer to RESUME.
    pub(super) lost_at: Option<Millis>,
    pub(super) heard_at: Millis,
    /// It does nothing before then.
    pub(super) asleep_until: Millis,
    pub(super) timer: Option<Millis>,
    /// When it last sent a PING.
    pub(super) pinged_at: Millis,
    /// Since when a PING has no answer.
    pub(super) owes_pong: Option<Millis>,
    /// It has its own settings, and takes the other's promise if it makes none.
    intervals: [Millis; 2],
}

impl End {
    pub(super) fn new(side: Side, own: Settings, peer: Settings, now: Millis, rng: &mut Rng) -> Self {
        let ahead = [0, 1, 1_000_000_000][rng.below(3)];
        Self {
            endpoint: Endpoint::new(side, own, now + ahead),
            observer: Observer::new(side, own, peer),
            ahead,
            serials: BTreeMap::new(),
            carrier: Some(0),
            lost_at: None,
            up: side == Side::Server,
            heard_at: now,
            asleep_until: 0,
            timer: None,
            pinged_at: now,
            owes_pong: None,
            intervals: [own.ping_interval, peer.ping_interval],
        }
    }

    /// Its carrier is open, or has brought the answer to RESUME: keep-alive begins anew.
    pub(super) fn begin_carrier(&mut self, now: Millis) {
        self.up = true;
        (self.heard_at, self.pinged_at, self.owes_pong) = (now, now, None);
    }

    pub(super) fn is_asleep(&self, now: Millis) -> bool {
        self.asleep_until > now
    }

    /// How often it should hear something; 0: it cannot know.
    pub(super) fn expects(&self) -> Millis {
        match self.intervals {
            [0, peer] if self.observer.knows_peer() => peer,
            [own, _] => own,
        }
    }

    /// Whether it has sent a PING when it had promised to.
    pub(super) fn keeps_its_promise(&self, now: Millis) -> bool {
        let [interval, _] = self.intervals;
        interval == 0 || now - self.pinged_at <= interval + BUFFER
    }

    /// When it must have found out, at the latest, that it hears nothing any more.
    pub(super) fn finds_out_by(&self) -> Option<Millis> {
        let expects = self.expects();
        (self.up && expects > 0).then(|| (self.heard_at + 2 * expects).max(self.asleep_until) + GRACE)
    }
}

/// One connection. Pairs are by the side that receives.
pub(super) struct Carrier {
    pub(super) wires: [Wire<Packet>; 2],
    /// The server has had its first message.
    pub(super) has_begun: bool,
    paths: [Path; 2],
}

impl Carrier {
    pub(super) fn new(rng: &mut Rng) -> Self {
        let path = Path::new(rng);
        let other = if rng.one_in(2) { path } else { Path::new(rng) };
        Self { wires: Default::default(), has_begun: false, paths: [path, other] }
    }
}

pub(super) struct Link {
    pub(super) slot: usize,
    pub(super) server: usize,
    /// By side.
    pub(super) ends: [Option<End>; 2],
    /// Oldest first. The client uses the last.
    pub(super) carriers: Vec<Carrier>,
    /// The last carrier that the server has accepted.
    pub(super) accepted: usize,
    /// The client's network is away until then.
    pub(super) away_until: Millis,
    /// Something has been done to it: it may end as lost.
    pub(super) disturbed: bool,
    /// A side that has left on purpose, without a word.
    pub(super) left: [bool; 2],
    /// The most channels that the client had at once.
    pub(super) peak: u32,
}

impl Link {
    pub(super) fn new(slot: usize, server: usize, client: End, rng: &mut Rng) -> Self {
        Self {
            slot,
            server,
            ends: [Some(client), None],
            carriers: vec![Carrier::new(rng)],
            accepted: 0,
            away_until: 0,
            disturbed: false,
            left: [false; 2],
            peak: 0,
        }
    }

    pub(super) fn end(&mut self, side: Side) -> &mut End {
        self.ends[side as usize].as_mut().expect("an end that lives")
    }

    /// The carrier that the client uses.
    pub(super) fn newest(&self) -> usize {
        self.carriers.len() - 1
    }

    /// Drops the messages on carriers that no end uses: they never arrive.
    pub(super) fn forget_abandoned(&mut self) {
        let used = self.ends.each_ref().map(|end| end.as_ref().and_then(|end| end.carrier));
        for (number, carrier) in self.carriers.iter_mut().enumerate() {
            if !used.contains(&Some(number)) {
                carrier.wires = Default::default();
            }
        }
    }

    /// Until when nothing more can be written over a carrier towards a side.
    pub(super) fn blocked(&self, carrier: usize, to: Side, now: Millis) -> Option<Millis> {
        let Carrier { wires, paths, .. } = &self.carriers[carrier];
        let Path { latency, jitter, .. } = paths[to as usize];
        let last = wires[to as usize].last()?;
        let clear = last.saturating_sub((latency + jitter) as Millis + BUFFER);
        (clear > now).then_some(clear)
    }

    /// Sends something over a carrier to a side; when it arrives.
    pub(super) fn send(
        &mut self,
        carrier: usize,
        to: Side,
        packet: Packet,
        now: Millis,
        rng: &mut Rng,
    ) -> Millis {
        let Carrier { wires, paths, .. } = &mut self.carriers[carrier];
        let path = paths[to as usize];
        let at = now + path.latency as Millis + rng.below(path.jitter + 1) as Millis;
        let bytes = match &packet {
            Packet::Message(message) => super::super::wire::length(message),
            _ => 0,
        };
        let wire = &mut wires[to as usize];
        wire.send(packet, bytes, at.max(path.held_until), path.bandwidth);
        wire.last().unwrap_or(now)
    }

    /// Nothing arrives over a carrier at a side before `until`.
    pub(super) fn hold(&mut self, carrier: usize, to: Side, until: Millis) {
        self.disturbed = true;
        let Carrier { wires, paths, .. } = &mut self.carriers[carrier];
        let path = &mut paths[to as usize];
        path.held_until = until.max(path.held_until);
        wires[to as usize].hold(path.held_until);
    }

    /// Whether nothing will arrive over a carrier at a side any more.
    pub(super) fn is_silent(&self, carrier: usize, to: Side) -> bool {
        self.carriers[carrier].paths[to as usize].held_until == NEVER
    }

    /// Breaks: a side still gets the first `kept` messages in flight, then the news.
    pub(super) fn break_towards(
        &mut self,
        carrier: usize,
        to: Side,
        kept: usize,
        now: Millis,
        rng: &mut Rng,
    ) -> Millis {
        self.disturbed = true;
        let Carrier { wires, paths, .. } = &mut self.carriers[carrier];
        paths[to as usize].held_until = 0;
        wires[to as usize].lose(kept, now);
        self.send(carrier, to, Packet::Reset, now, rng)
    }

    /// Whether its newest carrier stands still, one way or both.
    pub(super) fn is_held(&self, now: Millis) -> bool {
        self.carriers[self.newest()].paths.iter().any(|path| path.held_until > now)
    }

    /// Whether both ends have gone.
    pub(super) fn is_over(&self) -> bool {
        self.ends.iter().all(Option::is_none)
    }
}
