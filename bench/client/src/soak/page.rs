//! A page: one link at a time with a fixed number of sockets, each of which reopens when it has ended.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use manysocket_protocol::{Channel, Event};
use tokio::time::{sleep, timeout_at};

use super::socket::{End, Kind, Line, Socket, begin, length};
use super::tally::Tally;
use crate::link::{Ended, Link};

/// The interval at which sockets send.
const TICK: Duration = Duration::from_millis(50);

/// The average time until a page leaves in good order.
const STAY: f64 = 120.0;

/// The average interval at which a page stops reading, and for how long.
const NAPS: f64 = 40.0;
const NAP: Duration = Duration::from_secs(3);

/// A silent link must end after two intervals and the grace (docs/protocol.md §8); a longer silence is a fault.
const SILENCE: Duration = Duration::from_secs(60 + 5);

/// More time than everything needs to end: a silent link takes a minute, plus the time until then.
const PATIENCE: Duration = Duration::from_secs(180);

pub(crate) struct Page {
    number: usize,
    host: String,
    prefix: &'static str,
    kinds: &'static [Kind],
    tally: Arc<Tally>,
    rng: Rng,
}

/// One of a page's sockets.
struct Slot {
    kind: Kind,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    channel: Channel,
    path: String,
    socket: Box<dyn Socket>,
    is_accepted: bool,
    /// The code of this side's close.
    closing: Option<u16>,
}

impl Page {
    pub(crate) fn new(
        number: usize,
        host: &str,
        prefix: &'static str,
        kinds: &'static [Kind],
        tally: &Arc<Tally>,
    ) -> Self {
        Self { number, host: host.into(), prefix, kinds, tally: Arc::clone(tally), rng: Rng::new() }
    }

    /// Runs one link after the other.
    pub(crate) async fn run(mut self, end: Instant) {
        while Instant::now() < end {
            match Link::dial(&self.host).await {
                Ok(link) => {
                    self.tally.count(|counts| counts.links += 1);
                    let stay = Duration::from_secs_f64(-STAY * (1.0 - self.rng.f64()).ln());
                    self.live(link, end.min(Instant::now() + stay)).await;
                }
                Err(_) => {
                    self.tally.count(|counts| counts.dials_failed += 1);
                    sleep(TICK).await;
                }
            }
        }
    }

    /// Decides at random whether an event happens now that happens at the given average interval.
    fn happens(&mut self, every: f64) -> bool {
        self.rng.f64() < TICK.as_secs_f64() / every
    }

    /// Keeps a link busy until it is lost or the page leaves.
    async fn live(&mut self, mut link: Link, leave: Instant) {
        let mut slots: Vec<Slot> = self.kinds.iter().map(|&kind| Slot { kind, open: None }).collect();
        let mut by_channel = HashMap::new();
        let (mut next_tick, mut heard) = (Instant::now(), Instant::now());
        loop {
            let ended = match timeout_at(next_tick.into(), link.event()).await {
                Ok(Ok(event)) => {
                    heard = Instant::now();
                    self.take(&mut link, &mut slots, &mut by_channel, event);
                    continue;
                }
                Ok(Err(ended)) => Err(ended),
                Err(_) => link.keep_alive(),
            };
            if let Err(ended) = ended {
                return self.lost(&ended, slots, heard.elapsed());
            }
            next_tick = Instant::now() + TICK;
            let is_leaving = Instant::now() >= leave;
            self.tick(&mut link, &mut slots, &mut by_channel, is_leaving);
            if is_leaving && slots.iter().all(|slot| slot.open.is_none()) {
                let closed = tokio::time::timeout(PATIENCE, link.close()).await;
                if matches!(closed, Ok(Ok(()))) {
                    self.tally.count(|counts| counts.links_left += 1);
                } else {
                    self.tally.count(|counts| counts.links_lost += 1);
                }
                return;
            }
            if Instant::now() > leave + PATIENCE {
                let open = slots.iter().filter_map(|slot| slot.open.as_ref()).collect::<Vec<_>>();
                let (page, silent) = (self.number, heard.elapsed());
                self.tally.violation(&format!("page {page}, silent for {silent:?}, never ends: {open:?}"));
                return;
            }
            if self.happens(NAPS) {
                sleep(NAP).await;
            }
        }
    }

