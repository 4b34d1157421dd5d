//! Compares the socket with tungstenite's: both read the same random frames, right and wrong ones, in both roles.

use std::io::{self, Read, Write};
use std::task::Waker;

use tokio_tungstenite::tungstenite as ts;

use super::*;
use crate::ws::fuzzing::{Peer, frame};

const LARGEST: usize = 40_000;

/// Random numbers that are the same in each run (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % end
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }
}

/// The results that a socket produced from its input.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    received: Vec<Received>,
    /// `Ok`: it was closed, or lost without a Close. `Err`: refused with this code.
    end: Result<&'static str, u16>,
}

/// The input of a peer, and its fault.
struct Input {
    bytes: Vec<u8>,
    /// A bit was changed: which rule is broken first depends on the order of checks.
    is_garbled: bool,
    has_bad_text: bool,
}

fn input(random: &mut Random, is_masked: bool) -> Input {
    let (mut bytes, mut has_bad_text) = (Vec::new(), false);
    let control = |random: &mut Random, bytes: &mut Vec<u8>| {
        while random.one_in(3) {
            let (kind, length) = (if random.one_in(2) { 0x89 } else { 0x8a }, random.below(126));
            bytes.extend(frame(kind, &vec![7; length], is_masked));
        }
    };
    for _ in 0..random.below(8) {
        let is_text = random.one_in(2);
        let length = [0, 1, 5, 125, 126, 300, 9_000, 20_000, 0x1_0000][random.below(9)];
        let mut content: Vec<u8> = if is_text {
            "aé€😀".bytes().cycle().take(length / 10 * 10).collect()
        } else {
            vec![random.below(256) as u8; length]
        };
        if is_text && random.one_in(20) {
            content.push(0xff);
            has_bad_text = true;
        }
        let pieces = if random.one_in(2) { 1 } else { 1 + random.below(5) };
        for piece in 0..pieces {
            let rest = content.len();
            let here = if piece + 1 == pieces { rest } else { random.below(rest + 1) };
            let mut opcode = if piece > 0 {
                CONTINUATION
            } else if is_text {
                TEXT
            } else {
                BINARY
            };
            if random.one_in(60) {
                opcode = random.below(16) as u8;
                // It may make a text of the bytes.
                has_bad_text = true;
            }
            let fin = if piece + 1 == pieces { 0x80 } else { 0 };
            bytes.extend(frame(fin | opcode, &content[..here], is_masked));
            content.drain(..here);
            control(random, &mut bytes);
        }
    }
    if random.one_in(2) {
        let code = [999, 1000, 1001, 1004, 1005, 1006, 1007, 1011, 1013, 1015, 2999, 3000, 4999, 5000]
            [random.below(14)];
        let content = match random.below(4) {
            0 => vec![],
            1 => vec![3],
            2 => (code as u16).to_be_bytes().to_vec(),
            _ => [&(code as u16).to_be_bytes()[..], &"ä".repeat(random.below(62)).into_bytes()].concat(),
        };
        bytes.extend(frame(0x88, &content, is_masked));
        // Nothing of this may be seen.
        control(random, &mut bytes);
        bytes.extend(frame(0x81, b"behind the Close", is_masked));
    }
    let is_garbled = !bytes.is_empty() && random.one_in(4);
    if is_garbled {
        let at = random.below(bytes.len());
        bytes[at] ^= 1 << random.below(8);
    } else if random.one_in(4) {
        bytes.truncate(random.below(bytes.len() + 1));
    }
    Input { bytes, is_garbled, has_bad_text }
}

/// A connection from which reads get pieces, and which takes all that is written.
struct Pieces<'a> {
    bytes: &'a [u8],
    per_read: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = buffer.len().min(self.per_read);
        self.bytes.read(&mut buffer[..length])
    }
}

