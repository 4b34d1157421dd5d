//! Several servers, several clients with links to each, a network that delays, stalls and cuts them, and applications at
//! both sides of every channel; all on one virtual clock, and all of it chosen by one seed.
//!
//! A run plays for some simulated seconds, then the network heals and everybody reads: whatever is not lost must arrive. In
//! the end the servers shut down or the clients close, and nothing may be left.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use manysocket_protocol::{Millis, Settings, Side};

use super::number;
use super::observer::Way;
use super::pair::SIDES;
use super::rng::Rng;

mod apps;
mod checks;
mod ends;
mod faults;
mod life;
mod link;
mod resumption;

use life::{Life, Reader};
use link::{End, Link, Packet};

/// The time that a server gives its channels to close when it shuts down (as `Multiplexer::drain`).
const DRAIN: Millis = 5_000;

/// How long a client waits for the answer to its handshake.
const DIAL_TIMEOUT: Millis = 20_000;

/// Longer than anything takes once the network has healed, the slowest keep-alive included.
const PATIENCE: Millis = 600_000;

/// Longer than a few round trips, and all that can wait on a wire.
const CALM: Millis = 5_000;

/// Something that happens at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Action {
    /// A client dials a server.
    Dial { slot: usize },
    /// A client has waited for long enough.
    GiveUpDial { link: usize },
    /// A client that has lost its carrier dials another.
    Redial { link: usize },
    /// A client has waited for long enough for that.
    GiveUpCarrier { link: usize, carrier: usize },
    /// Something may have arrived.
    Arrive { link: usize, carrier: usize, side: usize },
    /// An end may have something to write.
    Write { link: usize, side: usize },
    /// An end's own timer.
    Timer { link: usize, side: usize },
    /// The client opens further channels.
    Open { link: usize, times: usize },
    /// An application has its turn.
    Turn { serial: usize, side: usize },
    /// The network does something to a link.
    Fault { link: usize },
    /// A server shuts down, dies or comes back.
    Server { server: usize },
    /// A link of a server that shuts down has had its time.
    OutOfTime { link: usize },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Up,
    Draining,
    Down,
}

struct Server {
    settings: Settings,
    state: State,
}

/// A client that wants a link to a server.
struct Slot {
    server: usize,
    settings: Settings,
}

/// The counts of a run.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) links: usize,
    pub(crate) opens: usize,
    pub(crate) messages: usize,
    pub(crate) cuts: usize,
    /// Carriers that a server has taken in the place of others.
    pub(crate) resumed: usize,
    /// Links that have waited for too long for another carrier.
    pub(crate) out_of_patience: usize,
    pub(crate) stalls: usize,
    /// Links that an end found dead.
    pub(crate) found_dead: usize,
    pub(crate) drains: usize,
    pub(crate) crashes: usize,
    /// Channels that a link's end took.
    pub(crate) lost: usize,
    /// A hash of everything that was sent, and when: the same for the same seed.
    pub(crate) trace: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.links += other.links;
        self.opens += other.opens;
        self.messages += other.messages;
        self.cuts += other.cuts;
        self.resumed += other.resumed;
        self.out_of_patience += other.out_of_patience;
        self.stalls += other.stalls;
        self.found_dead += other.found_dead;
        self.drains += other.drains;
        self.crashes += other.crashes;
        self.lost += other.lost;
        self.trace ^= other.trace;
    }
}

/// Where a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Playing,
    Healed,
    Ending,
}

struct World {
    rng: Rng,
    now: Millis,
    phase: Phase,
    /// By time; those of one time in any order.
    agenda: BinaryHeap<Reverse<(Millis, u64, Action)>>,
    servers: Vec<Server>,
    slots: Vec<Slot>,
    links: Vec<Link>,
    lives: Vec<Life>,
    /// Halves that have not taken a message: the event with the reason still waits.
    deaf: Vec<(usize, Side)>,
    counts: Counts,
    is_replay: bool,
}