    fn tick(
        &mut self,
        link: &mut Link,
        slots: &mut [Slot],
        by_channel: &mut HashMap<Channel, usize>,
        is_leaving: bool,
    ) {
        for (index, slot) in slots.iter_mut().enumerate() {
            let Some(open) = &mut slot.open else {
                if !is_leaving && self.rng.u8(..) < 64 {
                    let (path, socket) =
                        begin(slot.kind, self.prefix, self.number, &self.tally, &mut self.rng);
                    if let Some(channel) = link.endpoint.open(&path, "") {
                        by_channel.insert(channel, index);
                        let (is_accepted, closing) = (false, None);
                        slot.open = Some(Open { channel, path, socket, is_accepted, closing });
                    }
                }
                continue;
            };
            if !open.is_accepted || open.closing.is_some() {
                continue;
            }
            let channel = open.channel;
            let mut line =
                Line { endpoint: &mut link.endpoint, channel, tally: &self.tally, rng: &mut self.rng };
            if open.socket.tick(&mut line) {
                open.closing = Some(line.close());
            }
        }
        // An open that the page takes back before the answer; no event may follow for it.
        if !is_leaving
            && self.rng.u8(..) < 64
            && let Some(channel) = link.endpoint.open(&format!("{}/echo", self.prefix), "")
        {
            link.endpoint.close(channel, None, "");
            self.tally.count(|counts| counts.taken_back += 1);
        }
    }

    /// Handles an event.
    fn take(
        &mut self,
        link: &mut Link,
        slots: &mut [Slot],
        by_channel: &mut HashMap<Channel, usize>,
        event: Event,
    ) {
        let channel = match &event {
            Event::Accepted { channel, .. }
            | Event::Refused { channel, .. }
            | Event::Message { channel, .. }
            | Event::Closed { channel, .. } => *channel,
            // The page sends too little to need this.
            Event::Drained { .. } | Event::Cookies { .. } => return,
            Event::Open { .. } | Event::Oversize { .. } => {
                return self.tally.violation(&format!("{event:?}"));
            }
        };
        let Some(slot) = by_channel.get(&channel).map(|&index| &mut slots[index]) else {
            return self.tally.violation(&format!("of no channel: {event:?}"));
        };
        let Some(open) = &mut slot.open else { return };
        let is_gateway = self.prefix == "/up";
        let tally = &self.tally;
        let wrong = |path: &str, what: &str| tally.violation(&format!("page {} {path}: {what}", self.number));
        match event {
            Event::Accepted { .. } if open.is_accepted => wrong(&open.path, "accepted twice"),
            Event::Accepted { .. } => {
                open.is_accepted = true;
                tally.count(|counts| counts.opened += 1);
            }
            Event::Refused { status, .. } => {
                tally.count(|counts| counts.refused += 1);
                // Behind a gateway the connection may break before there is an answer.
                if !(slot.kind == Kind::Missing && status == 404
                    || is_gateway && [502, 504].contains(&status))
                {
                    wrong(&open.path, &format!("refused with {status}"));
                }
                slot.open = None;
                by_channel.remove(&channel);
            }
            Event::Message { message, .. } => {
                let (units, bytes) = (message.units(), length(&message));
                tally.count(|counts| {
                    counts.received += 1;
                    counts.received_bytes += bytes;
                });
                let mut line = Line { endpoint: &mut link.endpoint, channel, tally, rng: &mut self.rng };
                if let Err(what) = open.socket.receive(&mut line, message) {
                    wrong(&open.path, &what);
                }
                if !open.socket.reads_slowly() {
                    link.endpoint.consumed(channel, 1, units);
                }
            }
            Event::Closed { close, .. } => {
                let is_lost = close.code == Some(1006);
                let end = if is_lost { End::Lost } else { End::Closed };
                if is_lost && !is_gateway || !is_lost && close.code != open.closing {
                    wrong(&open.path, &format!("closed with {close:?}"));
                }
                if let Err(what) = open.socket.ended(&end, tally) {
                    wrong(&open.path, &what);
                }
                tally.count(|counts| if is_lost { counts.lost += 1 } else { counts.closed += 1 });
                link.endpoint.close(channel, close.code, "");
                slot.open = None;
                by_channel.remove(&channel);
            }
            Event::Drained { .. } | Event::Cookies { .. } | Event::Open { .. } | Event::Oversize { .. } => {}
        }
    }

    /// Handles the loss of the link, and of all its channels.
    fn lost(&self, ended: &Ended, slots: Vec<Slot>, silent: Duration) {
        match ended {
            Ended::Lost(_) if silent < SILENCE + NAP => {}
            // A close because of the page's behaviour is a fault, since the page behaves. After silence, 1008 is right.
            Ended::Closed(1008) => {}
            _ => self.tally.violation(&format!("page {}: {ended}, after {silent:?} of silence", self.number)),
        }
        self.tally.count(|counts| {
            counts.links_lost += 1;
            counts.longest_silence = counts.longest_silence.max(silent.as_millis());
        });
        for mut open in slots.into_iter().filter_map(|slot| slot.open) {
            if open.is_accepted {
                self.tally.count(|counts| counts.lost += 1);
            }
            if let Err(what) = open.socket.ended(&End::Lost, &self.tally) {
                self.tally.violation(&format!("page {} {}: {what}", self.number, open.path));
            }
        }
    }
}
