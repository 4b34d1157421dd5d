//! A link outlives its connections: counts, replay, acknowledgements and refusals (docs/protocol.md §8.1).

mod support;

use manysocket_protocol::client::{Client, SocketEvent, Timeout};
use manysocket_protocol::{Endpoint, Event, Message, Millis, Physical, Resume, Settings, Side, Token};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;
#[cfg(target_arch = "wasm32")]
wasm_bindgen_test::wasm_bindgen_test_configure!(run_in_browser);

/// How long the server keeps a link.
const KEPT: Millis = 30_000;

fn settings(side: Side) -> Settings {
    let (resume_timeout, ping_interval) = if side == Side::Server { (KEPT, 25_000) } else { (1, 0) };
    Settings::new().resume_timeout(resume_timeout).ping_interval(ping_interval)
}

fn token(number: u8) -> Token {
    Token::new([number; 16])
}

/// Both ends, and a connection that loses nothing until it is cut.
struct Pair {
    client: Endpoint,
    server: Endpoint,
    now: Millis,
    tokens: u8,
}

impl Pair {
    /// A link with channel 1 open, that can be resumed.
    fn new() -> Self {
        Self::with(settings(Side::Client), settings(Side::Server))
    }

    fn with(client: Settings, server: Settings) -> Self {
        let mut client = Endpoint::new(Side::Client, client, 0);
        let mut server = Endpoint::new(Side::Server, server, 0);
        server.allow_resumption(token(1));
        client.open("/", "");
        server.receive_handshake(0, &client.handshake()).expect("a correct first batch");
        server.accept(1, "");
        let mut pair = Self { client, server, now: 0, tokens: 1 };
        pair.settle();
        while pair.client.poll_event().is_some() || pair.server.poll_event().is_some() {}
        pair
    }

    fn end(&mut self, side: Side) -> &mut Endpoint {
        if side == Side::Client { &mut self.client } else { &mut self.server }
    }

    /// Returns the messages that one side sends now.
    fn sent(&mut self, side: Side) -> Vec<Physical> {
        std::iter::from_fn(|| self.end(side).poll_transmit()).collect()
    }

    /// Carries messages until nobody has any. Returns how many there were.
    fn settle(&mut self) -> usize {
        let mut count = 0;
        loop {
            let (up, down) = (self.sent(Side::Client), self.sent(Side::Server));
            if up.is_empty() && down.is_empty() {
                return count;
            }
            count += up.len() + down.len();
            for message in up {
                self.server.receive(self.now, message).expect("a correct client");
            }
            for message in down {
                self.client.receive(self.now, message).expect("a correct server");
            }
        }
    }

    /// Returns a side's verdict on the message that arrived.
    fn messages(&mut self, side: Side) -> Vec<Message> {
        let events = std::iter::from_fn(|| self.end(side).poll_event());
        let messages = events.filter_map(|event| match event {
            Event::Message { message, .. } => Some(message),
            Event::Drained { .. } => None,
            other => panic!("{other:?}"),
        });
        messages.collect()
    }

    /// The client's first message over a new connection.
    fn redial(&mut self) -> Resume {
        assert!(self.client.carrier_lost(self.now), "the link can be resumed");
        self.client.redialled(self.now);
        let [Physical::Binary(batch)] = &self.sent(Side::Client)[..] else { panic!("one message: RESUME") };
        Resume::read(batch).expect("RESUME")
    }

    /// The server takes the connection.
    fn take(&mut self, resume: &Resume) {
        assert!(self.server.accepts(resume));
        self.tokens += 1;
        self.server.resume(self.now, resume, token(self.tokens));
    }
}

fn text(content: &str) -> Message {
    Message::text(content)
}

#[test]
fn what_either_side_sent_into_a_lost_connection_arrives_once() {
    let mut pair = Pair::new();
    for side in [Side::Client, Side::Server] {
        pair.end(side).send(1, text("arrives"));
    }
    pair.settle();
    for side in [Side::Client, Side::Server] {
        assert_eq!(pair.messages(side), [text("arrives")]);
        pair.end(side).send(1, text("is lost"));
        assert_eq!(pair.sent(side).len(), 1);
        pair.end(side).send(1, text("waits"));
    }
    let resume = pair.redial();
    pair.client.send(1, text("is sent meanwhile"));
    pair.take(&resume);
    pair.settle();
    assert_eq!(pair.messages(Side::Client), [text("is lost"), text("waits")]);
    assert_eq!(pair.messages(Side::Server), [text("is lost"), text("waits"), text("is sent meanwhile")]);
}