/// A whole run. Panics where something is not as it must be.
pub(crate) fn run(rng: Rng) -> Counts {
    let mut world = World::new(rng);
    let playing = 500 + world.rng.below(20_000) as Millis;
    world.go_until(playing);
    world.heal();
    world.wait_for(World::unrest);
    world.go_until(world.now + CALM);
    world.check_rest();
    world.end();
    world.wait_for(World::unended);
    world.check_end();
    world.counts
}

fn settings(rng: &mut Rng) -> Settings {
    Settings::new()
        .window(16 * 1024 + [0, 60_000][rng.below(2)])
        .window_growth([0, 10_000, 1 << 20][rng.below(3)])
        .max_fragment(4096 + rng.below(60_000) as u32)
        .max_channels(1 + rng.below(30) as u32)
        .max_message(30_000 + rng.below(100_000) as u32)
        .max_open([200, 16 * 1024][rng.below(2)])
        .ping_interval([1_000, 0, 200, 25_000][rng.below(4)])
        .resume_timeout([0, 1_000, 30_000, 30_000][rng.below(4)])
}

impl World {
    fn new(mut rng: Rng) -> Self {
        let servers: Vec<_> =
            (0..=rng.below(3)).map(|_| Server { settings: settings(&mut rng), state: State::Up }).collect();
        let slots = (0..=rng.below(5))
            .map(|_| Slot { server: rng.below(servers.len()), settings: settings(&mut rng) })
            .collect();
        let mut world = Self {
            rng,
            now: 0,
            phase: Phase::Playing,
            agenda: BinaryHeap::new(),
            servers,
            slots,
            links: Vec::new(),
            lives: Vec::new(),
            deaf: Vec::new(),
            counts: Counts::default(),
            is_replay: number("MANYSOCKET_SEED").is_some(),
        };
        for slot in 0..world.slots.len() {
            world.soon(100, Action::Dial { slot });
        }
        for server in 0..world.servers.len() {
            if world.rng.one_in(2) {
                world.soon(20_000, Action::Server { server });
            }
        }
        world
    }

    /// Prints an event when a seed is replayed.
    fn tell(&self, what: impl Fn() -> String) {
        if self.is_replay {
            println!("{:6} {}", self.now, what());
        }
    }

    fn at(&mut self, time: Millis, action: Action) {
        self.agenda.push(Reverse((time, self.rng.next(), action)));
    }

    /// Within so many milliseconds, but not now.
    fn soon(&mut self, within: usize, action: Action) {
        let time = self.now + 1 + self.rng.below(within) as Millis;
        self.at(time, action);
    }

    fn go_until(&mut self, end: Millis) {
        while let Some(&Reverse((time, ..))) = self.agenda.peek()
            && time <= end
        {
            self.step();
        }
        self.now = end;
    }

    /// Goes on until nothing is missing any more.
    fn wait_for(&mut self, missing: impl Fn(&Self) -> Option<String>) {
        let end = self.now + PATIENCE;
        while let Some(what) = missing(self) {
            assert!(!self.agenda.is_empty() && self.now < end, "in vain: {what}");
            // Not after each step: it looks at everything.
            for _ in 0..50.min(self.agenda.len()) {
                self.step();
            }
        }
    }

    fn step(&mut self) {
        let Some(Reverse((time, _, action))) = self.agenda.pop() else { return };
        self.now = self.now.max(time);
        self.tell(|| format!("{action:?}"));
        match action {
            Action::Dial { slot } => self.dial(slot),
            Action::GiveUpDial { link } => {
                if self.links[link].ends[0].as_ref().is_some_and(|end| !end.up && end.lost_at.is_none()) {
                    self.end_one(link, Side::Client);
                }
            }
            Action::Redial { link } => self.redial(link),
            Action::GiveUpCarrier { link, carrier } => self.give_up_carrier(link, carrier),
            Action::Arrive { link, side, .. }
            | Action::Write { link, side }
            | Action::Timer { link, side } => {
                let Some(end) = &self.links[link].ends[side] else {
                    // The others must learn that no application is there.
                    if let Action::Arrive { carrier, .. } = action {
                        self.deliver(link, carrier, SIDES[side]);
                    }
                    return;
                };
                if end.asleep_until > self.now {
                    let until = end.asleep_until;
                    return self.at(until, action);
                }
                match action {
                    Action::Arrive { carrier, .. } => self.deliver(link, carrier, SIDES[side]),
                    Action::Write { .. } => self.write(link, SIDES[side]),
                    _ => self.timer(link, SIDES[side]),
                }
            }
            Action::Open { link, times } => self.open_more(link, times),
            Action::Turn { serial, side } => self.turn(serial, SIDES[side]),
            Action::Fault { link } => self.fault(link),
            Action::Server { server } => self.turn_of_server(server),
            Action::OutOfTime { link } => {
                if self.links[link].ends[1].is_some() {
                    assert!(self.phase != Phase::Ending, "a channel is in the way of a shutdown");
                    self.leave(link, Side::Server, 1001);
                }
            }
        }
    }

