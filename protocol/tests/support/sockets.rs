//! Virtual sockets over one simulated link: a client and a server that do random things, and a model of the events that each
//! socket must see.

use manysocket_protocol::client::{Client, Closing, Failure, Socket, SocketEvent, Timeout};
use manysocket_protocol::{
    Channel, Endpoint, Event as ServerEvent, Message, Millis, Physical, Settings, Side, Token,
};

use super::observer::{Observer, Way};
use super::rng::Rng;
use super::wire::{Wire, length};

const LATENCY: Millis = 2;
const IDLE: Millis = 5_000;
/// Longer than any deadline of a socket: the longest is that of an open.
const PATIENCE: Millis = 300_000;

/// The decision of the server's application about an open.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Answer {
    None,
    Accepted(&'static str),
    Refused,
}

/// One virtual socket: the actions of both sides, and the events of its application.
struct Life {
    face: Socket,
    channel: Option<Channel>,
    offered: &'static str,
    /// The server's application knows of the open.
    asked: bool,
    answer: Answer,
    /// The server's application answers no close.
    is_mute: bool,
    gave_up: bool,
    client_close: Option<Option<u16>>,
    server_close: Option<Option<u16>>,
    server_aborted: bool,
    sent_too_large: bool,
    to_server: Vec<Message>,
    at_server: usize,
    to_client: Vec<Message>,
    at_client: usize,
    /// Tickets of cookies in the answer that the application has not seen.
    ticket: Option<Token>,
    saw_open: bool,
    failure: Option<Failure>,
    is_over: bool,
}

/// The counts of a run.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) opens: usize,
    pub(crate) messages: usize,
    pub(crate) failures: usize,
    pub(crate) clean: usize,
    pub(crate) lost: usize,
    pub(crate) unanswered: usize,
}

struct Run {
    rng: Rng,
    now: Millis,
    client: Client<usize>,
    server: Endpoint,
    settings: [Settings; 2],
    observer: Observer,
    to_server: Wire<Physical>,
    to_client: Wire<Physical>,
    lives: Vec<Life>,
    /// The life of each channel that the server's applications know.
    served: Vec<(Channel, usize)>,
    /// The physical WebSocket's bytes that have not left.
    buffered: u64,
    link_is_lost: Option<bool>,
    counts: Counts,
}

/// A whole run. Panics where a socket does not see the required events.
pub(crate) fn run(rng: Rng) -> Counts {
    let mut run = Run::new(rng);
    for _ in 0..run.rng.below(600) {
        run.step();
        if run.link_is_lost.is_some() {
            break;
        }
    }
    run.finish();
    run.counts
}

impl Run {
    fn new(mut rng: Rng) -> Self {
        let mut settings = [0, 1].map(|_| {
            Settings::new()
                .window(16 * 1024 + rng.below(60_000) as u32)
                .max_fragment(4096 + rng.below(20_000) as u32)
                .max_channels(5 + rng.below(30) as u32)
                .ping_interval([0, 1_000, 25_000][rng.below(3)])
        });
        settings[0].max_message = 40_000;
        let mut run = Self {
            client: Client::new(settings[0], Some(IDLE), 0),
            server: Endpoint::new(Side::Server, settings[1], 0),
            observer: Observer::new(Side::Client, settings[0], settings[1]),
            settings,
            now: 0,
            to_server: Wire::default(),
            to_client: Wire::default(),
            lives: Vec::new(),
            served: Vec::new(),
            buffered: 0,
            link_is_lost: None,
            counts: Counts::default(),
            rng,
        };
        for _ in 0..run.rng.below(10) {
            run.open();
        }
        let first = run.client.handshake().value();
        run.observer.see_handshake(Way::Sent, &first);
        run.server.receive_handshake(0, &first).expect("a correct first batch");
        run
    }

    fn step(&mut self) {
        match self.rng.below(16) {
            0 if self.lives.len() < 40 => self.open(),
            1..=3 => self.send(),
            4 if self.rng.one_in(4) => self.close(),
            5 if self.rng.one_in(3) => self.give_up(),
            6..=8 => (0..4).for_each(|_| self.serve()),
            9 | 10 => {
                let most = self.rng.below(4);
                self.transmit(most);
            }
            11 => self.buffered = 0,
            12 => self.now += self.rng.below(50) as Millis,
            13 if self.rng.one_in(40) => self.lose(),
            _ => self.deliver(),
        }
        self.events();
    }