#[test]
fn an_idle_link_sends_no_more_than_without_resumption() {
    let mut pair = Pair::new();
    assert_eq!(pair.settle(), 0, "no ACK for an ACK");
    pair.client.send(1, text("hello"));
    assert_eq!(pair.settle(), 1, "no ACK for a small message");
    pair.now = 25_000;
    pair.server.handle_timeout(pair.now).expect("a living client");
    assert_eq!(pair.settle(), 2, "PING and PONG, and both ACKs in them");
    assert_eq!((pair.client.held_bytes(), pair.server.held_bytes()), held_by_nothing());
}

/// The bytes of empty queues.
fn held_by_nothing() -> (usize, usize) {
    let mut pair = Pair::new();
    pair.client.send(1, text("hello"));
    pair.settle();
    let held = pair.client.held_bytes() - "1:hello".len();
    (held, pair.server.held_bytes())
}

#[test]
fn a_stream_is_acknowledged_and_the_acks_are_few() {
    let mut pair = Pair::new();
    let (mut held, mut messages) = (0, 0);
    for _ in 0..400 {
        pair.server.send(1, Message::binary(vec![7; 10_000]));
        messages += pair.settle();
        let read = pair.messages(Side::Client).len() as u32;
        pair.client.consumed(1, read, read * 10_000);
        held = held.max(pair.server.held_bytes());
    }
    messages += pair.settle();
    assert!(held < 200_000, "{held} bytes were held");
    // 4 MB: each 128 KiB cost a GRANT or an ACK, and each message itself.
    assert!(messages < 400 + 80, "{messages} messages for 400");
}

#[test]
fn raw_mode_outlives_a_connection() {
    let mut pair = Pair::new();
    let large = |n: u8| Message::binary(vec![n; 50_000]);
    for n in [0, 1] {
        pair.client.send(1, large(n));
        pair.settle();
        assert_eq!(pair.messages(Side::Server), [large(n)]);
    }
    pair.client.send(1, large(2));
    // Its header is in force: only the payload goes out.
    assert_eq!(pair.sent(Side::Client).len(), 1);
    let resume = pair.redial();
    pair.take(&resume);
    pair.client.send(1, large(3));
    pair.settle();
    assert_eq!(pair.messages(Side::Server), [large(2), large(3)]);
}

#[test]
fn pings_and_pongs_are_not_sent_again() {
    let mut pair = Pair::new();
    pair.now = 25_000;
    pair.server.handle_timeout(pair.now).expect("a living client");
    pair.server.send(1, text("with a ping"));
    assert_eq!(pair.sent(Side::Server).len(), 2, "they share no batch");
    let resume = pair.redial();
    pair.take(&resume);
    // RESUMED, and the message.
    assert_eq!(pair.sent(Side::Server).len(), 2);
}

#[test]
fn a_lost_answer_is_asked_for_again_with_the_token_before() {
    let mut pair = Pair::new();
    let first = pair.redial();
    pair.take(&first);
    assert!(!pair.server.accepts(&first), "a connection resumes once");
    // The server's answer is lost.
    pair.sent(Side::Server);
    let second = pair.redial();
    assert_eq!(second.token, first.token);
    pair.take(&second);
    pair.settle();
    let third = pair.redial();
    assert_ne!(third.token, second.token);
    assert!(!pair.server.accepts(&Resume { token: second.token, ..third }), "the client has the next token");
    pair.take(&third);
    pair.settle();
    pair.client.send(1, text("hello"));
    pair.settle();
    assert_eq!(pair.messages(Side::Server), [text("hello")]);
}

