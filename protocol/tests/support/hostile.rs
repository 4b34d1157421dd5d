//! A host whose peer sends anything it likes, and such peers.

use manysocket_protocol::{Endpoint, Event, Message, Physical, Resume, Settings, Side, Token};

use super::pair::SIDES;
use super::rng::Rng;

pub(crate) const SETTINGS: Settings = Settings::new()
    .max_channels(50)
    .window(16 * 1024)
    .window_growth(30_000)
    .max_open(30)
    .max_churn(1_000)
    .max_message(40_000)
    .max_fragment(5_000)
    .ping_interval(1_000);

/// The token of all links.
const TOKEN: Token = Token::new([7; 16]);

/// A host that uses an endpoint correctly and incorrectly by turns.
pub(crate) struct Host {
    side: Side,
    endpoint: Endpoint,
    channels: Vec<u32>,
    now: u64,
}

impl Host {
    pub(crate) fn new(side: Side) -> Self {
        let mut endpoint = Endpoint::new(side, SETTINGS, 0);
        endpoint.allow_resumption(TOKEN);
        for _ in 0..5 {
            // Nothing on a server.
            endpoint.open("/path?query", "a, b");
        }
        Self { side, endpoint, channels: vec![], now: 0 }
    }

    /// Gives a message to the endpoint and acts on the resulting events; false once the link has ended.
    pub(crate) fn receive(&mut self, message: Physical, rng: &mut Rng) -> bool {
        let received = self.endpoint.receive(self.now, message);
        while let Some(event) = self.endpoint.poll_event() {
            self.handle(event, rng);
        }
        received.is_ok()
    }

    /// Acts without a cause; false once it finds the link dead.
    pub(crate) fn act(&mut self, rng: &mut Rng) -> bool {
        if self.channels.is_empty() {
            return true;
        }
        let channel = self.channels[rng.below(self.channels.len())];
        match rng.below(12) {
            0 => self.endpoint.abort(channel),
            1 => self.endpoint.close(channel, Some(rng.next() as u16), "bye"),
            2 => drop(self.endpoint.open("/later", "")),
            3 => drop(self.endpoint.send(channel, Message::text("é".repeat(rng.below(20_000))))),
            4 => drop(self.endpoint.send(channel, Message::binary(vec![7; rng.below(20_000)]))),
            5 => drop(self.endpoint.send(channel, Message::text("hello"))),
            6 => {
                self.now += 700;
                return self.endpoint.handle_timeout(self.now).is_ok();
            }
            _ => {}
        }
        true
    }

    /// Loses its connection, if it can, and gets another one; false once the link has ended.
    pub(crate) fn reconnect(&mut self, rng: &mut Rng) -> bool {
        if !self.endpoint.carrier_lost(self.now) {
            return !self.endpoint.is_interrupted();
        }
        if self.side == Side::Server {
            let resume = Resume { carrier: rng.below(5) as u32, received: rng.below(5) as u32, token: TOKEN };
            if self.endpoint.accepts(&resume) {
                self.endpoint.resume(self.now, &resume, TOKEN);
            }
            return !self.endpoint.is_interrupted();
        }
        self.endpoint.redialled(self.now);
        let Some(Physical::Binary(first)) = self.endpoint.poll_transmit() else { panic!("RESUME") };
        assert!(Resume::read(&first).is_ok());
        true
    }

    /// All that it has to send.
    pub(crate) fn transmit(&mut self) -> Vec<Physical> {
        let mut sent = vec![];
        while let Some(message) = self.endpoint.poll_transmit() {
            sent.push(message);
            assert!(sent.len() < 10_000, "it ends");
        }
        assert!(self.endpoint.channels() <= SETTINGS.max_channels + 1024);
        sent
    }

