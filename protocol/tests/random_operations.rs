//! Two correct peers do random things over a link with random delays and cuts. Whatever they do, nothing is lost,
//! duplicated or reordered within a channel, credit is conserved, and both sides end in the same state.

mod pair;

use std::collections::{HashMap, VecDeque};

use manysocket_protocol::{Channel, Close, Endpoint, Event, Message, Settings, Side};
use pair::{Pair, Rng};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;
#[cfg(target_arch = "wasm32")]
wasm_bindgen_test::wasm_bindgen_test_configure!(run_in_browser);

/// Seeds of one run. `MANYSOCKET_SEED=n` replays one; `MANYSOCKET_SEEDS=n` runs more.
fn seeds() -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    match number("MANYSOCKET_SEED") {
        Some(seed) => seed..seed + 1,
        None => {
            0..number("MANYSOCKET_SEEDS").unwrap_or(if cfg!(target_arch = "wasm32") { 200 } else { 2000 })
        }
    }
}

/// One side's view of one life of a channel.
#[derive(Default)]
struct Life {
    /// What was sent here and has not arrived there yet.
    in_flight: VecDeque<Message>,
    /// What has arrived and has not been consumed yet.
    unread: Vec<u32>,
    open: bool,
    closed_here: Option<Close>,
    aborted_here: bool,
    closed_there: bool,
}

struct Run {
    rng: Rng,
    pair: Pair,
    /// By serial number, then side: 0 client, 1 server. Numbers of channels are used again, serials are not.
    lives: Vec<[Life; 2]>,
    /// The serial of each channel that a side knows.
    serials: [HashMap<Channel, usize>; 2],
    window: u32,
    messages: usize,
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
    match rng.below(4) {
        0 => Message::binary((0..size).map(|i| (i * 7 + size) as u8).collect::<Vec<_>>()),
        1 => Message::text("é€😀a".chars().cycle().skip(size % 4).take(size).collect::<String>()),
        2 => Message::text("😀".repeat(size / 2)),
        _ => Message::text("x".repeat(size)),
    }
}

const SIDES: [Side; 2] = [Side::Client, Side::Server];

