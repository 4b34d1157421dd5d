//! Two correct peers that do random things over a link with random delays and cuts, and a model of the required result.

use std::collections::{HashMap, VecDeque};

use manysocket_protocol::{
    Channel, Close, Endpoint, Event, MESSAGE_OVERHEAD, Message, Physical, Resume, Settings, Side, Token,
};

use super::pair::{Pair, SIDES};
use super::rng::Rng;

/// One side's view of one life of a channel.
#[derive(Default)]
struct Life {
    /// Messages that were sent here and have not arrived there yet.
    in_flight: VecDeque<Message>,
    /// Messages that have arrived and have not been consumed yet.
    unread: Vec<u32>,
    open: bool,
    closed_here: Option<Close>,
    aborted_here: bool,
    closed_there: bool,
}

impl Life {
    fn can_close(&self) -> bool {
        self.open && self.closed_here.is_none() && !self.aborted_here
    }

    fn can_send(&self) -> bool {
        self.can_close() && !self.closed_there
    }
}

/// The counts of a run.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) opens: usize,
    pub(crate) messages: usize,
    pub(crate) cuts: usize,
    pub(crate) resumptions: usize,
}

/// A run: the peers, and the model.
pub(crate) struct Run {
    rng: Rng,
    pair: Pair,
    /// By side: the settings in its HELLO.
    settings: [Settings; 2],
    /// By serial number, then side. Numbers of channels are used again, serials are not.
    lives: Vec<[Life; 2]>,
    /// The serial of each channel that a side knows.
    serials: [HashMap<Channel, usize>; 2],
    /// The most channels that were ever open at once on this link.
    peak: u32,
    counts: Counts,
    /// Whether links outlive cuts.
    resumes: bool,
    /// Tokens that the server has given out.
    tokens: u64,
}

/// A whole run. Panics where the peers deviate from the model.
pub(crate) fn run(rng: Rng) -> Counts {
    let mut run = Run::new(rng);
    for _ in 0..run.rng.below(400) {
        run.step();
    }
    run.finish();
    run.counts
}

fn settings(rng: &mut Rng) -> Settings {
    Settings::new()
        .window(16 * 1024 + rng.below(60_000) as u32)
        .window_growth([0, 10_000, 1 << 20][rng.below(3)])
        .max_fragment(4096 + rng.below(60_000) as u32)
        .max_channels(1 + rng.below(20) as u32)
        .ping_interval([0, 30, 100][rng.below(3)])
}

fn message(rng: &mut Rng, window: u32) -> Message {
    let size = match rng.below(10) {
        0 => 0,
        1..=6 => rng.below(60),
        7 => 4000 + rng.below(200),
        8 => rng.below(10_000),
        _ if rng.one_in(5) => rng.below(3 * window as usize),
        _ => 5_000,
    };
    // Repeated as a whole: characters one by one would take most of a run.
    match rng.below(4) {
        0 => {
            let bytes: Vec<u8> = (0..=255_u8).map(|byte| byte.wrapping_mul(7)).collect();
            let start = size % bytes.len();
            Message::binary(bytes[start..].repeat(size / (bytes.len() - start) + 1)[..size].to_vec())
        }
        1 => Message::text(["é€😀a", "€😀aé", "😀aé€", "aé€😀"][size % 4].repeat(size / 4)),
        2 => Message::text("😀".repeat(size / 2)),
        _ => Message::text("x".repeat(size)),
    }
}

impl Run {
    fn new(mut rng: Rng) -> Self {
        let mut settings = [settings(&mut rng), settings(&mut rng)];
        let resumes = rng.one_in(2);
        if resumes {
            settings[0].resume_timeout = 1;
            settings[1].resume_timeout = 1_000_000;
        }
        let mut run = Self {
            pair: Pair::new(Endpoint::new(Side::Client, settings[0], 0), settings[1]),
            settings,
            resumes,
            tokens: 0,
            lives: Vec::new(),
            serials: Default::default(),
            peak: 0,
            counts: Counts::default(),
            rng,
        };
        run.dial();
        run
    }