    fn handle(&mut self, event: Event, rng: &mut Rng) {
        match event {
            Event::Open { channel, .. } => match rng.below(4) {
                0 => self.endpoint.refuse(channel, 404, "no"),
                1 => {}
                _ => {
                    self.endpoint.accept(channel, "a");
                    self.channels.push(channel);
                }
            },
            Event::Accepted { channel, .. } => self.channels.push(channel),
            Event::Message { channel, message } => {
                assert!(message.units() <= SETTINGS.max_message);
                if let Message::Text(bytes) = &message {
                    assert!(str::from_utf8(bytes).is_ok());
                }
                if !rng.one_in(3) {
                    self.endpoint.consumed(channel, 1, message.units());
                    self.endpoint.send(channel, message);
                }
            }
            Event::Closed { channel, close } => {
                assert!(close.reason.len() <= 123);
                if !rng.one_in(4) {
                    self.endpoint.close(channel, close.code, &close.reason);
                }
            }
            Event::Cookies { .. }
            | Event::Refused { .. }
            | Event::Oversize { .. }
            | Event::Drained { .. } => {}
        }
    }
}

/// Gives an input to an endpoint: a byte whose lowest bit selects the side and the next whether its peer says HELLO
/// first, then messages, each behind two bytes: its length, and in the top bit whether it is text.
pub(crate) fn decode(input: &[u8]) {
    let [first, rest @ ..] = input else { return };
    if let Ok(text) = str::from_utf8(rest) {
        let _ = Endpoint::new(Side::Server, SETTINGS, 0).receive_handshake(0, text);
    }
    let mut host = Host::new(SIDES[usize::from(first & 1)]);
    let mut rng = Rng::new((*first).into());
    if first & 2 == 0 {
        host.receive(HELLO, &mut rng);
    }
    let mut rest = rest;
    while let [low, high, after @ ..] = rest {
        let length = usize::from(u16::from_le_bytes([*low, high & 0x7f])).min(after.len());
        let (message, after) = after.split_at(length);
        rest = after;
        let bytes = message.to_vec().into();
        let message = if *high < 0x80 { Physical::Binary(bytes) } else { Physical::Text(bytes) };
        if let Physical::Binary(bytes) = &message {
            let _ = Resume::read(bytes);
        }
        let mut alive = host.receive(message, &mut rng) && host.act(&mut rng);
        if alive && rng.one_in(10) {
            alive = host.reconnect(&mut rng);
        }
        host.transmit();
        if !alive {
            return;
        }
    }
}

/// A link between two hosts on which faults happen to one turn in `rarity`. Gives the inputs of [`decode`] for what
/// each side received, the number of messages, and whether the link outlived them.
pub(crate) fn tampered_link(rng: &mut Rng, rarity: usize) -> ([Vec<u8>; 2], u64, bool) {
    let mut hosts = SIDES.map(Host::new);
    let mut inputs = SIDES.map(|side| vec![side as u8 | 2 | (rng.next() as u8) << 2]);
    let mut count = 0;
    for round in 0..40 {
        for to in [1, 0] {
            let mut messages = hosts[1 - to].transmit();
            // In the beginning, only HELLOs: a fault in one ends the link.
            if round > 0 && rng.one_in(rarity) {
                mutate(&mut messages, rng);
            }
            for message in messages {
                count += 1;
                append(&mut inputs[to], &message);
                if !hosts[to].receive(message, rng) {
                    return (inputs, count, false);
                }
            }
            for _ in 0..2 {
                if !hosts[to].act(rng) {
                    return (inputs, count, false);
                }
            }
        }
    }
    (inputs, count, true)
}

fn append(input: &mut Vec<u8>, message: &Physical) {
    let (Physical::Text(bytes) | Physical::Binary(bytes)) = message;
    let text = if matches!(message, Physical::Text(_)) { 0x8000 } else { 0 };
    input.extend((bytes.len() as u16 | text).to_le_bytes());
    input.extend(bytes);
}

/// A batch of a HELLO that allows resumption.
pub(crate) const HELLO: Physical = Physical::Binary(bytes::Bytes::from_static(&[4, 0, 0x0b, 2, 6, 1]));