    fn open(&mut self) {
        let serial = self.lives.len();
        let offered = ["", "a, b"][self.rng.below(2)];
        let channel = self.client.open(self.now, serial, &format!("/{serial}"), offered);
        self.lives.push(Life {
            face: Socket::default(),
            channel,
            offered,
            asked: false,
            answer: Answer::None,
            is_mute: self.rng.one_in(8),
            gave_up: false,
            client_close: None,
            server_close: None,
            server_aborted: false,
            sent_too_large: false,
            to_server: Vec::new(),
            at_server: 0,
            to_client: Vec::new(),
            at_client: 0,
            ticket: None,
            saw_open: false,
            failure: None,
            is_over: false,
        });
        self.counts.opens += 1;
    }

    /// Some socket whose application has not seen its end.
    fn some(&mut self) -> Option<usize> {
        let living: Vec<_> = (0..self.lives.len()).filter(|&serial| !self.lives[serial].is_over).collect();
        (!living.is_empty()).then(|| living[self.rng.below(living.len())])
    }

    fn message(&mut self, place: usize) -> Message {
        let size = [0, 10, 60, 4_200, 20_000][self.rng.below(5)];
        match self.rng.below(3) {
            0 => Message::binary(vec![place as u8; size]),
            1 => Message::text("😀é".repeat(size / 2)),
            _ => Message::text(format!("{place}").repeat(size)),
        }
    }

    fn send(&mut self) {
        let Some(serial) = self.some() else { return };
        let message = self.message(self.lives[serial].to_server.len());
        let life = &mut self.lives[serial];
        let (Some(channel), true) = (life.channel, life.face.deliver_message()) else { return };
        if self.client.send(channel, message.clone()).is_ok() {
            life.to_server.push(message);
        }
    }

    fn close(&mut self) {
        let Some(serial) = self.some() else { return };
        let code = [None, Some(1000), Some(4321)][self.rng.below(3)];
        let life = &mut self.lives[serial];
        let Some(channel) = life.channel else { return };
        match life.face.close() {
            Closing::Nothing => {}
            Closing::Fail => {
                life.gave_up = true;
                self.client.fail(self.now, channel);
            }
            Closing::Handshake => {
                life.client_close = Some(code);
                self.client.close(self.now, channel, code, if code.is_some() { "grund" } else { "" });
            }
        }
    }

    fn give_up(&mut self) {
        let Some(serial) = self.some() else { return };
        let life = &mut self.lives[serial];
        let Some(channel) = life.channel else { return };
        life.gave_up = true;
        self.client.fail(self.now, channel);
    }

    /// The server's application does something.
    fn serve(&mut self) {
        if self.served.is_empty() {
            return;
        }
        let (channel, serial) = self.served[self.rng.below(self.served.len())];
        let message = self.message(self.lives[serial].to_client.len());
        let life = &mut self.lives[serial];
        if life.answer == Answer::None {
            match self.rng.below(16) {
                // It may never answer.
                0 | 1 => {}
                choice => {
                    if self.rng.one_in(4) {
                        let ticket = Token::new([serial as u8; 16]);
                        life.ticket = Some(ticket);
                        self.server.announce_cookies(channel, ticket);
                    }
                    if choice == 2 {
                        life.answer = Answer::Refused;
                        self.server.refuse(channel, 404, "nothing here");
                        self.served.retain(|&(of, _)| of != channel);
                        return;
                    }
                    let good = if life.offered.is_empty() { "" } else { "b" };
                    let bad = if life.offered.is_empty() { "c" } else { ["c", "", "B"][self.rng.below(3)] };
                    let chosen = if choice == 3 { bad } else { good };
                    life.answer = Answer::Accepted(chosen);
                    self.server.accept(channel, chosen);
                }
            }
        } else if life.server_close.is_none() && !life.server_aborted {
            match self.rng.below(12) {
                0 => {
                    let code = [None, Some(1001), Some(4000)][self.rng.below(3)];
                    life.server_close = Some(code);
                    self.server.close(channel, code, if code.is_some() { "servus" } else { "" });
                }
                1 if self.rng.one_in(2) => {
                    life.server_aborted = true;
                    self.server.abort(channel);
                }
                2 if self.rng.one_in(3) => {
                    life.sent_too_large = true;
                    self.server
                        .send(channel, Message::binary(vec![0; self.settings[0].max_message as usize + 1]));
                }
                _ if !life.sent_too_large => {
                    // It may have heard of the end meanwhile.
                    let sent = self.server.send(channel, message.clone()).then_some(message);
                    life.to_client.extend(sent);
                }
                _ => {}
            }
        }
    }

    fn transmit(&mut self, most: usize) {
        if self.link_is_lost.is_some() {
            return;
        }
        let arrival = self.now + LATENCY;
        for _ in 0..most {
            let Some(message) = self.client.poll_transmit(self.now, self.buffered) else { break };
            self.observer.see(Way::Sent, &message);
            let bytes = length(&message);
            self.buffered += bytes as u64;
            self.to_server.send(message, bytes, arrival, None);
        }
        for _ in 0..most {
            let Some(message) = self.server.poll_transmit() else { break };
            let bytes = length(&message);
            self.to_client.send(message, bytes, arrival, None);
        }
    }

