//! Hostile peers: random bytes, random frames, and correct sessions with faults put in. Nothing panics, and an
//! endpoint holds no more than its limits allow.
//!
//! `MANYSOCKET_FUZZ_ITERATIONS=n` asks for more than a test run's share; `fuzz/` runs the same with libFuzzer.

mod pair;

use manysocket_protocol::{Endpoint, Event, Message, Physical, Settings, Side};
use pair::Rng;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;
#[cfg(target_arch = "wasm32")]
wasm_bindgen_test::wasm_bindgen_test_configure!(run_in_browser);

fn iterations() -> u64 {
    let asked = std::env::var("MANYSOCKET_FUZZ_ITERATIONS").ok().and_then(|text| text.parse().ok());
    asked.unwrap_or(if cfg!(target_arch = "wasm32") { 2_000 } else { 30_000 })
}

fn settings() -> Settings {
    Settings { max_channels: 50, window: 16 * 1024, max_message: 40_000, ..Settings::default() }
}

/// What a host does with an endpoint, seen from a peer that sends anything it likes.
struct Host {
    endpoint: Endpoint,
    channels: Vec<u32>,
}

impl Host {
    fn new(side: Side) -> Self {
        let mut endpoint = Endpoint::new(side, settings(), 0);
        if side == Side::Client {
            for _ in 0..5 {
                endpoint.open("/path?query", "a, b");
            }
            endpoint.handshake();
        }
        Self { endpoint, channels: vec![] }
    }

    /// Gives a message to the endpoint and does something with what comes of it; false once the link has ended.
    fn receive(&mut self, message: Physical, rng: &mut Rng) -> bool {
        let received = self.endpoint.receive(0, message);
        while let Some(event) = self.endpoint.poll_event() {
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
                    assert!(message.units() <= settings().max_message);
                    if !rng.one_in(3) {
                        self.endpoint.consumed(channel, 1, message.units());
                        self.endpoint.send(channel, message);
                    }
                }
                Event::Closed { channel, close } if !rng.one_in(4) => {
                    self.endpoint.close(channel, close.code, &close.reason);
                }
                _ => {}
            }
        }
        if let (false, true) = (self.channels.is_empty(), rng.one_in(8)) {
            let channel = self.channels[rng.below(self.channels.len())];
            match rng.below(4) {
                0 => self.endpoint.abort(channel),
                1 => self.endpoint.close(channel, Some(1000), "bye"),
                2 => drop(self.endpoint.open("/later", "")),
                _ => drop(self.endpoint.send(channel, Message::text("é".repeat(rng.below(9000))))),
            }
        }
        let mut sent = 0;
        while self.endpoint.poll_transmit().is_some() {
            sent += 1;
            assert!(sent < 10_000, "it ends");
        }
        assert!(self.endpoint.channels() <= settings().max_channels + 1024);
        received.is_ok()
    }
}