#[test]
fn a_connection_that_is_lost_while_messages_are_sent_again_confuses_nobody() {
    let mut pair = Pair::new();
    for n in 0..3 {
        pair.client.send(1, text(&n.to_string()));
        assert_eq!(pair.sent(Side::Client).len(), 1);
    }
    let resume = pair.redial();
    pair.take(&resume);
    for message in pair.sent(Side::Server) {
        pair.client.receive(0, message).expect("a correct server");
    }
    // The ACK, and one message.
    assert!(pair.client.poll_transmit().is_some() && pair.client.poll_transmit().is_some());
    // Panics if the next connection does not begin with RESUME and nothing else.
    let resume = pair.redial();
    pair.take(&resume);
    pair.settle();
    assert_eq!(pair.messages(Side::Server), [text("0"), text("1"), text("2")]);
}

#[test]
fn of_two_connections_that_race_the_later_wins() {
    let mut pair = Pair::new();
    let slow = pair.redial();
    let fast = pair.redial();
    pair.take(&fast);
    assert!(!pair.server.accepts(&slow));
    pair.settle();
    let resume = pair.redial();
    assert!(pair.server.accepts(&resume), "the slow one did no harm");
}

#[test]
fn a_resumption_that_is_not_the_clients_changes_nothing() {
    let mut pair = Pair::new();
    let resume = pair.redial();
    for wrong in [
        Resume { token: token(99), ..resume },
        Resume { received: resume.received.wrapping_sub(1), ..resume },
        Resume { received: resume.received + 1, ..resume },
        Resume { carrier: 0, ..resume },
    ] {
        assert!(!pair.server.accepts(&wrong), "{wrong:?}");
    }
    pair.take(&resume);
}

#[test]
fn a_client_without_a_token_does_not_wait() {
    let mut client = Endpoint::new(Side::Client, settings(Side::Client), 0);
    let mut server = Endpoint::new(Side::Server, settings(Side::Server), 0);
    server.allow_resumption(token(1));
    client.open("/", "");
    server.receive_handshake(0, &client.handshake()).expect("a correct first batch");
    assert!(!client.carrier_lost(0), "the server's first message is lost");
    assert!(!server.carrier_lost(0), "the client has never had a token");
}

#[test]
fn only_two_sides_that_want_it_resume() {
    for (client, server) in [(0, KEPT), (1, 0), (0, 0)] {
        let of = |side, resume_timeout| settings(side).resume_timeout(resume_timeout);
        let mut pair = Pair::with(of(Side::Client, client), of(Side::Server, server));
        assert_eq!(pair.client.held_bytes() + pair.server.held_bytes(), 0);
        assert!(!pair.client.carrier_lost(0) && !pair.server.carrier_lost(0));
    }
}

/// Both ends of a link whose client has dialled, and has had no answer. The server expects a second handshake.
fn dialled(server: Settings) -> Pair {
    let mut client = Endpoint::new(Side::Client, settings(Side::Client), 0);
    let mut server = Endpoint::new(Side::Server, server, 0);
    server.allow_resumption(token(1));
    client.open("/", "");
    server.receive_handshake(0, &client.handshake()).expect("a correct first batch");
    server.expect_second_handshake();
    assert!(matches!(server.poll_event(), Some(Event::Open { .. })));
    Pair { client, server, now: 0, tokens: 1 }
}

#[test]
fn a_second_handshake_gets_all_that_the_first_one_lost() {
    let content = [text("one"), Message::binary(vec![7; 100_000]), text("two"), text(&"three".repeat(9_000))];
    for lost in 0.. {
        let mut pair = dialled(settings(Side::Server));
        pair.server.accept(1, "");
        for message in content.clone() {
            pair.server.send(1, message);
        }
        let mut sent = 0;
        while sent < lost && pair.server.poll_transmit().is_some() {
            sent += 1;
        }
        // The server may have noticed.
        if lost % 2 == 1 {
            assert!(pair.server.carrier_lost(0), "{lost}");
        }
        assert!(pair.server.accepts_second_handshake(), "{lost}");
        pair.server.begin_again(0);
        pair.server.send(1, text("four"));
        pair.settle();
        let accepted = pair.client.poll_event();
        assert!(matches!(accepted, Some(Event::Accepted { channel: 1, .. })), "{lost}: {accepted:?}");
        let expected = [&content[..], &[text("four")]].concat();
        assert!(pair.messages(Side::Client) == expected, "{lost}");
        // It is a link as any other.
        assert!(!pair.server.accepts_second_handshake(), "{lost}");
        pair.client.send(1, text("lost"));
        drop(pair.sent(Side::Client));
        let resume = pair.redial();
        pair.take(&resume);
        pair.settle();
        assert_eq!(pair.messages(Side::Server), [text("lost")]);
        if sent < lost {
            assert!(lost > 3, "there is more than one place to cut");
            return;
        }
    }
}