/// A message that might be correct.
pub(crate) fn random_message(rng: &mut Rng) -> Physical {
    match rng.below(10) {
        0 => Physical::Binary((0..rng.below(40)).map(|_| rng.next() as u8).collect::<Vec<_>>().into()),
        1 => Physical::Binary(vec![rng.next() as u8; 4096 + rng.below(5000)].into()),
        2 | 3 => {
            let most = if rng.one_in(10) { 12_000 } else { 20 };
            let text = "é".repeat(rng.below(most));
            Physical::Text(format!("{}{}{text}", rng.below(8), [":", "+", ""][rng.below(3)]).into())
        }
        _ => {
            let (mut headers, mut text, mut binary) = (vec![], String::new(), vec![]);
            for _ in 0..rng.below(5) {
                random_frame(rng, &mut headers, &mut text, &mut binary);
            }
            let mut bytes = vec![];
            integer(&mut bytes, headers.len());
            integer(&mut bytes, text.len());
            bytes.extend(headers);
            bytes.extend(text.as_bytes());
            bytes.extend(binary);
            Physical::Binary(bytes.into())
        }
    }
}

fn random_frame(rng: &mut Rng, headers: &mut Vec<u8>, text: &mut String, binary: &mut Vec<u8>) {
    let channel = if rng.one_in(20) { rng.below(5000) } else { rng.below(8) };
    let kinds = if rng.one_in(50) { 16 } else { 11 };
    let kind = rng.below(kinds);
    integer(headers, channel << 4 | kind);
    let mut string = |headers: &mut Vec<u8>, rng: &mut Rng| {
        let length = rng.below(12);
        let content =
            if rng.one_in(5) { "é😀".repeat(length) } else { "/path-and-so"[..length].to_owned() };
        integer(headers, if rng.one_in(30) { rng.below(1 << 20) } else { content.encode_utf16().count() });
        text.push_str(&content);
    };
    match kind {
        0 | 1 | 7 => string(headers, rng),
        2 | 3 => {
            let most = if rng.one_in(10) { 20_000 } else { 50 };
            let length = rng.below(most);
            integer(headers, length);
            binary.resize(binary.len() + length, 7);
        }
        6 => {
            string(headers, rng);
            string(headers, rng);
        }
        8 | 9 => {
            integer(headers, [0, 0, 1000, 1006, 3000, 404, rng.below(70_000)][rng.below(7)]);
            string(headers, rng);
        }
        10 => integer(headers, if rng.one_in(10) { u32::MAX as usize } else { rng.below(10_000) }),
        11 => {
            // Any type takes any body, but ACK and those behind it look into theirs.
            headers.pop();
            integer(headers, rng.below(14) << 4 | 11);
            let body = [0, 1, 2, 16, 17, 18][rng.below(6)];
            integer(headers, body);
            headers.extend((0..body).map(|_| if rng.one_in(3) { rng.below(4) as u8 } else { 7 }));
        }
        _ => {}
    }
}

fn integer(out: &mut Vec<u8>, mut value: usize) {
    while value > 127 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Puts a fault into one of the messages, or into their order.
pub(crate) fn mutate(messages: &mut Vec<Physical>, rng: &mut Rng) {
    if messages.is_empty() {
        return;
    }
    let at = rng.below(messages.len());
    match rng.below(12) {
        0 => drop(messages.remove(at)),
        1 => messages.insert(at, messages[at].clone()),
        2 => {
            let other = rng.below(messages.len());
            messages.swap(at, other);
        }
        3 => messages.insert(at, random_message(rng)),
        _ => messages[at] = with_fault(&messages[at], rng),
    }
}

fn with_fault(message: &Physical, rng: &mut Rng) -> Physical {
    let (Physical::Text(bytes) | Physical::Binary(bytes)) = message;
    let mut bytes = bytes.to_vec();
    match rng.below(5) {
        0 => bytes.truncate(rng.below(bytes.len() + 1)),
        1 => bytes.extend((0..rng.below(20)).map(|i| i as u8)),
        2 => bytes.insert(rng.below(bytes.len() + 1), rng.next() as u8),
        _ if bytes.is_empty() => {}
        3 => drop(bytes.remove(rng.below(bytes.len()))),
        _ => {
            // Heads and headers are in front.
            let at = rng.below(bytes.len().min(30));
            bytes[at] ^= 1 << rng.below(8);
        }
    }
    if matches!(message, Physical::Text(_)) != rng.one_in(10) {
        Physical::Text(bytes.into())
    } else {
        Physical::Binary(bytes.into())
    }
}
