//! The applications at both sides of a channel: their actions in their turns, and their reactions to events.

use manysocket_protocol::{Channel, Close, Event, Message, Side};

use super::life::{Half, Life, Reader, Seen};
use super::{Action, Phase, World};

/// Units that wait to be sent on a channel, past which most applications wait, too.
const ENOUGH: u32 = 64 * 1024;

impl World {
    pub(super) fn half(&mut self, serial: usize, side: Side) -> &mut Half {
        &mut self.lives[serial].halves[side as usize]
    }

    /// The client opens one more channel.
    pub(super) fn open(&mut self, link: usize) {
        let serial = self.lives.len();
        // Some carry long URLs, so that a handshake does not hold all that wait.
        let filler = [0, 0, 0, 100, 1_000][self.rng.below(5)];
        let target = format!("/{serial}?{}", "x".repeat(filler));
        let Some(channel) = self.endpoint(link, Side::Client).open(&target, "a, b") else {
            let most = self.servers[self.links[link].server].settings.max_channels;
            assert!(self.endpoint(link, Side::Client).channels() >= most, "there is room for a channel");
            return;
        };
        let halves = [Half::new(channel, &mut self.rng), Half::new(0, &mut self.rng)];
        self.lives.push(Life { link, halves, open_units: target.len() + 4 });
        let open = self.endpoint(link, Side::Client).channels();
        let peak = &mut self.links[link].peak;
        *peak = open.max(*peak);
        assert!(channel <= *peak, "numbers are used again, lowest first");
        self.counts.opens += 1;
        self.enter(serial, Side::Client, channel);
    }

    /// A side knows one more channel.
    fn enter(&mut self, serial: usize, side: Side, channel: Channel) {
        let healed = self.phase != Phase::Playing;
        let half = self.half(serial, side);
        half.channel = channel;
        if healed {
            (half.plan.reader, half.plan.turns) = (Reader::Eager, 0);
        }
        let link = self.lives[serial].link;
        if let Some(before) = self.links[link].end(side).serials.insert(channel, serial) {
            assert!(self.half(before, side).is_over(), "channel {channel} begins again before it has ended");
        }
        let pace = self.half(serial, side).plan.pace;
        self.soon(pace, Action::Turn { serial, side: side as usize });
    }

    /// Opens more, now and later.
    pub(super) fn open_more(&mut self, link: usize, times: usize) {
        if self.phase != Phase::Playing || self.links[link].ends[0].is_none() {
            return;
        }
        for _ in 0..self.rng.below(4) {
            self.open(link);
        }
        self.write(link, Side::Client);
        if times > 0 {
            self.soon(1_000, Action::Open { link, times: times - 1 });
        }
    }

    /// An application does something.
    pub(super) fn turn(&mut self, serial: usize, side: Side) {
        let link = self.lives[serial].link;
        let Some(end) = &self.links[link].ends[side as usize] else { return };
        if end.asleep_until > self.now {
            let until = end.asleep_until;
            return self.at(until, Action::Turn { serial, side: side as usize });
        }
        let healed = self.phase != Phase::Playing;
        let half = self.half(serial, side);
        // A server's has not come yet, with channel 0.
        if half.is_over() || half.channel == 0 {
            return;
        }
        if half.asked {
            self.answer(serial);
        } else if half.seen.is_some() {
            self.answer_close(serial, side);
        } else {
            let half = self.half(serial, side);
            let (ends, has_turns) = (half.plan.ends, half.plan.turns > 0);
            half.plan.turns = half.plan.turns.saturating_sub(1);
            match self.rng.below(16) {
                0..=7 if has_turns => self.talk(serial, side),
                8..=11 => {
                    let most = 1 + self.rng.below(20);
                    self.read(serial, side, most);
                }
                12 if ends => {
                    let code =
                        [None, Some(1000), Some(3000 + self.rng.below(1000) as u16)][self.rng.below(3)];
                    self.close(serial, side, code, if code.is_some() { "gründe 😀" } else { "" });
                }
                13 if ends => self.give_up(serial, side),
                // It changes its mind in the same breath.
                14 if ends && self.rng.one_in(3) => {
                    self.close(serial, side, Some(1000), "");
                    self.give_up(serial, side);
                }
                _ => {}
            }
        }
        assert!(self.deaf.is_empty(), "an open channel takes messages");
        self.write(link, side);
        let half = self.half(serial, side);
        let pace = if healed { 10 } else { half.plan.pace };
        if !half.is_over()
            && (half.plan.turns > 0 || half.asked || half.seen.is_some() || !half.unread.is_empty())
        {
            self.soon(pace, Action::Turn { serial, side: side as usize });
        }
    }