    fn dial(&mut self) {
        self.peak = 0;
        let token = self.token();
        self.pair.server.allow_resumption(token);
        self.pair.latency = self.rng.below(30) as u64;
        for _ in 0..self.rng.below(30) {
            self.open();
        }
        self.pair.connect();
    }

    fn step(&mut self) {
        let side = SIDES[self.rng.below(2)];
        match self.rng.below(14) {
            0 => self.open(),
            1..=4 => self.send(side),
            5 => self.close(side),
            6 => self.consume(side),
            7 | 8 => {
                let most = if self.rng.one_in(2) { usize::MAX } else { self.rng.below(4) };
                self.pair.transmit_some(side, most);
                // A client then refuses some of its opens itself.
                self.events(side);
            }
            9 => self.pair.now += self.rng.below(20) as u64,
            10 => {
                let now = self.pair.now;
                if self.pair.end(side).poll_timeout().is_some_and(|at| at <= now) {
                    self.pair.end(side).handle_timeout(now).expect("nobody is silent for ten seconds");
                }
            }
            11 if self.rng.one_in(if self.resumes { 5 } else { 30 }) => self.cut(),
            _ => {
                self.pair.deliver(side);
                self.events(side);
            }
        }
    }

    fn open(&mut self) {
        let serial = self.lives.len();
        if let Some(channel) = self.pair.client.open(&format!("/{serial}"), "a, b") {
            self.peak = self.peak.max(self.pair.client.channels());
            assert!(channel <= self.peak, "numbers are used again, lowest first");
            self.lives.push(Default::default());
            self.serials[0].insert(channel, serial);
            self.counts.opens += 1;
        }
    }

    /// Some channel, as a side sees it.
    fn some(&mut self, side: Side, wanted: impl Fn(&Life) -> bool) -> Option<Channel> {
        let mut found: Vec<Channel> = self.serials[side as usize]
            .iter()
            .filter(|&(_, &serial)| wanted(&self.lives[serial][side as usize]))
            .map(|(&channel, _)| channel)
            .collect();
        found.sort_unstable();
        (!found.is_empty()).then(|| found[self.rng.below(found.len())])
    }

    /// A channel as a side sees it.
    fn life(&mut self, channel: Channel, side: Side) -> &mut Life {
        let serial = self.serials[side as usize][&channel];
        &mut self.lives[serial][side as usize]
    }

    /// The other side's view of the channel that a side calls `channel`.
    fn other(&mut self, channel: Channel, side: Side) -> &mut Life {
        let serial = self.serials[side as usize][&channel];
        &mut self.lives[serial][1 - side as usize]
    }

    fn send(&mut self, side: Side) {
        let Some(channel) = self.some(side, Life::can_send) else { return };
        for _ in 0..=self.rng.below(4) {
            let message = message(&mut self.rng, self.settings[1 - side as usize].window);
            self.life(channel, side).in_flight.push_back(message.clone());
            assert!(self.pair.end(side).send(channel, message));
            self.counts.messages += 1;
        }
    }

    fn close(&mut self, side: Side) {
        let Some(channel) = self.some(side, |life| life.closed_here.is_none() && !life.aborted_here) else {
            return;
        };
        let is_open = self.life(channel, side).open;
        if self.rng.one_in(3) && (is_open || side == Side::Client) {
            self.pair.end(side).abort(channel);
            self.life(channel, side).aborted_here = true;
        } else if is_open {
            let code = [None, Some(1000), Some(3000 + self.rng.below(1000) as u16)][self.rng.below(3)];
            let reason = if code.is_some() { "gründe 😀" } else { "" };
            self.close_with(channel, side, code, reason);
        }
    }

    fn close_with(&mut self, channel: Channel, side: Side, code: Option<u16>, reason: &str) {
        self.pair.end(side).close(channel, code, reason);
        self.life(channel, side).closed_here = Some(Close { code, reason: reason.into() });
    }

