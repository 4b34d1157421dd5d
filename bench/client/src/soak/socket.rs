//! The sockets of a page: the behaviour and the expectations of each kind.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::time::{Duration, Instant};

use fastrand::Rng;
use manysocket_protocol::{Channel, Endpoint, Message};
use serde_json::Value;

use super::content::{Sizes, content};
use super::state::State;
use super::tally::Tally;
use super::topic::Topic;

/// The purpose of a socket.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    /// Echoes of small messages.
    Small,
    /// Echoes of large ones.
    Large,
    /// Echoes whose reader reads only every few seconds, more than a window holds.
    SlowReader,
    Topic,
    /// Echoes by a topic that nobody else is on, and that goes when the socket does.
    Room,
    /// The index of topics, which changes with every room.
    Index,
    /// Calls with quick and slow answers.
    Sum,
    SlowCall,
    State,
    /// An endpoint that does not exist.
    Missing,
}

/// An open socket, at the page's end of its channel.
pub(crate) struct Line<'a> {
    pub(crate) endpoint: &'a mut Endpoint,
    pub(crate) channel: Channel,
    pub(crate) tally: &'a Tally,
    pub(crate) rng: &'a mut Rng,
}

impl Line<'_> {
    pub(crate) fn send(&mut self, message: Message) {
        self.endpoint.send(self.channel, message);
        self.tally.count(|counts| counts.sent += 1);
    }

    /// Closes it with a distinct code, which the server must echo.
    pub(crate) fn close(&mut self) -> u16 {
        let code = 4000 + self.rng.u16(..1000);
        self.endpoint.close(self.channel, Some(code), "done");
        code
    }
}

/// How a socket ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum End {
    /// This side closed, and the server answered.
    Closed,
    /// The connection broke.
    Lost,
}