    /// Sends a few messages.
    fn talk(&mut self, serial: usize, side: Side) {
        let (link, channel) = (self.lives[serial].link, self.half(serial, side).channel);
        let own = self.servers[self.links[link].server].settings;
        let peer = if side == Side::Client { own } else { self.slots[self.links[link].slot].settings };
        for _ in 0..=self.rng.below(5) {
            if !self.half(serial, side).can_send() || self.endpoint(link, side).queued(channel) > ENOUGH {
                return;
            }
            let half = &mut self.lives[serial].halves[side as usize];
            let message = half.next_message(serial, side as usize, &peer, &mut self.rng);
            if !self.endpoint(link, side).send(channel, message) {
                self.half(serial, side).sent.pop();
                return self.deaf.push((serial, side));
            }
        }
    }

    /// Reads at most so many messages.
    pub(super) fn read(&mut self, serial: usize, side: Side, most: usize) {
        let link = self.lives[serial].link;
        let half = &mut self.lives[serial].halves[side as usize];
        let most = most.min(half.unread.len());
        let units: u32 = half.unread.drain(..most).sum();
        if let Some(end) = &mut self.links[link].ends[side as usize]
            && most > 0
            // The number may be another channel's by now.
            && end.serials.get(&half.channel) == Some(&serial)
        {
            end.observer.consumed(half.channel, most);
            end.endpoint.consumed(half.channel, most as u32, units);
        }
    }

    pub(super) fn close(&mut self, serial: usize, side: Side, code: Option<u16>, reason: &str) {
        let link = self.lives[serial].link;
        let half = self.half(serial, side);
        if !half.can_close() {
            // Closing before it has opened takes it back.
            if side == Side::Client && !half.open {
                self.give_up(serial, side);
            }
            return;
        }
        half.closed_here = Some(Close { code, reason: reason.into() });
        let channel = half.channel;
        self.tell(|| format!("channel {serial} {side:?}: close {code:?}"));
        self.endpoint(link, side).close(channel, code, reason);
    }

    fn give_up(&mut self, serial: usize, side: Side) {
        let link = self.lives[serial].link;
        let half = self.half(serial, side);
        if half.seen.is_some() || half.gave_up || half.refused_here.is_some() {
            return;
        }
        half.gave_up = true;
        let channel = half.channel;
        self.tell(|| format!("channel {serial} {side:?}: give up"));
        self.endpoint(link, side).abort(channel);
    }

    // ---- answers ----

    /// A server's application answers an open.
    fn answer(&mut self, serial: usize) {
        let link = self.lives[serial].link;
        let channel = self.half(serial, Side::Server).channel;
        match self.rng.below(8) {
            0 => self.refuse(serial, 404),
            choice => {
                self.half(serial, Side::Server).asked = false;
                self.half(serial, Side::Server).open = true;
                self.endpoint(link, Side::Server).accept(channel, "a");
                match choice {
                    1 | 2 => self.talk(serial, Side::Server),
                    3 if self.phase == Phase::Playing => {
                        self.close(serial, Side::Server, Some(4000), "at once");
                    }
                    4 if self.phase == Phase::Playing => self.give_up(serial, Side::Server),
                    _ => {}
                }
            }
        }
    }

    pub(super) fn refuse(&mut self, serial: usize, status: u16) {
        let link = self.lives[serial].link;
        let half = self.half(serial, Side::Server);
        (half.asked, half.refused_here) = (false, Some(status));
        let channel = half.channel;
        self.endpoint(link, Side::Server).refuse(channel, status, "not here");
    }

    /// Ends this side, the other having done so.
    fn answer_close(&mut self, serial: usize, side: Side) {
        let Some(Seen::Closed(close)) = self.half(serial, side).seen.clone() else { return };
        let code = close.code.filter(|&code| code != 1006);
        self.close(serial, side, code, "");
    }

    // ---- events ----

    pub(super) fn hear(&mut self, link: usize, side: Side, event: Event) {
        if let Event::Open { channel, target, protocols, .. } = event {
            return self.asked(link, channel, &target, &protocols);
        }
        let (Event::Cookies { channel, .. }
        | Event::Accepted { channel, .. }
        | Event::Refused { channel, .. }
        | Event::Message { channel, .. }
        | Event::Closed { channel, .. }
        | Event::Oversize { channel }
        | Event::Drained { channel }
        | Event::Open { channel, .. }) = event;
        let serial = self.links[link].end(side).serials[&channel];
        let half = self.half(serial, side);
        if !matches!(event, Event::Drained { .. }) {
            assert!(half.seen.is_none() && !half.gave_up, "{event:?} after the end of {half:?}");
        }
        match event {
            Event::Accepted { protocol, .. } => {
                assert_eq!((side, &*protocol), (Side::Client, "a"));
                half.open = true;
                assert!(self.half(serial, Side::Server).refused_here.is_none());
            }
            Event::Refused { status, .. } => self.refused(serial, status),
            Event::Message { message, .. } => self.message(serial, side, &message),
            Event::Closed { close, .. } => self.closed(serial, side, close),
            Event::Oversize { .. } => self.oversize(serial, side),
            // More may have been queued since.
            Event::Drained { .. } | Event::Open { .. } => {}
            Event::Cookies { .. } => panic!("the servers announce none"),
        }
    }