impl Run {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let window = 16 * 1024 + rng.below(100_000) as u32;
        let max_fragment = 4096 + rng.below(100_000) as u32;
        let max_channels = 1 + rng.below(20) as u32;
        let settings = |max_channels| Settings { window, max_fragment, max_channels, ..Settings::default() };
        let client = Endpoint::new(Side::Client, settings(1), 0);
        let mut run = Self {
            pair: Pair::new(client, settings(max_channels)),
            lives: Vec::new(),
            serials: Default::default(),
            window,
            messages: 0,
            rng,
        };
        run.pair.latency = run.rng.below(30) as u64;
        for _ in 0..run.rng.below(30) {
            run.open();
        }
        run.pair.connect();
        run
    }

    fn step(&mut self) {
        let side = SIDES[self.rng.below(2)];
        match self.rng.below(12) {
            0 => self.open(),
            1..=4 => self.send(side),
            5 => self.close(side),
            6 => self.consume(side),
            7 | 8 => self.pair.transmit(side),
            9 => self.pair.now += self.rng.below(20) as u64,
            _ => {
                self.pair.deliver(side);
                self.events(side);
            }
        }
    }

    fn open(&mut self) {
        let serial = self.lives.len();
        if let Some(channel) = self.pair.client.open(&format!("/{serial}"), "a, b") {
            self.lives.push(Default::default());
            self.serials[0].insert(channel, serial);
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

    /// What a side thinks of a channel.
    fn life(&mut self, channel: Channel, side: Side) -> &mut Life {
        let serial = self.serials[side as usize][&channel];
        &mut self.lives[serial][side as usize]
    }

    /// What the other side thinks of what a side calls `channel`.
    fn other(&mut self, channel: Channel, side: Side) -> &mut Life {
        let serial = self.serials[side as usize][&channel];
        &mut self.lives[serial][1 - side as usize]
    }

    fn send(&mut self, side: Side) {
        let can_send =
            |life: &Life| life.open && !life.aborted_here && life.closed_here.is_none() && !life.closed_there;
        let Some(channel) = self.some(side, can_send) else { return };
        for _ in 0..=self.rng.below(4) {
            let message = message(&mut self.rng, self.window);
            self.life(channel, side).in_flight.push_back(message.clone());
            assert!(self.pair.end(side).send(channel, message));
            self.messages += 1;
        }
    }

    fn close(&mut self, side: Side) {
        let Some(channel) = self.some(side, |life| life.closed_here.is_none() && !life.aborted_here) else {
            return;
        };
        let rarely = self.rng.one_in(3);
        let is_open = self.life(channel, side).open;
        if rarely && (is_open || side == Side::Client) {
            self.pair.end(side).abort(channel);
            self.life(channel, side).aborted_here = true;
        } else if is_open {
            let code = [None, Some(1000), Some(3000 + self.rng.below(1000) as u16)][self.rng.below(3)];
            let reason = if code.is_some() { "gründe 😀" } else { "" };
            self.pair.end(side).close(channel, code, reason);
            self.life(channel, side).closed_here = Some(Close { code, reason: reason.into() });
        }
    }

    fn consume(&mut self, side: Side) {
        let Some(channel) = self.some(side, |life| !life.unread.is_empty()) else { return };
        let unread = std::mem::take(&mut self.life(channel, side).unread);
        self.pair.end(side).consumed(channel, unread.len() as u32, unread.iter().sum());
    }

    fn events(&mut self, side: Side) {
        // Events that already waited when a channel was refused still come.
        let mut refused = Vec::new();
        while let Some(event) = self.pair.end(side).poll_event() {
            match event {
                Event::Open { channel, target, .. } => {
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
                Event::Refused { channel, status, .. } => {
                    assert!(status == 404 || status == 503);
                    self.life(channel, side).closed_there = true;
                    self.life(channel, side).closed_here = Some(Close { code: None, reason: String::new() });
                }
                Event::Message { channel, message } => {
                    let sent = self.other(channel, side).in_flight.pop_front();
                    assert_eq!(Some(&message), sent.as_ref(), "channel {channel}: in order, whole, once");
                    let life = self.life(channel, side);
                    assert!(!life.aborted_here && !life.closed_there);
                    life.unread.push(message.units());
                }
                Event::Closed { channel, .. } if refused.contains(&channel) => {}
                Event::Closed { channel, close } => {
                    assert!(!self.life(channel, side).aborted_here, "no event after an abort");
                    let gave_up = self.life(channel, side).closed_here.is_some();
                    let sent = self.other(channel, side);
                    if sent.aborted_here {
                        assert_eq!(close.code, Some(1006));
                    } else {
                        assert_eq!(Some(&close), sent.closed_here.as_ref(), "channel {channel}");
                        assert!(
                            sent.in_flight.is_empty() || gave_up,
                            "all that was sent came before the close"
                        );
                    }
                    self.life(channel, side).closed_there = true;
                    if self.life(channel, side).closed_here.is_none() {
                        // As hosts do: echo.
                        self.pair.end(side).close(channel, close.code, "");
                        self.life(channel, side).closed_here =
                            Some(Close { code: close.code, reason: String::new() });
                    }
                }
                Event::Oversize { .. } => panic!("nothing here is as large as that"),
                // More may have been queued since.
                Event::Drained { .. } => {}
            }
        }
    }

    /// Everybody reads and closes: nothing must be left.
    fn finish(&mut self) {
        for _ in 0..10_000 {
            for side in SIDES {
                self.pair.transmit(side);
            }
            self.pair.now += 30;
            for side in SIDES {
                self.pair.deliver(side);
                self.events(side);
                while self.some(side, |life| !life.unread.is_empty()).is_some() {
                    self.consume(side);
                }
                let can_close = |life: &Life| life.open && life.closed_here.is_none() && !life.aborted_here;
                while let Some(channel) = self.some(side, can_close) {
                    self.pair.end(side).close(channel, Some(1000), "done");
                    self.life(channel, side).closed_here =
                        Some(Close { code: Some(1000), reason: "done".into() });
                }
            }
            if self.pair.client.channels() == 0 && self.pair.server.channels() == 0 {
                return;
            }
        }
        panic!("{} and {} channels never ended", self.pair.client.channels(), self.pair.server.channels());
    }
}

#[test]
fn nothing_is_lost_and_everything_ends() {
    let (mut runs, mut messages) = (0, 0);
    for seed in seeds() {
        // Shown only if the test fails: the seed to replay.
        println!("seed {seed}");
        let mut run = Run::new(seed);
        for _ in 0..run.rng.below(400) {
            run.step();
        }
        run.finish();
        runs += 1;
        messages += run.messages;
    }
    println!("{runs} runs, {messages} messages");
    assert!(messages > runs, "the runs did something");
}