#[test]
fn a_second_handshake_takes_over_a_link_without_answers_only_and_not_for_long() {
    let mut pair = dialled(settings(Side::Server));
    pair.settle();
    assert!(!pair.server.accepts_second_handshake(), "the client has its token");
    let mut pair = dialled(settings(Side::Server));
    assert!(pair.server.carrier_lost(5));
    for (now, waits) in [(10_004, true), (10_005, false)] {
        pair.server.handle_timeout(now).expect("a link without a peer");
        assert_eq!((pair.server.can_resume(), pair.server.accepts_second_handshake()), (waits, waits));
    }
    let mut pair = dialled(settings(Side::Server).resume_timeout(0));
    assert!(!pair.server.accepts_second_handshake() && !pair.server.carrier_lost(0));
    let mut pair = dialled(settings(Side::Server));
    pair.server.forbid_resumption();
    assert!(!pair.server.accepts_second_handshake() && !pair.server.carrier_lost(0));
}

#[test]
fn a_side_that_leaves_says_so() {
    for side in [Side::Client, Side::Server] {
        let mut pair = Pair::new();
        pair.end(side).forbid_resumption();
        assert_eq!(pair.settle(), 1);
        assert!(!pair.client.can_resume() && !pair.server.can_resume());
    }
}

#[test]
fn a_lost_link_ends_in_time() {
    let mut pair = Pair::new();
    pair.now = 1_000;
    assert!(pair.server.carrier_lost(pair.now) && pair.client.carrier_lost(pair.now));
    for end in [&mut pair.client, &mut pair.server] {
        assert_eq!(end.poll_timeout(), Some(1_000 + KEPT), "silence ends nothing meanwhile");
        end.handle_timeout(1_000 + KEPT - 1).expect("no violation");
        assert!(end.can_resume());
        end.handle_timeout(1_000 + KEPT).expect("no violation");
        assert!(!end.can_resume());
    }
}

#[test]
fn a_connection_that_is_lost_before_the_answer_buys_no_time() {
    let mut pair = Pair::new();
    pair.redial();
    pair.now = KEPT - 1;
    pair.redial();
    assert_eq!(pair.client.poll_timeout(), Some(KEPT));
}

#[test]
fn what_a_peer_does_not_acknowledge_is_bounded() {
    let mut pair = Pair::new();
    // It reads and grants, but its ACKs never arrive.
    let mut sent = 0;
    for _ in 0..3_000 {
        pair.server.send(1, Message::binary(vec![7; 10_000]));
        for message in pair.sent(Side::Server) {
            sent += 1;
            pair.client.receive(0, message).expect("a correct server");
        }
        let read = pair.messages(Side::Client).len() as u32;
        pair.client.consumed(1, read, read * 10_000);
        for message in pair.sent(Side::Client) {
            if !is_ack(&message) {
                pair.server.receive(0, without_ack(message)).expect("a correct client");
            }
        }
        assert!(pair.server.held_bytes() < 17 << 20);
    }
    assert!(sent > 2_999, "the link goes on, without resumption: {sent}");
    assert!(!pair.server.can_resume() && !pair.client.can_resume());
}

/// A batch without text and binary, as its headers.
fn headers(message: &Physical) -> Vec<u8> {
    match message {
        Physical::Binary(bytes)
            if bytes.len() > 2 && bytes[0] as usize == bytes.len() - 2 && bytes[1] == 0 =>
        {
            bytes[2..].to_vec()
        }
        _ => Vec::new(),
    }
}