    /// An open has come to a server.
    fn asked(&mut self, link: usize, channel: Channel, target: &str, protocols: &str) {
        assert_eq!(protocols, "a, b");
        let serial: usize =
            target[1..].split('?').next().and_then(|serial| serial.parse().ok()).expect("a serial");
        assert_eq!(self.lives[serial].link, link, "an open of this link");
        let max_open = self.servers[self.links[link].server].settings.max_open;
        assert!(self.lives[serial].open_units <= max_open as usize, "refused before its application sees it");
        self.enter(serial, Side::Server, channel);
        self.half(serial, Side::Server).asked = true;
        self.check_room(link);
        if self.is_draining(link) {
            self.refuse(serial, 503);
        } else if self.rng.one_in(2) {
            self.answer(serial);
        }
    }

    /// A server's applications never have more channels than its settings allow.
    fn check_room(&self, link: usize) {
        let most = self.servers[self.links[link].server].settings.max_channels;
        let Some(end) = &self.links[link].ends[1] else { return };
        let serials = end.serials.values();
        let halves = serials.map(|&serial| &self.lives[serial].halves[1]);
        let open = halves.filter(|half| !half.is_over()).count();
        assert!(open <= most as usize, "{open} channels, with a limit of {most}");
    }

    fn refused(&mut self, serial: usize, status: u16) {
        let link = self.lives[serial].link;
        let settings = self.servers[self.links[link].server].settings;
        let Life { open_units, ref halves, .. } = self.lives[serial];
        let is_long = open_units > settings.max_open as usize;
        let is_beyond = self.links[link].peak > settings.max_channels;
        assert!(!halves[0].open, "refused after it was accepted");
        match halves[1].refused_here {
            Some(refused) => assert_eq!(status, refused),
            None => {
                assert!(
                    status == 503 && is_beyond || status == 431 && is_long,
                    "{status}: nobody refused it"
                );
            }
        }
        self.half(serial, Side::Client).seen = Some(Seen::Refused(status));
    }

    fn message(&mut self, serial: usize, side: Side, message: &Message) {
        let [client, server] = &self.lives[serial].halves;
        let (own, other, sender) = match side {
            Side::Client => (client, server, Side::Server),
            Side::Server => (server, client, Side::Client),
        };
        assert!(own.open, "a message before the channel is open");
        let sent = other.message(serial, sender as usize, own.heard);
        assert_eq!(Some(message), sent.as_ref(), "channel {serial}: in order, whole, once");
        assert!(message.units() <= self.max_message(serial, side), "larger than its receiver takes");
        let half = self.half(serial, side);
        half.heard += 1;
        half.unread.push_back(message.units());
        if half.plan.reader == Reader::Eager {
            self.read(serial, side, usize::MAX);
        } else if half.plan.reader == Reader::Late {
            let pace = half.plan.pace;
            self.soon(pace, Action::Turn { serial, side: side as usize });
        }
    }

    fn max_message(&self, serial: usize, side: Side) -> u32 {
        let link = &self.links[self.lives[serial].link];
        match side {
            Side::Client => self.slots[link.slot].settings.max_message,
            Side::Server => self.servers[link.server].settings.max_message,
        }
    }

    fn closed(&mut self, serial: usize, side: Side, close: Close) {
        let [client, server] = &self.lives[serial].halves;
        let (own, other) = if side == Side::Client { (client, server) } else { (server, client) };
        let by_size = other.seen == Some(Seen::Oversize) && close.code == Some(1009);
        assert!(other.may_be_seen_as(&close), "channel {serial}: {close:?} is not what {other:?} did");
        // An application that gives up drops its messages; so does one that learns of an end while it waits to send.
        let is_clean = close.code != Some(1006) && !by_size && own.closed_here.is_none();
        assert!(
            !is_clean || own.heard == other.sent.len(),
            "channel {serial}: all came before a clean close"
        );
        self.half(serial, side).seen = Some(Seen::Closed(close));
        if !self.rng.one_in(4) {
            self.answer_close(serial, side);
        } else {
            self.soon(300, Action::Turn { serial, side: side as usize });
        }
    }

    fn oversize(&mut self, serial: usize, side: Side) {
        let most = self.max_message(serial, side);
        let other = &self.lives[serial].halves[1 - side as usize];
        let heard = self.lives[serial].halves[side as usize].heard;
        assert!(
            other.sent.get(heard).is_some_and(|sent| sent.units > most),
            "what it sent next is not too large"
        );
        self.half(serial, side).seen = Some(Seen::Oversize);
    }
}