impl Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn by_tungstenite(bytes: &[u8], per_read: usize, is_client: bool) -> Outcome {
    let mut config = ts::protocol::WebSocketConfig::default();
    (config.max_message_size, config.max_frame_size) = (Some(LARGEST), Some(LARGEST));
    let role = if is_client { ts::protocol::Role::Client } else { ts::protocol::Role::Server };
    let mut socket = ts::WebSocket::from_raw_socket(Pieces { bytes, per_read }, role, Some(config));
    let mut received = Vec::new();
    let end = loop {
        received.push(match socket.read() {
            Ok(ts::Message::Text(text)) => Received::Text(text.into()),
            Ok(ts::Message::Binary(bytes)) => Received::Binary(bytes),
            Ok(ts::Message::Ping(bytes)) => Received::Ping(bytes),
            Ok(ts::Message::Pong(bytes)) => Received::Pong(bytes),
            // It does not fail for a code that may not be sent, but answers so.
            Ok(ts::Message::Close(Some(close))) if close.reason == "Protocol violation" => break Err(1002),
            Ok(ts::Message::Close(close)) => {
                // A client of tungstenite's would still read.
                received
                    .push(Received::Close(close.map(|close| (close.code.into(), close.reason.to_string()))));
                break Ok("closed");
            }
            Ok(ts::Message::Frame(_)) => unreachable!("reading gives messages"),
            Err(ts::Error::Protocol(ts::error::ProtocolError::ResetWithoutClosingHandshake)) => {
                break Ok("lost");
            }
            Err(ts::Error::Utf8(_)) => break Err(1007),
            Err(ts::Error::Capacity(_)) => break Err(1009),
            Err(ts::Error::Protocol(_)) => break Err(1002),
            Err(error) => panic!("{error}"),
        });
    };
    Outcome { received, end }
}

fn by_us(bytes: &[u8], per_read: usize, is_client: bool) -> Outcome {
    let config = if is_client { Config::client(LARGEST) } else { Config::server(LARGEST) };
    let peer = Peer { sent: bytes.iter().copied().collect(), per_read, room: usize::MAX, ..Peer::default() };
    let mut socket = FramedSocket::new(peer, config);
    let cx = &mut Context::from_waker(Waker::noop());
    let mut received = Vec::new();
    let end = loop {
        match socket.poll_next(cx) {
            Poll::Ready(Some(Ok(Received::Text(text)))) if str::from_utf8(&text).is_err() => break Err(1007),
            Poll::Ready(Some(Ok(next))) => received.push(next),
            Poll::Ready(Some(Err(broken))) => break Err(broken.code().expect("the peer's fault")),
            Poll::Ready(None) => break Ok("closed"),
            Poll::Pending if socket.io_mut().sent.is_empty() => break Ok("lost"),
            Poll::Pending => {}
        }
    };
    Outcome { received, end }
}

#[test]
fn what_tungstenite_accepts_is_accepted_and_what_it_refuses_is_refused() {
    let mut ends = std::collections::BTreeMap::new();
    for seed in 1..=600 {
        let random = &mut Random(u64::wrapping_mul(seed, 0x9e37_79b9_7f4a_7c15));
        let is_client = random.one_in(2);
        let input = input(random, !is_client);
        let per_read = [5, 70, 1000, usize::MAX][random.below(4)];
        let theirs = by_tungstenite(&input.bytes, per_read, is_client);
        let ours = by_us(&input.bytes, per_read, is_client);
        *ends.entry(ours.end).or_insert(0) += 1;
        if theirs == ours {
            continue;
        }
        let common = theirs.received.iter().zip(&ours.received).take_while(|(a, b)| a == b).count();
        let shorter = theirs.received.len().min(ours.received.len());
        assert_eq!(common, shorter, "messages differ for seed {seed}");
        // tungstenite notices a text that is not UTF-8 before its end, and then sees no control frames behind that; a wrong
        // frame only at the frame's end, which may never arrive; and this socket holds a client's peer to shortest lengths.
        let is_explained =
            input.has_bad_text || (input.is_garbled && (theirs.end.is_err() || ours.end.is_err()));
        let is_cut = theirs.end == Ok("lost") && ours.end.is_err() && shorter == theirs.received.len();
        assert!(is_explained || is_cut, "seed {seed}: {:?} and {:?}", theirs.end, ours.end);
    }
    // The samples reach each kind of end.
    for end in [Ok("closed"), Ok("lost"), Err(1002), Err(1007), Err(1009)] {
        assert!(ends.get(&end).is_some_and(|count| *count > 5), "{ends:?}");
    }
}