/// Whether a message is an ACK and nothing else: LINK type 8, with its length.
fn is_ack(message: &Physical) -> bool {
    matches!(&headers(message)[..], [0x8b, 1, length, ..] if headers(message).len() == 3 + *length as usize)
}

/// The message without an ACK at its beginning or end.
fn without_ack(message: Physical) -> Physical {
    let mut headers = headers(&message);
    let Some(at) = headers.windows(2).position(|tag| tag == [0x8b, 1]) else { return message };
    let length = headers[at + 2] as usize;
    headers.drain(at..at + 3 + length);
    let mut bytes = vec![headers.len() as u8, 0];
    bytes.append(&mut headers);
    Physical::Binary(bytes.into())
}

#[test]
fn a_message_that_never_passes_is_not_sent_for_ever() {
    let mut pair = Pair::new();
    pair.client.send(1, text("a proxy refuses this"));
    pair.sent(Side::Client);
    let mut attempts = 0;
    while pair.client.carrier_lost(0) {
        attempts += 1;
        assert!(attempts < 40);
        let resume = pair.redial();
        pair.take(&resume);
        for message in pair.sent(Side::Server) {
            pair.client.receive(0, message).expect("a correct server");
        }
        assert_eq!(pair.sent(Side::Client).len(), 2, "the ACK and the message, which is lost");
    }
    assert!(attempts > 3, "a network may fail a few times in a row: {attempts}");
}

#[test]
fn a_message_may_fail_more_often_while_others_arrive() {
    let mut pair = Pair::new();
    pair.client.send(1, text("too large for so short a connection"));
    pair.sent(Side::Client);
    let mut attempts = 0;
    while pair.client.carrier_lost(0) {
        attempts += 1;
        assert!(attempts < 100, "a proxy may refuse it");
        let resume = pair.redial();
        pair.take(&resume);
        pair.server.send(1, text("news"));
        for message in pair.sent(Side::Server) {
            pair.client.receive(0, message).expect("a correct server");
        }
        assert_eq!(pair.messages(Side::Client), [text("news")]);
        pair.client.consumed(1, 1, 4);
        pair.sent(Side::Client);
    }
    assert!(attempts > 50, "{attempts}");
}

#[test]
fn connections_that_carry_something_may_be_lost_for_ever() {
    let mut pair = Pair::new();
    for n in 0..100 {
        pair.client.send(1, text(&n.to_string()));
        pair.sent(Side::Client);
        let resume = pair.redial();
        pair.take(&resume);
        pair.settle();
        assert_eq!(pair.messages(Side::Server), [text(&n.to_string())]);
        pair.server.consumed(1, 1, 2);
    }
}

// ---- every point of a schedule ----

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

// ---- the rules of sockets ----

/// A client of which the server has accepted a socket.
fn socket() -> (Client<u8>, Endpoint) {
    let mut client = Client::new(settings(Side::Client), Some(10_000), 0);
    let mut server = Endpoint::new(Side::Server, settings(Side::Server), 0);
    server.allow_resumption(token(1));
    client.open(0, 1, "/", "");
    server.receive_handshake(0, &client.handshake().value()).expect("a correct first batch");
    server.accept(1, "");
    exchange(&mut client, &mut server, 0);
    assert!(matches!(client.poll_event(), Some(SocketEvent::Open { .. })));
    (client, server)
}

fn exchange(client: &mut Client<u8>, server: &mut Endpoint, now: Millis) {
    loop {
        let (up, down) = (client.poll_transmit(now, 0), server.poll_transmit());
        if up.is_none() && down.is_none() {
            return;
        }
        if let Some(message) = up {
            server.receive(now, message).expect("a correct client");
        }
        if let Some(message) = down {
            client.receive(now, message).expect("a correct server");
        }
    }
}