    fn consume(&mut self, side: Side) {
        let Some(channel) = self.some(side, |life| !life.unread.is_empty()) else { return };
        let unread = std::mem::take(&mut self.life(channel, side).unread);
        self.pair.end(side).consumed(channel, unread.len() as u32, unread.iter().sum());
    }

    /// The link breaks: messages in flight are lost from some point on, in each direction. Then it is dialled again.
    fn cut(&mut self) {
        for side in SIDES {
            let kept = self.rng.below(5);
            self.pair.lose(side, kept);
            self.events(side);
        }
        self.counts.cuts += 1;
        if self.resume() {
            return;
        }
        self.serials = Default::default();
        let now = self.pair.now;
        self.pair = Pair::at(now, Endpoint::new(Side::Client, self.settings[0], now), self.settings[1]);
        self.dial();
    }

    fn token(&mut self) -> Token {
        self.tokens += 1;
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.tokens.to_be_bytes());
        Token::new(bytes)
    }

    /// The link that was cut goes on over other connections, of which some are cut, too. Returns false if it cannot.
    fn resume(&mut self) -> bool {
        let now = self.pair.now;
        // Either side may notice later, or not at all, and go on.
        if self.rng.one_in(2) {
            self.pair.server.carrier_lost(now);
        }
        // An input that has ended answers each question alike: connections are cut a few times, and then one stays.
        for cuts_left in (0..8).rev() {
            if !self.pair.client.carrier_lost(now) {
                return false;
            }
            for _ in 0..self.rng.below(4) {
                self.open();
                let side = SIDES[self.rng.below(2)];
                self.send(side);
            }
            for side in SIDES {
                self.pair.transmit(side);
                self.events(side);
            }
            SIDES.into_iter().for_each(|side| self.pair.lose(side, 0));
            self.pair.client.redialled(now);
            let Some(Physical::Binary(first)) = self.pair.client.poll_transmit() else {
                panic!("RESUME is the first message")
            };
            assert_eq!(self.pair.client.poll_transmit(), None, "nothing before the answer");
            if cuts_left > 0 && self.rng.one_in(4) {
                continue;
            }
            let resume = Resume::read(&first).expect("RESUME");
            if !self.pair.server.can_resume() {
                return false;
            }
            assert!(self.pair.server.accepts(&resume));
            let token = self.token();
            assert!(
                !self.pair.server.accepts(&Resume { token, ..resume }),
                "a token that was never given out"
            );
            self.pair.server.resume(now, &resume, token);
            assert!(!self.pair.server.accepts(&resume), "a connection resumes once");
            self.pair.transmit(Side::Server);
            self.counts.resumptions += 1;
            if cuts_left == 0 || !self.rng.one_in(4) {
                return true;
            }
            // The answer is lost, or the bytes after it.
            let kept = self.rng.below(3);
            self.pair.lose(Side::Client, kept);
            self.events(Side::Client);
        }
        unreachable!("the last of the connections stays")
    }

    fn events(&mut self, side: Side) {
        // Events that already waited when a channel was refused still come.
        let mut refused = Vec::new();
        while let Some(event) = self.pair.end(side).poll_event() {
            match event {
                Event::Open { channel, target, protocols, .. } => {
                    assert_eq!(protocols, "a, b");
                    let serial = target[1..].parse().expect("a serial");
                    self.serials[1].insert(channel, serial);
                    if self.rng.one_in(5) {
                        self.pair.server.refuse(channel, 404, "nothing here");
                        refused.push(channel);
                        self.life(channel, Side::Server).aborted_here = true;
                    } else {
                        self.pair.server.accept(channel, "a");
                        self.life(channel, Side::Server).open = true;
                    }
                }
                Event::Accepted { channel, protocol } => {
                    assert_eq!(protocol, "a");
                    assert!(!self.life(channel, side).aborted_here, "no event after an abort");
                    self.life(channel, side).open = true;
                }
                Event::Cookies { .. } => panic!("the server announces none"),
                Event::Refused { channel, status, .. } => {
                    assert!(status == 404 || status == 503);
                    assert!(!self.life(channel, side).aborted_here, "no event after an abort");
                    self.life(channel, side).closed_there = true;
                    self.life(channel, side).closed_here = Some(Close { code: None, reason: String::new() });
                }
                Event::Message { channel, message } => self.arrived(channel, side, &message),
                Event::Closed { channel, .. } if refused.contains(&channel) => {}
                Event::Closed { channel, close } => self.closed(channel, side, &close),
                Event::Oversize { .. } => panic!("nothing here is as large as that"),
                // More may have been queued since.
                Event::Drained { .. } => {}
            }
        }
    }

    fn arrived(&mut self, channel: Channel, side: Side, message: &Message) {
        let sent = self.other(channel, side).in_flight.pop_front();
        assert_eq!(Some(message), sent.as_ref(), "channel {channel}: in order, whole, once");
        let Settings { window, window_growth, .. } = self.settings[side as usize];
        let window = window + window_growth;
        let life = self.life(channel, side);
        assert!(life.open && !life.aborted_here && !life.closed_there);
        life.unread.push(message.units());
        let costs = life.unread.iter().map(|units| units + MESSAGE_OVERHEAD);
        let held = costs.clone().sum::<u32>() - costs.max().unwrap_or_default();
        assert!(held <= window, "{held} units wait beside the largest message, with a window of {window}");
    }

    fn closed(&mut self, channel: Channel, side: Side, close: &Close) {
        assert!(!self.life(channel, side).aborted_here, "no event after an abort");
        let gave_up = self.life(channel, side).closed_here.is_some();
        let sent = self.other(channel, side);
        if sent.aborted_here {
            assert_eq!(close.code, Some(1006));
        } else {
            assert_eq!(Some(close), sent.closed_here.as_ref(), "channel {channel}");
            // A side that answers a close has discarded its queue.
            let answered = sent.closed_there;
            assert!(
                sent.in_flight.is_empty() || gave_up || answered,
                "all that was sent came before the close"
            );
        }
        self.life(channel, side).closed_there = true;
        // Most hosts echo at once; some have something to do first, and `close` or `finish` answers.
        if self.life(channel, side).can_close() && !self.rng.one_in(4) {
            let code = close.code.filter(|&code| code != 1006);
            self.close_with(channel, side, code, "");
        }
    }

    /// Everybody reads and answers until nothing is on its way.
    fn settle(&mut self) {
        for _ in 0..100_000 {
            for side in SIDES {
                self.pair.transmit(side);
            }
            if self.pair.is_idle() {
                return;
            }
            self.pair.now += 30;
            for side in SIDES {
                self.pair.deliver(side);
                self.events(side);
                while self.some(side, |life| !life.unread.is_empty()).is_some() {
                    self.consume(side);
                }
            }
        }
        panic!("they never rest");
    }

    /// Once everybody has read, nothing waits; once everybody has closed, nothing is left.
    fn finish(&mut self) {
        for side in SIDES {
            self.pair.deliver(side);
            self.events(side);
            while self.some(side, |life| !life.unread.is_empty()).is_some() {
                self.consume(side);
            }
        }
        self.settle();
        for side in SIDES {
            let channels: Vec<Channel> = self.serials[side as usize].keys().copied().collect();
            for channel in channels {
                assert_eq!(self.pair.end(side).queued(channel), 0, "channel {channel} of {side:?} is stuck");
                if self.life(channel, side).can_send() && self.other(channel, side).can_send() {
                    assert!(self.life(channel, side).in_flight.is_empty(), "channel {channel}: all has come");
                }
            }
        }
        for side in SIDES {
            while let Some(channel) = self.some(side, Life::can_close) {
                self.close_with(channel, side, Some(1000), "done");
            }
        }
        self.settle();
        // Those that were closed first by the other side and left to be answered later.
        for side in SIDES {
            while let Some(channel) = self.some(side, Life::can_close) {
                self.close_with(channel, side, Some(1000), "done");
            }
        }
        self.settle();
        assert_eq!((self.pair.client.channels(), self.pair.server.channels()), (0, 0), "all have ended");
    }
}