    fn deliver(&mut self) {
        while let Some(message) = self.to_client.arrived(self.now) {
            self.observer.see(Way::Received, &message);
            self.client.receive(self.now, message).expect("a correct server");
            self.events();
        }
        while let Some(message) = self.to_server.arrived(self.now) {
            self.server.receive(self.now, message).expect("a correct client");
            self.server_events();
        }
        // The opens of the handshake.
        self.server_events();
    }

    fn server_events(&mut self) {
        while let Some(event) = self.server.poll_event() {
            match event {
                ServerEvent::Open { channel, target, protocols, .. } => {
                    let serial: usize = target[1..].parse().expect("a serial");
                    assert_eq!(protocols, self.lives[serial].offered);
                    self.lives[serial].asked = true;
                    self.served.push((channel, serial));
                }
                ServerEvent::Message { channel, message } => {
                    let serial = self.serial(channel);
                    let life = &mut self.lives[serial];
                    assert_eq!(life.to_server.get(life.at_server), Some(&message), "in order, whole, once");
                    life.at_server += 1;
                    self.server.consumed(channel, 1, message.units());
                }
                ServerEvent::Closed { channel, close } => {
                    let serial = self.serial(channel);
                    let life = &mut self.lives[serial];
                    match close.code {
                        Some(1006) => assert!(
                            life.gave_up || life.failure.is_some() || life.is_over,
                            "nobody gave it up"
                        ),
                        Some(1009) => assert!(life.sent_too_large),
                        code => {
                            let own = life.client_close == Some(code) || life.server_close == Some(code);
                            assert!(own, "{code:?} is the code of neither side");
                            let answers = life.server_close.is_some();
                            assert!(
                                answers || life.at_server == life.to_server.len(),
                                "all came before the close"
                            );
                        }
                    }
                    if !life.is_mute && life.answer != Answer::None && life.server_close.is_none() {
                        life.server_close = Some(close.code.filter(|&code| code != 1006));
                        self.server.close(channel, life.server_close.flatten(), "");
                    }
                    if self.lives[serial].is_mute && self.rng.one_in(2) {
                        // Its number stays taken.
                        continue;
                    }
                    if self.lives[serial].answer == Answer::None {
                        self.server.abort(channel);
                    }
                    self.served.retain(|&(of, _)| of != channel);
                }
                ServerEvent::Oversize { channel } => {
                    panic!("channel {channel}: nothing here is as large as that")
                }
                ServerEvent::Cookies { .. } | ServerEvent::Accepted { .. } | ServerEvent::Refused { .. } => {
                    panic!("a server's events")
                }
                ServerEvent::Drained { .. } => {}
            }
        }
    }

    fn serial(&self, channel: Channel) -> usize {
        self.served.iter().rev().find(|&&(of, _)| of == channel).expect("a channel that is served").1
    }