/// The times of a client's attempts to connect again, none of which succeeds within its 10 ms.
fn attempts(random: u32) -> Vec<Millis> {
    let (mut client, _) = socket();
    assert!(client.carrier_lost(1_000, random) && client.is_interrupted());
    let mut dials = vec![];
    let end = loop {
        let at = client.poll_timeout().expect("a timer");
        match client.handle_timeout(at).expect("no violation") {
            Timeout::Dial => {
                dials.push(at - 1_000);
                assert!(client.carrier_lost(at + 10, random));
            }
            Timeout::Lost => break at,
            Timeout::Drain => {}
            Timeout::Idle | Timeout::Silent => panic!("a socket is open, and no open waits"),
        }
    };
    assert_eq!(end, 1_000 + KEPT);
    client.lost(false);
    assert!(matches!(client.poll_event(), Some(SocketEvent::Close { .. })));
    dials
}

#[test]
fn a_client_dials_at_once_then_less_and_less_often() {
    let earliest = attempts(0);
    assert_eq!(earliest[..4], [0, 135, 395, 905], "half of 250, 500, 1,000 ms, and the time of each attempt");
    // A multiple of half of each delay, less one.
    let latest = attempts(4_294_966_999);
    for dials in [earliest, latest] {
        assert!((25..65).contains(&dials.len()), "{dials:?}");
        let gaps = || dials.windows(2).map(|pair| pair[1] - pair[0]);
        assert!(gaps().all(|gap| gap <= 1_010), "a network that is back is found within a second: {dials:?}");
        assert!(gaps().skip(2).all(|gap| gap >= 500), "a server that is down gets few attempts: {dials:?}");
    }
}

#[test]
fn an_attempt_without_an_answer_is_given_up() {
    let (mut client, mut server) = socket();
    assert!(client.carrier_lost(0, 0));
    assert_eq!(client.handle_timeout(0), Ok(Timeout::Dial));
    client.redialled(5);
    assert!(client.poll_transmit(5, 0).is_some(), "RESUME");
    assert_eq!(client.poll_timeout(), Some(10_000));
    assert_eq!(client.handle_timeout(10_000), Ok(Timeout::Dial));
    client.redialled(10_005);
    let Some(Physical::Binary(resume)) = client.poll_transmit(10_005, 0) else { panic!("RESUME") };
    let resume = Resume::read(&resume).expect("RESUME");
    assert!(server.accepts(&resume));
    server.resume(10_005, &resume, token(2));
    assert!(client.send(1, Message::text("hello")).is_ok());
    assert_eq!(client.poll_transmit(10_005, 0), None, "nothing goes before the answer");
    exchange(&mut client, &mut server, 10_005);
    assert!(!client.is_interrupted());
    let mut heard = std::iter::from_fn(|| server.poll_event());
    assert!(heard.any(|event| matches!(event, Event::Message { message, .. } if message == text("hello"))));
}

#[test]
fn a_server_that_shows_no_sign_of_life_is_dialled_again() {
    let (mut client, _) = socket();
    let first = client.poll_timeout().expect("the server has promised to ping");
    let mut at = first;
    while client.handle_timeout(at) != Ok(Timeout::Dial) {
        assert!(!client.is_interrupted());
        at = client.poll_timeout().expect("a timer");
    }
    assert!(client.is_interrupted() && at > first, "it was suspected first");
    assert_eq!(client.poll_event(), None, "no socket has noticed");
}

#[test]
fn an_open_that_a_silent_server_does_not_answer_has_the_link_dial_another_connection() {
    let (mut client, mut server) = socket();
    client.open(1_000, 2, "/second", "").expect("below the limit");
    let (mut now, mut dialled) = (1_000, None);
    while dialled.is_none() {
        assert!(client.poll_transmit(now, 0).is_some() || now > 1_000, "the open, or PING, into nothing");
        now = client.poll_timeout().expect("a timer");
        dialled = (client.handle_timeout(now).expect("no violation") == Timeout::Dial).then_some(now);
    }
    assert_eq!(dialled, Some(1_000 + 2_000 + 3_000));
    client.redialled(now);
    let Some(Physical::Binary(resume)) = client.poll_transmit(now, 0) else { panic!("RESUME") };
    let resume = Resume::read(&resume).expect("RESUME");
    server.resume(now, &resume, token(2));
    exchange(&mut client, &mut server, now);
    let opens =
        std::iter::from_fn(|| server.poll_event()).filter(|event| matches!(event, Event::Open { .. }));
    assert_eq!(opens.count(), 2, "the first one, and the second once");
}