/// One use of a socket, from its open to its end.
pub(crate) trait Socket: Debug + Send {
    /// Sends due messages after some time has passed. Returns true once the socket is done and must be closed.
    fn tick(&mut self, line: &mut Line<'_>) -> bool;

    /// Checks a message; returns the fault if there is one.
    fn receive(&mut self, line: &mut Line<'_>, message: Message) -> Result<(), String>;

    /// Checks the end; returns the fault if there is one.
    fn ended(&mut self, end: &End, tally: &Tally) -> Result<(), String>;

    /// Returns whether the socket reports its reading of messages.
    fn reads_slowly(&self) -> bool {
        false
    }
}

/// Returns a new use and the path to open; `page` distinguishes pages.
pub(crate) fn begin(
    kind: Kind,
    prefix: &str,
    page: usize,
    tally: &Tally,
    rng: &mut Rng,
) -> (String, Box<dyn Socket>) {
    let echo = |echo| (format!("{prefix}/echo"), Box::new(echo) as Box<dyn Socket>);
    match kind {
        Kind::Small => echo(Echo::new(rng, Sizes::Small, 20..400, 32)),
        Kind::Large => echo(Echo::new(rng, Sizes::Large, 3..12, 2)),
        Kind::SlowReader => {
            let mut slow = Echo::new(rng, Sizes::Medium, 40..200, 64);
            slow.held = Some(Held::default());
            echo(slow)
        }
        Kind::Topic => Topic::begin(prefix, rng),
        Kind::Room => {
            let room = Echo::new(rng, Sizes::Medium, 5..60, 8);
            (format!("{prefix}/topics/room{:x}", room.seed), Box::new(room))
        }
        Kind::Index => (format!("{prefix}/topics/"), Box::new(Index { left: rng.u32(2..40) })),
        Kind::Sum => (format!("{prefix}/rpc/add"), Box::new(Calls::new(rng, true))),
        Kind::SlowCall => (format!("{prefix}/rpc/slow"), Box::new(Calls::new(rng, false))),
        Kind::State => State::begin(prefix, page, tally, rng),
        Kind::Missing => (format!("{prefix}/missing"), Box::new(Missing)),
    }
}

/// Echoed messages.
#[derive(Debug)]
struct Echo {
    seed: u64,
    sizes: Sizes,
    total: u64,
    /// The most messages in flight.
    ahead: u64,
    sent: u64,
    received: u64,
    /// Whether it closes without waiting for messages in flight, which are then discarded.
    in_haste: bool,
    held: Option<Held>,
}

/// The messages that a slow reader has not read yet, and since when.
#[derive(Debug, Default)]
struct Held {
    messages: u32,
    units: u32,
    since: Option<Instant>,
}

/// The time after the first message at which a slow reader reads.
const SLOWNESS: Duration = Duration::from_secs(2);

impl Echo {
    fn new(rng: &mut Rng, sizes: Sizes, total: std::ops::Range<u64>, ahead: u64) -> Self {
        let (seed, total, in_haste) = (rng.u64(..), rng.u64(total), rng.u8(..) < 64);
        Self { seed, sizes, total, ahead, sent: 0, received: 0, in_haste, held: None }
    }
}

impl Socket for Echo {
    fn tick(&mut self, line: &mut Line<'_>) -> bool {
        if let Some(Held { messages, units, since }) = &mut self.held
            && since.is_some_and(|since| since.elapsed() > SLOWNESS)
        {
            line.endpoint.consumed(line.channel, std::mem::take(messages), std::mem::take(units));
            *since = None;
        }
        let burst = match self.sizes {
            Sizes::Small => line.rng.u64(0..6),
            Sizes::Medium => 16,
            Sizes::Large => u64::from(line.rng.u8(..) < 12),
        };
        for _ in 0..burst {
            if self.sent < self.total && self.sent - self.received < self.ahead {
                line.send(content(self.seed, self.sent, self.sizes));
                self.sent += 1;
            }
        }
        self.sent == self.total && (self.in_haste || self.received == self.total)
    }

    fn receive(&mut self, _: &mut Line<'_>, message: Message) -> Result<(), String> {
        let expected = content(self.seed, self.received, self.sizes);
        if self.received >= self.sent || message != expected {
            return Err(format!("not echo {} of {} sent: {}", self.received, self.sent, brief(&message)));
        }
        self.received += 1;
        if let Some(held) = &mut self.held {
            held.messages += 1;
            held.units += message.units();
            held.since.get_or_insert_with(Instant::now);
        }
        Ok(())
    }

    fn ended(&mut self, end: &End, _: &Tally) -> Result<(), String> {
        match end {
            End::Closed if !self.in_haste && self.received != self.total => {
                Err(format!("{} echoes of {} before a clean close", self.received, self.total))
            }
            _ => Ok(()),
        }
    }

    fn reads_slowly(&self) -> bool {
        self.held.is_some()
    }
}

/// Returns a message's bytes.
pub(crate) fn length(message: &Message) -> u64 {
    let (Message::Text(bytes) | Message::Binary(bytes)) = message;
    bytes.len() as u64
}

/// Returns the beginning of a message.
pub(crate) fn brief(message: &Message) -> String {
    let (Message::Text(bytes) | Message::Binary(bytes)) = message;
    format!("{} bytes, {:?}", bytes.len(), String::from_utf8_lossy(&bytes[..bytes.len().min(80)]))
}

/// Calls of a function with numbers.
#[derive(Debug)]
struct Calls {
    /// The sum of two, or a call that lasts the given milliseconds.
    is_sum: bool,
    left: u32,
    expected: VecDeque<f64>,
}

impl Calls {
    fn new(rng: &mut Rng, is_sum: bool) -> Self {
        Self { is_sum, left: rng.u32(20..200), expected: VecDeque::new() }
    }
}

impl Socket for Calls {
    fn tick(&mut self, line: &mut Line<'_>) -> bool {
        if self.left > 0 && self.expected.len() < 4 {
            let (left, right) = (line.rng.u32(..100), line.rng.u32(..100));
            let (call, answer) = match self.is_sum {
                true => (format!("[{left},{right}]"), left + right),
                false => (format!("[{left}]"), left),
            };
            line.send(Message::text(call));
            self.expected.push_back(answer.into());
            self.left -= 1;
        }
        self.left == 0 && self.expected.is_empty()
    }

    fn receive(&mut self, line: &mut Line<'_>, message: Message) -> Result<(), String> {
        let answer = json(&message)?;
        let expected = self.expected.pop_front().ok_or("an answer to no call")?;
        line.tally.count(|counts| counts.calls += 1);
        match answer["result"].as_f64() {
            Some(result) if result == expected => Ok(()),
            _ => Err(format!("{answer} in place of {expected}")),
        }
    }

    fn ended(&mut self, _: &End, _: &Tally) -> Result<(), String> {
        Ok(())
    }
}

pub(crate) fn json(message: &Message) -> Result<Value, String> {
    match message {
        Message::Text(bytes) => {
            serde_json::from_slice(bytes).map_err(|error| format!("{error}: {}", brief(message)))
        }
        Message::Binary(_) => Err(format!("not JSON: {}", brief(message))),
    }
}

/// An index: first all names, then the changes.
#[derive(Debug)]
struct Index {
    left: u32,
}

impl Socket for Index {
    fn tick(&mut self, _: &mut Line<'_>) -> bool {
        self.left == 0
    }

    fn receive(&mut self, _: &mut Line<'_>, message: Message) -> Result<(), String> {
        self.left = self.left.saturating_sub(1);
        let value = json(&message)?;
        let is_change = value["added"].is_array() && value["removed"].is_array();
        if value.is_array() || is_change {
            Ok(())
        } else {
            Err(format!("not of an index: {}", brief(&message)))
        }
    }

    fn ended(&mut self, _: &End, _: &Tally) -> Result<(), String> {
        Ok(())
    }
}

/// A path without an endpoint.
#[derive(Debug)]
struct Missing;

impl Socket for Missing {
    fn tick(&mut self, _: &mut Line<'_>) -> bool {
        true
    }

    fn receive(&mut self, _: &mut Line<'_>, message: Message) -> Result<(), String> {
        Err(format!("a message from where nothing is: {}", brief(&message)))
    }

    fn ended(&mut self, end: &End, _: &Tally) -> Result<(), String> {
        if *end == End::Closed { Err("it was open, where nothing is".into()) } else { Ok(()) }
    }
}