    /// Delivers the events to the client's applications.
    fn events(&mut self) {
        while let Some(event) = self.client.poll_event() {
            let (SocketEvent::Cookies { key, .. }
            | SocketEvent::Open { key, .. }
            | SocketEvent::Message { key, .. }
            | SocketEvent::Error { key, .. }
            | SocketEvent::Close { key, .. }) = event;
            let life = &mut self.lives[key];
            assert!(!life.is_over, "{event:?} after the end");
            assert!(
                life.failure.is_none() || matches!(event, SocketEvent::Close { .. }),
                "only the close follows an error"
            );
            match event {
                SocketEvent::Cookies { ticket, .. } => {
                    assert!(!life.saw_open && life.failure.is_none(), "cookies come before the answer");
                    assert_eq!(life.ticket.take(), Some(ticket), "a ticket comes once");
                }
                SocketEvent::Open { protocol, .. } => {
                    assert_eq!(life.ticket, None, "the cookies come before the open");
                    assert!(
                        !life.saw_open
                            && life.answer
                                == Answer::Accepted(["", "b"][usize::from(!life.offered.is_empty())])
                    );
                    assert_eq!(Answer::Accepted(if protocol == "b" { "b" } else { "" }), life.answer);
                    life.saw_open = true;
                    life.face.deliver_open();
                }
                SocketEvent::Message { message, .. } => {
                    assert!(life.saw_open, "a message before the open");
                    assert_eq!(life.to_client.get(life.at_client), Some(&message), "in order, whole, once");
                    life.at_client += 1;
                    self.counts.messages += 1;
                    if let Some(channel) = life.channel {
                        self.observer.consumed(channel, 1);
                        self.client.consumed(channel, message.units());
                    }
                }
                SocketEvent::Error { failure, .. } => {
                    life.failure = Some(failure);
                    self.counts.failures += 1;
                }
                SocketEvent::Close { close, unsent, .. } => {
                    let reason_units = close.reason.len();
                    let case = (life.failure.clone(), close.code, close.was_clean);
                    match case {
                        (Some(failure), 1006, false) => {
                            let explained = match failure {
                                Failure::Refused { status: 404, .. } => {
                                    life.answer == Answer::Refused && life.ticket.is_none()
                                }
                                Failure::Subprotocol { chosen } => {
                                    matches!(life.answer, Answer::Accepted(bad) if bad == chosen)
                                        && !life.saw_open
                                }
                                Failure::TooMany | Failure::Refused { status: 503, .. } => {
                                    life.answer == Answer::None
                                }
                                Failure::Unanswered => {
                                    self.counts.unanswered += 1;
                                    life.asked && !life.saw_open
                                }
                                Failure::TooLarge => life.sent_too_large,
                                Failure::Link => self.link_is_lost == Some(true) || !life.saw_open,
                                Failure::GivenUp => life.gave_up,
                                Failure::Refused { .. } | Failure::Server => false,
                            };
                            assert!(explained, "{:?}", life.failure);
                        }
                        (None, 1006, false) => {
                            assert!(life.saw_open, "a socket that never opened has failed");
                            let unanswered = life.client_close.is_some();
                            assert!(self.link_is_lost == Some(false) || life.server_aborted || unanswered);
                            self.counts.lost += 1;
                        }
                        (None, code, true) => {
                            let code = Some(code).filter(|&code| code != 1005);
                            assert_eq!(life.server_close, Some(code));
                            // A server that answers a close has discarded its queue.
                            let all_came = life.at_client == life.to_client.len();
                            assert!(all_came || life.client_close.is_some(), "all came before the close");
                            assert!(code.is_some() || reason_units == 0);
                            self.counts.clean += 1;
                        }
                        other => panic!("no socket ends as {other:?}"),
                    }
                    let lengths = life
                        .to_server
                        .iter()
                        .map(|(Message::Text(bytes) | Message::Binary(bytes))| bytes.len());
                    let all = lengths.sum::<usize>() as u64;
                    assert!(unsent.bytes(0) <= all, "no byte is counted twice");
                    let arrived = life.at_server == life.to_server.len();
                    assert!(!arrived || unsent.bytes(u64::MAX) == 0, "all has left, and counts no more");
                    life.face.deliver_end();
                    life.is_over = true;
                    life.channel = None;
                }
            }
        }
    }

    /// The physical WebSocket ends.
    fn lose(&mut self) {
        let failed = self.rng.one_in(2);
        self.link_is_lost = Some(failed);
        self.client.lost(failed);
        self.events();
        assert!(self.lives.iter().all(|life| life.is_over), "a lost link ends every socket");
    }

    /// Everything goes on until `end`, with both sides' timers. Returns whether the client found its link idle.
    fn pass(&mut self, end: Millis) -> bool {
        while self.now < end {
            self.transmit(usize::MAX);
            self.buffered = 0;
            self.now = if self.to_client.is_empty() && self.to_server.is_empty() {
                // Nothing happens before the next timer.
                let timers = [self.client.poll_timeout(), self.server.poll_timeout()];
                timers.into_iter().flatten().min().map_or(end, |at| at.clamp(self.now + 1, end))
            } else {
                self.now + LATENCY
            };
            self.deliver();
            self.events();
            if self.server.poll_timeout().is_some_and(|at| at <= self.now) {
                self.server.handle_timeout(self.now).expect("a living client");
            }
            if self.client.poll_timeout().is_some_and(|at| at <= self.now) {
                let due = self.client.handle_timeout(self.now).expect("a living server");
                self.events();
                if due == Timeout::Idle {
                    return true;
                }
            }
        }
        false
    }

    /// Every open is answered or fails; every close ends its socket; a link without sockets is found idle.
    fn finish(&mut self) {
        if self.link_is_lost.is_some() {
            return assert_eq!(self.client.sockets(), 0);
        }
        if self.pass(self.now + PATIENCE) {
            return assert_eq!(self.client.sockets(), 0, "only a link without sockets is idle");
        }
        for life in &mut self.lives {
            let Some(channel) = life.channel else { continue };
            assert!(life.saw_open, "an open that nobody answered has failed");
            assert_eq!(self.client.buffered_amount(channel, 0), 0, "all has been sent");
            if life.face.close() == Closing::Handshake {
                life.client_close = Some(Some(1000));
                self.client.close(self.now, channel, Some(1000), "grund");
            }
        }
        assert!(self.pass(self.now + PATIENCE), "the link is idle once all sockets have ended");
        assert!(self.lives.iter().all(|life| life.is_over), "each socket has seen its end");
        assert_eq!(self.client.sockets(), 0);
    }
}