    // ---- links come and go ----

    fn dial(&mut self, slot: usize) {
        if self.phase != Phase::Playing {
            return;
        }
        let Slot { server, settings } = self.slots[slot];
        let end = End::new(Side::Client, settings, self.servers[server].settings, self.now, &mut self.rng);
        let link = self.links.len();
        self.links.push(Link::new(slot, server, end, &mut self.rng));
        self.counts.links += 1;
        for _ in 0..self.rng.below(30) {
            self.open(link);
        }
        let rides = !self.rng.one_in(5);
        let client = self.links[link].end(Side::Client);
        let first_batch = rides.then(|| client.endpoint.handshake());
        if let Some(batch) = &first_batch {
            client.observer.see_handshake(Way::Sent, batch);
        }
        self.send(link, 0, Side::Server, Packet::Dial(first_batch));
        self.at(self.now + DIAL_TIMEOUT, Action::GiveUpDial { link });
        let times = self.rng.below(10);
        self.soon(1000, Action::Open { link, times });
        if self.rng.one_in(2) {
            let within = [200, 20_000][self.rng.below(2)];
            self.soon(within, Action::Fault { link });
        }
    }

    // ---- the phases ----

    /// No more faults. A link that was cut off for ever must be found by keep-alive or, without one, by TCP.
    fn heal(&mut self) {
        self.phase = Phase::Healed;
        for link in 0..self.links.len() {
            self.links[link].away_until = 0;
            for carrier in 0..self.links[link].carriers.len() {
                let is_silent = SIDES.iter().any(|&side| self.links[link].is_silent(carrier, side));
                // The client has moved on, and the server does not know.
                let is_used = |end: &End| end.carrier == Some(carrier);
                let is_abandoned =
                    !self.links[link].left[0] && !self.links[link].ends[0].as_ref().is_some_and(is_used);
                for side in SIDES {
                    // A server that a handshake is still on its way to would come to a silent link.
                    let end = self.links[link].ends[side as usize].as_ref();
                    let end = end.filter(|end| end.carrier == Some(carrier));
                    if (is_silent || is_abandoned) && end.is_none_or(|end| end.expects() == 0) {
                        self.cut(link, carrier, side, 0);
                    }
                }
            }
        }
        for serial in 0..self.lives.len() {
            for side in SIDES {
                let plan = &mut self.half(serial, side).plan;
                (plan.reader, plan.turns) = (Reader::Eager, 0);
                self.read(serial, side, usize::MAX);
                self.soon(10, Action::Turn { serial, side: side as usize });
            }
        }
    }

    fn end(&mut self) {
        self.phase = Phase::Ending;
        for server in 0..self.servers.len() {
            if self.servers[server].state == State::Up && self.rng.one_in(2) {
                self.turn_of_server(server);
            }
        }
        for link in 0..self.links.len() {
            if self.links[link].is_over() || self.servers[self.links[link].server].state == State::Draining {
                continue;
            }
            let serials: Vec<_> = self.links[link].end(Side::Client).serials.values().copied().collect();
            for serial in serials {
                self.close(serial, Side::Client, Some(1000), "done");
            }
            self.write(link, Side::Client);
        }
    }
}