/// A random frame header that might be correct, and the content it tells of.
fn frame(rng: &mut Rng, headers: &mut Vec<u8>, text: &mut String, binary: &mut Vec<u8>) {
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
        10 => integer(headers, if rng.one_in(10) { usize::MAX >> 32 } else { rng.below(10_000) }),
        11 => integer(headers, 0),
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

fn batch(headers: &[u8], text: &str, binary: &[u8]) -> Vec<u8> {
    let mut bytes = vec![];
    integer(&mut bytes, headers.len());
    integer(&mut bytes, text.len());
    bytes.extend(headers);
    bytes.extend(text.as_bytes());
    bytes.extend(binary);
    bytes
}

fn random_message(rng: &mut Rng) -> Physical {
    match rng.below(10) {
        0 => Physical::Binary((0..rng.below(40)).map(|_| rng.next() as u8).collect::<Vec<_>>().into()),
        1 => Physical::Binary(vec![rng.next() as u8; 4096 + rng.below(5000)].into()),
        2 | 3 => {
            let most = if rng.one_in(10) { 20_000 } else { 20 };
            let text = "é".repeat(rng.below(most));
            Physical::Text(format!("{}{}{text}", rng.below(8), [":", "+", ""][rng.below(3)]).into())
        }
        _ => {
            let (mut headers, mut text, mut binary) = (vec![], String::new(), vec![]);
            for _ in 0..rng.below(5) {
                frame(rng, &mut headers, &mut text, &mut binary);
            }
            Physical::Binary(batch(&headers, &text, &binary).into())
        }
    }
}

/// Puts a fault into a message.
fn mutate(message: &Physical, rng: &mut Rng) -> Physical {
    let (Physical::Text(bytes) | Physical::Binary(bytes)) = message;
    let mut bytes = bytes.to_vec();
    match rng.below(5) {
        0 => bytes.truncate(rng.below(bytes.len() + 1)),
        1 => bytes.extend((0..rng.below(20)).map(|i| i as u8)),
        2 => bytes.insert(rng.below(bytes.len() + 1), rng.next() as u8),
        _ if bytes.is_empty() => {}
        3 => drop(bytes.remove(rng.below(bytes.len()))),
        _ => {
            let at = rng.below(bytes.len().min(30));
            bytes[at] ^= 1 << rng.below(8);
        }
    }
    if matches!(message, Physical::Text(_)) && !rng.one_in(10) {
        Physical::Text(String::from_utf8_lossy(&bytes).into_owned().into())
    } else {
        Physical::Binary(bytes.into())
    }
}

/// A session between two correct hosts, as each side receives it.
fn session(rng: &mut Rng) -> (Vec<Physical>, Vec<Physical>) {
    let mut client = Endpoint::new(Side::Client, settings(), 0);
    let mut server = Endpoint::new(Side::Server, settings(), 0);
    let (mut to_client, mut to_server) = (vec![], vec![]);
    for _ in 0..5 {
        client.open("/path?query", "a, b");
    }
    for _ in 0..20 {
        while let Some(message) = client.poll_transmit() {
            server.receive(0, message.clone()).expect("a correct client");
            to_server.push(message);
        }
        while let Some(message) = server.poll_transmit() {
            client.receive(0, message.clone()).expect("a correct server");
            to_client.push(message);
        }
        for endpoint in [&mut client, &mut server] {
            while let Some(event) = endpoint.poll_event() {
                match event {
                    Event::Open { channel, .. } => endpoint.accept(channel, "b"),
                    Event::Closed { channel, close } => endpoint.close(channel, close.code, ""),
                    Event::Message { channel, message } => endpoint.consumed(channel, 1, message.units()),
                    _ => {}
                }
            }
            let channel = 1 + rng.below(5) as u32;
            match rng.below(10) {
                0 => endpoint.close(channel, Some(3000), "why"),
                1 => drop(endpoint.send(channel, Message::binary(vec![1; rng.below(9000)]))),
                2 => drop(endpoint.send(channel, Message::text("é".repeat(rng.below(9000))))),
                _ => drop(endpoint.send(channel, Message::text("hello"))),
            }
        }
    }
    (to_client, to_server)
}

#[test]
fn random_messages_do_not_panic() {
    let mut rng = Rng::new(1);
    let hello = || Physical::Binary(batch(&[0x0b, 0], "", &[]).into());
    let mut given = 0;
    while given < iterations() {
        let mut host = Host::new(if rng.one_in(2) { Side::Client } else { Side::Server });
        let mut alive = rng.one_in(50) || host.receive(hello(), &mut rng);
        for _ in 0..rng.below(60) {
            if !alive {
                break;
            }
            given += 1;
            alive = host.receive(random_message(&mut rng), &mut rng);
        }
    }
}

#[test]
fn sessions_with_faults_do_not_panic() {
    let mut rng = Rng::new(2);
    let mut given = 0;
    while given < iterations() {
        let (to_client, to_server) = session(&mut rng);
        for _ in 0..10 {
            for (side, messages) in [(Side::Client, &to_client), (Side::Server, &to_server)] {
                let mut host = Host::new(side);
                for message in messages {
                    given += 1;
                    let alive = match rng.below(12) {
                        0 => host.receive(mutate(message, &mut rng), &mut rng),
                        1 => {
                            host.receive(message.clone(), &mut rng) && host.receive(message.clone(), &mut rng)
                        }
                        2 => true,
                        _ => host.receive(message.clone(), &mut rng),
                    };
                    if !alive {
                        break;
                    }
                }
            }
        }
    }
}

#[test]
fn random_handshakes_do_not_panic() {
    let mut rng = Rng::new(3);
    for _ in 0..iterations() / 4 {
        let text: String = (0..rng.below(40)).map(|_| char::from(b"AZaz09-_=+/%"[rng.below(12)])).collect();
        let _ = Endpoint::new(Side::Server, settings(), 0).receive_handshake(0, &text);
    }
}
