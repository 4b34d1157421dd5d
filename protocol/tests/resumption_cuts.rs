//! A link whose connection is cut at every point of a schedule: both sides see the same as without cuts (docs/protocol.md §8.1).

mod support;

use manysocket_protocol::{Event, Message, Physical, Resume, Side};
use support::resumable::{Pair, text};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;
#[cfg(target_arch = "wasm32")]
wasm_bindgen_test::wasm_bindgen_test_configure!(run_in_browser);

/// An action of one side.
enum Step {
    Open(&'static str),
    Send(Side, u32, Message),
    Close(Side, u32),
    Ping,
}

fn schedule() -> Vec<Step> {
    use Side::{Client, Server};
    let large = |byte| Message::binary(vec![byte; 40_000]);
    vec![
        Step::Send(Client, 1, text("hello")),
        Step::Send(Server, 1, text("hello, too")),
        Step::Open("/second"),
        // A message in several pieces, then a payload without a header (RAW).
        Step::Send(Client, 1, Message::text("é".repeat(90_000))),
        Step::Send(Client, 1, large(1)),
        Step::Send(Client, 1, large(2)),
        Step::Ping,
        Step::Send(Server, 2, large(3)),
        Step::Send(Server, 2, large(4)),
        Step::Send(Client, 2, text("last")),
        Step::Close(Client, 2),
        Step::Send(Server, 1, Message::binary(vec![])),
        Step::Open("/third"),
        Step::Close(Server, 1),
    ]
}

/// A connection that is cut at some points: each message that is sent, and each that arrives, is one.
struct Wire {
    pair: Pair,
    /// By sender.
    on_its_way: [std::collections::VecDeque<Physical>; 2],
    /// Whether the server still waits for RESUME.
    begins: bool,
    point: usize,
    cuts: Vec<usize>,
    /// By side. An event of a channel is comparable with another run's; the order between channels need not be the same.
    seen: [Vec<(u32, Event)>; 2],
}

impl Wire {
    /// Returns whether the connection is cut here.
    fn is_cut(&mut self) -> bool {
        self.point += 1;
        if !self.cuts.contains(&(self.point - 1)) {
            return false;
        }
        self.on_its_way = Default::default();
        assert!(self.pair.client.carrier_lost(self.pair.now));
        self.pair.client.redialled(self.pair.now);
        self.begins = true;
        true
    }

    fn write(&mut self, side: Side) {
        // The server writes to nobody before it has seen RESUME.
        while side == Side::Client || !self.begins {
            let Some(message) = self.pair.end(side).poll_transmit() else { return };
            self.on_its_way[side as usize].push_back(message);
            if self.is_cut() {
                return;
            }
        }
    }

    fn deliver(&mut self, from: Side) {
        let Some(message) = self.on_its_way[from as usize].pop_front() else { return };
        let now = self.pair.now;
        if from == Side::Client && self.begins {
            let Physical::Binary(first) = message else { panic!("RESUME is a batch") };
            self.pair.take(&Resume::read(&first).expect("RESUME"));
            self.begins = false;
        } else {
            let to = if from == Side::Client { Side::Server } else { Side::Client };
            self.pair.end(to).receive(now, message).expect("correct peers");
            self.events(to);
        }
        self.is_cut();
    }

    fn events(&mut self, side: Side) {
        while let Some(event) = self.pair.end(side).poll_event() {
            let channel = match &event {
                Event::Open { channel, .. } => {
                    self.pair.server.accept(*channel, "");
                    *channel
                }
                Event::Message { channel, message } => {
                    let units = message.units();
                    let channel = *channel;
                    self.pair.end(side).consumed(channel, 1, units);
                    channel
                }
                Event::Closed { channel, .. } => {
                    let channel = *channel;
                    self.pair.end(side).close(channel, Some(1000), "");
                    channel
                }
                Event::Accepted { channel, .. } => *channel,
                // Whether a queue was ever empty depends on the cuts.
                Event::Drained { .. } => continue,
                other => panic!("{other:?}"),
            };
            self.seen[side as usize].push((channel, event));
        }
    }

    fn settle(&mut self) {
        loop {
            let before = self.point;
            for side in [Side::Client, Side::Server] {
                self.write(side);
                self.deliver(side);
            }
            if self.point == before {
                return;
            }
        }
    }
}

/// Plays the schedule. Returns the number of points, and the events that each side saw of each channel.
fn play(cuts: &[usize]) -> (usize, [Vec<(u32, Event)>; 2]) {
    let mut wire = Wire {
        pair: Pair::new(),
        on_its_way: Default::default(),
        begins: false,
        point: 0,
        cuts: cuts.to_vec(),
        seen: Default::default(),
    };
    for (number, step) in schedule().into_iter().enumerate() {
        match step {
            Step::Open(target) => assert!(wire.pair.client.open(target, "").is_some()),
            Step::Send(side, channel, message) => {
                // The server accepts the second channel first, however long that takes.
                while side == Side::Server && channel > 1 && wire.seen[0].iter().all(|seen| seen.0 != channel)
                {
                    wire.settle();
                }
                assert!(wire.pair.end(side).send(channel, message));
            }
            Step::Close(side, channel) => wire.pair.end(side).close(channel, Some(3000), "bye"),
            Step::Ping => {
                wire.pair.now += 25_000;
                let now = wire.pair.now;
                wire.pair.server.handle_timeout(now).expect("a living client");
            }
        }
        // Several steps are under way at once.
        if number % 3 == 2 {
            wire.settle();
        } else {
            wire.write(Side::Client);
            wire.write(Side::Server);
        }
    }
    wire.settle();
    assert_eq!((wire.pair.client.channels(), wire.pair.server.channels()), (1, 1), "the third is open");
    wire.seen.iter_mut().for_each(|seen| seen.sort_by_key(|&(channel, _)| channel));
    (wire.point, wire.seen)
}

#[test]
fn at_whatever_point_a_connection_is_cut_both_sides_see_the_same() {
    let (points, expected) = play(&[]);
    assert!(points > 40, "{points} points");
    let mut runs = 0;
    for first in 0..points {
        let (more, seen) = play(&[first]);
        assert_eq!(seen, expected, "cut at {first}");
        // The connection after it is cut, too: before the answer to RESUME, and while messages are sent again.
        for second in first + 1..more.min(first + 8) {
            let (_, seen) = play(&[first, second]);
            assert_eq!(seen, expected, "cut at {first} and {second}");
            runs += 1;
        }
    }
    println!("{points} points, {runs} pairs of them");
}
